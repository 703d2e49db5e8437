//! What a proxy does about what its fleet says: it follows a call, hears that one has ended, and finds out
//! that it is one of the fleet no more.

use super::Run;
use super::together::Together;
use crate::cutover::fleet::{Board, Call, Fleet, Phase};
use crate::cutover::guards;
use crate::cutover::helm::Order;
use crate::cutover::machine::State;
use crate::task;
use std::sync::Arc;
use std::time::Duration;

/// Between two tries to end a call.
const AGAIN: Duration = Duration::from_millis(500);

/// So often it is tried. The others give up by themselves.
const TRIES: u32 = 20;

/// What is new.
pub(in crate::cutover) enum News {
    /// Nothing that matters.
    Nothing,
    /// Another proxy calls.
    Called(Box<Call>),
    /// The call that is under way here was aborted, and why.
    Aborted(String),
}

impl Run {
    /// The call that is under way here, with its fleet.
    pub(super) fn together(&self) -> Option<Together> {
        let (fleet, call) = (self.parts.fleet.as_ref()?, self.call.as_ref()?);
        Some(Together {
            fleet: Arc::clone(fleet),
            call: call.clone(),
        })
    }

    /// What stands in etcd, as it was seen a moment ago.
    pub(in crate::cutover) async fn hear(&mut self, board: &Board, state: State) -> News {
        let Some(fleet) = self.parts.fleet.clone() else {
            return News::Nothing;
        };
        if state.rest().is_some() && self.is_lost(&fleet, board).await {
            return News::Nothing;
        }
        let Some(call) = &board.call else {
            return News::Nothing;
        };
        if let Some(ours) = &self.call {
            // From the switch on it is asked for there.
            let heard = ours.id == call.id && !matches!(state, State::Switching(_));
            return match call.phase {
                Phase::Aborted if heard => News::Aborted(call.why.clone()),
                _ => News::Nothing,
            };
        }
        let is_new = call.phase == Phase::Called && call.id != self.heard;
        if !is_new || fleet.leads(call) || !fleet.is_called(call) {
            return News::Nothing;
        }
        self.heard.clone_from(&call.id);
        News::Called(Box::new(call.clone()))
    }

    /// Whether this proxy is none of the fleet any more. A forgotten one comes back; one that missed a
    /// switch must not go on.
    async fn is_lost(&mut self, fleet: &Arc<Fleet>, board: &Board) -> bool {
        let here = self.parts.roles.borrow().primary.name.clone();
        let agree = |board: &Board| board.primary.as_ref().is_none_or(|told| told.name == here);
        if fleet.is_in(board) && agree(board) {
            return false;
        }
        // What was seen may be older than what was done since.
        let Ok(board) = fleet.board().await else {
            return true;
        };
        if !agree(&board) {
            let told = board
                .primary
                .as_ref()
                .map_or("another server", |told| &told.name);
            let why = format!(
                "etcd says that {told} is primary, and this proxy answers from {here}: it was not in the switch. It ends, so that no session goes on there; started again it learns its primary from etcd"
            );
            self.hands.shut(&why);
            fleet.lose(why);
            return true;
        }
        if fleet.is_absent(&board) {
            tracing::error!(
                "this proxy, {}, was taken out of the fleet while it serves: it joins again",
                fleet.name()
            );
            if let Err(error) = fleet.join_now().await {
                tracing::error!(%error, "it cannot");
            }
        }
        true
    }

    /// Follows a call: the order that it is, for the record. Whether it is a way back.
    ///
    /// # Errors
    /// It cannot be followed, and why: it was ended.
    pub(in crate::cutover) async fn follow(&mut self, call: Call) -> Result<(), String> {
        let roles = self.parts.roles.borrow().clone();
        let mut force = Vec::new();
        let mut wrong = None;
        if roles.primary.name != call.from || roles.shadow.name != call.to {
            wrong = Some(format!(
                "it cannot go from {} to {}: here {} is primary and {} the shadow",
                call.from, call.to, roles.primary.name, roles.shadow.name
            ));
        }
        for name in &call.force {
            match guards::named(name) {
                Some(guard) => force.push(guard),
                None => {
                    wrong = Some(format!(
                        "it has no guard {name}: the proxies differ in version"
                    ))
                }
            }
        }
        let order = Order {
            to: call.to.clone(),
            dry_run: call.dry_run,
            force,
            who: format!("{} (led by the proxy {})", call.who, call.leader),
        };
        let is_back = call.is_back;
        self.call = Some(call);
        self.leads = false;
        let begun = match wrong {
            Some(why) => Err(why),
            None => {
                let begun = self.record_it(order, is_back).await;
                begun.map_err(|refused| format!("{refused:?}"))
            }
        };
        if let Err(why) = &begun {
            self.hang_up(why).await;
        }
        begun
    }

    /// It cannot take part now.
    pub(in crate::cutover) async fn decline(&self, call: &Call, why: &str) {
        if let Some(fleet) = &self.parts.fleet {
            let _ = fleet.abort(&call.id, why).await;
        }
    }

    /// Ends the call that is under way here, for everybody.
    pub(super) async fn hang_up(&mut self, why: &str) {
        if let (Some(fleet), Some(call)) = (self.parts.fleet.clone(), self.call.take()) {
            close(fleet, call.id, Phase::Aborted, why.to_owned()).await;
        }
    }

    /// It has ended as it was to: who leads says so.
    pub(super) async fn end_call(&mut self) {
        if let (Some(fleet), Some(call)) = (self.parts.fleet.clone(), self.call.take())
            && fleet.leads(&call)
        {
            close(fleet, call.id, Phase::Ended, String::new()).await;
        }
    }
}

/// Closes a call; where etcd does not hear it now, later.
async fn close(fleet: Arc<Fleet>, id: String, phase: Phase, why: String) {
    if fleet.close(&id, phase, &why).await.is_ok() {
        return;
    }
    // It ends once etcd has heard it, or after a while.
    drop(task::spawn("close", async move {
        for _ in 0..TRIES {
            tokio::time::sleep(AGAIN).await;
            match fleet.close(&id, phase, &why).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "the fleet does not hear that a call is over")
                }
            }
        }
    }));
}
