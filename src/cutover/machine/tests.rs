//! The whole product of states, events and policies: what follows, and what never may.

use super::*;
use crate::config::{SoakAction, Stuck};
use std::collections::{BTreeMap, HashSet};

const EVENTS: [Event; 18] = [
    Event::Asked {
        dry_run: false,
        is_back: false,
    },
    Event::Asked {
        dry_run: true,
        is_back: false,
    },
    Event::Asked {
        dry_run: false,
        is_back: true,
    },
    Event::AbortAsked,
    Event::GuardsPassed,
    Event::GuardsRefused,
    Event::Prepared,
    Event::PrepareFailed,
    Event::AllHeld,
    Event::HoldTimedOut,
    Event::CaughtUp,
    Event::CatchUpFailed,
    Event::Switched,
    Event::SwitchFailed,
    Event::SwitchUnknown,
    Event::SoakPassed,
    Event::SoakFailed,
    Event::Asked {
        dry_run: true,
        is_back: true,
    },
];

fn policies() -> Vec<Policy> {
    let mut all = Vec::new();
    for stuck in [Stuck::Abort, Stuck::End] {
        for soak in [SoakAction::Alert, SoakAction::Rollback] {
            for fence in [false, true] {
                all.push(Policy { stuck, soak, fence });
            }
        }
    }
    all
}

fn states() -> Vec<State> {
    let soaks = [false, true].map(|is_back| Soak { is_back });
    let mut rests = vec![Rest::Idle, Rest::Done, Rest::Aborted];
    rests.extend(soaks.map(Rest::Soaking));
    let mut all: Vec<State> = rests.iter().copied().map(State::from).collect();
    for rest in rests {
        for dry_run in [false, true] {
            for is_back in [false, true] {
                let plan = Plan {
                    dry_run,
                    is_back,
                    rest,
                };
                all.extend([State::Checking(plan), State::Preparing(plan)]);
                if dry_run {
                    continue;
                }
                for ended in [false, true] {
                    all.push(State::Holding { plan, ended });
                }
                all.extend([State::CatchingUp(plan), State::Switching(plan)]);
            }
        }
    }
    all
}

/// Every state, event and policy, and what follows.
fn product() -> impl Iterator<Item = (State, Event, Policy, Next)> {
    states().into_iter().flat_map(|state| {
        EVENTS.into_iter().flat_map(move |event| {
            policies()
                .into_iter()
                .map(move |policy| (state, event, policy, state.next(event, &policy)))
        })
    })
}

