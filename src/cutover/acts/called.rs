//! What a proxy does about what its fleet says: it follows a call, hears that one has ended, and finds out
//! that it is one of the fleet no more.

use super::Run;
use super::together::Together;
use crate::cutover::fleet::{Board, Call, Fleet, Phase, Primary};
use crate::cutover::guards;
use crate::cutover::helm::Order;
use crate::cutover::machine::State;
use crate::task;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two tries to end a call.
const AGAIN: Duration = Duration::from_millis(500);

/// So often it is tried.
const TRIES: u32 = 20;

/// A call that is over here for so long and under way there is closed: its end was not heard.
const STALE: Duration = Duration::from_secs(15);

/// A hold that is over for so long, and is only now let go, may have been slept through.
const SLEPT: Duration = Duration::from_secs(1);

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
        if let Some(why) = fleet.replaced(board) {
            tracing::error!("{why}");
        }
        if let Some(ours) = &self.call {
            // From the switch on it is asked for there.
            if matches!(state, State::Switching(_)) {
                return News::Nothing;
            }
            return match &board.call {
                Some(call) if call.id == ours.id && call.phase == Phase::Aborted => {
                    News::Aborted(call.why.clone())
                }
                Some(call) if call.id != ours.id && call.at >= ours.at => {
                    News::Aborted("the fleet has gone on to another cutover".to_owned())
                }
                _ => News::Nothing,
            };
        }
        if state.rest().is_some() && !self.is_of_one_mind(&fleet, board).await {
            return News::Nothing;
        }
        if board.has_stopped() && self.is_waiting_for_replication() {
            tracing::warn!(
                "the fleet says that forward replication has ended: dark writes flow back"
            );
            self.confirm().await;
        }
        match board.under_way() {
            Some(call) if fleet.is_called(call) => self.called(&fleet, call).await,
            _ => News::Nothing,
        }
    }

    /// A call that is under way, and not here.
    async fn called(&mut self, fleet: &Arc<Fleet>, call: &Call) -> News {
        if call.id != self.heard && !fleet.leads(call) {
            self.heard.clone_from(&call.id);
            return News::Called(Box::new(call.clone()));
        }
        // It is over here: who leads closes it, but may not have been heard.
        let left = self.left.as_ref().filter(|(id, _)| *id == call.id);
        let is_stale = left.is_some_and(|(_, at)| at.elapsed() >= STALE);
        if is_stale || fleet.is_withdrawn(call) {
            let why = "it is over, and its end was not heard";
            let _ = fleet.abort(call, why).await;
        }
        News::Nothing
    }

    /// Whether this proxy is one of the fleet, and agrees with it on who is primary. A forgotten one comes
    /// back; one that missed a switch must not go on.
    async fn is_of_one_mind(&mut self, fleet: &Arc<Fleet>, board: &Board) -> bool {
        let here = self.parts.roles.borrow().primary.name.clone();
        let agrees = |board: &Board| board.primary.as_ref().is_some_and(|told| told.name == here);
        if fleet.is_in(board) && agrees(board) {
            return true;
        }
        // What was seen may be older than what was done since.
        let Ok(board) = fleet.board().await else {
            return false;
        };
        match &board.primary {
            None => {
                tracing::error!("etcd has lost who is primary: this proxy says that {here} is");
                if let Err(error) = fleet.declare(&here, true).await {
                    tracing::error!(%error, "it cannot");
                }
            }
            Some(told) if told.name != here => {
                self.disagree(fleet, told, &here).await;
                return false;
            }
            Some(_) => {}
        }
        if fleet.is_absent(&board) {
            tracing::error!(
                "this proxy, {}, is not in the fleet any more, and it serves: it joins again. Was it forgotten while it was alive, or has etcd lost its data?",
                fleet.name()
            );
            if let Err(error) = fleet.join_now().await {
                tracing::error!(%error, "it cannot");
            }
        }
        fleet.is_in(&board)
    }

    /// etcd has another primary. Was that by a switch that this proxy was in, or by none, etcd went back, and
    /// production is not ended for that; else the proxy was left behind. No clock is asked: each has its own.
    async fn disagree(&mut self, fleet: &Fleet, told: &Primary, here: &str) {
        let is_news = match &told.cutover {
            // Where the records cannot be read it may be.
            Some(cutover) => !self.recorder.was_in(cutover).await.unwrap_or(false),
            None => false,
        };
        let name = &told.name;
        if is_news {
            return self.lose(fleet, name, here);
        }
        tracing::error!(
            "etcd says that {name} is primary, since {}, and this proxy answers from {here}, by a later switch or the config: was etcd's data restored or written by hand? There can be no cutover until they agree",
            told.at
        );
    }

    /// This proxy was not in the fleet's last switch.
    pub(super) fn lose(&self, fleet: &Fleet, told: &str, here: &str) {
        let why = format!(
            "etcd says that {told} is primary, and this proxy answers from {here}: it was not in the switch. It ends, so that no session goes on there; started again it learns its primary from etcd"
        );
        self.hands.shut(&why);
        fleet.lose(why);
    }

    /// Whether the fleet has gone on without this proxy while it was away: it slept through its hold. Where
    /// etcd does not tell at once it has not, for it had not said its last word.
    pub(super) async fn is_left_behind(&self) -> bool {
        let Some(together) = self.together() else {
            return false;
        };
        if Instant::now() < self.until + SLEPT {
            return false;
        }
        let gone_on = together.fleet.has_gone_on(&together.call).await;
        if let Some(told) = &gone_on {
            self.lose(&together.fleet, told, &together.call.from);
        }
        gone_on.is_some()
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
            let _ = fleet.abort(call, why).await;
        }
    }

    /// Ends the call that is under way here, for everybody.
    pub(super) async fn hang_up(&mut self, why: &str) {
        if let Some((fleet, call)) = self.leave_call() {
            close(fleet, call, Phase::Aborted, why.to_owned()).await;
        }
    }

    /// It has ended as it was to: who leads says so.
    pub(super) async fn end_call(&mut self) {
        if let Some((fleet, call)) = self.leave_call()
            && fleet.leads(&call)
        {
            close(fleet, call, Phase::Ended, String::new()).await;
        }
    }

    /// It is over here.
    pub(super) fn leave_call(&mut self) -> Option<(Arc<Fleet>, Call)> {
        let (fleet, call) = (self.parts.fleet.clone()?, self.call.take()?);
        self.left = Some((call.id.clone(), Instant::now()));
        Some((fleet, call))
    }

    /// An operator ends whatever the fleet was called to, also where it is over here.
    pub(in crate::cutover) async fn abort_call(&self, why: &str) -> bool {
        let Some(fleet) = &self.parts.fleet else {
            return false;
        };
        let Ok(board) = fleet.board().await else {
            return false;
        };
        match board.under_way() {
            Some(call) => fleet.abort(call, why).await.is_ok(),
            None => false,
        }
    }
}

/// Closes a call; where etcd does not hear it now, later.
async fn close(fleet: Arc<Fleet>, call: Call, phase: Phase, why: String) {
    if fleet.close(&call, phase, &why).await.is_ok() {
        return;
    }
    // It ends once etcd has heard it, or after a while: then it is found stale.
    drop(task::spawn("close", async move {
        for _ in 0..TRIES {
            tokio::time::sleep(AGAIN).await;
            match fleet.close(&call, phase, &why).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "the fleet does not hear that a call is over")
                }
            }
        }
    }));
}
