//! What the relay counts, for the metrics and the status.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only the relay changes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are now.
#[derive(Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Counts one more, until the ticket is dropped, unless there are `max` already.
    pub(super) fn enter(&self, max: usize) -> Option<Ticket> {
        let entered = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| {
                (now < max as u64).then(|| now.saturating_add(1))
            });
        entered.is_ok().then(|| Ticket(Arc::clone(&self.0)))
    }

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// One of a [`Gauge`].
#[derive(Debug)]
pub(super) struct Ticket(Arc<AtomicU64>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted, refused ones included.
    pub accepted: Count,
    /// Logins that the primary granted.
    pub logins: Count,
    /// Logins that the primary refused.
    pub logins_refused: Count,
    /// Logins that the proxy refused because TLS on one leg only would expose the password, or
    /// break the login.
    pub logins_mixed: Count,
    /// Logins that took too long.
    pub logins_timed_out: Count,
    /// Connections refused with 1040.
    pub too_many: Count,
    /// Connections refused with 2003 because the primary cannot be reached.
    pub primary_down: Count,
    /// Clients that left before their login, as probes do.
    pub probes: Count,
    /// Those whose login the proxy finished with its own account.
    pub probes_finished: Count,
    /// Clients that broke the protocol in the login.
    pub bad_logins: Count,
    /// Connections closed because they did not begin with the PROXY header that they must begin with.
    pub proxy_headers_wrong: Count,
    /// Commands refused with 1153.
    pub too_large: Count,
    /// Sessions that became tunnels.
    pub tunnelled: Count,
    /// Sessions that are tunnels now.
    pub tunnels_open: Gauge,
    /// Sessions ended after a packet that the primary sent unasked.
    pub unasked: Count,
    /// Sessions that the primary broke off while a command was unanswered.
    pub primary_lost: Count,
    /// Commands of which only the beginning was copied for the shadow, for want of room.
    pub commands_cut: Count,
    /// Failed accepts.
    pub accept_errors: Count,
    /// Sessions that the drain closed at its end, in the middle of something.
    pub drain_cut: Count,
    /// Sessions held at the gate, once for each time.
    pub held: Count,
    /// Sessions that went on with another primary, once for each time.
    pub moved: Count,
    /// Sessions ended because they could not be held or not be moved.
    pub ended: Count,
    /// Sessions ended because their statements' ids could be translated no longer.
    pub untranslated: Count,
    /// KILLs that the proxy carried out itself, as the primary has none.
    pub kills: Count,
    /// Logins given up because the gate held for longer than a login may take.
    pub logins_held: Count,
    /// Bytes from clients to the primary, of ended sessions.
    pub bytes_up: Count,
    /// Bytes from the primary to clients, of ended sessions.
    pub bytes_down: Count,
}

/// Sessions, for the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Open now, those in their login included.
    pub open: u64,
    /// Open now, as tunnels.
    pub tunnelled: u64,
    /// Logged in since the start.
    pub total: u64,
}
