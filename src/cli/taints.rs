//! `understudy taints`: tables that may hold other rows on the shadow, since when and why; and to say that they do not.
//!
//! A taint is lifted by a verification that read all of its table and found it the same. To clear it by hand is for who
//! knows that: what is cleared is believed.

use super::words::{ago, brief, count, items, number, table, text, width};
use super::{Client, Door, Format, Remote, Trouble, say, say_json, whoami};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Tables that are named in the command that is offered.
const NAMES_MAX: usize = 3;

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
    /// Says that tables are the same on both servers again: differences on them count from then on.
    Clear(Cleared),
}

#[derive(Args, Debug)]
struct Cleared {
    /// Tables: database.table, table (in any database), or * for all.
    #[arg(required = true, value_name = "TABLE")]
    tables: Vec<String>,
    /// Who says so; without it, the user who is logged in.
    #[arg(long)]
    who: Option<String>,
    /// Why they are the same.
    #[arg(long)]
    why: String,
    #[command(flatten)]
    door: Door,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    match &arguments.change {
        None => {
            let taints = Client::new(&arguments.remote)?.get("/api/v1/taints", &[])?;
            match arguments.remote.format {
                Format::Json => say_json(&taints),
                Format::Table => say(&all(&taints, jiff::Timestamp::now())),
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Change::Clear(clear)) => {
            let mut body = json!({"tables": clear.tables, "why": clear.why});
            let who = clear.who.clone().or_else(whoami);
            if let (Some(body), Some(who)) = (body.as_object_mut(), who) {
                body.insert("who".to_owned(), json!(who));
            }
            let answer = Client::behind(&clear.door)?.post("/api/v1/taints/clear", &body)?;
            say(&became(&answer, &clear.tables));
            Ok(if names(answer.get("cleared")).is_empty() {
                ExitCode::from(1)
            } else {
                ExitCode::SUCCESS
            })
        }
    }
}

/// The names of a list of taints.
fn names(list: Option<&Value>) -> Vec<&str> {
    let list = list.and_then(Value::as_array);
    let list = list.into_iter().flatten();
    list.map(|taint| text(taint, "/name")).collect()
}

fn all(answer: &Value, now: jiff::Timestamp) -> String {
    let taints = items(answer);
    if taints.is_empty() {
        return "no table is tainted".to_owned();
    }
    let head = ["table", "since", "finding", "followed", "cause"];
    let mut table = table(&head, &[3]);
    let room = usize::from(width()).saturating_sub(70).max(30);
    for taint in taints {
        table.add_row([
            text(taint, "/name").to_owned(),
            ago(text(taint, "/since"), now),
            match number(taint, "/finding_id") {
                0 => String::new(),
                id => format!("#{id}"),
            },
            count(number(taint, "/followed/count")),
            brief(text(taint, "/cause"), room),
        ]);
    }
    format!("{}\n\n{}", table.trim_fmt(), remedy(taints))
}

/// What lifts them.
fn remedy(taints: &[Value]) -> String {
    let of_tables = taints
        .iter()
        .filter(|taint| text(taint, "/table") != "*" && !text(taint, "/database").is_empty());
    let some: Vec<&str> = of_tables.map(|taint| text(taint, "/name")).collect();
    let whole = some.len() < taints.len();
    let verify = if whole || some.len() > NAMES_MAX {
        "understudy verify".to_owned()
    } else {
        format!("understudy verify --tables {}", some.join(","))
    };
    let by_hand = if whole {
        "What is tainted as * is cleared by hand, once all that it stands for was found equal"
    } else {
        "What you know to be the same can be cleared by hand"
    };
    format!(
        "`{verify}` lifts the taint of each table that it reads whole and finds equal.\n{by_hand}: `understudy taints clear TABLE --why …`"
    )
}

fn became(answer: &Value, asked: &[String]) -> String {
    let left = match items(answer).len() {
        0 => "no table is tainted any more".to_owned(),
        1 => "1 table is still tainted".to_owned(),
        n => format!("{} tables are still tainted", count(n as u64)),
    };
    match names(answer.get("cleared")).as_slice() {
        [] => format!(
            "nothing was cleared: no tainted table is named {}; {left}",
            asked.join(" or ")
        ),
        cleared => format!("cleared {}; {left}", brief(&cleared.join(", "), 400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(database: Option<&str>, table: &str, finding: Option<u64>) -> Value {
        let name = database.map_or_else(|| table.to_owned(), |one| format!("{one}.{table}"));
        json!({
            "name": name, "database": database, "table": table, "cause": "a dark write failed: UPDATE t SET v = ?",
            "since": "2026-01-01T23:00:00Z", "finding_id": finding, "followed": {"count": 1_234, "last": null},
        })
    }

    fn now() -> jiff::Timestamp {
        "2026-01-02T00:00:00Z".parse().expect("a time")
    }

    #[test]
    fn tainted_tables_are_a_table_that_says_what_lifts_them() {
        let taints = json!({"items": [taint(Some("app"), "events", Some(7)), taint(Some("app"), "t", None)]});
        let shown = all(&taints, now());
        let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "TABLE       SINCE    FINDING  FOLLOWED  CAUSE",
                "app.events  1 h ago  #7          1,234  a dark write failed: UPDATE t SET v = ?",
                "app.t       1 h ago              1,234  a dark write failed: UPDATE t SET v = ?",
                "",
                "`understudy verify --tables app.events,app.t` lifts the taint of each table that it reads whole and finds equal.",
                "What you know to be the same can be cleared by hand: `understudy taints clear TABLE --why …`",
            ]
        );
        assert_eq!(all(&json!({"items": []}), now()), "no table is tainted");
    }

    #[test]
    fn what_stands_for_all_tables_is_cleared_by_hand() {
        let taints = [taint(None, "*", None), taint(Some("app"), "t", None)];
        let words = remedy(&taints);
        assert!(words.starts_with("`understudy verify` lifts"), "{words}");
        assert!(words.contains("tainted as *"), "{words}");
    }

    #[test]
    fn what_became_of_it_is_said() {
        let asked = ["app.t".to_owned(), "app.u".to_owned()];
        let answer = json!({"cleared": [taint(Some("app"), "t", None)], "items": [taint(Some("app"), "v", None)]});
        assert_eq!(
            became(&answer, &asked),
            "cleared app.t; 1 table is still tainted"
        );
        assert_eq!(
            became(&json!({"cleared": [], "items": []}), &asked),
            "nothing was cleared: no tainted table is named app.t or app.u; no table is tainted any more"
        );
    }
}
