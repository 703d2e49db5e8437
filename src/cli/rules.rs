//! `understudy rules`: what judges divergences beforehand, and what each rule has taken.

use super::words::{ago, brief, count, items, number, table, text};
use super::{Client, Door, Format, Remote, Trouble, moment, say, say_json, whoami};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::process::ExitCode;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    change: Option<Change>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Adds a rule, the last one; it takes what has all that you name.
    Add(Box<Added>),
    /// Deletes a rule; what it took is open again, unless a person has judged the same shape.
    Delete(Deleted),
}

#[derive(Args, Debug)]
struct Added {
    /// Its name.
    name: String,
    /// noise or accepted.
    #[arg(long)]
    state: String,
    /// The statement's shape, its digest, or a text with * for anything.
    #[arg(long)]
    fingerprint: Option<String>,
    /// A table that the statement names.
    #[arg(long)]
    table: Option<String>,
    /// The kind: unsupported, error, value, rows …
    #[arg(long)]
    kind: Option<String>,
    /// The only column that differs.
    #[arg(long)]
    column: Option<String>,
    /// Who says so; without it, the user who is logged in.
    #[arg(long)]
    who: Option<String>,
    /// Why.
    #[arg(long)]
    why: Option<String>,
    /// Until when: a date, or a time such as 2030-01-31T00:00:00Z.
    #[arg(long)]
    until: Option<String>,
    #[command(flatten)]
    door: Door,
}

#[derive(Args, Debug)]
struct Deleted {
    /// The rule.
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
    match &arguments.change {
        None => {
            let rules = Client::new(&arguments.remote)?.get("/api/v1/rules", &[])?;
            match arguments.remote.format {
                Format::Json => say_json(&rules),
                Format::Table => say(&all(&rules, jiff::Timestamp::now())),
            }
        }
        Some(Change::Add(rule)) => {
            let made = Client::behind(&rule.door)?.post("/api/v1/rules", &body(rule))?;
            let id = number(&made, "/id");
            say(&format!("rule {id} {:?} is made", text(&made, "/name")));
        }
        Some(Change::Delete(rule)) => {
            let mut query: Vec<(&str, String)> = Vec::new();
            query.extend(rule.who.clone().or_else(whoami).map(|who| ("who", who)));
            query.extend(rule.why.clone().map(|why| ("why", why)));
            let id = rule.id;
            Client::behind(&rule.door)?.delete(&format!("/api/v1/rules/{id}"), &query)?;
            say(&format!(
                "rule {id} is deleted; what it took is open again, but for what a person has judged: the history says which"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn body(rule: &Added) -> Value {
    let mut body = Map::from_iter([
        ("name".to_owned(), json!(rule.name)),
        ("state".to_owned(), json!(rule.state)),
    ]);
    for (key, given) in [
        ("fingerprint", rule.fingerprint.clone()),
        ("table", rule.table.clone()),
        ("kind", rule.kind.clone()),
        ("column", rule.column.clone()),
        ("who", rule.who.clone().or_else(whoami)),
        ("why", rule.why.clone()),
        ("until", rule.until.as_deref().map(moment)),
    ] {
        if let Some(given) = given {
            body.insert(key.to_owned(), json!(given));
        }
    }
    Value::Object(body)
}

fn all(answer: &Value, now: jiff::Timestamp) -> String {
    let rules = items(answer);
    if rules.is_empty() {
        return "no rules".to_owned();
    }
    let head = [
        "id", "name", "from", "state", "takes", "hits", "last hit", "who", "note",
    ];
    let mut table = table(&head, &[5]);
    for rule in rules {
        let last = match text(rule, "/last_hit") {
            "" => "never".to_owned(),
            at => ago(at, now),
        };
        table.add_row([
            number(rule, "/id").to_string(),
            text(rule, "/name").to_owned(),
            text(rule, "/from").to_owned(),
            text(rule, "/state").to_owned(),
            brief(&takes(rule), 60),
            count(number(rule, "/hits")),
            last,
            text(rule, "/who").to_owned(),
            note(rule),
        ]);
    }
    table.trim_fmt()
}

/// What a rule names.
fn takes(rule: &Value) -> String {
    let named = ["kind", "table", "column", "fingerprint"];
    let said = named.into_iter().filter_map(|key| {
        let said = text(rule, &format!("/{key}"));
        (!said.is_empty()).then(|| format!("{key} {said}"))
    });
    said.collect::<Vec<_>>().join(", ")
}

/// What there is to be said of a rule.
fn note(rule: &Value) -> String {
    let until = text(rule, "/until");
    if rule.get("expired") == Some(&Value::Bool(true)) {
        return format!("expired {until}");
    }
    match text(rule, "/why_stale") {
        "" if until.is_empty() => String::new(),
        "" => format!("until {until}"),
        why => format!("stale: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_a_table_that_tells_what_is_stale_or_over() {
        let rule = |id: u64, more: Value| {
            let mut rule = json!({
                "id": id, "name": "a", "from": "api", "state": "noise", "kind": "value", "table": "t", "column": null,
                "fingerprint": null, "hits": 1_000, "last_hit": "2026-01-01T23:59:48Z", "who": "dba", "until": null,
                "expired": false, "why_stale": null,
            });
            for (key, value) in more.as_object().expect("an object") {
                rule[key] = value.clone();
            }
            rule
        };
        let rules = json!({"items": [
            rule(1, json!({})),
            rule(2, json!({"last_hit": null, "hits": 0, "why_stale": "it took nothing for 9 days"})),
            rule(3, json!({"expired": true, "until": "2026-01-01T00:00:00Z"})),
        ]});
        let shown = all(&rules, "2026-01-02T00:00:00Z".parse().expect("a time"));
        let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "ID  NAME  FROM  STATE  TAKES                 HITS  LAST HIT  WHO  NOTE",
                "1   a     api   noise  kind value, table t  1,000  12 s ago  dba",
                "2   a     api   noise  kind value, table t      0  never     dba  stale: it took nothing for 9 days",
                "3   a     api   noise  kind value, table t  1,000  12 s ago  dba  expired 2026-01-01T00:00:00Z",
            ]
        );
    }
}
