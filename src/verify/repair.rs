//! Makes the shadow's rows the primary's. Never the other way, and never on the primary.
//!
//! Some rows at a time: both sides are read, a place in the mirror's order is taken, both are read again in it, and
//! what the primary still has as before is written, each row by a transaction of its own. The connections are open
//! before the place is taken, and it is kept for a moment only; what could not be done in it is tried again. Each
//! repair stands in the ledger before it is run. A row on a shard where it does not belong is taken away there, once
//! it is where it belongs. Rows of tables without a key are told and left.

mod batch;
mod hand;
mod look;
mod strays;
mod words;

use super::gate::{Gate, Stopped};
use super::reader::{Door, ReadError};
use super::rows::{How, Key};
use super::settle::{Differs, Pair, Places};
use super::statements::quoted;
use crate::config::Server;
use crate::connect::Dial;
use crate::ledger::{RepairBegun, Verifications};
use batch::{Nth, Seen, may_stray};
use hand::Hand;
use look::{Look, survives};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use strays::{Seeker, aimed};

/// Rows that are repaired in one place.
const ROWS_MAX: usize = 50;

/// Bytes of rows that are looked at together, roughly: the next look has so many rows as fit, by the last one.
const LOOK_BYTES: usize = 8 << 20;

/// Bytes of the statements that a run tells: they are kept in memory, and told with each look at the run.
const TOLD_BYTES_MAX: usize = 4 << 20;

/// The longest statement that the ledger keeps.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Said of a row behind the cap.
const TOO_LONG: &str = "the statement is not told: those of a run are told up to 4 MiB; plan fewer tables at once, or --repair apply";

/// How often what could not be done is tried again, and the pauses: each is twice the one before.
const PASSES_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The acknowledgement of a commit that was seen has come through the tee after this time, and stands before a place
/// that is taken then.
const QUIET: Duration = Duration::from_millis(100);

/// A repair, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// What is run.
    pub(super) statement: String,
    /// What is run instead where the statement would move a row to another shard.
    instead: Vec<String>,
}

impl Made {
    const fn of(statement: String) -> Self {
        Self {
            statement,
            instead: Vec::new(),
        }
    }
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// It was written.
    Done,
    /// Both sides had the same by then.
    Same,
    /// It was not written, and why.
    Not(String),
    /// Nobody knows, and why.
    Unknown(String),
}

impl Became {
    /// In words.
    #[must_use]
    pub(super) fn told(&self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Same => "the same by then".to_owned(),
            Self::Not(why) => format!("not repaired: {why}"),
            Self::Unknown(why) => format!("not known: {why}"),
        }
    }
}

/// How a try ended.
#[derive(Clone, Debug)]
enum Tried {
    Ended(Became),
    /// It may do another time.
    Again(String),
    /// It may do once others are repaired.
    Behind(String),
}

