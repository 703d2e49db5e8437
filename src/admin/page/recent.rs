//! What changed in the last hour: findings that are new, what was said of them, taints, cutovers with their
//! steps, verifications.

use super::bits::{age, code, is, list as items, number, outcome, text};
use crate::admin::Parts;
use crate::ledger::Record;
use crate::words::{brief, harmless, micros};
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
    news.extend(cutovers(&parts.helm.records(RECORDS)?));
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

/// Each cutover; those that were refused or tried for the same reasons once, with how often.
fn cutovers(records: &[Record]) -> Vec<News> {
    let mut news: Vec<(String, u64, &Record)> = Vec::new();
    for record in records {
        let key = match record.outcome.as_deref() {
            Some(outcome @ ("refused" | "dry_run")) => {
                format!(
                    "{outcome} {} {} {}",
                    record.from,
                    record.to,
                    refusal(record)
                )
            }
            _ => record.id.to_string(),
        };
        // The newest stands for all.
        match news.iter_mut().find(|(known, ..)| *known == key) {
            Some((_, times, _)) => *times += 1,
            None => news.push((key, 1, record)),
        }
    }
    let one = |(_, times, record): (String, u64, &Record)| News {
        at: record.ended.unwrap_or(record.started),
        what: "cutover",
        words: flipped(record, times),
    };
    news.into_iter().map(one).collect()
}

/// Why it ended so, in brief: of a refusal, the guards.
fn refusal(record: &Record) -> String {
    let guards = items(&record.figures, "/guards").iter();
    let refuse = guards.filter(|one| !is(one, "/pass") && !is(one, "/forced"));
    let names: Vec<&str> = refuse.map(|one| text(one, "/name")).collect();
    if record.outcome.as_deref() == Some("refused") && !names.is_empty() {
        return format!("by {}", names.join(", "));
    }
    brief(record.why.as_deref().unwrap_or_default(), BRIEF)
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

fn flipped(record: &Record, times: u64) -> Markup {
    let why = refusal(record);
    let record = &json!(record);
    let id = number(record, "/id");
    let hold = record.get("hold_us").and_then(Value::as_u64);
    html! {
        a href={"/ui/cutover/" (id)} { "#" (id) " " (text(record, "/from")) " → " (text(record, "/to")) } " "
        (outcome(match text(record, "/outcome") { "" => text(record, "/state"), outcome => outcome }))
        @if let Some(us) = hold { ", clients waited " (micros(us)) }
        @if !why.is_empty() { ": " (harmless(&why)) }
        @if times > 1 { ", " (times) " times" }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Begun, Records};

    /// Finding: the whole text of one refusal stood there five times.
    #[test]
    fn refusals_for_the_same_reasons_stand_once_with_the_guards_alone() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::at(&dir.path().join("ledger.db"));
        let begin = || {
            let begun = Begun {
                from: "legacy".into(),
                to: "vitess".into(),
                dry_run: false,
                is_back: false,
                forced: Vec::new(),
                who: "dba".into(),
            };
            records.begin(&begun).unwrap()
        };
        for guard in ["lag", "lag", "taint", "lag"] {
            let id = begin();
            let guards = json!({"guards": [
                {"name": guard, "pass": false, "forced": false, "why": "a long text"},
                {"name": "ddl", "pass": true, "forced": false},
                {"name": "latency", "pass": false, "forced": true},
            ]});
            records.keep_figures(id, &guards).unwrap();
            records
                .end(id, "refused", &"a long text ".repeat(90))
                .unwrap();
        }
        for _ in 0..2 {
            let id = begin();
            records
                .end(id, "aborted", &"a long text ".repeat(90))
                .unwrap();
        }
        let news = cutovers(&records.cutovers(20).unwrap());
        let words: Vec<String> = news
            .into_iter()
            .map(|one| one.words.into_string())
            .collect();
        assert_eq!(words.len(), 4, "{words:#?}");
        let [first, second, lag, taint]: [String; 4] = words.try_into().unwrap();
        for aborted in [first, second] {
            assert!(aborted.len() < 900, "it is cut: {aborted}");
        }
        assert!(
            lag.contains("#4") && lag.contains("by lag, 3 times"),
            "{lag}"
        );
        assert!(
            taint.contains("by taint") && !taint.contains("times"),
            "{taint}"
        );
        assert!(!lag.contains("long text"), "{lag}");
    }
}
