//! Before a run: which tables there are, what an earlier process left of them, and what cannot be seen.

use super::board::{Found, Outcome, Stage, Standing};
use super::catalog;
use super::cursor::Cursor;
use super::reader::{ReadError, Reader};
use super::rights;
use super::run::{Parts, Run, said};
use super::table::Doors;
use crate::ledger::{Listed, TableLeft};
use crate::sql::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

/// Names in one note at most.
const TOLD: usize = 10;

impl Run {
    /// Finds the tables, and what was left of them.
    pub(super) async fn prepare(
        &self,
        parts: &Parts,
        doors: &Doors,
        left: &[TableLeft],
    ) -> Result<(BTreeSet<String>, Vec<Option<TableLeft>>), ReadError> {
        let mut primary = doors.primary.open().await?;
        let mut shadow = doors.shadow.open().await?;
        let sharded = catalog::sharded(&mut shadow).await?;
        let mut all = self.listed(&mut primary).await?;
        let cut = all.len() >= catalog::TABLES_MAX;
        let cut = cut.then(|| "not all tables were listed".to_owned());
        let mut unseen: Vec<String> = cut.into_iter().collect();
        all.retain(|table| !has(&parts.left_out, table));
        let about = estimates(&mut primary, &all).await?;
        let listed: Vec<Listed> = all
            .iter()
            .map(|table| Listed {
                database: table.database.clone().unwrap_or_default(),
                name: table.name.clone(),
                asked: self.meant.takes(table),
                rows_about: about_of(&about, table),
            })
            .collect();
        said(parts.records.tables(self.id, &listed));
        let asked: Vec<Table> = all
            .iter()
            .filter(|table| self.meant.takes(table))
            .cloned()
            .collect();
        let there = self.extra_tables(parts, &mut shadow, &all).await?;
        self.unseen(parts, &mut primary, &all, &there, &mut unseen)
            .await?;
        let identities = (primary.identity(), shadow.identity());
        let gone: Vec<(String, String)> = mirrored(parts)
            .into_iter()
            .filter(|table| table.name != "*" && !has(&all, table) && !has(&there, table))
            .filter_map(|table| Some((table.database?, table.name)))
            .collect();
        let seen = parts
            .records
            .sees(self.id, &format!("{identities:?}"), &unseen, &gone);
        // Where others are there now, what was read of those before says nothing.
        let left = match seen {
            Ok(true) => left,
            Ok(false) => &[],
            Err(fault) => {
                said(Err(fault));
                left
            }
        };
        if asked.is_empty() {
            self.note("no table of the primary's is asked for".to_owned());
        }
        Ok((sharded, self.put(parts, &asked, &about, left)))
    }

    /// The primary's tables, as far as they are looked at.
    async fn listed(&self, primary: &mut Reader) -> Result<Vec<Table>, ReadError> {
        let mut all = Vec::new();
        for database in catalog::databases(primary).await? {
            let listed = catalog::tables(primary, &database).await?;
            self.left_out(&database, &listed.others);
            for name in listed.tables {
                all.push(Table {
                    database: Some(database.clone()),
                    name,
                });
            }
            if all.len() > catalog::TABLES_MAX {
                let most = catalog::TABLES_MAX;
                self.lower(
                    Outcome::Unfinished,
                    format!("only the first {most} tables are looked at"),
                );
                all.truncate(catalog::TABLES_MAX);
                break;
            }
        }
        Ok(all)
    }

    /// Puts the tables that are asked for on the board, each as an earlier process left it; what that left of each.
    fn put(
        &self,
        parts: &Parts,
        asked: &[Table],
        about: &About,
        left: &[TableLeft],
    ) -> Vec<Option<TableLeft>> {
        let mut had = 0_u64;
        let mut lefts = Vec::with_capacity(asked.len());
        for (at, table) in asked.iter().enumerate() {
            let mut standing = Standing::waiting(table);
            standing.rows_expected = about_of(about, table);
            let is_it = |one: &&TableLeft| {
                one.name == table.name && Some(&one.database) == table.database.as_ref()
            };
            let left = left.iter().find(is_it).cloned();
            if let Some(left) = &left {
                self.restore(parts, left, &mut standing);
            }
            had += standing.rows_primary;
            self.board.put(at, standing);
            lefts.push(left);
        }
        let had = usize::try_from(had).unwrap_or(usize::MAX);
        self.had.store(had, Ordering::Relaxed);
        lefts
    }

    /// What is not compared is told: views, and what Vitess keeps for itself.
    fn left_out(&self, database: &str, others: &[String]) {
        let is_asked = |name: &&String| {
            self.meant.takes(&Table {
                database: Some(database.to_owned()),
                name: (*name).clone(),
            })
        };
        let others: Vec<&String> = others.iter().filter(is_asked).collect();
        if others.is_empty() {
            return;
        }
        let some = others.iter().take(TOLD).map(|name| name.as_str());
        let some: Vec<&str> = some.collect();
        let more = match others.len().saturating_sub(TOLD) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        self.note(format!(
            "views, and what Vitess keeps for itself, are not compared: of {database}, {}{more}",
            some.join(", ")
        ));
    }

