//! What follows what in a cutover: a pure function of a state and an event to a state and actions.
//!
//! It knows no server, no session and no clock. Until the switch is recorded every way out leads
//! back to the primary as it was; once [`Action::Switch`] runs, only the record says who is primary,
//! and nothing leads out but what the record says. A rollback is the same machine: only its hooks
//! and its soak differ.

use crate::config;
use serde::Serialize;

/// Where a cutover stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// There was none since the start.
    Idle,
    /// The guards are judged. Nothing has been touched.
    Checking(Plan),
    /// Every session opens its connection to the other side. Production does not notice.
    Preparing(Plan),
    /// New transactions wait; those under way end.
    Holding {
        /// What is meant.
        plan: Plan,
        /// Sessions that stood in the way were told to end.
        ended: bool,
    },
    /// All sessions are held; the shadow takes in what is left.
    CatchingUp(Plan),
    /// The new primary is being recorded. From here only the record leads on.
    Switching(Plan),
    /// The new primary answers, and is watched.
    Soaking(Soak),
    /// The last cutover is over.
    Done,
    /// The last cutover ended before its switch.
    Aborted,
}

/// What a cutover is meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// It ends before the hold.
    pub dry_run: bool,
    /// It goes back to the server that was primary before the last switch.
    pub is_back: bool,
    /// Where it came from: there it goes back to when it is refused.
    pub rest: Rest,
}

/// The last switch, while the new primary is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Soak {
    /// The switch was a way back: it is not undone by itself.
    pub is_back: bool,
}

/// A state in which nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rest {
    /// See [`State::Idle`].
    Idle,
    /// See [`State::Soaking`].
    Soaking(Soak),
    /// See [`State::Done`].
    Done,
    /// See [`State::Aborted`].
    Aborted,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// An operator, or a soak that failed, asks for a cutover.
    Asked {
        /// It is to end before the hold.
        dry_run: bool,
        /// It goes back.
        is_back: bool,
    },
    /// An operator asks for its end.
    AbortAsked,
    /// Every guard passes or is forced.
    GuardsPassed,
    /// A guard refuses, or the figures could not be had.
    GuardsRefused,
    /// Every session that is to move has its connection, and the hook before the hold was run.
    Prepared,
    /// It cannot be prepared, or the hook failed.
    PrepareFailed,
    /// Every session is held or has ended.
    AllHeld,
    /// `hold_ms_max` is over.
    HoldTimedOut,
    /// The other side has everything that this one has acknowledged.
    CaughtUp,
    /// It cannot have it, or that cannot be told.
    CatchUpFailed,
    /// The new primary is recorded.
    Switched,
    /// It is not, for certain.
    SwitchFailed,
    /// Nobody knows.
    SwitchUnknown,
    /// The soak's time is over.
    SoakPassed,
    /// Errors or times are past their limits, or the new primary does not answer. Said again at every look
    /// while it is so.
    SoakFailed,
}

/// What is to be done. Each may be run again: what has been done already is then left as it is. They
/// are run in their order, each one when the one before has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Gather the figures and judge the guards. It reads only.
    Check,
    /// Answer whoever asked with the guards, and end the record as refused. A record that has ended
    /// stays as it is.
    Refuse,
    /// End the record of the soak as done: its time is over, or another cutover replaces it. As
    /// [`Action::Refuse`].
    EndSoak,
    /// Open and bring up each session's connection to the other side, then, unless it is a dry run, run
    /// the hook `before_hold`. A session that has its connection keeps it; a hook that was run for this
    /// record is not run again.
    Prepare,
    /// Close those connections that no session has taken. What is closed is closed.
    Unprepare,
    /// Close the gate, and time it. A gate that is closed stays closed since the first time.
    Hold,
    /// End the sessions that are not held or cannot be moved, and say [`Event::HoldTimedOut`] again if
    /// that takes too long. Those that have ended are no more.
    EndStuck,
    /// Make the old primary refuse writes of others than the proxy: a server's variable, set to the
    /// same value again.
    Fence,
    /// Let the primary of the published roles take writes again, whichever cutover fenced it: likewise.
    Unfence,
    /// Drain what the shadow lacks, and see that it is there: waits and reads only.
    CatchUp,
    /// Record the new primary: one transaction of the ledger, which sets what it would set again.
    Switch,
    /// Find out what the record says: it is written anew as it is.
    Settle,
    /// Tell everybody who is primary, and turn the shadow side: the roles are set to what the record
    /// says.
    Publish,
    /// Open the gate: held sessions go on, on the primary of the published roles. An open gate stays open.
    Release,
    /// Run the hook `after_switch`; once for a record.
    AfterSwitch,
    /// Run the hook `after_rollback`; once for a record.
    AfterRollback,
    /// Begin to watch the new primary. A watch that runs goes on with its time.
    Watch,
    /// End that watch. What is not watched stays so.
    Unwatch,
    /// Say in the log and in the record that an operator must look: once for each cause.
    Alert,
    /// Ask for the way back: [`Event::Asked`] at this machine, which another one under way refuses.
    GoBack,
    /// End the record with how it ended. A record that has ended stays as it is.
    End(Outcome),
}

