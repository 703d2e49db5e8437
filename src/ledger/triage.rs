//! What operators say of findings: states, until when, and the history of it.

use super::Changed;
use crate::config::said;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Deserialize;
use serde_json::{Value, json};

/// The states of a finding.
pub const STATES: [&str; 5] = ["open", "accepted", "fixed", "regressed", "noise"];

pub(super) use crate::config::OURSELVES;

/// Findings whose time is over that one look opens at most.
const STEP: u32 = 100;

/// Entries of a finding's history that are shown, the newest.
const HISTORY_MAX: u32 = 100;

/// A change of a finding's triage.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingPatch {
    /// One of [`STATES`], but for `regressed`.
    pub state: Option<String>,
    /// Who says so.
    pub who: Option<String>,
    /// Why.
    pub why: Option<String>,
    /// Until when it is accepted, RFC 3339.
    pub until: Option<String>,
}

impl FindingPatch {
    /// The change, if it makes sense.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn sound(mut self, now: Timestamp) -> Result<Self, String> {
        let Some(state) = self.state.as_deref() else {
            return Err("state: write one of open, accepted, fixed, noise".to_owned());
        };
        for (key, text) in [("who", &self.who), ("why", &self.why)] {
            if let Some(text) = text {
                said(key, text).map_err(|wrong| wrong.to_string())?;
            }
        }
        match state {
            "open" => {}
            "accepted" => self.has(state, &["who", "why", "until"])?,
            "fixed" | "noise" => self.has(state, &["who"])?,
            "regressed" => {
                return Err(
                    "state: a fixed finding is regressed once it diverges again; write open"
                        .to_owned(),
                );
            }
            other => {
                return Err(format!(
                    "state: found {other:?}; it is one of open, accepted, fixed, noise"
                ));
            }
        }
        if let Some(until) = &self.until {
            if state != "accepted" {
                return Err(format!("until: a finding that is {state} has no end"));
            }
            let at: Timestamp = until.parse().map_err(|_| {
                format!("until: found {until:?}; write a time such as 2030-01-31T00:00:00Z")
            })?;
            if at <= now {
                return Err(format!("until: {at} is over already"));
            }
            self.until = Some(at.to_string());
        }
        Ok(self)
    }
}

impl FindingPatch {
    /// # Errors
    /// All of these keys that are missing, at once.
    fn has(&self, state: &str, keys: &[&str]) -> Result<(), String> {
        let is_there = |key: &str| match key {
            "who" => self.who.is_some(),
            "why" => self.why.is_some(),
            _ => self.until.is_some(),
        };
        let missing: Vec<&str> = keys.iter().copied().filter(|key| !is_there(key)).collect();
        match missing.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("{one}: a finding that is {state} needs it")),
            all => Err(format!(
                "{}: a finding that is {state} needs them",
                all.join(", ")
            )),
        }
    }
}

/// What the operators' log is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted(pub(super) String);

/// Whose word a finding's state is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) who: Option<String>,
    pub(super) why: Option<String>,
    pub(super) until: Option<String>,
    /// It held until then, and is only told.
    pub(super) expired: bool,
}

impl Word {
    /// Without an end.
    pub(super) fn lasting(self) -> Self {
        Self {
            until: None,
            expired: false,
            ..self
        }
    }
}

/// Gives a finding a state. All that its triage is goes with it: nothing of the one before stays.
pub(super) fn set(
    transaction: &Transaction<'_>,
    id: i64,
    state: &str,
    word: &Word,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE findings SET state = ?2, who = ?3, why = ?4, until = ?5, expired = ?6 WHERE id = ?1",
        )?
        .execute(params![
            id,
            state,
            word.who,
            word.why,
            word.until,
            word.expired
        ])
        .map(drop)
}

/// Whose word a finding's state is now.
pub(super) fn word(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<Word> {
    transaction
        .prepare_cached("SELECT who, why, until, expired FROM findings WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(Word {
                who: row.get(0)?,
                why: row.get(1)?,
                until: row.get(2)?,
                expired: row.get(3)?,
            })
        })
}

