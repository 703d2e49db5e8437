//! A view of a server as it is at one moment: a transaction with a consistent snapshot, which only reads.
//!
//! A vtgate begins a shard's transaction when a statement reaches that shard, and only then is the shard's snapshot
//! taken: so one statement is sent to all shards of each keyspace (`USE ks[-]`), and each of them must have answered
//! it. What a view shows is taken only while the server says that its transaction is open: a vtgate goes on without
//! one where a tablet has ended it, and would show rows of another moment.

use super::{ReadError, Reader};
use crate::verify::statements::quoted;
use std::collections::BTreeMap;

/// Begins a view; the session only reads as it is.
const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";

/// A vtgate's sessions do not say that by themselves.
const BEGIN_VITESS: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// Going back to it lets go what a statement locked of its tables' definitions: an ALTER of the application's would
/// wait for the view's end, and everybody else behind it.
const SAVEPOINT: &str = "SAVEPOINT understudy";
const RELEASE: &str = "ROLLBACK TO SAVEPOINT understudy";

/// How a server says how its transactions see others'. MySQL 5.6 and MariaDB know the second.
const ISOLATION: [&str; 2] = ["SELECT @@transaction_isolation", "SELECT @@tx_isolation"];

/// The only one that keeps a snapshot without locking what it reads.
const REPEATABLE: &str = "REPEATABLE-READ";

/// What must be known of a server before a view of it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::verify) struct Sight {
    /// The keyspaces to be seen and how many shards each has; none of a server that is no vtgate.
    keyspaces: Vec<(String, usize)>,
    isolation: &'static str,
}

impl Reader {
    /// Makes it ready for views of these databases: all that can be done before anybody waits for it. One view is
    /// opened and closed, which warms what is cold.
    ///
    /// # Errors
    /// See [`ReadError`]; [`ReadError::NoView`] where the server has no such views.
    pub(in crate::verify) async fn prepare_views(
        &mut self,
        databases: &[&str],
    ) -> Result<Sight, ReadError> {
        if !self.is_vitess {
            self.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                .await?;
        }
        let mut sight = Sight::default();
        if self.is_vitess {
            // By default it takes several shards; where it does not, this says why.
            self.run("SET transaction_mode = 'multi'").await?;
            sight.keyspaces = self.keyspaces(databases).await?;
            if let Some((first, _)) = sight.keyspaces.first() {
                self.run(&whole(first)).await?;
            }
        }
        sight.isolation = self.level().await?;
        self.begin_view(&sight).await?;
        self.end_view(&sight).await?;
        Ok(sight)
    }

    /// Opens a view: what is committed now is seen, and nothing that comes later.
    ///
    /// # Errors
    /// As [`Reader::prepare_views`]; the connection is then no longer good.
    pub(in crate::verify) async fn begin_view(&mut self, sight: &Sight) -> Result<(), ReadError> {
        if self.is_vitess {
            // Where it streams, the answer to this still tells how things were before.
            self.run(BEGIN_VITESS).await?;
            self.viewing = true;
        } else {
            self.viewing = true;
            self.run(BEGIN).await?;
        }
        for (nth, (keyspace, shards)) in sight.keyspaces.iter().enumerate() {
            // It stands at the first one already.
            if nth > 0 {
                self.run(&whole(keyspace)).await?;
            }
            let levels = self.all(sight.isolation).await?;
            if levels.len() != *shards {
                return Err(self.no_view(format!(
                    "{} of the {shards} shards of {keyspace} answered",
                    levels.len()
                )));
            }
            self.must_be_repeatable(&levels)?;
        }
        Ok(())
    }

    /// Once nobody waits for it any more: what is asked from here on goes where it belongs, and can be let go.
    ///
    /// # Errors
    /// As [`Reader::begin_view`].
    pub(in crate::verify) async fn stand_in_view(
        &mut self,
        sight: &Sight,
    ) -> Result<(), ReadError> {
        if let Some((first, _)) = sight.keyspaces.first() {
            self.run(&format!("USE {}", quoted(first))).await?;
        }
        self.run(SAVEPOINT).await
    }

