//! `understudy cutover`: makes another server the primary and shows the steps as they happen; or tells
//! how that stands.

use super::words::{ago, items, micros, number, table, text};
use super::{Client, ClientError, Format, Remote, Trouble, readiness, say, say_json, whoami};
use crate::config;
use crate::words::harmless;
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The server that is to be the primary.
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    #[command(flatten)]
    wish: Wish,
    /// End the cutover that is under way, before its switch.
    #[arg(long, conflicts_with_all = ["to", "dry_run", "watch", "force"])]
    abort: bool,
    /// Say that replication from the old primary to the new one has ended, so that dark writes may
    /// flow back.
    #[arg(long, conflicts_with_all = ["to", "dry_run", "watch", "force", "abort"])]
    replication_stopped: bool,
    #[command(flatten)]
    remote: Remote,
}

/// How it is to be done.
#[derive(Args, Debug)]
pub(super) struct Wish {
    /// Go as far as one can without touching production, and say what would happen.
    #[arg(long)]
    dry_run: bool,
    /// Show the steps as they happen, until it is over.
    #[arg(long)]
    watch: bool,
    /// Override this guard; may be given several times. It is written to the record.
    #[arg(long, value_name = "GUARD")]
    force: Vec<String>,
}

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Of a step that lasts it is told so often what it waits for, in looks: about every two seconds.
const WORDS_EVERY: u32 = 20;

/// And how the new primary does in its soak: about every ten.
const SOAK_EVERY: u32 = 100;

