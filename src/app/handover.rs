//! A restart or an upgrade of which clients notice nothing: a new process is given the listeners by the one that
//! serves, which lets its sessions end and then leaves it the ledger.
//!
//! ```text
//! new: hello     who it is, and what of its config must be as the old one's
//! old: offer     the listeners, who is primary, what clients are offered; or why it does not hand over
//! new: ready     all that it takes to serve is built
//! old: yours     it accepts no more, and the new one begins to; none of those that come meanwhile is refused, for
//!                they wait in the one socket that both have
//!                … its sessions go on in it until their clients end them, listen.handover_s at most …
//! old: ended     the shadow has all of it; what its sessions wrote meanwhile. It closes the ledger, and ends
//! new:           takes the ledger, and begins to mirror, behind what the old one mirrored
//! ```
//!
//! Until `yours` the old one serves as if nothing had happened, whatever becomes of the new one; and where that ends
//! later, before the old one has, the old one serves again. Refuses to hand over while anything is under way
//! that one process alone may do: a cutover, its watch, a verification.

mod giving;
mod heir;
mod letters;
mod post;
mod taking;

pub(super) use giving::{Estate, Giving};
pub(super) use heir::Heirs;
pub(super) use taking::{Taken, ask, until_free};

use std::time::Duration;

/// The other process has this time for each of its letters.
const LETTER: Duration = Duration::from_secs(10);

/// Once its last session has ended, the old process' shadow side may take so long for what waits there.
pub(super) const CATCH_UP: Duration = Duration::from_secs(30);

/// What the old process is given beyond all that it may take by the config.
const MARGIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