/// How a cutover ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The new primary answers, and its soak is over.
    Done,
    /// The primary is as it was.
    Aborted,
    /// A guard refused.
    Refused,
    /// It was to end before the hold.
    DryRun,
}

impl Outcome {
    /// The word for it, in the record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Aborted => "aborted",
            Self::Refused => "refused",
            Self::DryRun => "dry_run",
        }
    }
}

/// What the config says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// What becomes of sessions that cannot be held in time.
    pub stuck: config::Stuck,
    /// What becomes of a soak that fails.
    pub soak: config::SoakAction,
    /// Whether the old primary is made to refuse writes.
    pub fence: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This state, after these actions.
    To(State, Vec<Action>),
    /// Everything stays, for the event is of a step that is over: a timer, a server, a session was
    /// slower than what came in between.
    Late,
    /// Everything stays, for what was asked cannot be done now: whoever asked is told.
    NotNow,
}

impl State {
    /// The words of the contract, in order.
    pub const NAMES: [&'static str; 9] = [
        "idle",
        "checking",
        "preparing",
        "holding",
        "catching_up",
        "switching",
        "soaking",
        "done",
        "aborted",
    ];

    /// The word for it, in API and record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Checking(_) => "checking",
            Self::Preparing(_) => "preparing",
            Self::Holding { .. } => "holding",
            Self::CatchingUp(_) => "catching_up",
            Self::Switching(_) => "switching",
            Self::Soaking(_) => "soaking",
            Self::Done => "done",
            Self::Aborted => "aborted",
        }
    }

    /// Where nothing is under way; `None` while something is.
    #[must_use]
    pub const fn rest(self) -> Option<Rest> {
        match self {
            Self::Idle => Some(Rest::Idle),
            Self::Soaking(soak) => Some(Rest::Soaking(soak)),
            Self::Done => Some(Rest::Done),
            Self::Aborted => Some(Rest::Aborted),
            Self::Checking(_)
            | Self::Preparing(_)
            | Self::Holding { .. }
            | Self::CatchingUp(_)
            | Self::Switching(_) => None,
        }
    }

    /// Whether sessions may be waiting at the gate.
    #[must_use]
    pub const fn is_holding(self) -> bool {
        matches!(
            self,
            Self::Holding { .. } | Self::CatchingUp(_) | Self::Switching(_)
        )
    }

    /// What follows on an event.
    #[must_use]
    pub fn next(self, event: Event, policy: &Policy) -> Next {
        match self {
            Self::Idle => resting(Rest::Idle, event),
            Self::Done => resting(Rest::Done, event),
            Self::Aborted => resting(Rest::Aborted, event),
            Self::Soaking(soak) => soaking(soak, event, policy),
            Self::Checking(plan) => checking(plan, event),
            Self::Preparing(plan) => preparing(plan, event),
            Self::Holding { plan, ended } => holding(plan, ended, event, policy),
            Self::CatchingUp(plan) => catching_up(plan, event, policy),
            Self::Switching(plan) => switching(plan, event, policy),
        }
    }
}

impl From<Rest> for State {
    fn from(rest: Rest) -> Self {
        match rest {
            Rest::Idle => Self::Idle,
            Rest::Soaking(soak) => Self::Soaking(soak),
            Rest::Done => Self::Done,
            Rest::Aborted => Self::Aborted,
        }
    }
}