    /// What an earlier process knew of a table.
    fn restore(&self, parts: &Parts, left: &TableLeft, standing: &mut Standing) {
        let rows = parts.records.rows(self.id, (&left.database, &left.name));
        let rows = rows.unwrap_or_default();
        let rows = rows.iter();
        let rows = rows.filter_map(|item| serde_json::from_str::<Found>(item).ok());
        // What was kept while literals were is not told where they are not any more.
        let told = |row: Found| {
            if parts.tells_keys {
                row
            } else {
                row.redacted()
            }
        };
        standing.rows = rows.map(told).collect();
        standing.started = left
            .started
            .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
        if let Some(outcome) = left.outcome.as_deref().and_then(Outcome::named) {
            if let Some(kept) = left
                .standing
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok())
            {
                standing.recall(&kept);
            }
            standing.outcome = Some(outcome);
            standing.stage = Stage::Done;
        } else if let Some(cursor) = cursor_of(left) {
            standing.rows_primary = cursor.rows_primary;
            standing.rows_shadow = cursor.rows_shadow;
            standing.differences = cursor.differences;
        }
    }

    /// Tables that the shadow alone has are told: nothing says that they are wrong. All that it has, by the primary's
    /// names, of the primary's databases and of those that the mirror wrote to.
    async fn extra_tables(
        &self,
        parts: &Parts,
        shadow: &mut Reader,
        known: &[Table],
    ) -> Result<Vec<Table>, ReadError> {
        let mirrored = mirrored(parts);
        let databases = known.iter().chain(&mirrored);
        let databases = databases.filter_map(|table| table.database.as_ref());
        let databases: BTreeSet<&String> = databases.collect();
        let mut all = Vec::new();
        for database in databases {
            let there = on_shadow(parts, database);
            for name in catalog::tables(shadow, there).await?.tables {
                let table = Table {
                    database: Some(database.clone()),
                    name,
                };
                if !has(known, &table) && self.meant.takes(&table) {
                    self.note(format!(
                        "{there}.{} is on {} alone, as far as {} shows, and was not compared",
                        table.name, self.servers.1, self.servers.0
                    ));
                }
                all.push(table);
            }
        }
        Ok(all)
    }

    /// What the account may not see on the primary is not equal: tables that the mirror wrote, that the shadow has
    /// and the primary does not show; and databases that nobody granted.
    async fn unseen(
        &self,
        parts: &Parts,
        primary: &mut Reader,
        known: &[Table],
        there: &[Table],
        unseen: &mut Vec<String>,
    ) -> Result<(), ReadError> {
        for table in mirrored(parts) {
            if table.name == "*" || !has(there, &table) || has(known, &table) {
                continue;
            }
            let why = format!(
                "{}.{} was mirrored and is on {}, and {} does not show it: it was dropped there, or the proxy's account may not see it",
                table.database.as_deref().unwrap_or_default(),
                table.name,
                self.servers.1,
                self.servers.0
            );
            unseen.push(why.clone());
            if self.meant.takes(&table) {
                self.lower(Outcome::Unfinished, why);
            }
        }
        for name in self.meant.unmet(known) {
            self.lower(
                Outcome::Unfinished,
                format!(
                    "{name} is not there on {}, or the proxy's account may not see it",
                    self.servers.0
                ),
            );
        }
        let wide = self.meant.databases();
        let grants = match primary.all("SHOW GRANTS").await {
            Ok(rows) => rows,
            // A vtgate has none to show.
            Err(ReadError::Refused { .. }) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let grants: Vec<String> = grants.into_iter().flatten().flatten().collect();
        for (outcome, why) in rights::unseen(&grants, &wide) {
            self.lower(outcome, format!("{}: {why}", self.servers.0));
        }
        // Whatever this run is asked for: of which tables there are nobody else tells.
        let of_all = rights::unseen(&grants, &["*"]).into_iter();
        unseen.extend(of_all.map(|(_, why)| format!("{}: {why}", self.servers.0)));
        unseen.truncate(UNSEEN_MAX);
        Ok(())
    }
}

/// Of what a run does not see, kept with it.
const UNSEEN_MAX: usize = 20;

/// About how many rows the tables of each database have.
type About = BTreeMap<String, BTreeMap<String, u64>>;

async fn estimates(primary: &mut Reader, all: &[Table]) -> Result<About, ReadError> {
    let databases: BTreeSet<&str> = all
        .iter()
        .filter_map(|one| one.database.as_deref())
        .collect();
    let mut about = About::new();
    for database in databases {
        about.insert(
            database.to_owned(),
            catalog::estimates(primary, database).await?,
        );
    }
    Ok(about)
}

fn about_of(about: &About, table: &Table) -> Option<u64> {
    let database = table.database.as_deref().unwrap_or_default();
    about.get(database)?.get(&table.name).copied()
}

/// The tables that the mirror ever wrote.
fn mirrored(parts: &Parts) -> Vec<Table> {
    let known = parts.records.mirrored();
    let known = known.inspect_err(|fault| tracing::warn!(%fault, "what was mirrored is not known"));
    let known = known.unwrap_or_default().into_iter();
    known
        .map(|(database, name)| Table { database, name })
        .collect()
}

/// Servers differ in whether the case of a name counts.
fn has(tables: &[Table], one: &Table) -> bool {
    let database = one.database.as_deref().unwrap_or_default();
    tables.iter().any(|table| {
        table.name.eq_ignore_ascii_case(&one.name)
            && table
                .database
                .as_deref()
                .unwrap_or_default()
                .eq_ignore_ascii_case(database)
    })
}

/// A database's name on the shadow.
pub(super) fn on_shadow<'a>(parts: &'a Parts, database: &'a str) -> &'a str {
    let mapped = parts.roles.shadow.databases.get(database);
    mapped.map_or(database, String::as_str)
}

/// How far an earlier process had come with a table.
pub(super) fn cursor_of(left: &TableLeft) -> Option<Cursor> {
    serde_json::from_str(left.cursor.as_deref()?).ok()
}
