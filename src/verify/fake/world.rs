//! Two servers of a test's own, with tables in a database `app`, each of `id` and `v`; and a verifier between them.

use super::{Fake, Say, row, server};
use crate::config::{Config, Verify};
use crate::ledger::{TableLeft, Verifications};
use crate::roles::Roles;
use crate::sql::Table;
use crate::verify::gate::{Around, By, CaughtUp, Held, Opening, Soon, Sought, Still};
use crate::verify::{Inspector, NoPlace, Place, Verifier, VerifierParts, Wish};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A table.
#[derive(Clone, Debug)]
pub(in crate::verify) struct Data {
    pub(in crate::verify) rows: BTreeMap<i64, String>,
    /// Beside `id` and `v`; all of their values are 0.
    pub(in crate::verify) more: Vec<String>,
    pub(in crate::verify) has_key: bool,
    pub(in crate::verify) engine: &'static str,
    /// The type of `v`.
    pub(in crate::verify) kind: &'static str,
}

impl Data {
    /// So many rows, numbered from 1.
    pub(in crate::verify) fn of(rows: i64) -> Self {
        Self {
            rows: (1..=rows).map(|id| (id, format!("v{id}"))).collect(),
            more: Vec::new(),
            has_key: true,
            engine: "InnoDB",
            kind: "varbinary(20)",
        }
    }
}

/// What both servers have, by server and table.
pub(in crate::verify) struct State {
    pub(in crate::verify) tables: BTreeMap<(&'static str, String), Data>,
    pub(in crate::verify) identity: BTreeMap<&'static str, String>,
    pub(in crate::verify) grants: Vec<String>,
    /// What connections see that have a snapshot: tables as they were.
    pub(in crate::verify) views: BTreeMap<u64, Tables>,
    /// How transactions see others'.
    pub(in crate::verify) isolation: &'static str,
}

/// By server and name.
pub(in crate::verify) type Tables = BTreeMap<(&'static str, String), Data>;

impl State {
    pub(in crate::verify) fn table(&mut self, server: &'static str, name: &str) -> &mut Data {
        self.tables.get_mut(&(server, name.to_owned())).unwrap()
    }
}

impl State {
    fn answer(&mut self, server: &str, connection: u64, statement: &str) -> Say {
        match statement {
            "START TRANSACTION WITH CONSISTENT SNAPSHOT" => {
                self.views.insert(connection, self.tables.clone());
                Say::Done
            }
            "ROLLBACK" | "" => {
                self.views.remove(&connection);
                Say::Done
            }
            "SAVEPOINT understudy" | "ROLLBACK TO SAVEPOINT understudy" => Say::Done,
            "SELECT @@transaction_isolation" => Say::Rows(vec![row(&[self.isolation])]),
            _ => answer(self, connection, server, statement),
        }
    }
}

type Before = Box<dyn FnMut(&str, &str, &mut State) -> Option<Say> + Send>;

/// See the module.
#[derive(Clone)]
pub(in crate::verify) struct World {
    pub(in crate::verify) state: Arc<Mutex<State>>,
    before: Arc<Mutex<Before>>,
    fake: Fake,
    pub(in crate::verify) around: Arc<Watched>,
    /// The ledger keeps literals.
    pub(in crate::verify) tells_keys: bool,
    dir: Arc<tempfile::TempDir>,
}

/// An understudy that says what the test says, and keeps what it was told.
#[derive(Default)]
pub(in crate::verify) struct Watched {
    pub(in crate::verify) verified: Mutex<Vec<String>>,
    pub(in crate::verify) holds: Mutex<Option<String>>,
    pub(in crate::verify) behind: Mutex<Option<String>>,
    /// Replication feeds the shadow: no moment may differ.
    pub(in crate::verify) is_replicated: Mutex<bool>,
    /// Commands of which it is not known what they wrote.
    pub(in crate::verify) under_way: Mutex<Option<String>>,
    /// How long the shadow is waited for.
    pub(in crate::verify) catches_up_in: Mutex<Duration>,
    /// How often it was.
    pub(in crate::verify) catch_ups: Mutex<u32>,
    pub(in crate::verify) panics: Mutex<bool>,
    /// Who else writes.
    pub(in crate::verify) others: Mutex<Vec<String>>,
    /// Tables to which a write was lost.
    pub(in crate::verify) lost: Mutex<Vec<String>>,
    pub(in crate::verify) places: Mutex<Places>,
    pub(in crate::verify) instants: Mutex<InstantsAsked>,
}

/// What is asked and told of instants.
#[derive(Default)]
pub(in crate::verify) struct InstantsAsked {
    /// Why there is none, the next times.
    pub(in crate::verify) refused: Vec<String>,
    /// Why there are none at all.
    pub(in crate::verify) never: Option<String>,
    /// Whether what stands still is let go before the opening is done.
    pub(in crate::verify) cut: bool,
    /// So many were asked for.
    pub(in crate::verify) asked: u32,
    /// Tables that were locked, or were to be.
    pub(in crate::verify) locked: Vec<String>,
    /// Which servers the last of them is looked at on.
    pub(in crate::verify) on: [Option<String>; 2],
    /// Why these are not, whenever it is asked for,
    pub(in crate::verify) unlockable: BTreeMap<String, String>,
    /// and whether that is known.
    pub(in crate::verify) hopeless: bool,
    /// What is lacking to lock any.
    pub(in crate::verify) lacks: Option<String>,
}

impl Around for Watched {
    fn holds(&self) -> Option<String> {
        assert!(!*self.panics.lock(), "planted");
        self.holds.lock().clone()
    }

    fn share(&self, most: f64) -> f64 {
        most
    }

    fn caught_up<'a>(
        &'a self,
        _table: &'a Table,
        sought: Sought<'a>,
    ) -> Soon<'a, Result<CaughtUp, String>> {
        let behind = self.behind.lock().clone();
        let under_way = self.under_way.lock().clone();
        let behind = behind.or(under_way.filter(|_| sought.concludes));
        let time = *self.catches_up_in.lock();
        *self.catch_ups.lock() += 1;
        Box::pin(async move {
            tokio::time::sleep(time).await;
            behind.map_or(Ok(CaughtUp::Seen), Err)
        })
    }

