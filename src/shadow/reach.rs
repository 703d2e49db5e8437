//! What a statement touches beyond the tables that it names: a view's tables, what a trigger reads
//! and writes, the other ends of foreign keys. Asked from the primary with the proxy's own account
//! at the start, after DDL, and now and then; without an account nothing is known, and only what
//! is named is ordered and tainted.

use super::reading::Reading;
use super::scope::{Scope, qualified};
use crate::ask::{AskError, Questions, Row};
use crate::sql::{Class, Dialect, Table, TableSet, Tables, analyze, tables_of_body};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// From one look at the primary to the next, where no DDL was seen.
const LOOKS: Duration = Duration::from_secs(600);

/// From one look to the next, however much DDL is seen.
const PAUSE: Duration = Duration::from_secs(5);

/// After a look that took long, the next waits so many times as long: with many tables it is work
/// for the primary.
const REST: u32 = 50;

/// After a look that failed the next waits so long, and twice as long each time: the primary may be
/// at it still.
const RETRY: Duration = Duration::from_secs(60);

/// No look waits longer.
const REST_MAX: Duration = Duration::from_secs(3_600);

/// Views, triggers and foreign keys that are taken in, each. Where there are more, any statement
/// may reach any table.
const ROWS_MAX: usize = 20_000;

/// Steps from table to table that are followed; what goes further counts as reaching any table. A
/// table with many children is not yet one that reaches any.
const STEPS_MAX: usize = 4_096;

/// See the module.
#[derive(Default)]
pub(super) struct Reach {
    map: ArcSwap<Map>,
    stale: Notify,
    /// The first look is over, whatever came of it, or there is none.
    looked: watch::Sender<bool>,
}

/// What is known of the primary's tables.
#[derive(Debug, Default, PartialEq, Eq)]
struct Map {
    tables: BTreeMap<Table, Reached>,
    /// There was more than is taken in.
    is_partial: bool,
    /// Tells it from those before it, of any primary.
    number: u64,
}

/// What one table stands for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reached {
    /// A view's tables: who reads or writes it reads or writes them.
    stands_for: Beyond,
    /// What is read, and locked, where it is written.
    reads: Beyond,
    /// What is written where it is.
    writes: Beyond,
}

/// Tables beyond; `None` in place of those that cannot be told.
type Beyond = BTreeSet<Option<Table>>;

impl Reach {
    /// Adds what the command touches beyond the tables that it names.
    pub(super) fn extend(&self, reading: &mut Reading) {
        let map = self.map.load();
        if map.tables.is_empty() && !map.is_partial {
            return;
        }
        let find = |scope: &Scope, writes: &Scope| map.beyond(scope, writes);
        let (scope, writes) = match &reading.outline {
            Some(of) if of.scope == reading.scope && of.writes == reading.writes => {
                of.beyond(map.number, find)
            }
            _ => find(&reading.scope, &reading.writes),
        };
        reading.scope.join(&scope);
        reading.writes.join(&writes);
    }

    /// A table was made, changed or dropped: what is known may be old.
    pub(super) fn is_stale(&self) {
        self.stale.notify_one();
    }

    /// The first look is over, or nobody is there to be asked.
    pub(super) fn has_looked(&self) {
        self.looked.send_replace(true);
    }

    /// Returns once the first look is over, at this moment at the latest.
    ///
    /// Cancel-safe.
    pub(super) async fn looked(&self, at_most: Instant) {
        let mut looked = self.looked.subscribe();
        let _in_time = timeout_at(at_most, looked.wait_for(|looked| *looked)).await;
    }

    /// Keeps itself up to date until told to stop.
    pub(super) async fn keep(self: Arc<Self>, primary: Questions, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            match look(&primary).await {
                Ok(map) => {
                    failures = 0;
                    self.map.store(Arc::new(map.numbered()));
                }
                Err(why) => {
                    failures += 1;
                    let server = &primary.server().name;
                    tracing::warn!(%why, "{server} does not tell its views, triggers and foreign keys: \
                        only what statements name is put in order");
                }
            }
            self.has_looked();
            let rest = rest(began.elapsed(), failures);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOKS) => {}
                () = self.stale.notified() => {}
            }
        }
    }
}

