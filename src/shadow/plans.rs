//! How both servers would run a statement that diverged: asked once a shape and protocol, with the
//! proxy's own accounts, at most one a second.
//!
//! On the primary EXPLAIN, and only where that runs nothing: an old server runs derived tables to
//! explain what is around them. On vtgate VEXPLAIN PLAN, which is the plan of the whole; EXPLAIN
//! there is one shard's. Nothing waits for a plan, and what is asked for while a hundred wait is
//! counted and left.

use super::job::Run;
use super::journal::Journal;
use super::perform;
use super::shared::{Counters, count};
use crate::ask::{AskError, Manner, Questions};
use crate::connect::Dial;
use crate::ledger::{Ledger, Plans, Protocol, REFUSED};
use crate::roles::Roles;
use crate::sql::{self, Class, Dialect};
use crate::task;
use crate::wire::answer::Answer;
use crate::wire::command::Command;
use crate::wire::row::{Cell, text_row};
use crate::wire::sample::Sampled;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Questions that wait at most.
const QUEUE_MAX: usize = 100;

/// Plans are asked of each server at most so often.
const PER_SECOND: u32 = 1;

/// Bytes of a statement at most.
const STATEMENT_BYTES_MAX: usize = 16 << 10;

/// Shapes that are remembered as asked; then all are forgotten, and may be asked once more.
const ASKED_MAX: usize = 10_000;

/// Settings of a session that change how a statement is read, and harm nothing.
const SETTINGS: [&str; 5] = [
    "sql_mode",
    "names",
    "character_set_client",
    "character_set_connection",
    "collation_connection",
];

/// The door to whoever asks.
#[derive(Debug)]
pub(super) struct Planner {
    sender: Option<mpsc::Sender<Box<Question>>>,
    asked: Mutex<HashSet<(u64, Protocol)>>,
    counters: Arc<Counters>,
}

/// A statement, and the state in which it was said.
#[derive(Debug)]
pub(super) struct Question {
    door: Arc<Planner>,
    digest: u64,
    protocol: Protocol,
    /// What the primary is asked to explain, or why it is not.
    primary: Result<String, &'static str>,
    shadow: Result<String, &'static str>,
    dialect: Dialect,
    database: String,
    shadow_database: String,
    collation: u16,
    settings: Vec<String>,
}

impl Planner {
    /// Without an account for either server nothing is asked. Ends with `stop`.
    pub(super) fn start(
        roles: &Roles,
        dial: &Arc<dyn Dial>,
        ledger: &Ledger,
        counters: &Arc<Counters>,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let questions = |server| match Questions::new(dial, server, PER_SECOND) {
            Ok(questions) => questions,
            Err(error) => {
                tracing::info!(%error, server = server.name, "no plans are asked of it");
                None
            }
        };
        let (primary, shadow) = (questions(&roles.primary), questions(&roles.shadow));
        let is_off = primary.is_none() && shadow.is_none() || !ledger.is_kept();
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let planner = Arc::new(Self {
            sender: (!is_off).then_some(sender),
            asked: Mutex::default(),
            counters: Arc::clone(counters),
        });
        if !is_off {
            let asking = Asking {
                names: [roles.primary.name.clone(), roles.shadow.name.clone()],
                primary: primary.map(Explainer::new),
                shadow: shadow.map(Explainer::new),
                ledger: ledger.clone(),
                planner: Arc::clone(&planner),
            };
            drop(task::spawn("plans", asking.run(receiver, stop.clone())));
        }
        planner
    }

