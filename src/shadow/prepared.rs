//! A statement as the client prepared it: what another server needs to know it too. Pure.

use crate::sql::{Analysis, Dialect};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its text as the client sent it.
    pub(super) text: Vec<u8>,
    /// How the session read text then.
    pub(super) dialect: Dialect,
    /// Its text as the shadow must be sent it, with the databases' names mapped; `None` where that
    /// cannot be told.
    pub(super) mapped: Option<Vec<u8>>,
    /// What it is.
    pub(super) analysis: Arc<Analysis>,
    /// How many parameters the primary found in it.
    pub(super) parameters: u16,
}
