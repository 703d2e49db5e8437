//! A place in the line for somebody who is no session: behind every dark write on a table that came before.
//!
//! Whoever verifies waits there until the shadow has what the primary had; whoever repairs writes there, while
//! all later dark writes on the table wait.

use super::Mirror;
use super::errand::{Ended, Errand};
use super::judge::NOBODY;
use super::line::{Ticket, Turn};
use super::order::{Part, Request};
use super::scope::Scope;
use super::shared::Shared;
use crate::sql::Table;
use std::time::Duration;
use tokio::time::Instant;

/// A place that was reached; later dark writes on the table wait until it is dropped.
#[derive(Debug)]
pub struct Stand {
    _ticket: Ticket,
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

    /// The place of a write on this table; `None` where its turn does not come within this time. Those behind
    /// wait for it: it is to be kept for milliseconds.
    ///
    /// # Errors
    /// The mirror has ended.
    pub async fn stand(&self, table: &Table, at_most: Duration) -> Result<Option<Stand>, Ended> {
        let scope = Scope::Known([table.clone()].into());
        let ticket = self
            .ask(|to| Errand::Stand(Part::Commit, scope, to))
            .await?;
        if ticket.turn(at_most).await != Turn::Came {
            return Ok(None);
        }
        ticket.start();
        Ok(Some(Stand { _ticket: ticket }))
    }
}
