//! Rows on a shard where they do not belong: a vtgate is asked for one shard by its name.
//!
//! Where a row belongs the vtgate itself says, for the key alone. It refuses where that is not one shard, and where
//! the keyspace's shards are not all of it once: while it is resharded a row is rightly on two.

use super::super::rows::Key;
use super::super::statements::Place;
use super::hand::{SESSION, told};
use crate::ask::{AskError, Asker, Manner, Row};
use crate::config::Server;
use crate::connect::Dial;
use std::sync::Arc;
use std::time::Duration;

/// To open it, and to find one row.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// Who looks for them. It reads.
pub(super) struct Seeker {
    asker: Asker,
    /// The keyspace's shards: `80-` and the like.
    shards: Vec<String>,
    tells: bool,
}

impl Seeker {
    /// Opens a connection, and learns of the shards. What the server refuses is told without values, unless `tells`.
    ///
    /// # Errors
    /// It cannot, and why.
    pub(super) async fn open(
        dial: &Arc<dyn Dial>,
        server: &Server,
        keyspace: &str,
        tells: bool,
    ) -> Result<Self, String> {
        let account = server.account.as_ref();
        let account =
            account.ok_or_else(|| format!("{} has no account of the proxy's own", server.name))?;
        let opened = async {
            let mut asker = Asker::open(&**dial, server, account, &Manner::default()).await?;
            for statement in SESSION {
                asker.ask(statement).await?;
            }
            let rows = asker.ask("SHOW VITESS_SHARDS").await?;
            Ok::<_, AskError>((asker, rows))
        };
        let opened = tokio::time::timeout(OPEN_MAX, opened).await;
        let (asker, rows) = opened
            .map_err(|_| format!("{}: it did not open in time", server.name))?
            .map_err(|fault| format!("{}: {fault}", server.name))?;
        let shards = shards(&rows, keyspace);
        if is_whole(&shards) {
            Ok(Self {
                asker,
                shards,
                tells,
            })
        } else {
            Err(format!(
                "the shards of {keyspace} are {}, which is not all of it once: is it being resharded?",
                shards.join(", ")
            ))
        }
    }

    /// The shards that have this row and should not.
    ///
    /// # Errors
    /// Nobody can say, and why; then this is not used again.
    pub(super) async fn strays(
        &mut self,
        place: &Place<'_>,
        key: &Key,
    ) -> Result<Vec<String>, String> {
        let tells = self.tells;
        let failed = |fault: AskError| told(&fault, tells);
        self.aim(place.database).await?;
        let routed = self.asker.ask(&place.route(key)).await.map_err(failed)?;
        let home = home(&routed).ok_or("its key does not say on which shard it belongs")?;
        let mut strays = Vec::new();
        for shard in self.shards.clone() {
            if shard == home {
                continue;
            }
            self.aim(&aimed(place.database, &shard)).await?;
            let found = self.asker.ask(&place.is_here(key)).await.map_err(failed)?;
            if !found.is_empty() {
                strays.push(shard);
            }
        }
        Ok(strays)
    }

    async fn aim(&mut self, target: &str) -> Result<(), String> {
        let aim = format!("USE {}", super::super::statements::quoted(target));
        let aimed = self.asker.ask(&aim).await;
        aimed.map(drop).map_err(|fault| told(&fault, self.tells))
    }
}

/// A shard, as a session's database.
pub(super) fn aimed(keyspace: &str, shard: &str) -> String {
    format!("{keyspace}:{shard}")
}

fn cell(row: &Row, at: usize) -> Option<&str> {
    row.get(at)?.as_deref()
}

/// The shards of a keyspace.
fn shards(rows: &[Row], keyspace: &str) -> Vec<String> {
    let names = rows.iter().filter_map(|row| cell(row, 0)?.split_once('/'));
    let of = names.filter(|(of, _)| *of == keyspace);
    of.map(|(_, shard)| shard.to_owned()).collect()
}

/// The one shard that a query went to, as a vtgate tells it (`#`, keyspace, shard, query).
fn home(rows: &[Row]) -> Option<&str> {
    let first = cell(rows.first()?, 2)?;
    let is_one = rows.iter().all(|row| cell(row, 2) == Some(first));
    is_one.then_some(first)
}

/// Whether these ranges are everything, and nothing twice.
fn is_whole(shards: &[String]) -> bool {
    let mut ranges: Vec<(&str, &str)> = shards
        .iter()
        .filter_map(|shard| shard.split_once('-'))
        .collect();
    ranges.sort_unstable();
    let mut end = Some("");
    for (from, to) in &ranges {
        if end != Some(*from) {
            return false;
        }
        // Behind the last one there is nothing.
        end = (!to.is_empty()).then_some(*to);
    }
    ranges.len() == shards.len() && !ranges.is_empty() && end.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Row {
        cells.iter().map(|cell| Some((*cell).to_owned())).collect()
    }

    #[test]
    fn shards_that_are_not_all_of_a_keyspace_once_are_left_alone() {
        for (names, whole) in [
            (&["-80", "80-"][..], true),
            (&["80-", "-80"], true),
            (&["-40", "40-80", "80-c0", "c0-"], true),
            (&["-"], true),
            (&["-80", "-40", "40-80", "80-"], false),
            (&["-80"], false),
            (&["-40", "80-"], false),
            (&["0"], false),
            (&[], false),
        ] {
            let names: Vec<String> = names.iter().map(|one| (*one).to_owned()).collect();
            assert_eq!(is_whole(&names), whole, "{names:?}");
        }
    }

    #[test]
    fn a_row_belongs_where_its_key_alone_leads_to() {
        let one = [row(&["0", "app", "80-", "select"])];
        assert_eq!(home(&one), Some("80-"));
        let scattered = [
            row(&["0", "app", "80-", "select"]),
            row(&["0", "app", "-80", "select"]),
        ];
        assert_eq!(home(&scattered), None);
        assert_eq!(home(&[]), None);
        let all = [row(&["app/-80"]), row(&["other/0"]), row(&["app/80-"])];
        assert_eq!(shards(&all, "app"), ["-80", "80-"]);
    }
}
