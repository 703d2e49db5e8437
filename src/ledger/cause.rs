//! Why tables are tainted, and what followed from it: differences that would have diverged, had
//! the tables not been tainted, counted by their cause.
//!
//! The counts do not pass through the queue of findings: they wait here, bounded, until the writer
//! asks for them.

use super::observation::Protocol;
use crate::compare::verdict::Kind;
use crate::sql::{Table, TableSet};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why tables may hold other rows on the shadow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What happened, without literals.
    pub text: Arc<str>,
    /// The finding that it is, where it was a divergence and not a loss.
    pub finding: Option<FindingKey>,
}

/// What tells a finding from all others, before the ledger has given it an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindingKey {
    /// Of the statement's fingerprint.
    pub digest: u64,
    /// The kind.
    pub kind: Kind,
    /// Text or prepared.
    pub protocol: Protocol,
}

impl Cause {
    /// Of a divergence.
    #[must_use]
    pub fn diverged(text: &str, finding: FindingKey) -> Self {
        Self {
            text: Arc::from(text),
            finding: Some(finding),
        }
    }

    /// The digest of what follows from it: the same for the same cause at any time.
    pub(super) fn digest(&self) -> u64 {
        let key = self.finding.map(|key| key.to_string()).unwrap_or_default();
        xxhash_rust::xxh3::xxh3_64(format!("follows {}\0{key}", self.text).as_bytes())
    }

    /// The protocol under which what follows from it is kept.
    pub(super) fn protocol(&self) -> Protocol {
        self.finding.map_or(Protocol::Text, |key| key.protocol)
    }
}

/// A loss that is no divergence.
impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        Self {
            text: Arc::from(text),
            finding: None,
        }
    }
}

impl fmt::Display for FindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, protocol) = (self.kind.name(), self.protocol.name());
        write!(f, "{:016x} {kind} {protocol}", self.digest)
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoKey;

impl FromStr for FindingKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let mut words = text.split(' ');
        let mut next = || words.next().ok_or(NoKey);
        let digest = u64::from_str_radix(next()?, 16).map_err(|_| NoKey)?;
        let kind = Kind::named(next()?).ok_or(NoKey)?;
        let protocol = Protocol::named(next()?).ok_or(NoKey)?;
        Ok(Self {
            digest,
            kind,
            protocol,
        })
    }
}

/// Causes whose counts wait for the writer, and causes whose examples are counted; what follows
/// from further ones is counted under [`OTHER`], and has no examples.
const CAUSES_MAX: usize = 1_000;

/// Differences that are kept whole for each cause, from one start to the next.
const EXAMPLES_MAX: u32 = 5;

/// Tables that are named of what followed from one cause.
const TABLES_MAX: usize = 50;

/// The cause under which the rest is counted, where there are too many.
const OTHER: &str = "one of more causes than are told apart";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Followed {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    unsaved: ByCause,
    amended: Vec<Amended>,
    examples: BTreeMap<u64, u32>,
}

/// What followed, by the digest of its cause.
pub(super) type ByCause = BTreeMap<u64, Tally>;

/// What followed from one cause since it was last stored.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) cause: Cause,
    pub(super) count: u64,
    pub(super) first: jiff::Timestamp,
    pub(super) last: jiff::Timestamp,
    pub(super) tables: BTreeSet<Table>,
}

/// What was counted under one cause since then, and not before, followed from another.
#[derive(Clone, Debug)]
pub(super) struct Amended {
    pub(super) told: Cause,
    pub(super) cause: Cause,
    pub(super) since: jiff::Timestamp,
}

/// What became of a difference that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Nothing waited for the writer before.
    pub(super) is_first: bool,
    /// It is one of the few that are kept whole.
    pub(super) is_example: bool,
}

impl Followed {
    /// Counts one difference.
    pub(super) fn count(&self, cause: &Cause, tables: &TableSet, now: jiff::Timestamp) -> Taken {
        let mut counts = self.counts.lock();
        let is_first = counts.unsaved.is_empty();
        let digest = cause.digest();
        add(
            &mut counts.unsaved,
            Tally {
                cause: cause.clone(),
                count: 1,
                first: now,
                last: now,
                tables: tables.iter().cloned().collect(),
            },
        );
        let known = counts.examples.len();
        let kept = match counts.examples.get(&digest) {
            None if known >= CAUSES_MAX => EXAMPLES_MAX,
            kept => kept.copied().unwrap_or(0),
        };
        let is_example = kept < EXAMPLES_MAX;
        if is_example {
            counts.examples.insert(digest, kept + 1);
        }
        Taken {
            is_first,
            is_example,
        }
    }

