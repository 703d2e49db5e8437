//! What is known of a table before its rows are read: both definitions, where they differ, and how the rows are to
//! be compared. Asked again at its end: what was read by one definition says nothing of another.

use super::catalog::{self, Led};
use super::plan::{Plan, Way, plan};
use super::prepare::on_shadow;
use super::reader::{ReadError, Reader};
use super::shape::{Difference, Index, Shape, Sides, Weight, compare};
use super::table::TableRun;
use super::value;
use crate::config::Server;
use crate::sql::Table;

/// What is known of a table before its rows are read.
pub(super) struct Known {
    pub(super) plan: Option<Plan>,
    pub(super) sharded: bool,
    pub(super) routed: bool,
    pub(super) indexed: bool,
    /// The digest of the two servers and both definitions.
    pub(super) of: String,
    /// The primary's engine.
    pub(super) engine: Option<String>,
    /// The shadow's, where it matters: in snapshot mode.
    pub(super) engine_there: Option<String>,
    /// Where the shadow reads it.
    pub(super) led_to: Led,
}

impl Known {
    /// Of a table of which no rows are to be compared.
    const fn nothing() -> Self {
        Self {
            plan: None,
            sharded: false,
            routed: false,
            indexed: true,
            of: String::new(),
            engine: None,
            engine_there: None,
            led_to: Led::Here,
        }
    }
}