    /// The question for a command that diverged, where its plans are not known yet.
    pub(super) fn question(
        self: &Arc<Self>,
        run: &Run,
        journal: &Journal,
        shadow_database: &str,
        parameters: Option<&Result<Vec<String>, &'static str>>,
    ) -> Option<Question> {
        self.sender.as_ref()?;
        let reading = &run.reading;
        let key = (reading.digest, reading.protocol);
        if !is_explainable(run) || self.asked.lock().contains(&key) {
            return None;
        }
        let text = |text: Option<String>| match (text, parameters) {
            (None, _) => Err("its text cannot be told"),
            (Some(text), _) if text.len() > STATEMENT_BYTES_MAX => Err("it is longer than 16 KiB"),
            (Some(text), None) => Ok(text),
            (Some(text), Some(Ok(values))) => {
                let filled = sql::with_parameters(&text, reading.dialect, values);
                let fits = filled.filter(|text| text.len() <= STATEMENT_BYTES_MAX);
                fits.ok_or("with its parameters it is longer than 16 KiB")
            }
            (Some(_), Some(Err(why))) => Err(*why),
        };
        let settings = journal.settings().filter(|(name, assignment)| {
            // A value that is looked up or computed could run something.
            let value = assignment
                .split_once('=')
                .map_or(*assignment, |(_, value)| value);
            SETTINGS.contains(name) && !value.contains(['(', '@', '`'])
        });
        Some(Question {
            door: Arc::clone(self),
            digest: reading.digest,
            protocol: reading.protocol,
            primary: text(perform::wording_of(run).map(|wording| wording.text)),
            shadow: text(perform::shadow_text(run)),
            dialect: reading.dialect,
            database: journal.database().to_owned(),
            shadow_database: shadow_database.to_owned(),
            collation: run.charged.facts.collation,
            settings: settings
                .map(|(_, assignment)| format!("SET {assignment}"))
                .collect(),
        })
    }

    fn ask(&self, question: Question) {
        let Some(sender) = &self.sender else { return };
        let mut asked = self.asked.lock();
        if asked.len() >= ASKED_MAX {
            asked.clear();
        }
        let key = (question.digest, question.protocol);
        if asked.contains(&key) {
            return;
        }
        if sender.try_send(Box::new(question)).is_ok() {
            asked.insert(key);
        } else {
            count(&self.counters.plans_skipped);
        }
    }
}

impl Question {
    /// Has it asked, once a shape and protocol. Never waits.
    pub(super) fn ask(self) {
        let door = Arc::clone(&self.door);
        door.ask(self);
    }
}

/// One statement that reads or writes tables that are known, so that to explain it runs nothing.
fn is_explainable(run: &Run) -> bool {
    const FIRST: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE"];
    let reading = &run.reading;
    let first = reading
        .fingerprint
        .split([' ', '('])
        .find(|word| !word.is_empty());
    let is_known =
        first.is_some_and(|first| FIRST.iter().any(|word| word.eq_ignore_ascii_case(first)));
    reading.runs
        && reading.plannable
        && is_known
        && !reading.scope.is_empty()
        && matches!(
            reading.class,
            Class::Read | Class::LockingRead | Class::Write
        )
}

/// Who asks.
struct Asking {
    names: [String; 2],
    primary: Option<Explainer>,
    shadow: Option<Explainer>,
    ledger: Ledger,
    planner: Arc<Planner>,
}

impl Asking {
    async fn run(mut self, mut receiver: mpsc::Receiver<Box<Question>>, stop: CancellationToken) {
        loop {
            let question = tokio::select! {
                question = receiver.recv() => question,
                () = stop.cancelled() => return,
            };
            let Some(question) = question else { return };
            tokio::select! {
                () = self.plan(&question) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn plan(&mut self, question: &Question) {
        let [primary_name, shadow_name] = &self.names;
        let primary = match &mut self.primary {
            Some(asker) => asker.primary(question).await,
            None => Err(NO_ACCOUNT.to_owned()),
        };
        let shadow = match &mut self.shadow {
            Some(asker) => asker.shadow(question).await,
            None => Err(NO_ACCOUNT.to_owned()),
        };
        let class = shadow
            .as_ref()
            .ok()
            .and_then(|told| class(told.get("plan")?));
        self.ledger.keep_plans(Plans {
            digest: question.digest,
            protocol: question.protocol,
            at: jiff::Timestamp::now(),
            class,
            primary: told(primary_name, primary),
            shadow: told(shadow_name, shadow),
        });
        count(&self.planner.counters.planned);
    }
}

const NO_ACCOUNT: &str = "not asked: understudy has no account of its own there";

fn told(server: &str, plan: Result<Value, String>) -> Value {
    let mut told = plan.unwrap_or_else(|why| json!({"why": why}));
    if let Some(fields) = told.as_object_mut() {
        fields.insert("server".to_owned(), json!(server));
    }
    told
}

/// Asks one server.
struct Explainer {
    questions: Questions,
    version: Option<Version>,
}

/// What must be known of a server before it is asked to explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    number: (u32, u32, u32),
    is_mariadb: bool,
    is_vitess: bool,
}

impl Version {
    fn of(text: &str) -> Self {
        let mut parts = text
            .split(|c: char| !c.is_ascii_digit())
            .map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        Self {
            number: (next(), next(), next()),
            is_mariadb: text.contains("MariaDB"),
            is_vitess: text.contains("Vitess"),
        }
    }

    /// Whether to explain a statement may run what is nested in it.
    fn runs_nested(self) -> bool {
        let since = if self.is_mariadb {
            (10, 0, 0)
        } else {
            (5, 7, 0)
        };
        self.number < since
    }

    /// How it is asked. A server whose default is another form, a tree or JSON, is told which one.
    const fn ask(self) -> &'static str {
        let (major, minor, _) = self.number;
        if self.is_mariadb || major < 5 || (major == 5 && minor < 6) {
            "EXPLAIN"
        } else {
            "EXPLAIN FORMAT=TRADITIONAL"
        }
    }

    /// How the server is bound, beyond the time after which the question is given up.
    fn bounds(self) -> Vec<String> {
        let mut bounds = vec!["SET SESSION lock_wait_timeout = 1".to_owned()];
        if self.is_mariadb && self.number >= (10, 1, 1) {
            bounds.push("SET SESSION max_statement_time = 2".to_owned());
        } else if !self.is_mariadb && self.number >= (5, 7, 8) {
            bounds.push("SET SESSION max_execution_time = 2000".to_owned());
        }
        bounds
    }
}

impl Explainer {
    const fn new(questions: Questions) -> Self {
        Self {
            questions,
            version: None,
        }
    }