    fn place<'a>(
        &'a self,
        table: &'a Table,
        server: &'a str,
    ) -> Soon<'a, Result<Box<dyn Place>, NoPlace>> {
        let mut places = self.places.lock();
        places.asked.push(format!("{} on {server}", table.name));
        let spot = match places.refused.take() {
            Some(none) => Err(none),
            None => Ok(Box::new(Spot(places.lost.take())) as Box<dyn Place>),
        };
        Box::pin(std::future::ready(spot))
    }

    fn repairs(&self, table: &Table) {
        self.places.lock().tainted.push(table.name.clone());
    }

    fn clock(&self) -> Duration {
        Duration::from_secs(u64::from(!*self.is_replicated.lock()))
    }

    fn lost_since(&self, table: &Table, _since: jiff::Timestamp) -> bool {
        self.lost.lock().contains(&table.name)
    }

    fn verified(&self, table: &Table, _since: jiff::Timestamp) {
        self.verified.lock().push(table.name.clone());
    }

    fn cannot_apply(&self) -> Option<String> {
        self.places.lock().never.clone()
    }

    fn instant<'a>(
        &'a self,
        still: Still<'a>,
        _at_most: Duration,
        opening: Opening,
    ) -> Soon<'a, Held> {
        Box::pin(async move {
            let (refused, cut, hopeless) = {
                let mut instants = self.instants.lock();
                instants.asked += 1;
                let refused = match still {
                    Still::Sessions => instants.refused.pop(),
                    Still::Table(table, on) => {
                        instants.on = [on.primary, on.shadow].map(|one| one.map(str::to_owned));
                        instants.locked.push(table.name.clone());
                        instants.unlockable.get(&table.name).cloned()
                    }
                };
                let hopeless = instants.hopeless;
                (refused, std::mem::take(&mut instants.cut), hopeless)
            };
            if refused.is_some() {
                return Held {
                    failed: refused,
                    hopeless,
                    ..Held::default()
                };
            }
            let opened = opening.await.err();
            let failed = opened.or_else(|| cut.then(|| "a cutover is under way".to_owned()));
            Held {
                held: Some(Duration::from_millis(7)),
                sessions: 3,
                failed,
                ..Held::default()
            }
        })
    }

    fn no_instants(&self, _by: By) -> Option<String> {
        self.instants.lock().never.clone()
    }

    fn may_lock<'a>(&'a self, databases: &'a [String]) -> Soon<'a, Result<(), String>> {
        assert_eq!(databases, ["app"]);
        let lacks = self.instants.lock().lacks.clone();
        Box::pin(std::future::ready(lacks.map_or(Ok(()), Err)))
    }

    fn others<'a>(&'a self, _time: Duration) -> Soon<'a, Result<Vec<String>, String>> {
        Box::pin(std::future::ready(Ok(self.others.lock().clone())))
    }
}