/// Whether a statement by the key can repair it.
///
/// # Errors
/// It cannot be, and why.
fn can(how: How, places: &Places<'_>) -> Result<(), &'static str> {
    match how {
        _ if places.primary.plan.key.is_empty() => Err("the table has no key to repair a row by"),
        How::Missing | How::Extra | How::Changed | How::Clock => Ok(()),
        How::Twice | How::Misplaced if places.routed => Ok(()),
        How::Twice | How::Misplaced => Err(
            "its key does not say on which shard it belongs: take it off the wrong one, then verify again",
        ),
    }
}

/// The statements for each row, or why there are none, as both sides are now; none where they are the same.
///
/// # Errors
/// A server could not be read.
pub(super) async fn plan(
    pair: &mut Pair,
    places: &Places<'_>,
    (dial, shadow, tells): (&Arc<dyn Dial>, &Arc<Server>, bool),
    rows: &[Differs],
    bytes_told: &AtomicUsize,
) -> Result<Vec<Result<Option<String>, String>>, ReadError> {
    let mut told = Vec::with_capacity(rows.len());
    let mut seeker = None;
    let (mut left, mut together) = (rows, 1);
    while !left.is_empty() {
        let (some, rest) = left.split_at(together.min(left.len()));
        left = rest;
        if bytes_told.load(Ordering::Relaxed) > TOLD_BYTES_MAX {
            told.extend(some.iter().map(|_| Err(TOO_LONG.to_owned())));
            continue;
        }
        let keys: Vec<Key> = some.iter().map(|one| one.key.clone()).collect();
        let look = Look::of(pair, places, &keys).await?;
        together = fitting(some.len(), look.bytes());
        for one in some {
            let made = can(one.how, places);
            let made = made.and_then(|()| look.made(places, &one.key));
            let made = match made {
                Ok(made) => made,
                Err(why) => {
                    told.push(Err(why.to_owned()));
                    continue;
                }
            };
            if let Some(why) = lossy(pair, places, &look, &one.key).await? {
                told.push(Err(why));
                continue;
            }
            let mut strays = Ok(Vec::new());
            if may_stray(one, &look, places.sharded && places.routed) {
                if seeker.is_none() {
                    let keyspace = places.shadow.database;
                    seeker = Some(Seeker::open(dial, shadow, keyspace, tells).await);
                }
                strays = match &mut seeker {
                    Some(Ok(seeker)) => seeker.strays(&places.shadow, &one.key).await,
                    Some(Err(why)) => Err(why.clone()),
                    None => Ok(Vec::new()),
                };
            }
            let words = strays.map(|strays| in_words(made.as_ref(), places, &one.key, &strays));
            let bytes = words
                .as_ref()
                .ok()
                .and_then(Option::as_ref)
                .map_or(0, String::len);
            let had = bytes_told.fetch_add(bytes, Ordering::Relaxed);
            told.push(if had + bytes > TOLD_BYTES_MAX {
                Err(TOO_LONG.to_owned())
            } else {
                words
            });
        }
    }
    Ok(told)
}

/// So many rows are looked at together where so many had so many bytes.
fn fitting(rows: usize, bytes: usize) -> usize {
    let of_one = (bytes / rows.max(1)).max(1);
    (LOOK_BYTES / of_one).clamp(1, ROWS_MAX.min(rows.max(1) * 2))
}

/// All that is run for a row, as a person would.
fn in_words(
    made: Option<&Made>,
    places: &Places<'_>,
    key: &Key,
    strays: &[String],
) -> Option<String> {
    let shadow = &places.shadow;
    let mut words: Vec<String> = made
        .map(|made| made.statement.clone())
        .into_iter()
        .collect();
    for shard in strays {
        words.push(format!("USE {}", quoted(&aimed(shadow.database, shard))));
        words.push(shadow.delete_here(key));
    }
    if !strays.is_empty() {
        words.push(format!("USE {}", quoted(shadow.database)));
    }
    (!words.is_empty()).then(|| words.join("; "))
}

/// Why what would be written of a row is not what the primary has.
async fn lossy(
    pair: &mut Pair,
    places: &Places<'_>,
    look: &Look,
    key: &Key,
) -> Result<Option<String>, ReadError> {
    for at in look.doubtful(&places.primary, key) {
        if !survives(&mut pair.primary, &places.primary, key, at).await? {
            let column = places.primary.plan.columns.get(at);
            let name = column.map_or("a column", |column| column.name.as_str());
            return Ok(Some(format!(
                "{name} holds characters that cannot be told in UTF-8"
            )));
        }
    }
    Ok(None)
}

/// Who repairs a table: see the module.
pub(super) struct Repairs<'a> {
    /// The table on both sides.
    pub(super) places: &'a Places<'a>,
    /// When it may go on, and the places.
    pub(super) gate: &'a Gate,
    /// The ways to read both sides.
    pub(super) doors: (&'a Door, &'a Door),
    /// The way to the shadow that is written to: the run's own, whatever the roles are by then.
    pub(super) dial: &'a Arc<dyn Dial>,
    /// See `dial`.
    pub(super) shadow: &'a Arc<Server>,
    /// Where each repair is recorded, and of which run, asked for by whom.
    pub(super) records: &'a Verifications,
    /// See `records`.
    pub(super) run: (i64, &'a str),
    /// The ledger keeps literals.
    pub(super) tells: bool,
}

/// What is open while a table is repaired, and what is recorded of it.
#[derive(Default)]
struct Tools {
    pair: Option<Pair>,
    hand: Option<Hand>,
    seeker: Option<Seeker>,
    records: HashMap<usize, i64>,
    /// Rows that are looked at together.
    together: usize,
}

impl Repairs<'_> {
    /// Repairs these rows; what became of each, in their order.
    ///
    /// # Errors
    /// It is to end: what was repaired by then is in the ledger.
    pub(super) async fn apply(&self, rows: &[Differs]) -> Result<Vec<Became>, Stopped> {
        let mut became = vec![Became::Not("its turn did not come".to_owned()); rows.len()];
        let mut left: Vec<usize> = (0..rows.len()).collect();
        // What stands in the way of another goes first.
        left.sort_by_key(|nth| rows.get(*nth).is_some_and(|one| one.how != How::Extra));
        let (mut tools, mut pause) = (Tools::default(), PAUSE);
        for _ in 0..PASSES_MAX {
            let (mut again, mut behind) = (Vec::new(), Vec::new());
            let mut todo = left.as_slice();
            while !todo.is_empty() {
                let together = tools.together.clamp(1, ROWS_MAX).min(todo.len());
                let (some, rest) = todo.split_at(together);
                todo = rest;
                let tried = self.some(&mut tools, rows, some).await?;
                let pairs = some.iter().enumerate();
                for (nth, at) in pairs {
                    let Some(place) = became.get_mut(*at) else {
                        continue;
                    };
                    match tried.get(nth) {
                        Some(Tried::Ended(end)) => *place = end.clone(),
                        Some(Tried::Again(why)) => {
                            *place = Became::Not(why.clone());
                            again.push(*at);
                        }
                        Some(Tried::Behind(why)) => {
                            *place = Became::Not(why.clone());
                            behind.push(*at);
                        }
                        None => again.push(*at),
                    }
                }
                self.record(&tools, some, &became);
            }
            let did_some = again.len() + behind.len() < left.len();
            if again.is_empty() && (behind.is_empty() || !did_some) {
                break;
            }
            left = again;
            left.append(&mut behind);
            self.gate.sleep(pause).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(became)
    }

    /// Each repair is in the ledger before it is run.
    fn begin(&self, tools: &mut Tools, rows: &[Nth<'_>], seen: &Seen) -> Result<(), String> {
        let (mut new, mut begun) = (Vec::new(), Vec::new());
        for (nth, (at, one)) in rows.iter().enumerate() {
            if tools.records.contains_key(at) {
                continue;
            }
            let made = seen.look.made(self.places, &one.key).ok().flatten();
            let strays = seen.strays.get(nth).map_or(&[][..], Vec::as_slice);
            let columns = one.columns.iter();
            let columns = columns.filter_map(|at| self.places.primary.plan.columns.get(*at));
            new.push(*at);
            begun.push(RepairBegun {
                how: one.how.name(),
                columns: columns.map(|column| column.name.clone()).collect(),
                key: self.tells.then(|| self.places.primary.is(&one.key)),
                statement: in_words(made.as_ref(), self.places, &one.key, strays)
                    .filter(|words| self.tells && words.len() <= KEPT_BYTES_MAX),
            });
        }
        let table = (self.places.primary.database, self.places.primary.table);
        let ids = self
            .records
            .repairs_begin(self.run, table, &self.shadow.name, &begun)
            .map_err(|fault| fault.to_string())?;
        for (nth, at) in new.iter().enumerate() {
            if let Some(id) = ids.get(nth) {
                tools.records.insert(*at, *id);
            }
        }
        Ok(())
    }

    /// What became of them, as far as it is known.
    fn record(&self, tools: &Tools, some: &[usize], became: &[Became]) {
        let ends: Vec<(i64, String)> = some
            .iter()
            .filter_map(|at| Some((*tools.records.get(at)?, became.get(*at)?.told())))
            .collect();
        super::run::said(self.records.repairs_end(&ends));
    }
}

#[cfg(test)]
mod tests;
