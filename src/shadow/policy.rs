//! What becomes of a command: run on the shadow, run and rolled back, planned, or not, and why.
//! Pure.

use super::control::Control;
use crate::compare::verdict::Reason;
use crate::config::Writes;
use crate::sql::Class;

/// What a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Run it.
    Replay,
    /// Run it in a transaction that ends with ROLLBACK, whatever the primary's did.
    Rollback,
    /// Ask the shadow how it would run it.
    Plan,
    /// Leave it.
    Not(Reason),
}

/// What it decides from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// The strongest class in the command.
    pub(super) class: Class,
    /// It is within a transaction, or opens one.
    pub(super) in_transaction: bool,
    /// Something was written earlier in the same transaction.
    pub(super) written_before: bool,
    /// It is carried in the prepared protocol.
    pub(super) prepared: bool,
    /// To ask how it would be run is to run nothing of it.
    pub(super) plannable: bool,
    /// Several statements, among them one that ends a transaction, commits implicitly or may switch
    /// autocommit.
    pub(super) ends_inside: bool,
    /// A number from 0 to 1, rolled for this command.
    pub(super) die: f64,
    /// DDL is mirrored.
    pub(super) ddl: bool,
}

/// Decides.
pub(super) fn decide(control: &Control, situation: &Situation) -> Decision {
    let writes = control.writes;
    let runs_writes = matches!(writes, Writes::Apply | Writes::Rollback);
    match situation.class {
        Class::Unmirrored => Decision::Not(Reason::NotMirrored),
        Class::Empty | Class::Metadata | Class::Read => read(control, situation),
        Class::Session | Class::Transaction => {
            if !control.reads && !runs_writes {
                return Decision::Not(Reason::Off);
            }
            match writes {
                // Its COMMIT would find what was only rehearsed.
                Writes::Rollback if situation.ends_inside => Decision::Not(Reason::Off),
                Writes::Rollback => Decision::Rollback,
                Writes::Apply | Writes::Plan | Writes::Off => Decision::Replay,
            }
        }
        Class::LockingRead | Class::Write => match writes {
            Writes::Apply => Decision::Replay,
            Writes::Rollback if !situation.ends_inside => Decision::Rollback,
            Writes::Plan if !situation.prepared && situation.plannable => Decision::Plan,
            Writes::Rollback | Writes::Plan | Writes::Off => Decision::Not(Reason::Off),
        },
        // DDL commits implicitly: never where writes are only rehearsed.
        Class::Ddl if writes == Writes::Apply && situation.ddl => Decision::Replay,
        Class::Ddl => Decision::Not(Reason::Off),
    }
}