/// What is asked and told of repairs.
#[derive(Default)]
pub(in crate::verify) struct Places {
    /// Why there is no place, the next time.
    pub(in crate::verify) refused: Option<NoPlace>,
    /// Why the next place is none any more.
    pub(in crate::verify) lost: Option<String>,
    /// Why there are no repairs at all.
    pub(in crate::verify) never: Option<String>,
    /// Which places were asked for.
    pub(in crate::verify) asked: Vec<String>,
    /// Which tables were said to be repaired.
    pub(in crate::verify) tainted: Vec<String>,
}

/// A place, or why it is none any more.
struct Spot(Option<String>);

impl Place for Spot {
    fn holds(&self) -> Result<(), String> {
        self.0.clone().map_or(Ok(()), Err)
    }

    fn at_most(&self) -> Duration {
        Duration::from_secs(1)
    }
}

impl World {
    /// Both servers have these tables.
    pub(in crate::verify) fn new(tables: &[(&str, Data)]) -> Self {
        let both = ["legacy", "other"];
        let of = |server: &'static str| {
            tables
                .iter()
                .map(move |(name, data)| ((server, (*name).to_owned()), data.clone()))
        };
        let state = State {
            tables: both.into_iter().flat_map(of).collect(),
            identity: both.map(|name| (name, format!("uuid of {name}"))).into(),
            grants: vec!["GRANT SELECT ON *.* TO `u`@`%`".to_owned()],
            views: BTreeMap::new(),
            isolation: "REPEATABLE-READ",
        };
        let state = Arc::new(Mutex::new(state));
        let before: Arc<Mutex<Before>> = Arc::new(Mutex::new(Box::new(|_, _, _| None)));
        let (known, first) = (Arc::clone(&state), Arc::clone(&before));
        let fake = Fake::of_connections(move |server, connection, statement| {
            let mut state = known.lock();
            let said = (first.lock())(server, statement, &mut state);
            let says = said.unwrap_or_else(|| state.answer(server, connection, statement));
            if matches!(says, Say::Refuse(1317)) {
                // As a tablet that ended it, or a KILL.
                state.views.remove(&connection);
            }
            (says, state.views.contains_key(&connection))
        });
        Self {
            state,
            before,
            fake,
            around: Arc::default(),
            tells_keys: true,
            dir: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Has a test change the state, or answer itself, before each statement.
    pub(in crate::verify) fn before(
        &self,
        before: impl FnMut(&str, &str, &mut State) -> Option<Say> + Send + 'static,
    ) {
        *self.before.lock() = Box::new(before);
    }

    pub(in crate::verify) fn asked(&self, server: &str) -> Vec<String> {
        self.fake.asked(server)
    }

    pub(in crate::verify) fn records(&self) -> Verifications {
        Verifications::at(&self.dir.path().join("ledger.db"))
    }

    pub(in crate::verify) fn left(&self) -> Vec<TableLeft> {
        self.records().tables_left(1).unwrap()
    }

    /// A verifier as a process has it.
    pub(in crate::verify) fn process(&self, change: impl FnOnce(&mut Verify)) -> Verifier {
        self.process_as(false, change)
    }

    /// The same without an understudy.
    pub(in crate::verify) fn process_alone(&self) -> Verifier {
        self.process_as(true, |limits| limits.range_rows = 50)
    }

    /// Where its servers are.
    pub(in crate::verify) const fn between(&self) -> &'static str {
        "legacy 127.0.0.1:1, other 127.0.0.1:1"
    }

    fn process_as(&self, alone: bool, change: impl FnOnce(&mut Verify)) -> Verifier {
        let config =
            "[primary]\nname = \"a\"\naddress = \"h:1\"\n[shadow]\nname = \"b\"\naddress = \"h:2\"";
        let mut limits = Config::parse(config, &[]).unwrap().verify;
        limits.share = 1.0;
        change(&mut limits);
        let roles = Roles {
            primary: Arc::new(server("legacy")),
            shadow: Arc::new(server("other")),
        };
        // Whoever turns the roles has ended: they do not turn.
        let (_, roles) = watch::channel(roles);
        Verifier::new(VerifierParts {
            roles,
            dial: Arc::new(self.fake.clone()),
            limits,
            tells_keys: self.tells_keys,
            around: Arc::clone(&self.around) as Arc<dyn Around>,
            records: Arc::new(self.records()),
            left_out: Vec::new(),
            alone,
        })
    }

    /// A run of these tables to its end.
    pub(in crate::verify) fn run(&self, tables: &[&str]) -> Value {
        let process = self.process(|_| ());
        process.start(&wish(tables), "dba").unwrap();
        ended(&process)
    }
}

