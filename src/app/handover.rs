//! A restart or an upgrade of which clients notice nothing: a new process is given the listeners by the one that
//! serves, which lets its sessions end and then leaves it the ledger.
//!
//! ```text
//! new: hello     who it is, and what of its config must be as the old one's
//! old: offer     the listeners, who is primary, what clients are offered; or why it does not hand over
//! new: ready     all that it takes to serve is built
//! old: yours     it accepts no more, and the new one begins to, with the mirror switched as it is; none of those that
//!                come meanwhile is refused, for they wait in the one socket that both have
//!                … its sessions go on in it until their clients end them, listen.handover_s at most …
//! new: beat      again and again: its threads turn. Where that stops the old one ends it, and serves again
//! old: ended     the shadow has all of it; what its sessions wrote meanwhile. It closes the ledger, and ends
//! new:           takes the ledger, and begins to mirror, behind what the old one mirrored
//! ```
//!
//! Told to end meanwhile, each tells the other one (`end`), and both do; the old one waits for the new one's end. To a
//! supervisor the old one is the main process to its own end, and speaks for both: its last word names the new one.
//!
//! Until `yours` the old one serves as if nothing had happened, whatever becomes of the new one; and where that ends
//! later, while sessions are left in the old one, the old one serves again: never before the other is dead, for two that
//! serve, one of them unmirrored, is what must not be. Refuses to hand over while anything is under way
//! that one process alone may do: a cutover, its watch, a verification.

mod beat;
mod container;
mod giving;
mod heir;
mod letters;
mod peer;
mod porter;
mod post;
mod taking;

pub(super) use giving::{Estate, Giving};
pub(super) use heir::Heirs;
pub use heir::detach;
pub(super) use taking::{Taken, Word, ask, is_freed};

use std::time::Duration;

/// The other process has this time for each of its letters.
const LETTER: Duration = Duration::from_secs(10);

/// Once its last session has ended, the old process' shadow side may take so long for what waits there.
pub(super) const CATCH_UP: Duration = Duration::from_secs(30);

/// What the old process is given beyond all that it may take by the config.
const MARGIN: Duration = Duration::from_secs(30);

/// Both processes end, one after the other, within this time beside their sessions' drain.
pub(super) const BOTH_END: Duration = CATCH_UP.saturating_add(super::FALL).saturating_mul(2);

#[cfg(test)]
mod tests;
