//! Who else is on the primary: clients that go past the proxy, and definitions that are being
//! changed. From its list of threads, read with the proxy's own account.

use crate::ask::{AskError, Questions, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Threads of the server's own.
const SERVERS_OWN: [&str; 3] = ["system user", "event_scheduler", "unauthenticated user"];

/// Commands of a replica, which reads the binary log and writes nothing.
const REPLICAS: [&str; 3] = ["Binlog Dump", "Binlog Dump GTID", "Register Slave"];

/// First words of statements that change definitions.
const CHANGES: [&str; 6] = ["alter", "create", "drop", "rename", "truncate", "optimize"];

/// Others that are named at most.
const NAMED_MAX: usize = 20;

/// Who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Crowd {
    /// Clients past the proxy, as `user at host, for so long: what they do`.
    pub(super) past: Vec<String>,
    /// Statements that change definitions, running now.
    pub(super) ddl: Vec<String>,
}

/// One thread.
#[derive(Clone, Copy, Debug)]
struct Thread<'a> {
    id: u32,
    user: &'a str,
    host: &'a str,
    command: &'a str,
    seconds: &'a str,
    statement: &'a str,
}

/// The primary's list of threads.
pub(super) struct Threads(Vec<Row>);

impl Threads {
    /// The one that came last.
    pub(super) fn newest(&self) -> Option<u32> {
        let ids = self.0.iter().filter_map(|row| row.first()?.as_deref());
        ids.filter_map(|id| id.parse().ok()).max()
    }

    /// `ours` are the thread ids of the sessions that the proxies serve, `account` is their own user. Who
    /// came after `newest` may be anybody's.
    pub(super) fn sort(&self, ours: &BTreeSet<u32>, account: &str, newest: Option<u32>) -> Crowd {
        let threads = self.0.iter().filter_map(|row| {
            let cell = |at: usize| row.get(at).and_then(Option::as_deref);
            Some(Thread {
                id: cell(0)?.parse().ok()?,
                user: cell(1)?,
                host: cell(2).unwrap_or_default(),
                command: cell(3).unwrap_or_default(),
                seconds: cell(4).unwrap_or_default(),
                statement: cell(5).unwrap_or_default(),
            })
        });
        sort(threads, ours, account, newest)
    }
}

/// Looks at the primary.
///
/// # Errors
/// The primary does not say: the account lacks PROCESS, or it is no MySQL.
pub(super) async fn look(primary: &Questions) -> Result<Threads, AskError> {
    let asked = "SELECT id, user, host, command, time, LEFT(COALESCE(info, ''), 60) FROM information_schema.processlist";
    primary.ask(asked).await.map(Threads)
}

/// How long each thread's transaction has been open; of no others than InnoDB's.
///
/// # Errors
/// The primary does not say.
pub(super) async fn transactions(primary: &Questions) -> Result<BTreeMap<u32, Duration>, AskError> {
    let asked = "SELECT trx_mysql_thread_id, TIMESTAMPDIFF(MICROSECOND, trx_started, NOW()) FROM information_schema.innodb_trx";
    let rows = primary.ask(asked).await?;
    let one = |row: &Vec<Option<String>>| {
        let number = |at: usize| row.get(at).and_then(Option::as_deref)?.parse::<i64>().ok();
        let (thread, age) = (number(0)?, number(1)?);
        let age = Duration::from_micros(u64::try_from(age).unwrap_or_default());
        Some((u32::try_from(thread).ok()?, age))
    };
    Ok(rows.iter().filter_map(one).collect())
}

fn sort<'a>(
    threads: impl Iterator<Item = Thread<'a>>,
    ours: &BTreeSet<u32>,
    account: &str,
    newest: Option<u32>,
) -> Crowd {
    let mut crowd = Crowd::default();
    for thread in threads {
        let word = thread
            .statement
            .split_whitespace()
            .next()
            .unwrap_or_default();
        if CHANGES.contains(&word.to_ascii_lowercase().as_str()) && crowd.ddl.len() < NAMED_MAX {
            // Its first word alone: the rest may hold what nobody shall read here.
            crowd.ddl.push(format!(
                "{} of {} (thread {}, for {} s)",
                word.to_ascii_uppercase(),
                thread.user,
                thread.id,
                thread.seconds
            ));
        }
        let is_known = ours.contains(&thread.id)
            || newest.is_some_and(|newest| thread.id > newest)
            || thread.user == account
            || SERVERS_OWN.contains(&thread.user)
            || REPLICAS.contains(&thread.command);
        if !is_known && crowd.past.len() < NAMED_MAX {
            let host = thread
                .host
                .rsplit_once(':')
                .map_or(thread.host, |(host, _)| host);
            crowd.past.push(format!(
                "{} from {host} (thread {}, {} for {} s)",
                thread.user,
                thread.id,
                thread.command.to_lowercase(),
                thread.seconds
            ));
        }
    }
    crowd
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn thread<'a>(
        id: u32,
        user: &'a str,
        command: &'a str,
        statement: &'a str,
    ) -> Thread<'a> {
        Thread {
            id,
            user,
            host: "10.0.0.7:51234",
            command,
            seconds: "4",
            statement,
        }
    }

    #[test]
    fn only_who_goes_past_the_proxy_is_named_and_ddl_whoever_runs_it() {
        let threads = [
            thread(1, "system user", "Connect", ""),
            thread(2, "app", "Query", "SELECT 1"),
            thread(3, "app", "Sleep", ""),
            thread(4, "repl", "Binlog Dump", ""),
            thread(5, "proxy", "Query", "SELECT id"),
            thread(6, "dba", "Query", "alter table orders add secret int"),
        ];
        let ours = BTreeSet::from([2]);
        let late = sort(threads.into_iter(), &ours, "proxy", Some(2));
        assert_eq!((late.past.len(), late.ddl.len()), (0, 1));
        let crowd = sort(threads.into_iter(), &ours, "proxy", None);
        assert_eq!(
            crowd.past,
            [
                "app from 10.0.0.7 (thread 3, sleep for 4 s)",
                "dba from 10.0.0.7 (thread 6, query for 4 s)"
            ]
        );
        assert_eq!(crowd.ddl, ["ALTER of dba (thread 6, for 4 s)"]);
    }
}