/// A word for an event: `Asked`, `AllHeld` …
fn word(of: impl std::fmt::Debug) -> String {
    let text = format!("{of:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// What each state takes. Every event that is not in its row must be late; what cannot be done now is
/// told to whoever asked.
const TAKES: [(&str, &str, &str); 9] = [
    ("idle", "Asked", "AbortAsked"),
    ("done", "Asked", "AbortAsked"),
    ("aborted", "Asked", "AbortAsked"),
    (
        "checking",
        "GuardsPassed GuardsRefused AbortAsked SoakPassed SoakFailed",
        "Asked",
    ),
    (
        "preparing",
        "Prepared PrepareFailed AbortAsked SoakPassed SoakFailed",
        "Asked",
    ),
    ("holding", "AllHeld HoldTimedOut AbortAsked", "Asked"),
    (
        "catching_up",
        "CaughtUp CatchUpFailed HoldTimedOut AbortAsked",
        "Asked",
    ),
    (
        "switching",
        "Switched SwitchFailed SwitchUnknown HoldTimedOut",
        "Asked AbortAsked",
    ),
    ("soaking", "Asked SoakPassed SoakFailed", "AbortAsked"),
];

/// The soak of another cutover is told of only where there is one that still runs.
fn is_soak_of_none(state: State, event: Event) -> bool {
    let (plan, runs) = match state {
        State::Checking(plan) => (plan, true),
        State::Preparing(plan) => (plan, plan.dry_run),
        _ => return false,
    };
    let of_soak = matches!(event, Event::SoakPassed | Event::SoakFailed);
    of_soak && !(runs && matches!(plan.rest, Rest::Soaking(_)))
}

#[test]
fn no_event_is_ignored_by_accident() {
    let takes: BTreeMap<_, _> = TAKES
        .iter()
        .map(|(state, takes, refuses)| (*state, (*takes, *refuses)))
        .collect();
    assert_eq!(takes.len(), State::NAMES.len());
    for (state, event, policy, next) in product() {
        let (takes, refuses) = takes[state.name()];
        let has = |row: &str| row.split(' ').any(|one| one == word(event));
        let told = match next {
            Next::To(..) => "taken",
            Next::Late => "late",
            Next::NotNow => "not now",
        };
        let meant = if is_soak_of_none(state, event) {
            "late"
        } else if has(takes) {
            "taken"
        } else if has(refuses) {
            "not now"
        } else {
            "late"
        };
        assert_eq!(told, meant, "{state:?} {event:?} {policy:?}");
    }
}

#[test]
fn nothing_leads_out_of_switching_but_the_record() {
    for (state, event, _, next) in product() {
        let (State::Switching(_), Next::To(to, actions)) = (state, &next) else {
            continue;
        };
        match to {
            State::Soaking(_) => assert_eq!(event, Event::Switched),
            State::Aborted => assert_eq!(event, Event::SwitchFailed),
            State::Switching(_) => {
                assert_eq!(to, &state);
                let leaves = [Action::Release, Action::Publish, Action::Unfence];
                assert!(!actions.iter().any(|one| leaves.contains(one)), "{event:?}");
            }
            other => panic!("{event:?} leads to {other:?}"),
        }
    }
}

#[test]
fn roles_change_only_once_the_switch_is_recorded_and_before_the_gate_opens() {
    for (state, event, _, next) in product() {
        let Next::To(to, actions) = next else {
            continue;
        };
        let place = |action| actions.iter().position(|one| *one == action);
        if let Some(published) = place(Action::Publish) {
            assert!(matches!(state, State::Switching(_)) && event == Event::Switched);
            assert!(Some(published) < place(Action::Release), "{actions:?}");
        }
        let recorded = actions.contains(&Action::Switch);
        let enters = matches!(to, State::Switching(_)) && !matches!(state, State::Switching(_));
        assert_eq!(recorded, enters, "{state:?} {event:?}");
        if enters {
            assert_eq!((state.name(), event), ("catching_up", Event::CaughtUp));
        }
    }
}

#[test]
fn abort_works_in_every_state_before_switching() {
    for (state, event, policy, next) in product() {
        if event != Event::AbortAsked || state.rest().is_some() {
            continue;
        }
        match (state, next) {
            (State::Switching(_), next) => assert_eq!(next, Next::NotNow),
            (_, Next::To(to, actions)) => {
                assert!(
                    matches!(to, State::Aborted | State::Soaking(_)),
                    "{state:?}"
                );
                assert_eq!(actions.last(), Some(&Action::End(Outcome::Aborted)));
                assert_eq!(
                    actions.contains(&Action::Release),
                    state.is_holding(),
                    "{state:?} {policy:?}"
                );
            }
            (_, next) => panic!("{state:?}: {next:?}"),
        }
    }
}

/// What the actions make of the world, as their documents say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    held: bool,
    /// The primary refuses writes; the shadow does.
    fenced: [bool; 2],
    prepared: bool,
    watched: bool,
    /// A record without an end.
    open: bool,
    /// A soak's record without an end.
    soaks: bool,
    /// The new primary is on the disk; published.
    recorded: bool,
    published: bool,
}

impl World {
    fn run(mut self, action: Action) -> Self {
        match action {
            Action::Check => {
                self.open = true;
                (self.recorded, self.published) = (false, false);
            }
            Action::Refuse | Action::End(_) => self.open = false,
            Action::EndSoak => self.soaks = false,
            Action::Prepare => self.prepared = true,
            Action::Unprepare => self.prepared = false,
            Action::Hold => self.held = true,
            Action::Fence => self.fenced[0] = true,
            Action::Unfence => self.fenced[0] = false,
            Action::Release => self.held = false,
            Action::Publish => {
                if self.recorded && !self.published {
                    self.fenced.reverse();
                }
                self.published = self.recorded;
                // The record is the soak's now.
                (self.open, self.soaks) = (false, true);
            }
            Action::Watch => self.watched = true,
            Action::Unwatch => self.watched = false,
            Action::CatchUp
            | Action::Switch
            | Action::Settle
            | Action::EndStuck
            | Action::AfterSwitch
            | Action::AfterRollback
            | Action::Alert
            | Action::GoBack => {}
        }
        self
    }

    fn is_sound(self, state: State) -> bool {
        let soaking = matches!(state, State::Soaking(_));
        let beside = match state {
            State::Checking(plan) => matches!(plan.rest, Rest::Soaking(_)),
            State::Preparing(plan) => plan.dry_run && matches!(plan.rest, Rest::Soaking(_)),
            _ => false,
        };
        let rests = state.rest().is_some();
        self.held == state.is_holding()
            && self.watched == (soaking || beside)
            && self.soaks == (soaking || beside)
            && self.open != rests
            && self.published == self.recorded
            && (self.held || !self.fenced[0])
            && (!rests || !self.prepared)
    }
}

/// Every state that can be reached from the start, with what the world is then; each action is run
/// twice, which must be as once.
fn reached(policy: &Policy) -> Vec<(State, World)> {
    let mut reached = vec![(State::Idle, World::default())];
    let mut seen: HashSet<_> = reached.iter().copied().collect();
    let mut at = 0;
    while let Some((state, world)) = reached.get(at).copied() {
        at += 1;
        for event in EVENTS {
            let Next::To(to, actions) = state.next(event, policy) else {
                continue;
            };
            let mut after = world;
            if event == Event::Switched {
                after.recorded = true;
            }
            for action in actions {
                after = after.run(action);
                assert_eq!(after, after.run(action), "{action:?} twice");
            }
            assert!(
                after.is_sound(to),
                "{state:?} {event:?} → {to:?}: {world:?} → {after:?}"
            );
            if seen.insert((to, after)) {
                reached.push((to, after));
            }
        }
    }
    reached
}

#[test]
fn the_world_fits_the_state_wherever_one_can_come() {
    for policy in policies() {
        let reached = reached(&policy);
        let names: HashSet<_> = reached.iter().map(|(state, _)| state.name()).collect();
        assert_eq!(names.len(), State::NAMES.len(), "{names:?}");
        for (state, _) in reached {
            if let State::Holding { plan, .. } | State::CatchingUp(plan) | State::Switching(plan) =
                state
            {
                assert!(!plan.dry_run, "a dry run never holds");
            }
        }
    }
}

/// A course: the events, and the state and actions after each.
fn course(policy: Policy, events: &[Event]) -> Vec<(String, Vec<Action>)> {
    let mut state = State::Idle;
    let mut told = Vec::new();
    for event in events {
        match state.next(*event, &policy) {
            Next::To(to, actions) => {
                state = to;
                told.push((to.name().to_owned(), actions));
            }
            other => told.push((format!("{other:?}"), Vec::new())),
        }
    }
    told
}

const TO_SOAKING: [Event; 6] = [
    Event::Asked {
        dry_run: false,
        is_back: false,
    },
    Event::GuardsPassed,
    Event::Prepared,
    Event::AllHeld,
    Event::CaughtUp,
    Event::Switched,
];

const PLAIN: Policy = Policy {
    stuck: Stuck::Abort,
    soak: SoakAction::Alert,
    fence: false,
};

#[test]
fn a_cutover_that_goes_well() {
    let mut events = TO_SOAKING.to_vec();
    events.push(Event::SoakPassed);
    let told = course(PLAIN, &events);
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "checking",
            "preparing",
            "holding",
            "catching_up",
            "switching",
            "soaking",
            "done"
        ]
    );
    let actions: Vec<_> = told.into_iter().flat_map(|(_, actions)| actions).collect();
    assert_eq!(
        actions,
        [
            Action::Check,
            Action::Prepare,
            Action::Hold,
            Action::CatchUp,
            Action::Switch,
            Action::Publish,
            Action::Release,
            Action::Unprepare,
            Action::Watch,
            Action::AfterSwitch,
            Action::Unwatch,
            Action::EndSoak,
        ]
    );
}

