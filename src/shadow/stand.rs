//! A place in the line for somebody who is no session: behind every dark write on a table that came before.
//!
//! Whoever verifies waits there until the shadow has what the primary had; whoever repairs writes there, while
//! all later dark writes on the table wait. A place for a repair is one on a certain server: it is refused where that
//! is not the shadow, and until it is given back the roles do not turn.

use super::Mirror;
use super::errand::{Ended, Errand};
use super::judge::NOBODY;
use super::line::{Ticket, Turn};
use super::load::Loads;
use super::order::{Part, Request};
use super::scope::Scope;
use super::shared::Shared;
use crate::sql::Table;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A place that was reached; until it is dropped later dark writes on the table wait, and so does whoever waits for
/// the shadow to have everything: a cutover's turn of the roles among them.
#[derive(Debug)]
pub struct Stand {
    _reserved: Reserved,
}

/// A place in the line, and on which shadow.
#[derive(Debug)]
pub(super) struct Reserved {
    ticket: Ticket,
    shadow: Arc<str>,
    _held: Held,
}

/// Something that is under way on the shadow beside the replays.
struct Held(Arc<Loads>);

impl Held {
    fn new(loads: &Arc<Loads>) -> Self {
        loads.begin();
        Self(Arc::clone(loads))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStand {
    /// Nobody keeps the line.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// Another server is the shadow by now.
    #[error("{0} is the shadow now")]
    Turned(String),
    /// Those before it took too long.
    #[error("its turn did not come in the mirror's order")]
    Late,
}

/// A place of nobody's at the line's end, on this shadow.
pub(super) fn reserve(shared: &Shared, scope: Scope) -> Reserved {
    Reserved {
        ticket: ticket(shared, Part::Commit, scope),
        shadow: Arc::clone(&shared.name),
        _held: Held::new(&shared.loads),
    }
}

/// A ticket of nobody's, at the line's end.
pub(super) fn ticket(shared: &Shared, part: Part, scope: Scope) -> Ticket {
    let now = Instant::now();
    let writes = if part == Part::Read {
        Scope::none()
    } else {
        scope.clone()
    };
    shared.line.join(Request {
        session: NOBODY,
        part,
        scope,
        writes,
        began: now,
        acked: now,
        statement: None,
    })
}

impl Mirror {
    /// Whether all dark writes on this table that came through the tee before have run on the shadow; waits for
    /// them, at most so long. What was not mirrored at all (paused, suspended) is not waited for.
    ///
    /// # Errors
    /// The mirror has ended.
    pub async fn caught_up(&self, table: &Table, at_most: Duration) -> Result<bool, Ended> {
        let scope = Scope::Known([table.clone()].into());
        let ticket = self.ask(|to| Errand::Stand(Part::Read, scope, to)).await?;
        Ok(ticket.turn(at_most).await == Turn::Came)
    }

    /// The place of a write on this table, on the shadow of this name. Those behind wait for it: it is to be kept for
    /// a moment only.
    ///
    /// # Errors
    /// There is no such place, and why; at the latest after this time.
    pub async fn stand(
        &self,
        table: &Table,
        shadow: &str,
        at_most: Duration,
    ) -> Result<Stand, NoStand> {
        let scope = Scope::Known([table.clone()].into());
        let reserved = self.ask(|to| Errand::Reserve(scope, to)).await?;
        if *reserved.shadow != *shadow {
            return Err(NoStand::Turned(reserved.shadow.to_string()));
        }
        // Reads that should have come first, and do not come, see the primary's row all the same.
        if reserved.ticket.turn(at_most).await == Turn::Late {
            return Err(NoStand::Late);
        }
        reserved.ticket.start();
        Ok(Stand {
            _reserved: reserved,
        })
    }
}