pub(in crate::verify) fn wish(tables: &[&str]) -> Wish {
    Wish {
        tables: tables.iter().map(|one| (*one).to_owned()).collect(),
        ..Wish::default()
    }
}

/// Looks until this is so.
pub(in crate::verify) fn until(process: &Verifier, what: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let told = process.standing(true);
        if what(&told) {
            return told;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{told:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How it stands once it has ended.
pub(in crate::verify) fn ended(process: &Verifier) -> Value {
    until(process, |told| told["state"] == "ended")
}

fn answer(state: &State, connection: u64, server: &str, statement: &str) -> Say {
    let tables = state.views.get(&connection).unwrap_or(&state.tables);
    let server = if server == "legacy" {
        "legacy"
    } else {
        "other"
    };
    let names = || {
        let of = tables.keys().filter(|(of, _)| *of == server);
        of.map(|(_, name)| name.as_str())
    };
    let table = statement.split("`app`.`").nth(1);
    let table = table.and_then(|rest| rest.split('`').next());
    let data = table.and_then(|name| tables.get(&(server, name.to_owned())));
    let first = statement.split(' ').take(3).collect::<Vec<_>>().join(" ");
    match first.as_str() {
        "SELECT @@GLOBAL.server_uuid" => Say::Rows(vec![row(&[&state.identity[server]])]),
        "SHOW DATABASES" => Say::Rows(vec![row(&["app"]), row(&["mysql"])]),
        "SHOW FULL TABLES" => Say::Rows(names().map(|name| row(&[name, "BASE TABLE"])).collect()),
        "SHOW GRANTS" => Say::Rows(state.grants.iter().map(|one| row(&[one])).collect()),
        "SHOW TABLE STATUS" => {
            let of = |name: &str| {
                let data = &tables[&(server, name.to_owned())];
                row(&[
                    name,
                    data.engine,
                    "10",
                    "Dynamic",
                    &data.rows.len().to_string(),
                ])
            };
            Say::Rows(names().map(of).collect())
        }
        _ => match data {
            None => Say::Refuse(1146),
            Some(data) => of_table(data, statement),
        },
    }
}

fn of_table(data: &Data, statement: &str) -> Say {
    if statement.starts_with("SHOW FULL COLUMNS") {
        let column = |name: &str, kind: &str| {
            let mut cells = row(&[name, kind, "", "NO", "", "", "", "", ""]);
            (cells[2], cells[5]) = (None, None);
            cells
        };
        let mut columns = vec![column("id", "bigint"), column("v", data.kind)];
        columns.extend(data.more.iter().map(|name| column(name, "int")));
        return Say::Rows(columns);
    }
    if statement.starts_with("SHOW INDEX") {
        let mut key = row(&["t", "0", "PRIMARY", "1", "id", "A", "5", ""]);
        key[7] = None;
        return Say::Rows(if data.has_key { vec![key] } else { Vec::new() });
    }
    let columns = statement.strip_prefix("SELECT ").unwrap();
    let columns: Vec<&str> = columns
        .split(" FROM ")
        .next()
        .unwrap()
        .split(", ")
        .collect();
    let number = |sign: &str| -> Option<i64> {
        let rest = statement.split(&format!("`id` {sign} ")).nth(1)?;
        let digits: String = rest
            .chars()
            .take_while(|c| *c == '-' || c.is_ascii_digit())
            .collect();
        digits.parse().ok()
    };
    let within = statement.split(" IN (").nth(1).map(|rest| {
        let list = rest.split(')').next().unwrap();
        list.split(", ")
            .map(|one| one.parse().unwrap())
            .collect::<Vec<i64>>()
    });
    let limit = statement
        .split(" LIMIT ")
        .nth(1)
        .and_then(|text| text.split(' ').next()?.parse().ok());
    let offset = statement.split(" OFFSET ").nth(1);
    let offset = offset.and_then(|text| text.parse().ok()).unwrap_or(0);
    let (above, upto) = (
        number(">").unwrap_or(i64::MIN),
        number("<=").unwrap_or(i64::MAX),
    );
    let rows = data.rows.iter().filter(|(id, _)| {
        **id > above && **id <= upto && within.as_ref().is_none_or(|all| all.contains(id))
    });
    let rows = rows
        .skip(offset)
        .take(limit.unwrap_or(usize::MAX))
        .map(|(id, v)| {
            let cell = |name: &&str| match *name {
                "`id`" => id.to_string(),
                "`v`" => v.clone(),
                _ => "0".to_owned(),
            };
            columns.iter().map(|name| Some(cell(name))).collect()
        });
    Say::Rows(rows.collect())
}
