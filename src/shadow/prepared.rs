//! A statement as the client prepared it: what another server needs to know it too. Pure.

use crate::sql::{Analysis, Dialect};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its text as the client sent it.
    pub(super) text: Arc<[u8]>,
    /// How the session read text then.
    pub(super) dialect: Dialect,
    /// Its text as the shadow must be sent it, with the databases' names mapped; the same one where
    /// nothing was to map, `None` where that cannot be told.
    pub(super) mapped: Option<Arc<[u8]>>,
    /// What it is.
    pub(super) analysis: Arc<Analysis>,
    /// The database in which it was prepared: its tables are of that one, wherever the session is.
    pub(super) database: Arc<str>,
    /// How many parameters the primary found in it.
    pub(super) parameters: u16,
}

impl Prepared {
    /// What its texts take of memory.
    pub(super) fn bytes(&self) -> usize {
        let mapped = self.mapped.as_ref();
        let other = mapped.filter(|mapped| !Arc::ptr_eq(mapped, &self.text));
        self.text.len() + other.map_or(0, |mapped| mapped.len())
    }
}