    async fn version(&mut self) -> Result<Version, String> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        let rows = self.questions.ask("SELECT VERSION()").await;
        let rows = rows.map_err(|error| failed(&error))?;
        let text = rows
            .into_iter()
            .flatten()
            .flatten()
            .next()
            .unwrap_or_default();
        let version = Version::of(&text);
        self.version = Some(version);
        Ok(version)
    }

    async fn primary(&mut self, question: &Question) -> Result<Value, String> {
        let text = question
            .primary
            .as_ref()
            .map_err(|why| format!("not asked: {why}"))?;
        let version = self.version().await?;
        if version.runs_nested() && sql::nests(text, question.dialect) {
            return Err(
                "not asked: to explain a nested SELECT, a server this old may run it".to_owned(),
            );
        }
        self.explain(version, text, &question.database, question)
            .await
    }

    async fn shadow(&mut self, question: &Question) -> Result<Value, String> {
        let text = question
            .shadow
            .as_ref()
            .map_err(|why| format!("not asked: {why}"))?;
        let version = self.version().await?;
        let database = &question.shadow_database;
        if !version.is_vitess {
            if version.runs_nested() && sql::nests(text, question.dialect) {
                return Err(
                    "not asked: to explain a nested SELECT, a server this old may run it"
                        .to_owned(),
                );
            }
            return self.explain(version, text, database, question).await;
        }
        let answer = self
            .answer("VEXPLAIN PLAN", text, database, question, Vec::new())
            .await?;
        let cells = rows(&answer)?;
        let plan = cells.first().and_then(|row| row.values().next());
        let plan = plan.and_then(Value::as_str).unwrap_or_default();
        let plan = serde_json::from_str(plan).map_err(|_| "its plan is no JSON".to_owned())?;
        Ok(json!({"plan": Value::Object(plan)}))
    }

    async fn explain(
        &self,
        version: Version,
        text: &str,
        database: &str,
        question: &Question,
    ) -> Result<Value, String> {
        let answer = self
            .answer(version.ask(), text, database, question, version.bounds())
            .await?;
        Ok(json!({"rows": rows(&answer)?}))
    }

    async fn answer(
        &self,
        ask: &str,
        text: &str,
        database: &str,
        question: &Question,
        mut before: Vec<String>,
    ) -> Result<Answer, String> {
        before.extend(question.settings.iter().cloned());
        let manner = Manner {
            database: (!database.is_empty()).then(|| database.to_owned()),
            collation: question.collation,
            ..Manner::default()
        };
        let mut payload = vec![Command::QUERY.0];
        payload.extend_from_slice(format!("{ask} {text}").as_bytes());
        let answer = self.questions.answer(&manner, &before, &payload).await;
        answer.map_err(|error| failed(&error))
    }
}

