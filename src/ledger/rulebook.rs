//! The rules in the ledger's file: those of the config and of the API, with what each has taken.
//!
//! Where a rule ends (its time is over, it is deleted, the config has another in its place), what it
//! took is judged by nobody any more: its findings are open again, unless a person has judged the
//! same shape: that holds, for what the rule took too. It is given back in bounded steps.

use super::rules::{Kept, Rules};
use super::triage::{self, Noted, Word};
use super::{Changed, RULES_MAX};
use crate::compare::verdict::Kind;
use crate::config::{Rule, RuleState};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Rules whose time is over that one look ends at most.
const STEP: u32 = 100;

/// Findings that one step gives back at most, and divergences that it moves: the writer has others
/// to serve.
const RELEASE_STEP: u32 = 500;
const MOVED_MAX: usize = 5_000;

/// Where a rule gives back no more findings, each of them is told in its history.
const NOTED_MAX: i64 = 100;

/// Commands after which a rule of the config that never took anything is called stale.
const COMMANDS_MIN: u64 = 1_000;

const COLUMNS: &str =
    "id, name, fingerprint, on_table, kind, on_column, state, who, why, until FROM rules";

/// Brings the file in line with the config's rules, and reads all.
pub(super) fn sync(connection: &mut Connection, config: &[Rule]) -> rusqlite::Result<Rules> {
    let transaction = connection.transaction()?;
    let names: BTreeSet<&str> = config.iter().map(|rule| rule.name.as_str()).collect();
    for (id, name) in written_by_config(&transaction)? {
        if !names.contains(name.as_str()) {
            remove(&transaction, id, &name, "it is not in the config any more")?;
        }
    }
    for (place, rule) in config.iter().enumerate() {
        keep(&transaction, rule, i64::try_from(place).unwrap_or(i64::MAX))?;
    }
    let rules = load(&transaction)?;
    transaction.commit()?;
    Ok(rules)
}