/// Idle, done and aborted are alike.
fn resting(rest: Rest, event: Event) -> Next {
    match event {
        Event::Asked { dry_run, is_back } => asked(rest, dry_run, is_back),
        Event::AbortAsked => Next::NotNow,
        Event::GuardsPassed
        | Event::GuardsRefused
        | Event::Prepared
        | Event::PrepareFailed
        | Event::AllHeld
        | Event::HoldTimedOut
        | Event::CaughtUp
        | Event::CatchUpFailed
        | Event::Switched
        | Event::SwitchFailed
        | Event::SwitchUnknown
        | Event::SoakPassed
        | Event::SoakFailed => Next::Late,
    }
}

fn asked(rest: Rest, dry_run: bool, is_back: bool) -> Next {
    let plan = Plan {
        dry_run,
        is_back,
        rest,
    };
    Next::To(State::Checking(plan), vec![Action::Check])
}

/// Nothing has been touched: whatever is wrong leaves everything as it was.
fn checking(plan: Plan, event: Event) -> Next {
    match event {
        Event::GuardsPassed => {
            let replaces = !plan.dry_run && matches!(plan.rest, Rest::Soaking(_));
            let actions: &[Action] = if replaces {
                &[Action::Unwatch, Action::EndSoak, Action::Prepare]
            } else {
                &[Action::Prepare]
            };
            Next::To(State::Preparing(plan), actions.to_vec())
        }
        Event::GuardsRefused => Next::To(plan.rest.into(), vec![Action::Refuse]),
        Event::AbortAsked => {
            let end = Action::End(Outcome::Aborted);
            Next::To(untouched(plan.rest), vec![end])
        }
        Event::Asked { .. } => Next::NotNow,
        Event::SoakPassed | Event::SoakFailed => soak_beside(plan, event, State::Checking),
        Event::Prepared
        | Event::PrepareFailed
        | Event::AllHeld
        | Event::HoldTimedOut
        | Event::CaughtUp
        | Event::CatchUpFailed
        | Event::Switched
        | Event::SwitchFailed
        | Event::SwitchUnknown => Next::Late,
    }
}

/// Connections are open on the other side, which production does not notice.
fn preparing(plan: Plan, event: Event) -> Next {
    match event {
        Event::Prepared if plan.dry_run => {
            let actions = vec![Action::Unprepare, Action::End(Outcome::DryRun)];
            Next::To(plan.rest.into(), actions)
        }
        Event::Prepared => {
            let holding = State::Holding { plan, ended: false };
            Next::To(holding, vec![Action::Hold])
        }
        Event::PrepareFailed | Event::AbortAsked => {
            let rest = if plan.dry_run {
                untouched(plan.rest)
            } else {
                State::Aborted
            };
            let actions = vec![Action::Unprepare, Action::End(Outcome::Aborted)];
            Next::To(rest, actions)
        }
        Event::Asked { .. } => Next::NotNow,
        Event::SoakPassed | Event::SoakFailed if plan.dry_run => {
            soak_beside(plan, event, State::Preparing)
        }
        Event::GuardsPassed
        | Event::GuardsRefused
        | Event::AllHeld
        | Event::HoldTimedOut
        | Event::CaughtUp
        | Event::CatchUpFailed
        | Event::Switched
        | Event::SwitchFailed
        | Event::SwitchUnknown
        | Event::SoakPassed
        | Event::SoakFailed => Next::Late,
    }
}

fn holding(plan: Plan, ended: bool, event: Event, policy: &Policy) -> Next {
    let ends = policy.stuck == config::Stuck::End;
    match event {
        Event::AllHeld => {
            let actions: &[Action] = if policy.fence {
                &[Action::Fence, Action::CatchUp]
            } else {
                &[Action::CatchUp]
            };
            Next::To(State::CatchingUp(plan), actions.to_vec())
        }
        // Once: they have a moment to end, and then it is over.
        Event::HoldTimedOut if ends && !ended => {
            let holding = State::Holding { plan, ended: true };
            Next::To(holding, vec![Action::EndStuck])
        }
        Event::HoldTimedOut | Event::AbortAsked => Next::To(State::Aborted, let_go(policy)),
        Event::Asked { .. } => Next::NotNow,
        Event::GuardsPassed
        | Event::GuardsRefused
        | Event::Prepared
        | Event::PrepareFailed
        | Event::CaughtUp
        | Event::CatchUpFailed
        | Event::Switched
        | Event::SwitchFailed
        | Event::SwitchUnknown
        | Event::SoakPassed
        | Event::SoakFailed => Next::Late,
    }
}