fn failed(error: &AskError) -> String {
    match error {
        AskError::Refused { code, message } => refused(*code, message),
        other => format!("not asked: {other}"),
    }
}

/// The number stands before the text, of which literals are taken out.
fn refused(code: u16, message: &str) -> String {
    format!("error {code}{REFUSED}{message}")
}

type Fields = serde_json::Map<String, Value>;

/// The rows of an answer, each with its columns' names.
fn rows(answer: &Answer) -> Result<Vec<Fields>, String> {
    if let Some(failure) = answer.error() {
        let message = String::from_utf8_lossy(&failure.message);
        return Err(refused(failure.code, &message));
    }
    let Some(mut sampled) = Sampled::all(answer).next() else {
        return Ok(Vec::new());
    };
    let columns = std::mem::take(&mut sampled.columns);
    let mut rows = Vec::new();
    for payload in sampled.by_ref() {
        let cells = text_row(payload, columns.len()).map_err(|error| error.to_string())?;
        let mut cells = cells.into_iter();
        let named = columns.iter().map_while(|column| {
            let value = match cells.next()? {
                Cell::Bytes(bytes) => json!(String::from_utf8_lossy(bytes)),
                _ => Value::Null,
            };
            Some((column.name.clone(), value))
        });
        rows.push(named.collect());
    }
    Ok(rows)
}

/// The class of vtgate's plan: the variants of its routes and writes, in turn.
fn class(plan: &Value) -> Option<String> {
    let mut routes = Vec::new();
    collect(plan, &mut routes);
    (!routes.is_empty()).then(|| routes.join(", "))
}

/// Routes of a plan that are named at most.
const ROUTES_MAX: usize = 8;

fn collect(plan: &Value, into: &mut Vec<String>) {
    let text = |field: &str| plan.get(field).and_then(Value::as_str);
    let goes_to_shards = matches!(
        text("OperatorType"),
        Some("Route" | "Update" | "Delete" | "Insert" | "Send")
    );
    if let Some(variant) = text("Variant").filter(|_| goes_to_shards && into.len() < ROUTES_MAX) {
        into.push(variant.to_owned());
    }
    let inputs = plan.get("Inputs").and_then(Value::as_array);
    for input in inputs.into_iter().flatten() {
        collect(input, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_say_what_may_be_asked_and_how_it_is_bound() {
        const FORMED: &str = "EXPLAIN FORMAT=TRADITIONAL";
        for (text, nested, bounds, ask) in [
            ("5.5.62", true, 1, "EXPLAIN"),
            ("5.6.24-log", true, 1, FORMED),
            ("5.7.44", false, 2, FORMED),
            ("8.4.6-Vitess", false, 2, FORMED),
            ("9.7.4", false, 2, FORMED),
            ("10.11.6-MariaDB-0+deb12u1", false, 2, "EXPLAIN"),
            ("5.5.68-MariaDB", true, 1, "EXPLAIN"),
        ] {
            let version = Version::of(text);
            assert_eq!(
                (version.runs_nested(), version.bounds().len(), version.ask()),
                (nested, bounds, ask),
                "{text}"
            );
        }
        assert!(Version::of("8.4.6-Vitess").is_vitess);
    }

    #[test]
    fn the_class_of_a_plan_is_that_of_its_routes() {
        let route = |variant: &str| json!({"OperatorType": "Route", "Variant": variant});
        for (plan, wanted) in [
            (route("EqualUnique"), Some("EqualUnique")),
            (
                json!({"OperatorType": "Sort", "Variant": "Memory", "Inputs": [
                    {"OperatorType": "Aggregate", "Variant": "Ordered", "Inputs": [route("Scatter")]}]}),
                Some("Scatter"),
            ),
            (
                json!({"OperatorType": "Join", "Variant": "Join", "Inputs": [route("Scatter"), route("EqualUnique")]}),
                Some("Scatter, EqualUnique"),
            ),
            (
                json!({"OperatorType": "Update", "Variant": "EqualUnique"}),
                Some("EqualUnique"),
            ),
            (json!({"OperatorType": "Rows"}), None),
        ] {
            assert_eq!(class(&plan).as_deref(), wanted, "{plan}");
        }
    }
}