    /// What followed from one cause followed from another: what is stored of it too, where that
    /// began since then. Of more amendments than there are causes the file is not told.
    pub(super) fn amend(&self, amended: Amended) {
        let mut counts = self.counts.lock();
        if let Some(mut tally) = counts.unsaved.remove(&amended.told.digest()) {
            tally.cause = amended.cause.clone();
            add(&mut counts.unsaved, tally);
        }
        if counts.amended.len() < CAUSES_MAX {
            counts.amended.push(amended);
        }
    }

    /// Amendments that the file lacks.
    pub(super) fn take_amended(&self) -> Vec<Amended> {
        std::mem::take(&mut self.counts.lock().amended)
    }

    /// They could not be stored.
    pub(super) fn give_back_amended(&self, mut amended: Vec<Amended>) {
        let mut counts = self.counts.lock();
        amended.append(&mut counts.amended);
        amended.truncate(CAUSES_MAX);
        counts.amended = amended;
    }

    /// What has not been stored yet.
    pub(super) fn take(&self) -> ByCause {
        std::mem::take(&mut self.counts.lock().unsaved)
    }

    /// It could not be stored.
    pub(super) fn give_back(&self, by_cause: ByCause) {
        let mut counts = self.counts.lock();
        for tally in by_cause.into_values() {
            add(&mut counts.unsaved, tally);
        }
    }

    /// How many differences followed from a cause that are not stored yet, and the last of them.
    pub(super) fn unsaved(&self, cause: &Cause) -> Option<(u64, jiff::Timestamp)> {
        let counts = self.counts.lock();
        let tally = counts.unsaved.get(&cause.digest())?;
        Some((tally.count, tally.last))
    }
}

fn add(by_cause: &mut ByCause, mut more: Tally) {
    let mut digest = more.cause.digest();
    if by_cause.len() >= CAUSES_MAX && !by_cause.contains_key(&digest) {
        more.cause = Cause::from(OTHER);
        digest = more.cause.digest();
    }
    let tally = by_cause.entry(digest).or_insert_with(|| Tally {
        count: 0,
        tables: BTreeSet::new(),
        ..more.clone()
    });
    tally.count += more.count;
    tally.first = tally.first.min(more.first);
    tally.last = tally.last.max(more.last);
    let room = TABLES_MAX.saturating_sub(tally.tables.len());
    tally.tables.extend(more.tables.into_iter().take(room));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    fn key() -> FindingKey {
        FindingKey {
            digest: 0x0abc,
            kind: Kind::AffectedRows,
            protocol: Protocol::Prepared,
        }
    }

    #[test]
    fn a_key_is_written_and_read() {
        let text = key().to_string();
        assert_eq!(text, "0000000000000abc affected_rows prepared");
        assert_eq!(text.parse(), Ok(key()));
        for wrong in ["", "zz rows text", "1 rows", "1 row text", "1 rows cursor"] {
            assert_eq!(wrong.parse::<FindingKey>(), Err(NoKey), "{wrong}");
        }
    }

    #[test]
    fn what_follows_is_counted_by_cause_and_the_first_few_are_kept() {
        let followed = Followed::default();
        let (one, other) = (Cause::from("a loss"), Cause::diverged("a loss", key()));
        let examples =
            (0..9).filter(|n| followed.count(&one, &TableSet::none(), at(*n)).is_example);
        assert_eq!(examples.count(), 5);
        assert!(followed.count(&other, &TableSet::none(), at(1)).is_example);
        assert_eq!(followed.unsaved(&one), Some((9, at(8))));
        let by_cause = followed.take();
        assert_eq!(by_cause.len(), 2, "told apart by the finding");
        assert!(followed.count(&one, &TableSet::none(), at(20)).is_first);
        followed.give_back(by_cause);
        assert_eq!(followed.unsaved(&one), Some((10, at(20))));
        assert_eq!(followed.unsaved(&other), Some((1, at(1))));
    }

    #[test]
    fn more_causes_than_are_told_apart_are_counted_together() {
        let followed = Followed::default();
        for n in 0..CAUSES_MAX + 7 {
            let cause = Cause::from(format!("loss {n}").as_str());
            let taken = followed.count(&cause, &TableSet::none(), at(0));
            assert_eq!(taken.is_example, n < CAUSES_MAX, "{n}");
        }
        assert_eq!(followed.unsaved(&Cause::from(OTHER)), Some((7, at(0))));
        assert_eq!(followed.take().len(), CAUSES_MAX + 1);
    }
}
