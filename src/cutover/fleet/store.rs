//! What a fleet needs of the place that its proxies share: one consistent look at everything below a
//! prefix, and changes that happen as a whole or not at all.

use crate::cutover::helm::Soon;

/// The number of a change of the store. A key that is not there was changed at 0.
pub(super) type Revision = i64;

/// A key, its value and when that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) revision: Revision,
}

/// Everything below a prefix, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) entries: Vec<Entry>,
    /// The store's newest revision then.
    pub(super) revision: Revision,
}

/// A change that happens if every key is as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Keys, and when they must have been written last; 0: they must not be there.
    pub(super) seen: Vec<(String, Revision)>,
    pub(super) puts: Vec<(String, Vec<u8>)>,
    /// Prefixes below which everything goes; before the puts.
    pub(super) clears: Vec<String>,
}

/// The store does not answer. Whether a change has happened is not known then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Down(pub(super) String);

/// See the module. Each call is bounded in time by the store itself.
pub(super) trait Store: Send + Sync {
    /// Everything below the prefix. Linearizable: it sees every change that was done before it was asked.
    fn look<'a>(&'a self, prefix: &'a str) -> Soon<'a, Result<Look, Down>>;

    /// Makes a change; false where a key is not as it was seen, and nothing was changed.
    fn change(&self, change: Change) -> Soon<'_, Result<bool, Down>>;
}