#[test]
fn a_soak_that_fails_goes_back_by_itself_once_and_a_way_back_does_not() {
    let policy = Policy {
        soak: SoakAction::Rollback,
        ..PLAIN
    };
    let back = [
        Event::Asked {
            dry_run: false,
            is_back: true,
        },
        Event::GuardsPassed,
        Event::Prepared,
        Event::AllHeld,
        Event::CaughtUp,
        Event::Switched,
        Event::SoakFailed,
    ];
    let events: Vec<_> = TO_SOAKING
        .into_iter()
        .chain([Event::SoakFailed])
        .chain(back)
        .collect();
    let told = course(policy, &events);
    assert_eq!(told[6].1, [Action::Alert, Action::GoBack]);
    assert_eq!(
        told[8].1,
        [Action::Unwatch, Action::EndSoak, Action::Prepare]
    );
    assert!(told[12].1.contains(&Action::AfterRollback));
    assert_eq!(told[13], ("soaking".to_owned(), vec![Action::Alert]));
}

#[test]
fn a_refusal_and_a_dry_run_leave_a_soak_as_it_is() {
    let asked = Event::Asked {
        dry_run: true,
        is_back: true,
    };
    let events: Vec<_> = TO_SOAKING
        .into_iter()
        .chain([asked, Event::GuardsRefused])
        .chain([asked, Event::GuardsPassed, Event::Prepared])
        .chain([asked, Event::AbortAsked])
        .chain([asked, Event::SoakPassed, Event::GuardsRefused])
        .collect();
    let told = course(PLAIN, &events);
    let names: Vec<_> = told.iter().skip(6).map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "checking",
            "soaking",
            "checking",
            "preparing",
            "soaking",
            "checking",
            "soaking",
            "checking",
            "checking",
            "done"
        ]
    );
}