/// Changes a finding's triage.
pub(super) fn patch(
    transaction: &Transaction<'_>,
    id: i64,
    patch: &FindingPatch,
) -> rusqlite::Result<Changed<i64>> {
    let known: Option<(String, String)> = transaction
        .query_row(
            "SELECT rule, state FROM findings WHERE id = ?1",
            [id],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((rule, before)) = known else {
        return Ok(Changed::Missing);
    };
    match rule {
        rule if !rule.is_empty() => {
            return Ok(Changed::Refused(format!(
                "finding {id} is what rule {rule:?} took: delete or change that rule"
            )));
        }
        _ => {}
    }
    let word = Word {
        who: patch.who.clone(),
        why: patch.why.clone(),
        until: patch.until.clone(),
        expired: false,
    };
    let after = patch.state.as_deref().unwrap_or(&before);
    set(transaction, id, after, &word)?;
    let state = patch.state.as_deref().unwrap_or("changed");
    let until = patch.until.as_deref();
    let what = match until {
        Some(until) => format!("finding {id}: {state} until {until}"),
        None => format!("finding {id}: {state}"),
    };
    let who = patch.who.as_deref().unwrap_or("unknown");
    note(
        transaction,
        Some(id),
        who,
        &what,
        patch.why.as_deref().unwrap_or_default(),
    )?;
    Ok(Changed::Done(id))
}

/// A fixed finding diverged again: it is regressed.
pub(super) fn regress(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<Noted> {
    let (kind, fingerprint): (String, String) = transaction.query_row(
        "SELECT kind, fingerprint FROM findings WHERE id = ?1",
        [id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let word = word(transaction, id)?.lasting();
    set(transaction, id, "regressed", &word)?;
    let who = word.who.unwrap_or_else(|| "unknown".to_owned());
    let why = format!("it diverged again, and {who} had called it fixed");
    let what = format!("finding {id}: regressed");
    note(transaction, Some(id), OURSELVES, &what, &why)?;
    Ok(Noted(format!(
        "finding {id} regressed ({kind}): {why}: {}",
        brief(&fingerprint)
    )))
}

/// Opens the findings again that were accepted until now. Says which.
pub(super) fn expire(
    transaction: &Transaction<'_>,
    now: Timestamp,
) -> rusqlite::Result<Vec<Noted>> {
    struct Over {
        id: i64,
        kind: String,
        fingerprint: String,
        who: Option<String>,
        until: String,
    }
    let over: Vec<Over> = {
        let mut statement = transaction.prepare_cached(
            "SELECT id, kind, fingerprint, who, until FROM findings
             WHERE state = 'accepted' AND rule = '' AND unixepoch(until, 'subsec') <= ?1 LIMIT ?2",
        )?;
        let rows = statement.query_map(params![seconds(now), STEP], |row| {
            Ok(Over {
                id: row.get(0)?,
                kind: row.get(1)?,
                fingerprint: row.get(2)?,
                who: row.get(3)?,
                until: row.get(4)?,
            })
        })?;
        rows.collect::<Result<_, _>>()?
    };
    let mut noted = Vec::new();
    for one in over {
        let id = one.id;
        let word = Word {
            expired: true,
            ..word(transaction, id)?
        };
        set(transaction, id, "open", &word)?;
        let who = one.who.as_deref().unwrap_or("unknown");
        let why = format!("{who} had accepted it until {}", one.until);
        let what = format!("finding {id}: open again, expired");
        note(transaction, Some(id), OURSELVES, &what, &why)?;
        noted.push(Noted(format!(
            "finding {id} is open again ({}): {why}: {}",
            one.kind,
            brief(&one.fingerprint)
        )));
    }
    Ok(noted)
}

/// Writes down what became of a finding, or of a rule.
pub(super) fn note(
    transaction: &Transaction<'_>,
    finding: Option<i64>,
    who: &str,
    what: &str,
    why: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO audit (at, who, what, why, finding_id) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            Timestamp::now().to_string(),
            who,
            what,
            why,
            finding
        ])
        .map(drop)
}

/// What became of a finding, newest first.
pub(super) fn history(connection: &Connection, id: i64) -> rusqlite::Result<Vec<Value>> {
    let mut statement = connection.prepare_cached(
        "SELECT at, who, what, why FROM audit WHERE finding_id = ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![id, HISTORY_MAX], |row| {
        let (at, who): (String, String) = (row.get(0)?, row.get(1)?);
        let (what, why): (String, String) = (row.get(2)?, row.get(3)?);
        Ok(json!({"at": at, "who": who, "what": what, "why": why}))
    })?;
    rows.collect()
}

/// A time of the file, in µs, as the API writes it.
pub(super) fn time(at: i64) -> String {
    Timestamp::from_microsecond(at).map_or_else(|_| String::new(), |at| at.to_string())
}

/// A moment as SQLite's `unixepoch(…, 'subsec')` has it.
pub(super) fn seconds(now: Timestamp) -> f64 {
    now.as_duration().as_secs_f64()
}

fn brief(fingerprint: &str) -> String {
    let mut shown: String = fingerprint.chars().take(200).collect();
    if shown.len() < fingerprint.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_triage_says_who_why_and_until_when() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        for (text, key) in [
            ("{}", Some("state")),
            (r#"{"state": "odd"}"#, Some("state")),
            (r#"{"state": "regressed", "who": "a"}"#, Some("state")),
            (r#"{"state": "open"}"#, None),
            (r#"{"state": "fixed"}"#, Some("who")),
            (r#"{"state": "noise"}"#, Some("who")),
            (r#"{"state": "noise", "who": " "}"#, Some("who")),
            (r#"{"state": "noise", "who": "Understudy"}"#, Some("who")),
            (r#"{"state": "noise", "who": "a"}"#, None),
            (
                r#"{"state": "noise", "who": "a", "until": "2030-02-01T00:00:00Z"}"#,
                Some("until"),
            ),
            (
                r#"{"state": "accepted", "who": "a", "until": "2030-02-01T00:00:00Z"}"#,
                Some("why"),
            ),
            (
                r#"{"state": "accepted", "who": "a", "why": "b"}"#,
                Some("until"),
            ),
            (
                r#"{"state": "accepted", "who": "a", "why": "b", "until": "tomorrow"}"#,
                Some("until"),
            ),
            (
                r#"{"state": "accepted", "who": "a", "why": "b", "until": "2030-01-01T00:00:00Z"}"#,
                Some("until"),
            ),
            (
                r#"{"state": "accepted", "who": "a", "why": "b", "until": "2030-01-01T00:00:01Z"}"#,
                None,
            ),
        ] {
            let patch: FindingPatch = serde_json::from_str(text).unwrap();
            let said = patch.sound(now).err();
            let said = said.as_deref().map(|said| said.split(':').next().unwrap());
            assert_eq!(said, key, "{text}");
        }
    }
}
