//! What changed in the last hour: findings that are new, what was said of them, taints, cutovers with their
//! steps, verifications.

use super::bits::{age, code, list as items, number, outcome, text};
use crate::admin::Parts;
use crate::words::micros;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use serde_json::{Value, json};

/// What is told at most, the newest.
const MOST: usize = 40;

/// Records of cutovers and of verifications that are looked at.
const RECORDS: usize = 20;

/// Characters of a statement.
const BRIEF: usize = 120;

/// One thing that happened.
#[derive(Debug)]
pub(super) struct News {
    at: Timestamp,
    what: &'static str,
    words: Markup,
}

/// All of the last hour, newest first. Reads the ledger's file.
pub(super) fn gathered(parts: &Parts) -> Result<Vec<News>, String> {
    let since = Timestamp::now()
        .checked_sub(SignedDuration::from_hours(1))
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let recent = parts.ledger.recent(since)?;
    let mut news: Vec<News> = recent.opened.iter().filter_map(opened).collect();
    news.extend(recent.said.iter().filter_map(said));
    for taint in parts.ledger.taints() {
        news.push(News {
            at: taint.since,
            what: "taint",
            words: tainted(&taint.shown()),
        });
    }
    for record in parts.helm.records(RECORDS)? {
        let at = record.ended.unwrap_or(record.started);
        news.push(News {
            at,
            what: "cutover",
            words: flipped(&json!(record)),
        });
    }
    for run in parts.inspector.history(RECORDS)? {
        let at = run.ended.unwrap_or(run.started);
        news.push(News {
            at,
            what: "verification",
            words: verified(&json!(run)),
        });
    }
    news.retain(|one| one.at >= since);
    news.sort_by_key(|one| std::cmp::Reverse(one.at));
    news.truncate(MOST);
    Ok(news)
}

fn opened(finding: &Value) -> Option<News> {
    let id = number(finding, "/id");
    Some(News {
        at: text(finding, "/first_seen").parse().ok()?,
        what: "new finding",
        words: html! {
            a href={"/ui/findings/" (id)} { "#" (id) " " (text(finding, "/kind").replace('_', " ")) } " "
            (code(text(finding, "/fingerprint"), BRIEF))
        },
    })
}

fn said(word: &Value) -> Option<News> {
    let finding = word.get("finding_id").and_then(Value::as_u64);
    Some(News {
        at: text(word, "/at").parse().ok()?,
        what: "said",
        words: html! {
            @match finding {
                Some(id) => a href={"/ui/findings/" (id)} { (text(word, "/what")) },
                None => (text(word, "/what")),
            }
            " " span class="soft" { "by " (text(word, "/who")) }
            @if !text(word, "/why").is_empty() { ": " (text(word, "/why")) }
        },
    })
}

fn tainted(taint: &Value) -> Markup {
    html! { a href="#taints" { strong { (text(taint, "/name")) } } ": " (text(taint, "/cause")) }
}

fn flipped(record: &Value) -> Markup {
    let id = number(record, "/id");
    let hold = record.get("hold_us").and_then(Value::as_u64);
    html! {
        a href={"/ui/cutover/" (id)} { "#" (id) " " (text(record, "/from")) " → " (text(record, "/to")) } " "
        (outcome(match text(record, "/outcome") { "" => text(record, "/state"), outcome => outcome }))
        @if let Some(us) = hold { ", clients waited " (micros(us)) }
        @if !text(record, "/why").is_empty() { ": " (text(record, "/why")) }
        span class="steps" {
            @for step in items(record, "/steps") {
                span { (text(step, "/step").replace('_', " "))
                    @if let Some(us) = step.get("took_us").and_then(Value::as_u64) { " " (micros(us)) } }
            }
        }
    }
}

fn verified(run: &Value) -> Markup {
    html! {
        a href="/ui/verification" { "#" (number(run, "/id")) } " for " (text(run, "/who")) " "
        (outcome(match text(run, "/outcome") { "" => "running", outcome => outcome }))
        @if !text(run, "/why").is_empty() { ": " (text(run, "/why")) }
    }
}

/// What is shown at once; the rest unfolds.
const SHOWN: usize = 12;

/// As a list.
pub(super) fn list(news: &[News]) -> Markup {
    let (shown, rest) = news.split_at_checked(SHOWN).unwrap_or((news, &[]));
    html! {
        @if news.is_empty() { p class="soft" { "Nothing was found, said or done." } }
        @else { (lines(shown)) }
        @if !rest.is_empty() { details { summary { (rest.len()) " more" } (lines(rest)) } }
    }
}

fn lines(news: &[News]) -> Markup {
    html! {
        ol class="news" {
            @for one in news {
                li { span class="when" { (age(&one.at.to_string())) } span class="kind" { (one.what) } span class="words" { (one.words) } }
            }
        }
    }
}