fn catching_up(plan: Plan, event: Event, policy: &Policy) -> Next {
    match event {
        Event::CaughtUp => Next::To(State::Switching(plan), vec![Action::Switch]),
        Event::CatchUpFailed | Event::HoldTimedOut | Event::AbortAsked => {
            Next::To(State::Aborted, let_go(policy))
        }
        Event::Asked { .. } => Next::NotNow,
        Event::GuardsPassed
        | Event::GuardsRefused
        | Event::Prepared
        | Event::PrepareFailed
        | Event::AllHeld
        | Event::Switched
        | Event::SwitchFailed
        | Event::SwitchUnknown
        | Event::SoakPassed
        | Event::SoakFailed => Next::Late,
    }
}

/// Only the record leads on: whatever else happens may have happened before or after it was written.
fn switching(plan: Plan, event: Event, policy: &Policy) -> Next {
    let here = State::Switching(plan);
    match event {
        Event::Switched => {
            let hook = if plan.is_back {
                Action::AfterRollback
            } else {
                Action::AfterSwitch
            };
            let mut actions = vec![
                Action::Publish,
                Action::Release,
                Action::Unprepare,
                Action::Watch,
                hook,
            ];
            if policy.fence {
                // An earlier cutover may have left it fenced.
                actions.insert(1, Action::Unfence);
            }
            let soak = Soak {
                is_back: plan.is_back,
            };
            Next::To(State::Soaking(soak), actions)
        }
        Event::SwitchFailed => Next::To(State::Aborted, let_go(policy)),
        Event::SwitchUnknown => Next::To(here, vec![Action::Settle]),
        // Sessions wait for longer than they should, and an operator should know.
        Event::HoldTimedOut => Next::To(here, vec![Action::Alert]),
        Event::AbortAsked | Event::Asked { .. } => Next::NotNow,
        Event::GuardsPassed
        | Event::GuardsRefused
        | Event::Prepared
        | Event::PrepareFailed
        | Event::AllHeld
        | Event::CaughtUp
        | Event::CatchUpFailed
        | Event::SoakPassed
        | Event::SoakFailed => Next::Late,
    }
}

fn soaking(soak: Soak, event: Event, policy: &Policy) -> Next {
    let here = State::Soaking(soak);
    match event {
        Event::Asked { dry_run, is_back } => asked(Rest::Soaking(soak), dry_run, is_back),
        Event::SoakPassed => Next::To(State::Done, vec![Action::Unwatch, Action::EndSoak]),
        Event::SoakFailed if policy.soak == config::SoakAction::Rollback && !soak.is_back => {
            Next::To(here, vec![Action::Alert, Action::GoBack])
        }
        Event::SoakFailed => Next::To(here, vec![Action::Alert]),
        Event::AbortAsked => Next::NotNow,
        Event::GuardsPassed
        | Event::GuardsRefused
        | Event::Prepared
        | Event::PrepareFailed
        | Event::AllHeld
        | Event::HoldTimedOut
        | Event::CaughtUp
        | Event::CatchUpFailed
        | Event::Switched
        | Event::SwitchFailed
        | Event::SwitchUnknown => Next::Late,
    }
}

/// A soak that goes on while another cutover is only looked at. One that fails is said again at each
/// look, and is acted on once the other has ended.
fn soak_beside(plan: Plan, event: Event, to: fn(Plan) -> State) -> Next {
    match (plan.rest, event) {
        (Rest::Soaking(_), Event::SoakPassed) => {
            let rest = Rest::Done;
            let actions = vec![Action::Unwatch, Action::EndSoak];
            Next::To(to(Plan { rest, ..plan }), actions)
        }
        (Rest::Soaking(_), _) => Next::To(to(plan), vec![Action::Alert]),
        (Rest::Idle | Rest::Done | Rest::Aborted, _) => Next::Late,
    }
}

/// Where an end leads that came before anything was touched: a soak goes on.
const fn untouched(rest: Rest) -> State {
    match rest {
        Rest::Soaking(soak) => State::Soaking(soak),
        Rest::Idle | Rest::Done | Rest::Aborted => State::Aborted,
    }
}

/// Production goes on as before: first the server takes writes again, then the sessions go on.
fn let_go(policy: &Policy) -> Vec<Action> {
    let mut actions = vec![
        Action::Release,
        Action::Unprepare,
        Action::End(Outcome::Aborted),
    ];
    if policy.fence {
        actions.insert(0, Action::Unfence);
    }
    actions
}

#[cfg(test)]
mod tests;
