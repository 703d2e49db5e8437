//! The guard on data at rest. It passes for nothing that nobody could see: where the newest run was not shown all
//! tables, it is not known of which tables these are a share.

use super::{Figures, Guard, listed};
use crate::config::Cutover;
use crate::ledger::Verified;
use crate::words::{count, percent, period, span};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What is known of the data at rest. A table counts that was read whole on both sides and was the same, not too
/// long ago, and that lost no write since; one that differs stands in the way by itself.
pub(super) fn verification(figures: &Figures, config: &Cutover) -> Guard {
    let known = &figures.verified;
    let age = |one: &Verified| age(one, figures.now);
    let is = |one: &&Verified, outcome: &str| one.outcome.as_deref() == Some(outcome);
    let name = |one: &Verified| format!("{}.{}", one.database, one.name);
    let is_required = config.require_verification.now();
    let tables_min = config.verification_tables.now();
    let rows_min = config.verification_rows.now();
    let age_max = config.verification_age_max.now().as_secs();
    let equal = known.iter().filter(|one| is(one, "equal"));
    let fresh: Vec<&Verified> = equal
        .filter(|one| age(one).is_some_and(|age| age <= age_max))
        .collect();
    let different: Vec<String> = known
        .iter()
        .filter(|one| is(one, "different"))
        .map(name)
        .collect();
    let is_fresh = |one: &&Verified| fresh.contains(one);
    let others: Vec<String> = known
        .iter()
        .filter(|one| !is_fresh(one) && !is(one, "different"))
        .map(name)
        .collect();
    let (all, verified) = (known.len() as u64, fresh.len() as u64);
    let oldest = fresh.iter().filter_map(|one| age(one)).max();
    let rows: u64 = fresh.iter().map(|one| one.rows).sum();
    let Rest { about, unknown } = rest(known.iter().filter(|one| !is_fresh(one)));
    let is_enough = all > 0
        && share_of(verified, all) >= tables_min
        && share_of(rows, rows + about) >= rows_min
        && (unknown.is_empty() || rows_min <= 0.0);
    let mut words = vec![match oldest {
        Some(oldest) => format!(
            "{} of {} tables ({} of {} rows{}) were read whole and are the same on both servers, the first {} ago",
            count(verified),
            count(all),
            count(rows),
            if about > 0 {
                format!("about {}", count(rows + about))
            } else {
                count(rows)
            },
            if unknown.is_empty() {
                ""
            } else {
                " that are known of"
            },
            span(oldest)
        ),
        None => "no table was verified lately: understudy verify".to_owned(),
    }];
    if !unknown.is_empty() {
        words.push(format!(
            "about how many rows they have is not known before the next run: {}",
            names(&unknown)
        ));
    }
    if !different.is_empty() {
        words.push(format!("different: {}", names(&different)));
    }
    if !others.is_empty() {
        words.push(format!("not verified, or too long ago: {}", names(&others)));
    }
    for (outcome, what) in [
        ("tainted", "may have lost a write since"),
        ("repaired", "repaired, and not read whole since"),
    ] {
        let since: Vec<String> = known
            .iter()
            .filter(|one| is(one, outcome))
            .map(name)
            .collect();
        if !since.is_empty() {
            words.push(format!("{what}: {}", names(&since)));
        }
    }
    if !figures.unseen.is_empty() {
        words.push(format!("not seen: {}", figures.unseen.join("; ")));
    }
    if is_required {
        words.push(wanted((tables_min, rows_min), age_max));
    } else {
        words.insert(
            0,
            "not required: cutover.require_verification is false".to_owned(),
        );
    }
    Guard {
        name: "verification",
        pass: !is_required || (is_enough && different.is_empty() && figures.unseen.is_empty()),
        value: json!({"tables": verified, "of": all, "rows": rows, "of_rows": rows + about, "different": different.len(), "unseen": figures.unseen.len(), "oldest_s": oldest}),
        limit: if is_required {
            json!({"share": tables_min, "share_of_rows": rows_min, "different": 0, "unseen": 0, "oldest_s": age_max})
        } else {
            Value::Null
        },
        why: words.join("; "),
    }
}

/// What is asked for, in words: shares of tables and rows, and how long ago at most, in seconds.
fn wanted((tables, rows): (f64, f64), age: u64) -> String {
    format!(
        "wanted: {} of the tables, {} of the rows, no longer than {} ago",
        percent(tables),
        percent(rows),
        period(age)
    )
}

/// For how many seconds a table has been verified.
fn age(one: &Verified, now: Timestamp) -> Option<u64> {
    // What was read first was read then.
    let age = now.as_second().saturating_sub(one.began?.as_second());
    Some(age.max(0).unsigned_abs())
}

/// What the tables hold that do not count.
struct Rest {
    /// About how many rows, of those of which it is known.
    about: u64,
    /// Tables of which it is not.
    unknown: Vec<String>,
}

fn rest<'a>(tables: impl Iterator<Item = &'a Verified>) -> Rest {
    let mut rest = Rest {
        about: 0,
        unknown: Vec::new(),
    };
    for one in tables {
        match one.rows_about {
            Some(about) => rest.about += about.max(one.rows),
            None if one.rows > 0 => rest.about += one.rows,
            None => rest.unknown.push(format!("{}.{}", one.database, one.name)),
        }
    }
    rest
}

/// All of nothing is all.
#[expect(clippy::cast_precision_loss, reason = "a share needs no last digit")]
fn share_of(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 1.0;
    }
    part as f64 / whole as f64
}

fn names(all: &[String]) -> String {
    listed(all.iter().cloned(), all.len() as u64)
}