/// Looks in a row that may fail, about a minute: a proxy that is started again goes on with the record.
const BLIND_MAX: u32 = 600;

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::new(&arguments.remote)?;
    let format = arguments.remote.format;
    if let Some(to) = &arguments.to {
        return ask(&client, to, &arguments.wish, format);
    }
    let wish = &arguments.wish;
    if wish.dry_run || !wish.force.is_empty() {
        return Err(Trouble::usage("--dry-run and --force need --to NAME"));
    }
    let who = json!({"who": who()});
    let standing = if arguments.abort {
        client.post("/api/v1/cutover/abort", &who)?
    } else if arguments.replication_stopped {
        client.post("/api/v1/cutover/replication_stopped", &who)?
    } else {
        client.get("/api/v1/cutover", &[])?
    };
    match standing.pointer("/record/id").and_then(Value::as_i64) {
        Some(id) if wish.watch => watch(&client, id, format),
        Some(_) | None => {
            tell(&standing, format);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Who asks, where that is somebody: understudy itself is nobody.
fn who() -> Option<String> {
    whoami().filter(|user| !user.eq_ignore_ascii_case(config::OURSELVES))
}

/// Asks for a cutover to this server.
pub(super) fn ask(
    client: &Client,
    to: &str,
    wish: &Wish,
    format: Format,
) -> Result<ExitCode, Trouble> {
    let body = json!({"to": to, "dry_run": wish.dry_run, "force": wish.force, "who": who()});
    let (status, answer) = client.ask("/api/v1/cutover", &body)?;
    if status == 409 && answer.get("guards").is_some_and(Value::is_array) {
        match format {
            Format::Json => say_json(&answer),
            Format::Table => say(&refused(to, &answer)),
        }
        return Ok(ExitCode::from(1));
    }
    let begun = answer.pointer("/record/id").and_then(Value::as_i64);
    let Some(id) = begun.filter(|_| status == 202) else {
        return Err(client.refused(status, &answer).into());
    };
    if wish.watch || wish.dry_run {
        return watch(client, id, format);
    }
    tell(&answer, format);
    Ok(ExitCode::SUCCESS)
}

fn tell(standing: &Value, format: Format) {
    match format {
        Format::Json => say_json(standing),
        Format::Table => say(&shown(standing, jiff::Timestamp::now())),
    }
}

/// Looks until the cutover is over.
fn watch(client: &Client, id: i64, format: Format) -> Result<ExitCode, Trouble> {
    let look = || {
        std::thread::sleep(PAUSE);
        client.get("/api/v1/cutover", &[])
    };
    let news = |line: &str| match format {
        Format::Json => {}
        Format::Table => say(line),
    };
    let standing = follow(id, look, news)?;
    let record = found(&standing, id);
    match format {
        Format::Json => say_json(record),
        Format::Table => say(&ended(record, text(&standing, "/primary"))),
    }
    Ok(match text(record, "/outcome") {
        "done" | "dry_run" => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

/// How it stands at its end; its news are told on the way.
fn follow(
    id: i64,
    mut look: impl FnMut() -> Result<Value, ClientError>,
    mut tell: impl FnMut(&str),
) -> Result<Value, ClientError> {
    let (mut told, mut blind) = (Told::default(), 0);
    loop {
        match look() {
            Ok(standing) => {
                blind = 0;
                let record = found(&standing, id);
                for line in told.news(record) {
                    tell(&line);
                }
                if let Some(line) = told.waits(text(&standing, "/progress/words")) {
                    tell(&line);
                }
                if record.is_null() || !text(record, "/ended").is_empty() {
                    return Ok(standing);
                }
            }
            Err(ClientError::Unreachable(..)) if blind < BLIND_MAX => {
                if blind == 0 {
                    tell("understudy does not answer; looking on");
                }
                blind += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The record with this number; null where it is not told any more.
fn found(standing: &Value, id: i64) -> &Value {
    let is_it = |record: &&Value| record.get("id").and_then(Value::as_i64) == Some(id);
    let current = standing.get("record").into_iter();
    let history = standing.get("history").and_then(Value::as_array);
    let mut all = current.chain(history.into_iter().flatten());
    all.find(is_it).unwrap_or(&Value::Null)
}

/// How much of a record was told.
#[derive(Debug, Default)]
struct Told {
    /// Steps whose end was told.
    ended: usize,
    /// The step that was told to have begun, and its name.
    begun: Option<(usize, String)>,
    /// Looks since then.
    looks: u32,
}

impl Told {
    /// A line for each step that has ended since, and for the one that lasts.
    fn news(&mut self, record: &Value) -> Vec<String> {
        let steps = record.get("steps").and_then(Value::as_array);
        let steps = steps.map_or(&[][..], Vec::as_slice);
        let mut lines = Vec::new();
        for (at, step) in steps.iter().enumerate().skip(self.ended) {
            if text(step, "/outcome").is_empty() {
                if self.begun.as_ref().is_none_or(|(begun, _)| *begun != at) {
                    self.begun = Some((at, text(step, "/step").to_owned()));
                    self.looks = 0;
                    lines.push(format!("{:<14} …", text(step, "/step")));
                }
                break;
            }
            self.ended = at + 1;
            self.begun = None;
            lines.push(step_line(step));
        }
        lines
    }

    /// What the step that lasts waits for, now and then.
    fn waits(&mut self, words: &str) -> Option<String> {
        let (_, step) = self.begun.as_ref().filter(|_| !words.is_empty())?;
        self.looks = self.looks.saturating_add(1);
        let every = if step == "soaking" {
            SOAK_EVERY
        } else {
            WORDS_EVERY
        };
        let line = || format!("{step:<14} … {}", harmless(words));
        self.looks.is_multiple_of(every).then(line)
    }
}

fn step_line(step: &Value) -> String {
    let took = step.get("took_us").and_then(Value::as_u64);
    let took = took.map_or_else(String::new, micros);
    let line = format!(
        "{:<14} {:<8} {took:>10}  {}",
        text(step, "/step"),
        text(step, "/outcome"),
        text(step, "/why")
    );
    line.trim_end().to_owned()
}

/// How a cutover ended, in a sentence.
fn ended(record: &Value, primary: &str) -> String {
    let (to, why) = (text(record, "/to"), text(record, "/why"));
    let because = if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    match text(record, "/outcome") {
        "done" => format!("done: {to} is the primary; {}", hold(record)),
        "dry_run" => format!("dry run{because}; nothing was changed, {primary} is the primary"),
        "" => format!("its record is not told any more; {primary} is the primary"),
        outcome => format!("{outcome}{because}; {primary} is the primary"),
    }
}

fn hold(record: &Value) -> String {
    match record.get("hold_us").and_then(Value::as_u64) {
        Some(us) => format!("transactions waited {}", micros(us)),
        None => "no transaction waited".to_owned(),
    }
}

fn refused(to: &str, answer: &Value) -> String {
    let stands = |guard: &Value, key: &str| guard.get(key) == Some(&Value::Bool(true));
    let guards = answer.get("guards").and_then(Value::as_array);
    let guards = guards.map_or(&[][..], Vec::as_slice);
    let refuse = guards
        .iter()
        .filter(|guard| !stands(guard, "pass") && !stands(guard, "forced"));
    format!(
        "REFUSED: {} of {} guards stand between you and {to}; --force GUARD overrides one\n\n{}",
        refuse.count(),
        guards.len(),
        readiness::guards(guards)
    )
}

/// How it stands, for people.
fn shown(standing: &Value, now: jiff::Timestamp) -> String {
    let mut lines = vec![
        format!("state     {}", text(standing, "/state")),
        format!("primary   {}", text(standing, "/primary")),
    ];
    let words = text(standing, "/progress/words");
    if !words.is_empty() {
        lines.push(format!("now       {}", harmless(words)));
    }
    let record = standing.get("record").unwrap_or(&Value::Null);
    let unread = text(standing, "/unread");
    if !unread.is_empty() {
        if !record.is_null() {
            lines.push(format!("cutover   {}", number(record, "/id")));
        }
        lines.push(unread.to_owned());
        return lines.join("\n");
    }
    if record.is_null() {
        lines.push("no cutover yet".to_owned());
    } else {
        lines.push(format!(
            "cutover   {}: {} → {}, {}{}",
            number(record, "/id"),
            text(record, "/from"),
            text(record, "/to"),
            ago(text(record, "/started"), now),
            course(record)
        ));
        let steps = record.get("steps").and_then(Value::as_array);
        lines.extend(
            steps
                .into_iter()
                .flatten()
                .map(|step| format!("  {}", step_line(step))),
        );
    }
    let history = json!({"items": standing.get("history")});
    let earlier = items(&history);
    if earlier.len() > 1 {
        let mut table = table(
            &["id", "from", "to", "began", "outcome", "held", "who"],
            &[5],
        );
        for one in earlier {
            let held = one.get("hold_us").and_then(Value::as_u64);
            table.add_row([
                number(one, "/id").to_string(),
                text(one, "/from").to_owned(),
                text(one, "/to").to_owned(),
                ago(text(one, "/started"), now),
                text(one, "/outcome").to_owned(),
                held.map_or_else(String::new, micros),
                text(one, "/who").to_owned(),
            ]);
        }
        lines.push(String::new());
        lines.push(table.trim_fmt());
    }
    lines.join("\n")
}

/// What became of it so far.
fn course(record: &Value) -> String {
    let outcome = text(record, "/outcome");
    if outcome.is_empty() {
        return format!(", {}", text(record, "/state").replace('_', " "));
    }
    match text(record, "/why") {
        "" => format!(", {outcome}"),
        why => format!(", {outcome}: {why}"),
    }
}

#[cfg(test)]
mod tests;
