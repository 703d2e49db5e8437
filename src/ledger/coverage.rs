//! Every command ends in exactly one verdict: the counters that prove it.

use super::observation::Outcome;
use crate::compare::verdict::{Reason, Tolerance, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts verdicts. Lock-free.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    matched: AtomicU64,
    tolerated: AtomicU64,
    diverged: AtomicU64,
    not_compared: [AtomicU64; Reason::ALL.len()],
    by_tolerance: [AtomicU64; Tolerance::ALL.len()],
    rechecks: [AtomicU64; Outcome::ALL.len()],
}

/// What became of all commands, at one moment:
/// `commands = matched + tolerated + diverged + not_compared + pending`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Commands that have an answer.
    pub commands: u64,
    /// Answers that were equal.
    pub matched: u64,
    /// Answers that differed in nothing but what is tolerated.
    pub tolerated: u64,
    /// Answers that differed.
    pub diverged: u64,
    /// Not compared, by reason; reasons that never occurred are left out.
    pub not_compared: BTreeMap<&'static str, u64>,
    /// Commands whose verdict is still to come.
    pub pending: u64,
    /// Of those tolerated, by tolerance; one command can count under several.
    pub by_tolerance: BTreeMap<&'static str, u64>,
    /// Differences that were looked at again, by what that came to.
    pub rechecks: BTreeMap<&'static str, u64>,
}

impl Snapshot {
    /// Commands that were not compared, for whatever reason.
    #[must_use]
    pub fn not_compared_total(&self) -> u64 {
        self.not_compared.values().sum()
    }

    /// Not compared, by every reason that there is: 0 where it never occurred.
    pub fn by_every_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.into_iter().map(|reason| {
            let name = reason.name();
            (name, self.not_compared.get(name).copied().unwrap_or(0))
        })
    }
}

impl Coverage {
    pub(super) fn count(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Match => add(&self.matched),
            Verdict::Tolerated(names) => {
                add(&self.tolerated);
                for name in names.iter() {
                    self.by_tolerance
                        .get(name as usize)
                        .into_iter()
                        .for_each(add);
                }
            }
            Verdict::Diverged(_) => add(&self.diverged),
            Verdict::NotCompared(reason) => {
                self.not_compared
                    .get(*reason as usize)
                    .into_iter()
                    .for_each(add);
            }
        }
    }

    /// Counts a second look.
    pub(super) fn count_recheck(&self, outcome: Outcome) {
        self.rechecks
            .get(outcome as usize)
            .into_iter()
            .for_each(add);
    }

    /// The counters now. `commands` is asked after the verdicts were read, so that no verdict is
    /// ever ahead of the commands; `lost` of them never reached anyone who could judge.
    pub(super) fn snapshot(&self, commands: impl FnOnce() -> Commands) -> Snapshot {
        let mut now = Snapshot {
            matched: read(&self.matched),
            tolerated: read(&self.tolerated),
            diverged: read(&self.diverged),
            ..Snapshot::default()
        };
        for reason in Reason::ALL {
            let count = self.not_compared.get(reason as usize).map_or(0, read);
            if count > 0 {
                now.not_compared.insert(reason.name(), count);
            }
        }
        for tolerance in Tolerance::ALL {
            let count = self.by_tolerance.get(tolerance as usize).map_or(0, read);
            if count > 0 {
                now.by_tolerance.insert(tolerance.name(), count);
            }
        }
        for outcome in Outcome::ALL {
            let count = self.rechecks.get(outcome as usize).map_or(0, read);
            if count > 0 {
                now.rechecks.insert(outcome.name(), count);
            }
        }
        let commands = commands();
        if commands.lost > 0 {
            *now.not_compared.entry(Reason::Dropped.name()).or_default() += commands.lost;
        }
        if commands.passed > 0 {
            *now.not_compared.entry(Reason::Off.name()).or_default() += commands.passed;
        }
        now.commands = commands.handed + commands.passed;
        let verdicts = now.matched + now.tolerated + now.diverged + now.not_compared_total();
        now.pending = now.commands.saturating_sub(verdicts);
        now
    }
}

/// Commands with an answer that the relay handed over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commands {
    /// All of them.
    pub handed: u64,
    /// Those of which nothing came through: they count as dropped.
    pub lost: u64,
    /// Those that were not handed over, for nobody wanted to know of them: they count as off.
    pub passed: u64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::AcqRel);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::Tolerances;
    use proptest::prelude::*;

    fn verdicts() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            Just(Verdict::Match),
            (0..Tolerance::ALL.len())
                .prop_map(|at| Verdict::Tolerated(Tolerances::NONE.with(Tolerance::ALL[at]))),
            (0..Reason::ALL.len()).prop_map(|at| Verdict::NotCompared(Reason::ALL[at])),
        ]
    }

    proptest! {
        #[test]
        fn the_identity_holds_at_every_moment(all in proptest::collection::vec(verdicts(), 0..200), waiting in 0u64..9, lost in 0u64..9) {
            let coverage = Coverage::default();
            for (done, verdict) in all.iter().enumerate() {
                coverage.count(verdict);
                let handed = done as u64 + 1 + waiting + lost;
                let now = coverage.snapshot(|| Commands { handed, lost, passed: 0 });
                let parts = now.matched + now.tolerated + now.diverged + now.not_compared_total() + now.pending;
                prop_assert_eq!(now.commands, parts);
                prop_assert_eq!(now.pending, waiting);
            }
        }
    }

    #[test]
    fn a_tolerated_command_counts_once_and_under_each_of_its_names() {
        let coverage = Coverage::default();
        let names = Tolerances::NONE
            .with(Tolerance::Charset)
            .with(Tolerance::Info);
        coverage.count(&Verdict::Tolerated(names));
        let now = coverage.snapshot(|| Commands {
            handed: 1,
            lost: 0,
            passed: 0,
        });
        assert_eq!(now.tolerated, 1);
        assert_eq!(
            now.by_tolerance,
            BTreeMap::from([("charset", 1), ("info", 1)])
        );
    }
}
