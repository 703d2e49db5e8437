//! Findings of kind `latency`: from statistics over many commands, not from one of them.
//!
//! A statement that is too slow on the shadow has one finding for each protocol, with one item that
//! shows both servers' quantiles of the last look. Its count is of the commands that took longer than
//! is allowed at the quantile that is past its limit; they are not counted as diverged.

use super::latency::{Pace, Quantiles};
use super::observation::Protocol;
use super::redact::Entry;
use super::rulebook;
use super::rules::Rules;
use super::tallies::kept::cut;
use super::triage::{self, Noted, OURSELVES, Word};
use super::write::{self, Written};
use crate::compare::verdict::Kind;
use rusqlite::{Transaction, params};
use serde_json::{Value, json};

/// What a look at one statement found.
#[derive(Clone, Debug)]
pub struct Look {
    /// When.
    pub at: jiff::Timestamp,
    /// The statement and its times.
    pub pace: Pace,
    /// The servers' names: the primary's, the shadow's.
    pub servers: [String; 2],
    /// `None`: it is fast enough, so that an open finding is fixed.
    pub slow: Option<Slow>,
}

/// It is too slow on the shadow.
#[derive(Clone, Debug)]
pub struct Slow {
    /// Commands beyond what is allowed, since the last look that was told.
    pub more: u64,
    /// What is too slow, in words.
    pub detail: String,
}

/// Writes down what was found; a change of a finding's state is noted, a good one apart.
pub(super) fn kept(
    transaction: &Transaction<'_>,
    look: &Look,
    rules: &Rules,
    written: &mut Written,
) -> rusqlite::Result<()> {
    let Some((digest, protocol)) = look.pace.shape else {
        return Ok(());
    };
    match &look.slow {
        Some(slow) => {
            let entry = entry(look, slow, digest, protocol);
            keep(transaction, entry, slow.more, rules, &mut written.noted)
        }
        None => fix(
            transaction,
            &format!("{digest:016x}"),
            protocol.name(),
            &mut written.good,
        ),
    }
}

/// It is fast enough: what is open is fixed.
fn fix(
    transaction: &Transaction<'_>,
    digest: &str,
    protocol: &str,
    noted: &mut Vec<Noted>,
) -> rusqlite::Result<()> {
    const WHY: &str = "the shadow is within the limits of [readiness] again";
    let mut statement = transaction.prepare_cached(
        "SELECT id FROM findings
         WHERE digest = ?1 AND protocol = ?2 AND kind = 'latency' AND state IN ('open', 'regressed')",
    )?;
    let fixed = statement.query_map(params![digest, protocol], |row| row.get(0))?;
    let word = Word {
        who: Some(OURSELVES.to_owned()),
        why: Some(WHY.to_owned()),
        ..Word::default()
    };
    for id in fixed.collect::<Result<Vec<i64>, _>>()? {
        triage::set(transaction, id, "fixed", &word)?;
        let what = format!("finding {id}: fixed");
        triage::note(transaction, Some(id), OURSELVES, &what, WHY)?;
        noted.push(Noted(format!("finding {id} (latency) is fixed: {WHY}")));
    }
    Ok(())
}

fn keep(
    transaction: &Transaction<'_>,
    entry: Entry,
    more: u64,
    rules: &Rules,
    noted: &mut Vec<Noted>,
) -> rusqlite::Result<()> {
    let taken = rules.take(&entry, entry.at);
    let (finding, regressed) = write::finding(transaction, &entry, taken)?;
    if regressed {
        noted.push(triage::regress(transaction, finding)?);
    }
    // The entry has counted as one command.
    let beyond = i64::try_from(more).unwrap_or(i64::MAX).saturating_sub(1);
    transaction
        .prepare_cached("UPDATE findings SET count = count + ?2 WHERE id = ?1")?
        .execute(params![finding, beyond.max(0)])?;
    let mut item = entry.item;
    if let (Some(kept), Some(fields)) = (taken, item.as_object_mut()) {
        fields.insert("rule".into(), json!(kept.rule.name));
        rulebook::hit(transaction, kept.id, entry.at)?;
    }
    let (at, item) = (entry.at.as_microsecond(), item.to_string());
    let changed = transaction
        .prepare_cached("UPDATE divergences SET at = ?2, item = ?3 WHERE finding_id = ?1")?
        .execute(params![finding, at, item])?;
    if changed == 0 {
        let digest = format!("{:016x}", entry.digest);
        let tables = json!(entry.tables).to_string();
        transaction
            .prepare_cached(
                "INSERT INTO divergences (at, kind, digest, fingerprint, tables, finding_id, item)
                 VALUES (?1, 'latency', ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                at,
                digest,
                entry.fingerprint,
                tables,
                finding,
                item
            ])?;
    }
    Ok(())
}

/// As a divergence would be written down.
fn entry(look: &Look, slow: &Slow, digest: u64, protocol: Protocol) -> Entry {
    let pace = &look.pace;
    Entry {
        at: look.at,
        kind: Kind::Latency.name(),
        fingerprint: cut(pace.fingerprint.as_deref().unwrap_or_default()).into_owned(),
        digest,
        protocol: protocol.name(),
        tables: pace.tables.clone(),
        class: pace.class.name(),
        columns: None,
        cause: None,
        item: item(look, slow, &format!("{digest:016x}"), protocol.name()),
    }
}

/// The API's shape of a divergence, with quantiles in the place of one answer's figures.
fn item(look: &Look, slow: &Slow, digest: &str, protocol: &str) -> Value {
    let side = |server: &str, times: &Quantiles| {
        json!({"server": server, "rows": null, "error": null, "affected_rows": null,
            "latency_us": times.p99, "quantiles": times})
    };
    let [primary, shadow] = &look.servers;
    json!({
        "at": look.at.to_string(),
        "kind": "latency",
        "also": [],
        "detail": slow.detail,
        "fingerprint": cut(look.pace.fingerprint.as_deref().unwrap_or_default()),
        "digest": digest,
        "protocol": protocol,
        "class": look.pace.class.name(),
        "user": null,
        "database": null,
        "tables": look.pace.tables,
        "statement": null,
        "samples": look.pace.samples,
        "primary": side(primary, &look.pace.primary),
        "shadow": side(shadow, &look.pace.shadow),
        "examples": [],
        "literals_kept": false,
    })
}
