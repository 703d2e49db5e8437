//! `understudy findings`: what differs, each shape once, by impact; rolled up; and its triage.

use super::words::{ago, brief, count, items, list, number, table, text, width};
use super::{Client, Door, ListFormat, Trouble, moment, say, say_json, say_sheet, whoami, whole};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    say: Option<Say>,
    /// One finding, whole: its triage's history and its newest divergences.
    id: Option<i64>,
    /// Rolled up.
    #[arg(long, value_enum, conflicts_with = "id")]
    by: Option<By>,
    /// Greatest first: impact, count or last_seen.
    #[arg(long, conflicts_with_all = ["id", "by"])]
    sort: Option<String>,
    /// In this state only: open, accepted, fixed, regressed, noise.
    #[arg(long, conflicts_with = "id")]
    state: Option<String>,
    /// Of this kind only: unsupported, error, value, rows …
    #[arg(long, conflicts_with = "id")]
    kind: Option<String>,
    /// That touch this table only.
    #[arg(long, conflicts_with = "id")]
    table: Option<String>,
    /// Of this fingerprint only (the statement's shape, or its digest).
    #[arg(long, conflicts_with = "id")]
    fingerprint: Option<String>,
    /// That this rule took only.
    #[arg(long, conflicts_with = "id")]
    rule: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 20, conflicts_with = "id")]
    limit: u32,
    /// After this cursor of an earlier answer.
    #[arg(long, conflicts_with = "id")]
    before: Option<i64>,
    #[command(flatten)]
    door: Door,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    format: ListFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// By the statement's shape.
    Fingerprint,
    /// By table.
    Table,
}

impl By {
    const fn name(self) -> &'static str {
        match self {
            Self::Fingerprint => "fingerprint",
            Self::Table => "table",
        }
    }
}

/// What you say of a finding.
#[derive(Debug, Subcommand)]
enum Say {
    /// It is known and lived with, until a time.
    Accept(Accepted),
    /// It should not come back; if it does, it is regressed.
    Fix(Said),
    /// It says nothing.
    Noise(Said),
    /// It is open.
    Reopen(Said),
}

#[derive(Args, Debug)]
struct Accepted {
    /// The finding.
    id: i64,
    /// Who says so; without it, the user who is logged in.
    #[arg(long)]
    who: Option<String>,
    /// Why.
    #[arg(long)]
    why: String,
    /// Until when: a date, or a time such as 2030-01-31T00:00:00Z.
    #[arg(long)]
    until: String,
    #[command(flatten)]
    door: Door,
}