fn written_by_config(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut statement =
        transaction.prepare("SELECT id, name FROM rules WHERE source = 'config'")?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Keeps a rule of the config. One that looks for the same as before keeps its counts.
fn keep(transaction: &Transaction<'_>, rule: &Rule, place: i64) -> rusqlite::Result<()> {
    let known = transaction
        .query_row(
            &format!("SELECT {COLUMNS} WHERE name = ?1"),
            [&rule.name],
            read,
        )
        .optional()?;
    let known = known.flatten();
    let deleted = transaction
        .query_row(
            "SELECT 1 FROM rules WHERE name = ?1 AND ended = 2",
            [&rule.name],
            |_| Ok(()),
        )
        .optional()?;
    let same = deleted.is_none()
        && known.as_ref().is_some_and(|kept| {
            let looks = |one: &Rule| {
                let one = one.clone();
                (one.fingerprint, one.table, one.kind, one.column)
            };
            looks(&kept.rule) == looks(rule)
        });
    if !same {
        if let Some(kept) = known {
            remove(
                transaction,
                kept.id,
                &rule.name,
                "the config has another in its place",
            )?;
        }
        transaction.execute("DELETE FROM rules WHERE name = ?1", [&rule.name])?;
        insert(transaction, rule, "config", place)?;
    }
    let until = rule.until.map(|until| until.to_string());
    let given = params![rule.name, rule.state.name(), rule.who, rule.why, until];
    transaction.execute(
        "UPDATE findings SET state = ?2, who = ?3, why = ?4, until = ?5, expired = 0
         WHERE rule = ?1 AND rule <> ''",
        given,
    )?;
    transaction
        .execute(
            "UPDATE rules SET source = 'config', place = ?6, state = ?2, who = ?3, why = ?4,
               ended = CASE WHEN until IS ?5 THEN ended ELSE 0 END, until = ?5 WHERE name = ?1",
            params![
                rule.name,
                rule.state.name(),
                rule.who,
                rule.why,
                until,
                place
            ],
        )
        .map(drop)
}

fn insert(
    transaction: &Transaction<'_>,
    rule: &Rule,
    source: &str,
    place: i64,
) -> rusqlite::Result<i64> {
    transaction.execute(
        "INSERT INTO rules (source, place, name, fingerprint, on_table, kind, on_column, state, who, why, until, made)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            source,
            place,
            rule.name,
            rule.fingerprint,
            rule.table,
            rule.kind.map(Kind::name),
            rule.column,
            rule.state.name(),
            rule.who,
            rule.why,
            rule.until.map(|until| until.to_string()),
            Timestamp::now().as_microsecond(),
        ],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// All rules that may take something, in their order.
pub(super) fn load(transaction: &Transaction<'_>) -> rusqlite::Result<Rules> {
    let mut statement = transaction.prepare(&format!(
        "SELECT {COLUMNS} WHERE ended = 0 ORDER BY source = 'api', place, id LIMIT {RULES_MAX}"
    ))?;
    let rows = statement.query_map((), read)?;
    let kept: Vec<Option<Kept>> = rows.collect::<Result<_, _>>()?;
    Ok(Rules(kept.into_iter().flatten().collect()))
}

/// A rule of the file; `None` where it names what is not known, which then takes nothing.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<Kept>> {
    let kind: Option<String> = row.get(4)?;
    let state: String = row.get(6)?;
    let until: Option<String> = row.get(9)?;
    let kind = kind.map(|kind| Kind::named(&kind));
    let until = until.map(|until| until.parse::<Timestamp>().ok());
    let (Some(state), None | Some(Some(_)), None | Some(Some(_))) =
        (RuleState::named(&state), &kind, &until)
    else {
        return Ok(None);
    };
    let rule = Rule {
        name: row.get(1)?,
        fingerprint: row.get(2)?,
        table: row.get(3)?,
        kind: kind.flatten(),
        column: row.get(5)?,
        state,
        who: row.get(7)?,
        why: row.get(8)?,
        until: until.flatten(),
    };
    Ok(Some(Kept::new(row.get(0)?, rule)))
}

/// Adds a rule of the API.
pub(super) fn add(transaction: &Transaction<'_>, rule: &Rule) -> rusqlite::Result<Changed<i64>> {
    let number: i64 = transaction.query_row("SELECT count(*) FROM rules", (), |row| row.get(0))?;
    if number >= i64::try_from(RULES_MAX).unwrap_or(i64::MAX) {
        return Ok(Changed::Refused(format!(
            "there are {number} rules, and no more may be: delete some first"
        )));
    }
    let known = transaction
        .query_row(
            "SELECT ended FROM rules WHERE name = ?1",
            [&rule.name],
            |row| row.get::<_, i64>(0),
        )
        .optional()?;
    if known == Some(2) {
        return Ok(Changed::Refused(format!(
            "rule {:?} was deleted and is still giving back what it took: try again in a while, or choose another name",
            rule.name
        )));
    }
    if known.is_some() {
        return Ok(Changed::Refused(format!(
            "there is a rule {:?} already: delete it first, or choose another name",
            rule.name
        )));
    }
    let id = insert(transaction, rule, "api", 0)?;
    let what = format!("rule {:?}: made, {}", rule.name, rule.state.name());
    triage::note(transaction, None, &rule.who, &what, &rule.why)?;
    Ok(Changed::Done(id))
}

/// Deletes a rule of the API.
pub(super) fn delete(
    transaction: &Transaction<'_>,
    id: i64,
    who: &str,
    why: &str,
) -> rusqlite::Result<Changed<i64>> {
    let known: Option<(String, String)> = transaction
        .query_row(
            "SELECT source, name FROM rules WHERE id = ?1 AND ended < 2",
            [id],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((source, name)) = known else {
        return Ok(Changed::Missing);
    };
    if source == "config" {
        return Ok(Changed::Refused(format!(
            "rule {name:?} is from the config: take it out there, and start anew"
        )));
    }
    let told = format!("deleted by {who}");
    end(transaction, (id, &name), true, "gives back", &told)?;
    release(transaction)?;
    triage::note(
        transaction,
        None,
        who,
        &format!("rule {name:?}: deleted"),
        why,
    )?;
    Ok(Changed::Done(id))
}

/// The rule is gone at once, and all that it took is given back: before anything is served.
fn remove(transaction: &Transaction<'_>, id: i64, name: &str, why: &str) -> rusqlite::Result<()> {
    end(transaction, (id, name), true, "gone", why)?;
    while release(transaction)? {}
    Ok(())
}

/// Counts what a rule took.
pub(super) fn hit(transaction: &Transaction<'_>, id: i64, at: Timestamp) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE rules SET hits = hits + 1, last_hit = max(coalesce(last_hit, 0), ?2) WHERE id = ?1",
        )?
        .execute(params![id, at.as_microsecond()])
        .map(drop)
}

/// Ends the rules whose time is over; they stay, to be seen. Says which.
pub(super) fn expire(
    transaction: &Transaction<'_>,
    now: Timestamp,
) -> rusqlite::Result<Vec<Noted>> {
    let over: Vec<(i64, String, String)> = {
        let mut statement = transaction.prepare_cached(
            "SELECT id, name, until FROM rules WHERE ended = 0 AND unixepoch(until, 'subsec') <= ?1 LIMIT ?2",
        )?;
        let rows = statement.query_map(params![triage::seconds(now), STEP], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        rows.collect::<Result<_, _>>()?
    };
    let mut noted = Vec::new();
    for (id, name, until) in over {
        let why = format!("its time was over at {until}");
        let told = end(transaction, (id, &name), false, "expired", &why)?;
        noted.push(Noted(format!(
            "rule {name:?} takes nothing any more, for {told}"
        )));
    }
    Ok(noted)
}

/// Writes down that a rule takes nothing any more, and what becomes of what it took; says it. One
/// that is `gone` is not shown any more, and is let go once it has given all back.
fn end(
    transaction: &Transaction<'_>,
    (id, name): (i64, &str),
    gone: bool,
    what: &str,
    why: &str,
) -> rusqlite::Result<String> {
    let given = given_back(transaction, name)?;
    transaction.execute(
        "UPDATE rules SET ended = ?2, ended_why = ?3, noted = ?4 WHERE id = ?1",
        params![id, 1 + i64::from(gone), why, given.all <= NOTED_MAX],
    )?;
    let told = format!("{why}; {given}");
    let what = format!("rule {name:?}: {what}");
    triage::note(transaction, None, triage::OURSELVES, &what, &told)?;
    Ok(told)
}

/// What becomes of the findings that a rule took.
struct GivenBack {
    all: i64,
    accepted: i64,
    noise: i64,
}

impl std::fmt::Display for GivenBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.all - self.accepted - self.noise;
        write!(f, "findings open again: {open}")?;
        for (number, state) in [(self.accepted, "accepted"), (self.noise, "noise")] {
            if number > 0 {
                write!(f, "; {state} by hand, as before: {number}")?;
            }
        }
        Ok(())
    }
}