fn read(control: &Control, situation: &Situation) -> Decision {
    let runs_writes = matches!(control.writes, Writes::Apply | Writes::Rollback);
    let carried = if control.writes == Writes::Rollback {
        Decision::Rollback
    } else {
        Decision::Replay
    };
    if situation.in_transaction && runs_writes {
        return carried; // transactions are carried whole
    }
    if !control.reads || situation.written_before {
        return Decision::Not(Reason::Off);
    }
    if !situation.in_transaction && situation.die >= control.sample {
        return Decision::Not(Reason::SampledOut);
    }
    carried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_decisions() {
        use Decision::{Not, Plan, Replay, Rollback};
        let off = Not(Reason::Off);
        // class, in a transaction, written before → decisions under apply, rollback, plan, off
        let table = [
            (
                Class::Read,
                false,
                false,
                [Replay, Rollback, Replay, Replay],
            ),
            (Class::Read, true, false, [Replay, Rollback, Replay, Replay]),
            (Class::Read, true, true, [Replay, Rollback, off, off]),
            (
                Class::Metadata,
                false,
                false,
                [Replay, Rollback, Replay, Replay],
            ),
            (
                Class::Session,
                false,
                false,
                [Replay, Rollback, Replay, Replay],
            ),
            (
                Class::Transaction,
                false,
                false,
                [Replay, Rollback, Replay, Replay],
            ),
            (
                Class::LockingRead,
                true,
                false,
                [Replay, Rollback, Plan, off],
            ),
            (Class::Write, false, false, [Replay, Rollback, Plan, off]),
            (Class::Write, true, true, [Replay, Rollback, Plan, off]),
            (Class::Ddl, false, false, [Replay, off, off, off]),
            (
                Class::Unmirrored,
                false,
                false,
                [Not(Reason::NotMirrored); 4],
            ),
        ];
        let modes = [Writes::Apply, Writes::Rollback, Writes::Plan, Writes::Off];
        for (class, in_transaction, written_before, expected) in table {
            for (nth, writes) in modes.into_iter().enumerate() {
                let control = Control {
                    reads: true,
                    writes,
                    sample: 1.0,
                    paused: false,
                    observe: true,
                    flows_back: false,
                };
                let situation = Situation {
                    in_transaction,
                    written_before,
                    ..of(class)
                };
                assert_eq!(
                    decide(&control, &situation),
                    expected[nth],
                    "{class:?} {writes:?}"
                );
            }
        }
    }

    fn of(class: Class) -> Situation {
        Situation {
            class,
            in_transaction: false,
            written_before: false,
            prepared: false,
            plannable: true,
            ends_inside: false,
            die: 0.5,
            ddl: true,
        }
    }

    #[test]
    fn without_reads_only_those_in_transactions_that_may_write_are_carried() {
        for (writes, in_transaction, decision) in [
            (Writes::Apply, true, Decision::Replay),
            (Writes::Apply, false, Decision::Not(Reason::Off)),
            (Writes::Off, true, Decision::Not(Reason::Off)),
        ] {
            let control = Control {
                reads: false,
                writes,
                sample: 1.0,
                paused: false,
                observe: true,
                flows_back: false,
            };
            let situation = Situation {
                in_transaction,
                ..of(Class::Read)
            };
            assert_eq!(
                decide(&control, &situation),
                decision,
                "{writes:?} {in_transaction}"
            );
        }
    }

    #[test]
    fn the_die_is_rolled_for_reads_outside_transactions_alone() {
        let control = Control {
            reads: true,
            writes: Writes::Apply,
            sample: 0.4,
            paused: false,
            observe: true,
            flows_back: false,
        };
        let outside = of(Class::Read);
        assert_eq!(
            decide(&control, &outside),
            Decision::Not(Reason::SampledOut)
        );
        assert_eq!(
            decide(
                &control,
                &Situation {
                    die: 0.3,
                    ..outside
                }
            ),
            Decision::Replay
        );
        let inside = Situation {
            in_transaction: true,
            ..outside
        };
        assert_eq!(decide(&control, &inside), Decision::Replay);
        assert_eq!(decide(&control, &of(Class::Write)), Decision::Replay);
    }

    fn under(writes: Writes) -> Control {
        Control {
            reads: true,
            writes,
            sample: 1.0,
            paused: false,
            observe: true,
            flows_back: false,
        }
    }

    #[test]
    fn nothing_that_could_commit_is_only_rehearsed() {
        for class in [
            Class::Write,
            Class::LockingRead,
            Class::Transaction,
            Class::Session,
        ] {
            let situation = Situation {
                plannable: false,
                ends_inside: true,
                ..of(class)
            };
            let decision = decide(&under(Writes::Rollback), &situation);
            assert_eq!(decision, Decision::Not(Reason::Off), "{class:?}");
        }
    }

    #[test]
    fn no_plan_is_asked_for_where_that_could_run_something() {
        for class in [Class::Write, Class::LockingRead] {
            let situation = Situation {
                plannable: false,
                ..of(class)
            };
            let decision = decide(&under(Writes::Plan), &situation);
            assert_eq!(decision, Decision::Not(Reason::Off), "{class:?}");
            let decision = decide(&under(Writes::Rollback), &situation);
            assert_eq!(decision, Decision::Rollback, "{class:?}");
        }
    }
}