impl TableRun<'_> {
    /// Both definitions, and how the rows are to be compared.
    pub(super) async fn definition(&self, table: &Table) -> Result<Known, ReadError> {
        let database = table.database.as_deref().unwrap_or_default();
        let there = on_shadow(self.parts, database);
        let mut primary = self.doors.primary.open().await?;
        let mut shadow = self.doors.shadow.open().await?;
        let mine = catalog::shape(&mut primary, database, &table.name).await?;
        let theirs = catalog::shape(&mut shadow, there, &table.name).await?;
        let of = self.digest((&primary, &shadow), (mine.as_ref(), theirs.as_ref()));
        let Some((mine, theirs)) = self.both(mine, theirs) else {
            return Ok(Known::nothing());
        };
        let (sequence, note) = self
            .sequence(&mut primary, &mut shadow, table, &mine, &theirs)
            .await?;
        let sides = Sides {
            primary: &self.run.servers.0,
            shadow: &self.run.servers.1,
            sequence,
        };
        let mut differences = compare(&mine, &theirs, sides);
        differences.extend(note);
        self.set(|one| one.schema = differences);
        let plan = plan(&mine, &theirs);
        let Some(planned) = &plan else {
            self.set(|one| {
                one.not_covered = vec!["its rows: both sides have no column in common".to_owned()]
            });
            return Ok(Known::nothing());
        };
        let sharded = self.sharded.contains(there);
        let by = if sharded {
            catalog::spread_by(&mut shadow, there, &table.name).await?
        } else {
            Vec::new()
        };
        let (spread, way) = (spread(planned, &by), planned.way);
        let indexed = is_indexed(planned, &theirs);
        let (engine, engine_there) = self
            .engines(&mut primary, &mut shadow, (database, there), &table.name)
            .await?;
        if way != Way::Buckets {
            self.tell_locks(table, engine.as_deref());
        }
        let led_to = self.led_to(&mut shadow, there, table).await?;
        Ok(Known {
            sharded,
            routed: spread.is_some(),
            indexed,
            engine,
            engine_there,
            led_to,
            of,
            plan: plan.map(|plan| Plan { spread, ..plan }),
        })
    }

    /// Both definitions; where one side has none, that is told.
    fn both(&self, mine: Option<Shape>, theirs: Option<Shape>) -> Option<(Shape, Shape)> {
        match (mine, theirs) {
            (Some(mine), Some(theirs)) => return Some((mine, theirs)),
            (None, _) => {
                let gone = format!("the table is not there any more on {}", self.run.servers.0);
                self.set(|one| one.not_covered = vec![gone]);
            }
            (Some(_), None) => {
                let differs = Difference {
                    weight: Weight::Differs,
                    what: "table".to_owned(),
                    said: format!("the table is missing on {}", self.run.servers.1),
                };
                self.set(|one| {
                    one.schema = vec![differs];
                    one.not_covered = vec!["its rows".to_owned()];
                });
            }
        }
        None
    }

    /// What a cursor, and an answer, is bound to: which servers these are, and both definitions.
    fn digest(
        &self,
        (primary, shadow): (&Reader, &Reader),
        shapes: (Option<&Shape>, Option<&Shape>),
    ) -> String {
        let roles = &self.parts.roles;
        let at = |server: &Server| format!("{} {}:{}", server.name, server.host, server.port);
        let servers = [at(&roles.primary), at(&roles.shadow)];
        let identities = (primary.identity(), shadow.identity());
        let all = format!("{servers:?} {identities:?} {shapes:?}");
        format!("{:032x}", value::digest(all.as_bytes()))
    }

    /// The same, as both sides are now.
    pub(super) async fn digest_now(&self, table: &Table) -> Result<String, ReadError> {
        let database = table.database.as_deref().unwrap_or_default();
        let there = on_shadow(self.parts, database);
        let mut primary = self.doors.primary.open().await?;
        let mine = catalog::shape(&mut primary, database, &table.name).await?;
        let mut shadow = self.doors.shadow.open().await?;
        let theirs = catalog::shape(&mut shadow, there, &table.name).await?;
        Ok(self.digest((&primary, &shadow), (mine.as_ref(), theirs.as_ref())))
    }

    /// The engines on both sides; the shadow's where it matters.
    async fn engines(
        &self,
        primary: &mut Reader,
        shadow: &mut Reader,
        (here, there): (&str, &str),
        table: &str,
    ) -> Result<(Option<String>, Option<String>), ReadError> {
        let (mine, _) = catalog::status(primary, here, table).await?;
        let theirs = match self.instants {
            Some(_) => catalog::status(shadow, there, table).await?.0,
            None => None,
        };
        Ok((mine, theirs))
    }

    /// Where the shadow reads it; a routing rule that sends it elsewhere is told.
    async fn led_to(
        &self,
        shadow: &mut Reader,
        there: &str,
        table: &Table,
    ) -> Result<Led, ReadError> {
        let led_to = catalog::led_to(shadow, there, &table.name).await?;
        if let Led::To(keyspace) = &led_to {
            self.run.note(format!(
                "{there}.{} is read in the keyspace {keyspace} on {}: a routing rule of Vitess sends it there",
                table.name, self.run.servers.1
            ));
        }
        Ok(led_to)
    }

    /// Others than InnoDB lock a table while it is read.
    fn tell_locks(&self, table: &Table, engine: Option<&str>) {
        let Some(engine) = engine.filter(|one| !one.eq_ignore_ascii_case("InnoDB")) else {
            return;
        };
        self.run.note(format!(
            "{}.{} is of {engine} on {}: while a range of it is read, nobody writes to it",
            table.database.as_deref().unwrap_or_default(),
            table.name,
            self.run.servers.0
        ));
    }

    /// Whether a sequence fills the table's counted column on the shadow, and what is to be said of it.
    async fn sequence(
        &self,
        primary: &mut Reader,
        shadow: &mut Reader,
        table: &Table,
        mine: &Shape,
        theirs: &Shape,
    ) -> Result<(bool, Option<Difference>), ReadError> {
        let Some(counted) = mine.columns.iter().find(|column| column.is_counted()) else {
            return Ok((false, None));
        };
        let there = on_shadow(self.parts, table.database.as_deref().unwrap_or_default());
        let name = catalog::sequence_of(shadow, there, &table.name, theirs, &counted.name).await?;
        let Some(name) = name else {
            return Ok((false, None));
        };
        let next = catalog::sequence_next(shadow, &name).await?;
        let greatest = catalog::greatest(primary, table, &counted.name)
            .await?
            .unwrap_or(0);
        let note = next.filter(|next| *next <= greatest).map(|next| Difference {
            weight: Weight::Note,
            what: "sequence".to_owned(),
            said: format!(
                "the sequence {name} of {} stands at {next}, and {} has keys up to {greatest}: the mirror writes keys without drawing them, and a cutover takes the sequence past them",
                self.run.servers.1, self.run.servers.0
            ),
        });
        Ok((true, note))
    }
}

/// Whether an index of the shadow's begins with the key's first column; so it is where there is no key.
fn is_indexed(plan: &Plan, theirs: &Shape) -> bool {
    let first = plan.key.first().and_then(|at| plan.columns.get(*at));
    let Some(first) = first else { return true };
    let leads = |index: &Index| {
        let column = index.columns.first();
        column.is_some_and(|(name, _)| first.on_shadow.eq_ignore_ascii_case(name))
    };
    theirs.indexes.iter().any(leads)
}

/// The key's column by which the rows are spread over shards. Of several columns a vtgate takes each list apart by the
/// first one alone: then nobody can say.
fn spread(plan: &Plan, by: &[String]) -> Option<usize> {
    let [by] = by else { return None };
    let is_it = |at: &usize| {
        let column = plan.columns.get(*at);
        column.is_some_and(|column| column.on_shadow.eq_ignore_ascii_case(by))
    };
    plan.key.iter().copied().find(is_it)
}