fn given_back(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<GivenBack> {
    transaction.query_row(
        "SELECT count(*), coalesce(sum(o.state = 'accepted'), 0), coalesce(sum(o.state = 'noise'), 0)
         FROM findings f LEFT JOIN findings o
           ON o.digest = f.digest AND o.kind = f.kind AND o.protocol = f.protocol AND o.rule = ''
         WHERE f.rule = ?1 AND f.rule <> ''",
        [name],
        |row| {
            Ok(GivenBack {
                all: row.get(0)?,
                accepted: row.get(1)?,
                noise: row.get(2)?,
            })
        },
    )
}

/// Gives back some of what ended rules took; whether there is more. Each finding is one of nobody's
/// again, or goes into the one of the same shape, whose state a person has said and which keeps it.
pub(super) fn release(transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
    let over: Option<Ended> = transaction
        .prepare_cached(
            "SELECT name, ended, coalesce(ended_why, 'it ended'), noted FROM rules r WHERE ended > 0
               AND EXISTS (SELECT 1 FROM findings f WHERE f.rule = r.name AND f.rule <> '') LIMIT 1",
        )?
        .query_row((), |row| {
            Ok(Ended {
                name: row.get(0)?,
                expired: row.get::<_, i64>(1)? == 1,
                why: row.get(2)?,
                noted: row.get(3)?,
            })
        })
        .optional()?;
    if let Some(over) = &over {
        over.release(transaction)?;
    }
    transaction
        .prepare_cached(
            "DELETE FROM rules WHERE ended = 2
               AND NOT EXISTS (SELECT 1 FROM findings f WHERE f.rule = rules.name AND f.rule <> '')",
        )?
        .execute(())?;
    Ok(over.is_some())
}

/// A rule that takes nothing any more, and has something to give back.
struct Ended {
    name: String,
    /// Its time was over, and whose word it was is still told.
    expired: bool,
    why: String,
    /// Whether each finding's history is told: not where they are very many.
    noted: bool,
}

impl Ended {
    /// One step, bounded by findings and by divergences that move.
    fn release(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let findings: Vec<(i64, Option<i64>)> = {
            let mut statement = transaction.prepare_cached(
                "SELECT f.id, o.id FROM findings f LEFT JOIN findings o
                   ON o.digest = f.digest AND o.kind = f.kind AND o.protocol = f.protocol AND o.rule = ''
                 WHERE f.rule = ?1 AND f.rule <> '' LIMIT ?2",
            )?;
            let rows = statement.query_map(params![self.name, RELEASE_STEP], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.collect::<Result<_, _>>()?
        };
        let mut budget = MOVED_MAX;
        for (id, other) in findings {
            let left = match other {
                Some(other) => {
                    budget = budget.saturating_sub(moved(transaction, id, other, budget)?);
                    if budget == 0 {
                        // It may have more divergences: the next step goes on with it.
                        return Ok(());
                    }
                    join(transaction, id, other)?;
                    other
                }
                None => {
                    self.open(transaction, id)?;
                    id
                }
            };
            if self.noted {
                self.note(transaction, left)?;
            }
        }
        Ok(())
    }

    fn open(&self, transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
        transaction
            .prepare_cached("UPDATE findings SET rule = '' WHERE id = ?1")?
            .execute([id])?;
        let word = triage::word(transaction, id)?;
        let word = if self.expired {
            Word {
                expired: true,
                ..word
            }
        } else {
            Word::default()
        };
        triage::set(transaction, id, "open", &word)
    }

    fn note(&self, transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
        let (state, until): (String, Option<String>) = transaction
            .prepare_cached("SELECT state, until FROM findings WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let name = &self.name;
        let what = match (state.as_str(), until) {
            ("open" | "regressed", _) => format!("finding {id}: {state}, for rule {name:?} ended"),
            (_, Some(until)) => {
                format!(
                    "finding {id}: {state} until {until} as before, with what rule {name:?} had taken, which ended"
                )
            }
            (_, None) => {
                format!(
                    "finding {id}: {state} as before, with what rule {name:?} had taken, which ended"
                )
            }
        };
        triage::note(transaction, Some(id), triage::OURSELVES, &what, &self.why)
    }
}

/// Some of one finding's divergences are another's; says how many.
fn moved(
    transaction: &Transaction<'_>,
    from: i64,
    into: i64,
    most: usize,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "UPDATE divergences SET finding_id = ?2 WHERE id IN (
               SELECT id FROM divergences WHERE finding_id = ?1 LIMIT ?3)",
        )?
        .execute(params![from, into, i64::try_from(most).unwrap_or(i64::MAX)])
}

/// One finding, whose divergences have moved, goes into another.
fn join(transaction: &Transaction<'_>, from: i64, into: i64) -> rusqlite::Result<()> {
    for text in [
        "UPDATE audit SET finding_id = ?2 WHERE finding_id = ?1",
        "UPDATE findings SET cause_id = ?2 WHERE cause_id = ?1",
        "UPDATE findings AS o SET count = o.count + f.count,
           first_seen = min(o.first_seen, f.first_seen), last_seen = max(o.last_seen, f.last_seen)
         FROM findings AS f WHERE o.id = ?2 AND f.id = ?1",
    ] {
        transaction.prepare_cached(text)?.execute([from, into])?;
    }
    transaction
        .prepare_cached("DELETE FROM findings WHERE id = ?1")?
        .execute([from])?;
    let state: String = transaction
        .prepare_cached("SELECT state FROM findings WHERE id = ?1")?
        .query_row([into], |row| row.get(0))?;
    if state == "fixed" {
        triage::set(
            transaction,
            into,
            "regressed",
            &triage::word(transaction, into)?.lasting(),
        )?;
    }
    Ok(())
}

/// What a rule's use is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// A rule that took nothing for so long is stale; zero for never.
    pub(super) stale_after: Duration,
    /// Commands since the start.
    pub(super) commands: u64,
}

