//! How a call ends: by the leader's switch or by anybody's abort, which are transactions of which one alone
//! can happen.

use super::board::{Board, Call, Phase, Primary};
use super::calling::Everybody;
use super::store::Change;
use super::{Fleet, FleetError, LOOK, LOOK_AGAIN, TRIES, busy, json};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// How a call has ended, for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cutover) enum Decision {
    /// The new primary is recorded.
    Switched,
    /// The old one stays, and why.
    Aborted(String),
    /// It was to end before the hold.
    Ended,
    /// It is over, and meanwhile another cutover has made another server the primary: this one, by its
    /// name. A proxy that hears it was not in that one.
    Lost(String),
}

impl Fleet {
    /// The leader's one transaction: everybody was seen to be whole.
    ///
    /// # Errors
    /// Whether it was done is not known.
    pub(in crate::cutover) async fn switch(
        &self,
        call: &Call,
        everybody: &Everybody,
    ) -> Result<Decision, FleetError> {
        let board = &everybody.0;
        let members = board.members.iter();
        let now: BTreeMap<String, String> = members
            .map(|(name, member)| (name.clone(), member.instance.clone()))
            .collect();
        if now != call.members {
            let why = "the fleet's proxies are not those that were called any more";
            return self.abort(call, why).await;
        }
        let mut seen = vec![
            (self.keys.cutover(), board.call_at),
            (self.keys.members(), board.members_at),
            (self.keys.primary(), board.primary_at),
        ];
        let said = board.said.iter();
        seen.extend(said.map(|(name, (_, at))| (self.keys.said(&call.id, name), *at)));
        let primary = Primary {
            name: call.to.clone(),
            cutover: Some(call.id.clone()),
            is_back: call.is_back,
            at: jiff::Timestamp::now(),
        };
        let switched = Call {
            phase: Phase::Switched,
            ..call.clone()
        };
        let change = Change {
            seen,
            puts: vec![
                (self.keys.primary(), json(&primary)),
                (self.keys.cutover(), json(&switched)),
            ],
            clears: Vec::new(),
        };
        if self.change(change).await? {
            return Ok(Decision::Switched);
        }
        let why = "what stands in etcd changed in the midst of the switch";
        self.abort(call, why).await
    }

    /// Ends a call that has not switched; how it has ended, where it has.
    ///
    /// # Errors
    /// Whether it was done is not known.
    pub(in crate::cutover) async fn abort(
        &self,
        call: &Call,
        why: &str,
    ) -> Result<Decision, FleetError> {
        self.close(call, Phase::Aborted, why).await
    }

    /// Ends a call that has not switched, whichever way.
    ///
    /// # Errors
    /// Whether it was done is not known.
    pub(in crate::cutover) async fn close(
        &self,
        call: &Call,
        phase: Phase,
        why: &str,
    ) -> Result<Decision, FleetError> {
        for _ in 0..TRIES {
            let board = self.board().await?;
            if let Some(decision) = decided(&board, call) {
                return Ok(decision);
            }
            let Some(call) = board.call_of(&call.id) else {
                return Err(FleetError::Down(EMPTIED.to_owned()));
            };
            let closed = Call {
                phase,
                why: format!("the proxy {}: {why}", self.name),
                ..call.clone()
            };
            let change = Change {
                seen: vec![(self.keys.cutover(), board.call_at)],
                puts: vec![(self.keys.cutover(), json(&closed))],
                clears: Vec::new(),
            };
            if self.change(change).await? {
                return Ok(Decision::Aborted(closed.why));
            }
        }
        Err(busy())
    }

    /// Waits for the leader's decision; after the time it makes one, to abort.
    ///
    /// # Errors
    /// etcd does not tell: nobody here knows who is primary.
    pub(in crate::cutover) async fn decision(
        &self,
        call: &Call,
        until: Instant,
    ) -> Result<Decision, FleetError> {
        loop {
            let board = self.board().await;
            if let Ok(board) = &board
                && let Some(decision) = decided(board, call)
            {
                return Ok(decision);
            }
            if Instant::now() >= until {
                let why = format!("{}, who leads, did not switch in time", call.leader);
                return self.abort(call, &why).await;
            }
            let pause = if board.is_ok() { LOOK } else { LOOK_AGAIN };
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits until etcd answers: how the call has ended, where it has.
    ///
    /// # Errors
    /// It does not by then.
    pub(in crate::cutover) async fn answers(
        &self,
        call: &Call,
        until: Instant,
    ) -> Result<Option<Decision>, FleetError> {
        loop {
            match self.board().await {
                Ok(board) => return Ok(decided(&board, call)),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }
}

/// What stood in etcd is gone.
pub(super) const EMPTIED: &str = "the cutover is not in etcd any more: was its data lost? Then stop every proxy of the fleet, find out which server took the last writes, and start each with --primary NAME";

/// How a call has ended; none where it has not, or where nothing tells. One that is not there any more was
/// replaced, which only an ended one can be: the primary tells how that was.
pub(super) fn decided(board: &Board, call: &Call) -> Option<Decision> {
    if let Some(seen) = board.call_of(&call.id) {
        return match seen.phase {
            Phase::Called => None,
            Phase::Switched => Some(Decision::Switched),
            Phase::Ended => Some(Decision::Ended),
            Phase::Aborted => Some(Decision::Aborted(seen.why.clone())),
        };
    }
    let primary = board.primary.as_ref()?;
    if primary.cutover.as_deref() == Some(&call.id) {
        return Some(Decision::Switched);
    }
    board.call.as_ref()?;
    Some(if primary.name == call.from {
        Decision::Aborted("another cutover followed".to_owned())
    } else {
        Decision::Lost(primary.name.clone())
    })
}

pub(super) fn left_behind(primary: &str) -> String {
    format!("the fleet has gone on without this proxy, and {primary} is primary")
}