#[test]
fn sessions_in_the_way_are_ended_once_where_the_config_says_so() {
    let events = [
        TO_SOAKING[0],
        Event::GuardsPassed,
        Event::Prepared,
        Event::HoldTimedOut,
        Event::HoldTimedOut,
    ];
    let policy = Policy {
        stuck: Stuck::End,
        ..PLAIN
    };
    let told = course(policy, &events);
    assert_eq!(told[3], ("holding".to_owned(), vec![Action::EndStuck]));
    assert_eq!(told[4].0, "aborted");
    let told = course(PLAIN, &events);
    assert_eq!(told[3].0, "aborted");
    assert_eq!(told[4].0, "Late");
}

#[test]
fn a_fence_is_put_up_once_all_are_held_and_taken_down_before_they_go_on() {
    let policy = Policy {
        fence: true,
        ..PLAIN
    };
    let events = [
        TO_SOAKING[0],
        Event::GuardsPassed,
        Event::Prepared,
        Event::AllHeld,
        Event::CatchUpFailed,
    ];
    let told = course(policy, &events);
    assert_eq!(told[3].1, [Action::Fence, Action::CatchUp]);
    assert_eq!(told[4].1[..2], [Action::Unfence, Action::Release]);
}

#[test]
fn what_nobody_knows_is_found_out_before_anybody_goes_on() {
    let events: Vec<_> = TO_SOAKING
        .into_iter()
        .take(5)
        .chain([
            Event::SwitchUnknown,
            Event::HoldTimedOut,
            Event::SwitchUnknown,
            Event::Switched,
        ])
        .collect();
    let told = course(PLAIN, &events);
    let rest: Vec<_> = told.iter().skip(5).map(|(name, _)| name.as_str()).collect();
    assert_eq!(rest, ["switching", "switching", "switching", "soaking"]);
    assert_eq!(told[5].1, [Action::Settle]);
}