/// All rules, in their order, as the API shows them.
pub(super) fn list(connection: &Connection, by: Use) -> rusqlite::Result<Vec<Value>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, fingerprint, on_table, kind, on_column, state, who, why, until,
           source, made, hits, last_hit, ended, (SELECT count(*) FROM findings f WHERE f.rule = r.name AND f.rule <> '')
         FROM rules r WHERE ended < 2 ORDER BY source = 'api', place, id",
    )?;
    let rows = statement.query_map((), |row| shown(row, by, Timestamp::now()))?;
    rows.collect()
}

fn shown(row: &Row<'_>, by: Use, now: Timestamp) -> rusqlite::Result<Value> {
    let text = |at: usize| row.get::<_, Option<String>>(at);
    let (source, until) = (text(10)?, text(9)?);
    let (made, hits, last): (i64, i64, Option<i64>) = (row.get(11)?, row.get(12)?, row.get(13)?);
    let over = until
        .as_ref()
        .and_then(|until| until.parse::<Timestamp>().ok())
        .is_some_and(|until| until <= now);
    let idle = now
        .as_microsecond()
        .saturating_sub(last.unwrap_or(made).max(made));
    let most = i64::try_from(by.stale_after.as_micros()).unwrap_or(i64::MAX);
    let never = source.as_deref() == Some("config") && hits == 0 && by.commands >= COMMANDS_MIN;
    let expired = over || row.get(14)?;
    let why_stale = if expired {
        None
    } else if never {
        let commands = by.commands;
        Some(format!(
            "it never took anything, in {commands} commands since the start"
        ))
    } else if most > 0 && idle > most {
        let days = idle / 86_400_000_000;
        Some(format!("it took nothing for {days} days"))
    } else {
        None
    };
    Ok(json!({
        "id": row.get::<_, i64>(0)?,
        "name": text(1)?,
        "from": source,
        "fingerprint": text(2)?,
        "table": text(3)?,
        "kind": text(4)?,
        "column": text(5)?,
        "state": text(6)?,
        "who": text(7)?,
        "why": text(8)?,
        "until": until,
        "expired": expired,
        "made": triage::time(made),
        "hits": hits,
        "last_hit": last.map(triage::time),
        "findings": row.get::<_, i64>(15)?,
        "stale": why_stale.is_some(),
        "why_stale": why_stale,
    }))
}