/// From the end of a look to the next at the earliest, after so many failures in a row.
fn rest(took: Duration, failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
    let failed = match failures {
        0 => Duration::ZERO,
        _ => RETRY.saturating_mul(doubled.unwrap_or(u32::MAX)),
    };
    let slow = took.saturating_mul(REST);
    PAUSE.max(slow).max(failed).min(REST_MAX)
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach").finish_non_exhaustive()
    }
}

const NOT_THE_SERVERS: &str = "NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";

async fn look(primary: &Questions) -> Result<Map, AskError> {
    let limit = ROWS_MAX + 1;
    let views = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS \
         WHERE TABLE_SCHEMA {NOT_THE_SERVERS} LIMIT {limit}"
    );
    let triggers = format!(
        "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, ACTION_STATEMENT \
         FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA {NOT_THE_SERVERS} LIMIT {limit}"
    );
    let keys = format!(
        "SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME, \
         r.UPDATE_RULE, r.DELETE_RULE FROM information_schema.KEY_COLUMN_USAGE k \
         JOIN information_schema.REFERENTIAL_CONSTRAINTS r \
         ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME \
         AND r.TABLE_NAME = k.TABLE_NAME WHERE k.ORDINAL_POSITION = 1 \
         AND k.REFERENCED_TABLE_NAME IS NOT NULL AND k.TABLE_SCHEMA {NOT_THE_SERVERS} LIMIT {limit}"
    );
    let mut map = Map::default();
    map.take(&primary.ask(&views).await?, Map::view);
    map.take(&primary.ask(&triggers).await?, Map::trigger);
    map.take(&primary.ask(&keys).await?, Map::key);
    Ok(map)
}

impl Map {
    fn numbered(mut self) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        self.number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        self
    }

    fn take(&mut self, rows: &[Row], one: impl Fn(&mut Self, &[Option<String>]) -> Option<()>) {
        self.is_partial |= rows.len() > ROWS_MAX;
        for row in rows {
            self.is_partial |= one(self, row).is_none();
        }
    }

    fn of(&mut self, table: Table) -> &mut Reached {
        self.tables.entry(table).or_default()
    }

    fn view(&mut self, row: &[Option<String>]) -> Option<()> {
        let [database, name, definition] = row else {
            return None;
        };
        let view = table(database, name)?;
        let tables = tables_of(definition.as_deref().unwrap_or_default(), database);
        self.of(view).stands_for.extend(tables);
        Some(())
    }

    fn trigger(&mut self, row: &[Option<String>]) -> Option<()> {
        let [database, name, body] = row else {
            return None;
        };
        let of = table(database, name)?;
        let body = body.as_deref().unwrap_or_default();
        let mut tables = Beyond::new();
        for statement in statements(body) {
            tables.extend(tables_of(statement, database));
        }
        // Its statements cannot be told apart, but their tables can be.
        if tables.contains(&None)
            && branches(body)
            && let Some(named) = tables_of_body(body)
        {
            let database = database.as_deref().unwrap_or_default();
            let named = named.iter().map(|table| Some(qualified(table, database)));
            tables = named.collect();
        }
        // Which of them it writes matters little: all are locked.
        self.of(of).writes.extend(tables);
        Some(())
    }

    fn key(&mut self, row: &[Option<String>]) -> Option<()> {
        let [database, name, parent_database, parent_name, update, delete] = row else {
            return None;
        };
        let child = table(database, name)?;
        let parent = table(parent_database, parent_name)?;
        let writes =
            |rule: &Option<String>| !matches!(rule.as_deref(), Some("RESTRICT" | "NO ACTION"));
        self.of(child.clone()).reads.insert(Some(parent.clone()));
        let of_parent = self.of(parent);
        if writes(update) || writes(delete) {
            of_parent.writes.insert(Some(child));
        } else {
            of_parent.reads.insert(Some(child));
        }
        Some(())
    }

    /// All that is touched, and all that is written, beyond these tables.
    fn beyond(&self, scope: &Scope, writes: &Scope) -> (Scope, Scope) {
        let (Scope::Known(named), Scope::Known(written)) = (scope, writes) else {
            return (Scope::All, writes.clone());
        };
        let all = |of: &TableSet| {
            if of.is_empty() {
                Scope::none()
            } else {
                Scope::All
            }
        };
        if self.is_partial {
            return (all(named), all(written));
        }
        let Some(more) = self.walk(written, |one| [&one.stands_for, &one.writes]) else {
            return (Scope::All, all(written));
        };
        let mut read = BTreeSet::new();
        for table in written.iter().chain(more.iter()) {
            let reads = self.tables.get(table).map(|one| &one.reads);
            for one in reads.into_iter().flatten() {
                match one {
                    Some(one) => read.insert(one.clone()),
                    None => return (Scope::All, Scope::Known(more.clone())),
                };
            }
        }
        let from: TableSet = named.iter().chain(&read).cloned().collect();
        let nothing = Beyond::new();
        let Some(stood_for) = self.walk(&from, |one| [&one.stands_for, &nothing]) else {
            return (Scope::All, Scope::Known(more.clone()));
        };
        let mut touched = Scope::Known(stood_for);
        touched.join(&Scope::Known(read.into()));
        let more = Scope::Known(more.clone());
        touched.join(&more);
        (touched, more)
    }

    /// The tables that these lead to; `None` where that cannot be told.
    fn walk<'a>(
        &'a self,
        from: &TableSet,
        next: impl Fn(&'a Reached) -> [&'a Beyond; 2],
    ) -> Option<TableSet> {
        let mut open: Vec<Table> = from.iter().cloned().collect();
        let mut found = BTreeSet::new();
        let mut steps = 0;
        while let Some(table) = open.pop() {
            let Some(reached) = self.tables.get(&table) else {
                continue;
            };
            for one in next(reached).into_iter().flatten() {
                let one = one.as_ref()?;
                steps += 1;
                if steps > STEPS_MAX {
                    return None;
                }
                if !from.contains(one) && found.insert(one.clone()) {
                    open.push(one.clone());
                }
            }
        }
        Some(found.into())
    }
}

