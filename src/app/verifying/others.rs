//! Who is seen to write to the primary past this proxy: another proxy, or an application by itself. As far as the
//! primary's list of threads tells, for a moment: who writes at another time is not seen.

use super::Surroundings;
use crate::ask::{AskError, Asker, Manner, Row};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// For all looks beside the time that was asked for.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Others that are named.
const NAMED_MAX: usize = 10;

/// First words of statements that write.
const WRITES: [&str; 6] = ["insert", "update", "delete", "replace", "load", "call"];

const THREADS: &str =
    "SELECT id, user, host, LEFT(COALESCE(info, ''), 20) FROM information_schema.processlist";
const WRITERS: &str =
    "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_rows_modified > 0";

impl Surroundings {
    /// See [`crate::verify::Around::others`].
    pub(super) async fn other_writers(&self, time: Duration) -> Result<Vec<String>, String> {
        let looking = tokio::time::timeout(time + ASK_MAX, self.look_for(time)).await;
        looking
            .unwrap_or(Err(AskError::Timeout))
            .map_err(|fault| fault.to_string())
    }

    async fn look_for(&self, time: Duration) -> Result<Vec<String>, AskError> {
        let server = self.roles.borrow().primary.clone();
        let Some(account) = server.account.as_ref() else {
            return Ok(Vec::new());
        };
        let manner = Manner::default();
        let mut asker = Asker::open(&*self.dial, &server, account, &manner).await?;
        let (began, mut seen) = (Instant::now(), BTreeSet::new());
        loop {
            // Those that write are asked for first: whoever has ended by then is not named.
            let writers = asker.ask(WRITERS).await?;
            let threads = asker.ask(THREADS).await?;
            // Who logged in meanwhile is known by now.
            let ours = self.house.threads();
            seen.extend(others(&threads, &writers, &ours, &account.user));
            if began.elapsed() >= time || seen.len() >= NAMED_MAX {
                asker.leave().await;
                return Ok(seen.into_iter().collect());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Those of these threads that write, and are neither sessions of this proxy's nor its own.
fn others(
    threads: &[Row],
    writers: &[Row],
    ours: &BTreeSet<u32>,
    account: &str,
) -> BTreeSet<String> {
    let number = |row: &Row| row.first()?.as_deref()?.parse::<u32>().ok();
    let writers: BTreeSet<u32> = writers.iter().filter_map(number).collect();
    let others = threads.iter().filter_map(|row| {
        let cell = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
        let (id, user, host) = (number(row)?, cell(1), cell(2));
        let word = cell(3).trim_start().split([' ', '\t', '\n']).next()?;
        let writes =
            writers.contains(&id) || WRITES.iter().any(|one| one.eq_ignore_ascii_case(word));
        let is_other = !ours.contains(&id) && user != account && user != "system user";
        let host = host.split(':').next().unwrap_or(host);
        (writes && is_other).then(|| format!("{user} at {host}"))
    });
    others.take(NAMED_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_and_is_no_session_of_ours_is_another() {
        let row =
            |cells: [&str; 4]| -> Row { cells.iter().map(|one| Some((*one).to_owned())).collect() };
        let threads = [
            row(["1", "shop", "10.0.0.1:50", "UPDATE t SET a = 1"]),
            row(["2", "shop", "10.0.0.2:51", "update t set a = 1"]),
            row(["3", "shop", "10.0.0.3:52", "SELECT 1"]),
            // Between two statements of a transaction.
            row(["4", "cron", "10.0.0.4:53", ""]),
            row(["5", "understudy", "10.0.0.1:54", "INSERT INTO beat"]),
            row(["6", "system user", "", "INSERT"]),
        ];
        let writers = [vec![Some("4".to_owned())], vec![Some("1".to_owned())]];
        let seen = others(&threads, &writers, &BTreeSet::from([1]), "understudy");
        let seen: Vec<String> = seen.into_iter().collect();
        assert_eq!(seen, ["cron at 10.0.0.4", "shop at 10.0.0.2"]);
    }
}