#[derive(Args, Debug)]
struct Said {
    /// The finding.
    id: i64,
    /// Who says so; without it, the user who is logged in.
    #[arg(long)]
    who: Option<String>,
    /// Why.
    #[arg(long)]
    why: Option<String>,
    #[command(flatten)]
    door: Door,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    if let Some(said) = &arguments.say {
        return triage(said);
    }
    let client = Client::behind(&arguments.door)?;
    if let Some(id) = arguments.id {
        if arguments.format == ListFormat::Csv {
            return Err(Trouble::usage(
                "--format csv is for lists; one finding is a table or json",
            ));
        }
        let finding = client.get(&format!("/api/v1/findings/{id}"), &[])?;
        match arguments.format {
            ListFormat::Table => say(&one(&finding, jiff::Timestamp::now())),
            ListFormat::Json | ListFormat::Csv => say_json(&finding),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let query = query(arguments);
    if arguments.format == ListFormat::Csv {
        say_sheet(&client.sheet("/api/v1/findings", &query)?);
        return Ok(ExitCode::SUCCESS);
    }
    let answer = client.get("/api/v1/findings", &query)?;
    match (arguments.format, arguments.by) {
        (ListFormat::Table, None) => say(&all(&answer, jiff::Timestamp::now())),
        (ListFormat::Table, Some(by)) => say(&rolled(&answer, by)),
        (ListFormat::Json | ListFormat::Csv, _) => say_json(&answer),
    }
    Ok(ExitCode::SUCCESS)
}

fn query(arguments: &Arguments) -> Vec<(&'static str, String)> {
    let given = [
        ("by", arguments.by.map(|by| by.name().to_owned())),
        ("sort", arguments.sort.clone()),
        ("state", arguments.state.clone()),
        ("kind", arguments.kind.clone()),
        ("table", arguments.table.clone()),
        ("fingerprint", arguments.fingerprint.clone()),
        ("rule", arguments.rule.clone()),
        ("before", arguments.before.map(|before| before.to_string())),
        ("limit", Some(arguments.limit.to_string())),
    ];
    given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn triage(said: &Say) -> Result<ExitCode, Trouble> {
    let (id, door, mut body) = match said {
        Say::Accept(one) => {
            let body = json!({"state": "accepted", "why": one.why, "until": moment(&one.until)});
            (one.id, &one.door, (body, one.who.clone()))
        }
        Say::Fix(one) => (one.id, &one.door, stated("fixed", one)),
        Say::Noise(one) => (one.id, &one.door, stated("noise", one)),
        Say::Reopen(one) => (one.id, &one.door, stated("open", one)),
    };
    if let (Some(fields), Some(who)) = (body.0.as_object_mut(), body.1.or_else(whoami)) {
        fields.insert("who".into(), json!(who));
    }
    let changed = Client::behind(door)?.patch(&format!("/api/v1/findings/{id}"), &body.0)?;
    say(&format!("finding {id} is {}", judged(&changed)));
    Ok(ExitCode::SUCCESS)
}

fn stated(state: &str, said: &Said) -> (Value, Option<String>) {
    let mut body = json!({"state": state});
    if let (Some(fields), Some(why)) = (body.as_object_mut(), &said.why) {
        fields.insert("why".into(), json!(why));
    }
    (body, said.who.clone())
}

/// A finding's state in a few words.
fn judged(finding: &Value) -> String {
    let mut words = text(finding, "/state").to_owned();
    let until = text(finding, "/until");
    if finding.get("expired") == Some(&Value::Bool(true)) {
        words.push_str(", expired");
    } else if !until.is_empty() {
        let _ = write!(words, " until {until}");
    }
    let rule = text(finding, "/rule");
    if !rule.is_empty() {
        let _ = write!(words, ", by rule {rule:?}");
    }
    if finding.get("follows") == Some(&Value::Bool(true)) {
        let cause = number(finding, "/cause_id");
        let of = (cause > 0).then(|| format!(" from #{cause}"));
        let _ = write!(words, ", follows{}", of.unwrap_or_default());
    }
    if finding.pointer("/floor/at_or_below") == Some(&Value::Bool(true)) {
        words.push_str(", at its floor");
    }
    words
}

fn all(answer: &Value, now: jiff::Timestamp) -> String {
    let list_of = items(answer);
    if list_of.is_empty() {
        return "no findings".to_owned();
    }
    let head = [
        "id",
        "state",
        "kind",
        "impact",
        "count",
        "of",
        "last",
        "tables",
        "statement",
    ];
    let mut table = table(&head, &[3, 4, 5]);
    let each = usize::from(width()).saturating_sub(80).max(30);
    for item in list_of {
        table.add_row([
            number(item, "/id").to_string(),
            judged(item),
            text(item, "/kind").to_owned(),
            impact(item),
            count(number(item, "/count")),
            count(number(item, "/commands")),
            ago(text(item, "/last_seen"), now),
            brief(&list(item, "/tables"), 30),
            brief(text(item, "/fingerprint"), each),
        ]);
    }
    with_more(table.trim_fmt(), answer)
}

fn rolled(answer: &Value, by: By) -> String {
    let list_of = items(answer);
    if list_of.is_empty() {
        return "no findings".to_owned();
    }
    let head = [by.name(), "worst", "impact", "findings", "count", "kinds"];
    let mut table = table(&head, &[2, 3, 4]);
    for item in list_of {
        let key = match by {
            By::Fingerprint => text(item, "/fingerprint"),
            By::Table => text(item, "/table"),
        };
        table.add_row([
            brief(key, usize::from(width()).saturating_sub(70).max(30)),
            text(item, "/state").to_owned(),
            impact(item),
            count(number(item, "/findings")),
            count(number(item, "/count")),
            kinds(item),
        ]);
    }
    with_more(table.trim_fmt(), answer)
}

fn kinds(item: &Value) -> String {
    let Some(kinds) = item.get("kinds").and_then(Value::as_object) else {
        return String::new();
    };
    let each = kinds
        .iter()
        .map(|(kind, n)| format!("{kind} {}", count(n.as_u64().unwrap_or(0))));
    each.collect::<Vec<_>>().join(", ")
}

fn impact(item: &Value) -> String {
    let impact = item.get("impact").and_then(Value::as_f64).unwrap_or(0.0);
    format!("{impact:.2}")
}

fn with_more(mut shown: String, answer: &Value) -> String {
    if let Some(next) = answer.get("next").and_then(Value::as_i64) {
        let _ = write!(shown, "\n\nmore: --before {next}");
    }
    shown
}

/// One finding, with what was said of it.
fn one(finding: &Value, now: jiff::Timestamp) -> String {
    let mut out = whole::finding(finding).trim_end().to_owned();
    let _ = write!(out, "\n\n{:<12} {}", "triage", judged(finding));
    let history = finding.get("history").and_then(Value::as_array);
    for item in history.into_iter().flatten() {
        let (what, why) = (text(item, "/what"), text(item, "/why"));
        let (at, who) = (ago(text(item, "/at"), now), text(item, "/who"));
        let _ = write!(out, "\n{:<12} {at}: {what} ({who}) {why}", "history");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Value {
        json!({
            "id": 7, "state": "open", "kind": "value", "impact": 1.234, "count": 3, "commands": 1_200,
            "last_seen": "2026-01-01T23:59:48Z", "first_seen": "2026-01-01T23:00:00Z", "tables": ["app.t"],
            "fingerprint": "SELECT ?", "protocol": "text", "expired": true, "rule": null, "who": "dba", "why": "known",
            "until": "2026-01-01T00:00:00Z", "cause_id": null, "floor": null,
            "history": [{"at": "2026-01-01T23:00:00Z", "who": "dba", "what": "finding 7: accepted", "why": "known"}],
            "examples": [{"id": 9, "at": "2026-01-01T23:59:48Z", "detail": "1 rows differ"}],
        })
    }

    fn now() -> jiff::Timestamp {
        "2026-01-02T00:00:00Z".parse().expect("a time")
    }

    fn lines(shown: &str) -> Vec<&str> {
        shown.lines().map(str::trim_end).collect()
    }

    #[test]
    fn findings_are_a_table() {
        let shown = all(&json!({"items": [finding()], "next": 1}), now());
        assert_eq!(
            lines(&shown),
            [
                "ID  STATE          KIND   IMPACT  COUNT     OF  LAST      TABLES  STATEMENT",
                "7   open, expired  value    1.23      3  1,200  12 s ago  app.t   SELECT ?",
                "",
                "more: --before 1",
            ]
        );
        assert_eq!(all(&json!({"items": []}), now()), "no findings");
    }

    #[test]
    fn one_finding_is_shown_with_its_history() {
        let shown = one(&finding(), now());
        let lines = lines(&shown);
        for line in [
            "triage       open, expired",
            "history      1 h ago: finding 7: accepted (dba) known",
        ] {
            assert!(lines.contains(&line), "{line}\n{shown}");
        }
    }

    #[test]
    fn what_is_rolled_up_tells_kinds() {
        let item = json!({"table": "app.t", "state": "open", "impact": 2.0, "findings": 2, "count": 3, "kinds": {"rows": 1, "value": 2}});
        let shown = rolled(&json!({"items": [item], "next": null}), By::Table);
        assert_eq!(
            lines(&shown),
            [
                "TABLE  WORST  IMPACT  FINDINGS  COUNT  KINDS",
                "app.t  open     2.00         2      3  rows 1, value 2",
            ]
        );
    }
}