    /// Lets go of the definitions that were locked; the view stays.
    ///
    /// # Errors
    /// As [`Reader::begin_view`].
    pub(in crate::verify) async fn release(&mut self) -> Result<(), ReadError> {
        self.run(RELEASE).await
    }

    /// Ends a view; the connection is ready for another one.
    ///
    /// # Errors
    /// As [`Reader::begin_view`].
    pub(in crate::verify) async fn end_view(&mut self, sight: &Sight) -> Result<(), ReadError> {
        self.viewing = false;
        self.run("ROLLBACK").await?;
        if let Some((first, _)) = sight.keyspaces.first() {
            self.run(&whole(first)).await?;
        }
        Ok(())
    }

    /// By which of the questions it says how its transactions see others': as they must.
    async fn level(&mut self) -> Result<&'static str, ReadError> {
        let [first, other] = ISOLATION;
        let (ask, levels) = match self.all(first).await {
            Ok(levels) => (first, levels),
            Err(ReadError::Refused { .. }) => (other, self.all(other).await?),
            Err(fault) => return Err(fault),
        };
        self.must_be_repeatable(&levels)?;
        Ok(ask)
    }

    /// Whether a view shows this database.
    ///
    /// # Errors
    /// [`ReadError::NoView`]: it was not opened there.
    pub(in crate::verify) fn must_show(
        &self,
        sight: &Sight,
        database: &str,
    ) -> Result<(), ReadError> {
        if !self.is_vitess || sight.keyspaces.iter().any(|(name, _)| name == database) {
            return Ok(());
        }
        Err(self.no_view(format!("{database} is no keyspace of it")))
    }

    /// How many shards each of these keyspaces has; what it has not is left out, and may not be read
    /// ([`Reader::must_show`]).
    async fn keyspaces(&mut self, databases: &[&str]) -> Result<Vec<(String, usize)>, ReadError> {
        let rows = self.all("SHOW VITESS_SHARDS").await?;
        Ok(shards_of(&rows, databases))
    }

    fn must_be_repeatable(&self, levels: &[Vec<Option<String>>]) -> Result<(), ReadError> {
        let cells = levels.iter().flatten().flatten();
        let mut other = cells.filter(|level| !level.eq_ignore_ascii_case(REPEATABLE));
        match other.next() {
            None if !levels.is_empty() => Ok(()),
            None => {
                Err(self.no_view("it does not say how its transactions see others'".to_owned()))
            }
            Some(level) => Err(self.no_view(format!(
                "its transactions are {level}, and only {REPEATABLE} keeps a snapshot"
            ))),
        }
    }

    fn no_view(&self, why: String) -> ReadError {
        ReadError::NoView(self.name.clone(), why)
    }
}

/// All shards of a keyspace, past the planner.
fn whole(keyspace: &str) -> String {
    format!("USE {}", quoted(&format!("{keyspace}[-]")))
}

/// By SHOW VITESS_SHARDS: how many there are of each of these that is a keyspace.
fn shards_of(rows: &[Vec<Option<String>>], databases: &[&str]) -> Vec<(String, usize)> {
    let mut shards: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        let name = row.first().and_then(Option::as_deref).unwrap_or_default();
        if let Some((keyspace, _)) = name.split_once('/') {
            *shards.entry(keyspace).or_default() += 1;
        }
    }
    let of = |database: &&str| Some(((*database).to_owned(), *shards.get(*database)?));
    databases.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_keyspace_keeps_nobody_from_the_others() {
        let rows = ["app/-80", "app/80-", "other/0"].map(|name| vec![Some(name.to_owned())]);
        let known = shards_of(&rows, &["app", "old_reports"]);
        assert_eq!(known, [("app".to_owned(), 2)]);
    }
}