fn table(database: &Option<String>, name: &Option<String>) -> Option<Table> {
    Some(Table {
        database: Some(database.clone()?),
        name: name.clone()?,
    })
}

/// The tables that a view's definition or a trigger's statement names; `None` where it cannot be
/// told (the account may not see the definition).
fn tables_of(text: &str, database: &Option<String>) -> Beyond {
    let database = database.as_deref().unwrap_or_default();
    let analysis = analyze(text.as_bytes(), Dialect::default());
    let mut beyond = Beyond::new();
    for one in &analysis.statements {
        match (&one.tables, one.class) {
            (_, Class::Unmirrored | Class::Empty) | (Tables::Unknown, _) => {
                beyond.insert(None);
            }
            (Tables::Known(tables), _) => {
                beyond.extend(tables.iter().map(|table| Some(qualified(table, database))));
            }
        }
    }
    beyond
}

/// Whether a body is more than one statement: one that calls a function of the users' may reach any
/// table.
fn branches(body: &str) -> bool {
    let word = body.split_whitespace().next().unwrap_or_default();
    ["BEGIN", "IF", "CASE", "LOOP", "WHILE", "REPEAT"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(word))
}

/// A trigger's statements: one, or those between BEGIN and END where none of them branches.
fn statements(body: &str) -> Vec<&str> {
    let body = body.trim();
    let is_block = body
        .get(..5)
        .is_some_and(|word| word.eq_ignore_ascii_case("BEGIN"));
    let end = body.len().saturating_sub(3);
    let ends = body
        .get(end..)
        .is_some_and(|word| word.eq_ignore_ascii_case("END"));
    match body.get(5..end).filter(|_| is_block && ends) {
        // A `;` in a literal leaves pieces that are no statements: they reach any table.
        Some(inside) => {
            let pieces = inside.split(';').map(str::trim);
            pieces.filter(|piece| !piece.is_empty()).collect()
        }
        None => vec![body],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Row {
        cells.iter().map(|cell| Some((*cell).to_owned())).collect()
    }

    fn map(views: &[[&str; 2]], triggers: &[[&str; 2]], keys: &[[&str; 3]]) -> Map {
        let mut map = Map::default();
        let rows = |all: &[[&str; 2]]| -> Vec<Row> {
            all.iter()
                .map(|[name, text]| row(&["app", name, text]))
                .collect()
        };
        map.take(&rows(views), Map::view);
        map.take(&rows(triggers), Map::trigger);
        let keys: Vec<Row> = keys
            .iter()
            .map(|[child, parent, rule]| row(&["app", child, "app", parent, "RESTRICT", rule]))
            .collect();
        map.take(&keys, Map::key);
        map
    }

    fn on(names: &[&str]) -> Scope {
        let table = |name: &&str| Table {
            database: Some("app".into()),
            name: (*name).into(),
        };
        Scope::Known(names.iter().map(table).collect())
    }

    #[test]
    fn a_view_stands_for_its_tables_and_those_of_the_views_in_it() {
        let map = map(
            &[
                [
                    "v",
                    "select `app`.`a`.`id` AS `id` from `app`.`a` join `app`.`w`",
                ],
                ["w", "select `app`.`b`.`id` AS `id` from `app`.`b`"],
            ],
            &[],
            &[],
        );
        assert_eq!(
            map.beyond(&on(&["v"]), &on(&[])),
            (on(&["a", "b", "w"]), on(&[]))
        );
        assert_eq!(map.beyond(&on(&["a"]), &on(&["a"])), (on(&[]), on(&[])));
        let (_, writes) = map.beyond(&on(&["v"]), &on(&["v"]));
        assert_eq!(writes, on(&["a", "b", "w"]));
    }

    #[test]
    fn a_trigger_reaches_what_its_statements_name_when_its_table_is_written() {
        let map = map(
            &[],
            &[
                ["a", "INSERT INTO log (what) VALUES (NEW.id)"],
                ["b", "BEGIN UPDATE sums SET n = n + 1; SET NEW.v = 1; END"],
                ["log", "UPDATE app.counts SET n = n + 1"],
                ["odd", "BEGIN IF NEW.v THEN DELETE FROM log; END IF; END"],
                ["calls", "BEGIN IF NEW.v THEN CALL p(); END IF; END"],
            ],
            &[],
        );
        let written = |name| map.beyond(&on(&[name]), &on(&[name]));
        assert_eq!(
            written("a"),
            (on(&["counts", "log"]), on(&["counts", "log"]))
        );
        assert_eq!(written("b"), (on(&["sums"]), on(&["sums"])));
        let reached = on(&["counts", "log"]);
        assert_eq!(written("odd"), (reached.clone(), reached));
        assert_eq!(written("calls"), (Scope::All, Scope::All));
        assert_eq!(map.beyond(&on(&["a"]), &on(&[])), (on(&[]), on(&[])));
    }

    #[test]
    fn a_foreign_key_locks_its_parent_and_a_cascade_writes_the_children() {
        let map = map(
            &[],
            &[],
            &[
                ["child", "parent", "CASCADE"],
                ["grandchild", "child", "SET NULL"],
                ["strict", "parent", "RESTRICT"],
            ],
        );
        let written = |name| map.beyond(&on(&[name]), &on(&[name]));
        assert_eq!(
            written("parent"),
            (
                on(&["child", "grandchild", "parent", "strict"]),
                on(&["child", "grandchild"])
            )
        );
        assert_eq!(written("strict"), (on(&["parent"]), on(&[])));
    }

    #[test]
    fn a_look_that_was_slow_or_failed_is_not_soon_repeated() {
        let seconds = Duration::from_secs;
        for (took, failures, wanted) in [
            (0, 0, 5),
            (10, 0, 500),
            (300, 0, 3_600),
            (0, 1, 60),
            (0, 3, 240),
            (0, 99, 3_600),
        ] {
            assert_eq!(rest(seconds(took), failures), seconds(wanted));
        }
    }

    #[test]
    fn a_table_with_many_children_reaches_those_and_no_others() {
        let names: Vec<String> = (0..500).map(|number| format!("c{number:03}")).collect();
        let keys: Vec<[&str; 3]> = names
            .iter()
            .map(|name| [name.as_str(), "parent", "CASCADE"])
            .collect();
        let map = map(&[], &[], &keys);
        let (_, writes) = map.beyond(&on(&["parent"]), &on(&["parent"]));
        let children: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(writes, on(&children));
    }

    #[test]
    fn what_the_account_may_not_see_may_be_any_table() {
        let map = map(&[["v", ""]], &[], &[]);
        assert_eq!(map.beyond(&on(&["v"]), &on(&[])).0, Scope::All);
        assert_eq!(map.beyond(&on(&["a"]), &on(&[])).0, on(&[]));
    }
}
