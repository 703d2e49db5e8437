//! The connection that repairs: each repair is a transaction of its own, which is committed only if it changed
//! exactly one row.
//!
//! It waits for no lock longer than a second, and for no answer longer than its place may be kept: half of what is left
//! of that is for the statements, and the rest for the COMMIT and for ending on the server what is given up. Only a COMMIT without an answer leaves open what became of a repair.

use super::super::statements::quoted;
use crate::ask::{AskError, Asker, Manner};
use crate::config::{Account, Server};
use crate::connect::Dial;
use crate::sql;
use crate::wire::answer::Outcome;
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Its session: nothing of the account's or the server's own defaults may change what is written. Values that do
/// not fit are refused, not cut; a key of 0 is 0; zero dates are what they are; a row is written, not what its
/// foreign keys would make of others.
pub(super) const SESSION: [&str; 6] = [
    "SET NAMES utf8mb4",
    "SET time_zone = '+00:00'",
    "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES,ALLOW_INVALID_DATES'",
    "SET autocommit = 1",
    "SET foreign_key_checks = 0",
    "SET innodb_lock_wait_timeout = 1",
];

/// Errors that pass: a lock's wait, a deadlock, a server that ends a statement or is overloaded.
const PASSING: [u16; 6] = [1040, 1105, 1205, 1213, 1317, 3024];

/// Something stands in the way that another repair may take away.
const DUPLICATE: u16 = 1062;

/// To open it.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// What became of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// It was written.
    Done,
    /// It was not, and may be tried again.
    Passing(String),
    /// It was not, for another row stands in its way.
    InTheWay(String),
    /// It was not, and why.
    Refused(String),
    /// Nobody knows: the COMMIT had no answer.
    Unknown(String),
}

/// See the module.
pub(super) struct Hand {
    asker: Option<Asker>,
    thread: u32,
    dial: Arc<dyn Dial>,
    server: Arc<Server>,
    account: Account,
    tells: bool,
}

/// What must be known to open a [`Hand`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Who<'a> {
    /// The primary's `@@server_uuid`, where it has one.
    pub(super) primary: Option<&'a str>,
    /// The identity of the server that the shadow's rows are read on, where it has one.
    pub(super) shadow: Option<&'a str>,
    /// The ledger keeps literals: so may what the server says.
    pub(super) tells: bool,
}

impl Hand {
    /// Opens it, before any place is taken.
    ///
    /// # Errors
    /// It cannot be opened, or the server is the primary by another name, or another than the shadow's rows are read on.
    pub(super) async fn open(
        dial: &Arc<dyn Dial>,
        server: &Arc<Server>,
        who: Who<'_>,
    ) -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", server.name);
        let account = server.account.clone();
        let account = account.ok_or_else(|| failed(&"it has no account of the proxy's own"))?;
        // An UPDATE tells the rows that it found, whether or not it changed them.
        let manner = Manner {
            capabilities: Manner::default()
                .capabilities
                .with(Capabilities::FOUND_ROWS),
            ..Manner::default()
        };
        let opened = async {
            let mut asker = Asker::open(&**dial, server, &account, &manner).await?;
            for statement in SESSION {
                asker.ask(statement).await?;
            }
            let uuid = uuid(&mut asker).await?;
            let identity = asker.identity().await?;
            Ok::<_, AskError>((asker, uuid, identity))
        };
        let opened = tokio::time::timeout(OPEN_MAX, opened).await;
        let (asker, uuid, identity) = opened
            .map_err(|_| failed(&"it did not open in time"))?
            .map_err(|fault| failed(&fault))?;
        if let (Some(identity), Some(read)) = (identity, who.shadow)
            && identity != read
        {
            return Err(failed(&format!(
                "its address led to several servers: nothing is written to {identity} where rows are read on {read}; give the address of one"
            )));
        }
        if uuid.is_some() && uuid.as_deref() == who.primary {
            return Err(failed(
                &"it is the same server as the primary, and nothing is repaired there",
            ));
        }
        Ok(Self {
            thread: asker.thread(),
            asker: Some(asker),
            dial: Arc::clone(dial),
            server: Arc::clone(server),
            account,
            tells: who.tells,
        })
    }

    /// Whether it can write once more.
    pub(super) const fn is_good(&self) -> bool {
        self.asker.is_some()
    }

    /// Writes these statements as one transaction, each of which must meet exactly one row, until then.
    pub(super) async fn write(&mut self, statements: &[String], until: Instant) -> Wrote {
        let Some(mut asker) = self.asker.take() else {
            return Wrote::Passing(format!("{}: the connection broke off", self.server.name));
        };
        let (now, left) = (
            Instant::now(),
            until.saturating_duration_since(Instant::now()),
        );
        let (work, commit) = (now + left / 2, now + left * 3 / 4);
        let wrote = write(&mut asker, statements, self.tells);
        let wrote = match tokio::time::timeout_at(work, wrote).await {
            Ok(Ok(None)) => None,
            Ok(Ok(Some(wrote))) => Some(wrote),
            Ok(Err(fault)) => {
                let fault = told(&fault, self.tells);
                return self.gave_up(until, &fault, Wrote::Passing).await;
            }
            Err(_) => {
                let slow = "no answer in time";
                return self.gave_up(until, slow, Wrote::Passing).await;
            }
        };
        let end = if wrote.is_some() {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        let ended = tokio::time::timeout_at(commit, asker.ask(end)).await;
        let ended = ended.unwrap_or(Err(AskError::Timeout));
        match (ended.map_err(|fault| told(&fault, self.tells)), wrote) {
            (Ok(_), wrote) => {
                self.asker = Some(asker);
                wrote.unwrap_or(Wrote::Done)
            }
            // It ends with its connection.
            (Err(fault), Some(wrote)) => self.gave_up(until, &fault, |_| wrote).await,
            // A COMMIT that is refused has been rolled back, but for one on several shards.
            (Err(fault), None) => self.gave_up(until, &fault, Wrote::Unknown).await,
        }
    }

    /// The same on one shard of a vtgate's, by what `USE` says for it; `keyspace` is what it says for all of them.
    pub(super) async fn write_at(
        &mut self,
        (shard, keyspace): (&str, &str),
        statements: &[String],
        until: Instant,
    ) -> Wrote {
        if let Err(why) = self.aim(shard, until).await {
            return Wrote::Passing(why);
        }
        let wrote = self.write(statements, until).await;
        // A connection that is still aimed at a shard is not used again.
        if let Err(why) = self.aim(keyspace, until).await {
            tracing::debug!("{why}");
        }
        wrote
    }

    async fn aim(&mut self, target: &str, until: Instant) -> Result<(), String> {
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", self.server.name);
        let asker = self.asker.take();
        let mut asker = asker.ok_or_else(|| failed(&"the connection broke off"))?;
        let aim = format!("USE {}", quoted(target));
        let aimed = tokio::time::timeout_at(until, asker.ask(&aim)).await;
        aimed
            .unwrap_or(Err(AskError::Timeout))
            .map_err(|fault| failed(&told(&fault, self.tells)))?;
        self.asker = Some(asker);
        Ok(())
    }

    async fn gave_up(
        &self,
        until: Instant,
        fault: &str,
        wrote: impl FnOnce(String) -> Wrote,
    ) -> Wrote {
        let ended = tokio::time::timeout_at(until, async {
            let manner = Manner::default();
            let asker = Asker::open(&*self.dial, &self.server, &self.account, &manner).await;
            let mut asker = asker?;
            asker.ask(&format!("KILL {}", self.thread)).await
        });
        // A vtgate refuses by default; there it ends with the connection and by its lock's wait.
        if !matches!(ended.await, Ok(Ok(_))) {
            tracing::debug!(server = self.server.name, "a repair was not ended by KILL");
        }
        wrote(format!("{}: {fault}", self.server.name))
    }
}

/// Within a transaction; `None` where it is to be committed.
async fn write(
    asker: &mut Asker,
    statements: &[String],
    tells: bool,
) -> Result<Option<Wrote>, AskError> {
    asker.ask("BEGIN").await?;
    for statement in statements {
        let payload = [&[Command::QUERY.0], statement.as_bytes()].concat();
        let answer = asker.answer(&payload).await?;
        if let Some(failure) = answer.error() {
            let message = String::from_utf8_lossy(&failure.message).into_owned();
            let code = failure.code;
            let why = told(&AskError::Refused { code, message }, tells);
            return Ok(Some(judged(code, why)));
        }
        match answer.results.first() {
            Some(Outcome::Ok(done)) if done.affected_rows == 1 => {}
            Some(Outcome::Ok(done)) => {
                return Ok(Some(Wrote::Refused(format!(
                    "it met {} rows, not one, and was rolled back",
                    done.affected_rows
                ))));
            }
            _ => return Err(AskError::Answer),
        }
    }
    Ok(None)
}

/// A fault in words: what a server refuses may hold what rows hold.
pub(super) fn told(fault: &AskError, tells: bool) -> String {
    match fault {
        AskError::Refused { code, message } if !tells => {
            format!("{} ({code})", sql::redact_error(message))
        }
        _ => fault.to_string(),
    }
}

/// What a refusal means.
fn judged(code: u16, why: String) -> Wrote {
    match code {
        DUPLICATE => Wrote::InTheWay(why),
        code if PASSING.contains(&code) => Wrote::Passing(why),
        _ => Wrote::Refused(why),
    }
}

/// What tells a server from all others; none where it has no such thing.
pub(super) async fn uuid(asker: &mut Asker) -> Result<Option<String>, AskError> {
    match asker.ask("SELECT @@GLOBAL.server_uuid").await {
        Ok(rows) => Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .flatten()),
        Err(AskError::Refused { .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fake::{Fake, Say, row, server};
    use super::*;

    /// A shadow that says this to an UPDATE, and that to a COMMIT.
    fn shadow(to_update: Say, to_commit: Say) -> (Fake, Arc<dyn Dial>, Arc<Server>) {
        let fake = Fake::new(move |_, statement| match statement {
            "SELECT @@GLOBAL.server_uuid" => Say::Rows(vec![row(&["of the shadow"])]),
            "COMMIT" => to_commit.clone(),
            one if one.starts_with("UPDATE") => to_update.clone(),
            _ => Say::Done,
        });
        let dial = Arc::new(fake.clone()) as Arc<dyn Dial>;
        (fake, dial, Arc::new(server("vitess")))
    }

    async fn written(to_update: Say, to_commit: Say) -> (Wrote, Vec<String>, bool) {
        let (fake, dial, server) = shadow(to_update, to_commit);
        let who = Who {
            primary: Some("of the primary"),
            shadow: Some("of the shadow"),
            tells: false,
        };
        let mut hand = Hand::open(&dial, &server, who).await.unwrap();
        let until = Instant::now() + Duration::from_secs(1);
        let wrote = hand.write(&["UPDATE t".to_owned()], until).await;
        let asked = fake.asked("vitess");
        let from = asked.iter().position(|one| one == "BEGIN").unwrap();
        (wrote, asked[from..].to_vec(), hand.is_good())
    }

    #[tokio::test(start_paused = true)]
    async fn one_row_and_no_other_number_is_committed() {
        let (wrote, asked, _) = written(Say::Met(1), Say::Done).await;
        assert_eq!(
            (wrote, asked.join("; ")),
            (Wrote::Done, "BEGIN; UPDATE t; COMMIT".into())
        );
        for rows in [0, 2] {
            let (wrote, asked, good) = written(Say::Met(rows), Say::Done).await;
            assert!(matches!(wrote, Wrote::Refused(_)), "{wrote:?}");
            assert_eq!(asked.join("; "), "BEGIN; UPDATE t; ROLLBACK");
            assert!(good);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_told_from_what_does_not() {
        let refused = async |code| written(Say::Refuse(code), Say::Done).await;
        let (wrote, asked, good) = refused(1205).await;
        assert!(matches!(wrote, Wrote::Passing(_)) && good, "{wrote:?}");
        assert_eq!(asked.join("; "), "BEGIN; UPDATE t; ROLLBACK");
        assert!(matches!(refused(1062).await.0, Wrote::InTheWay(_)));
        assert!(matches!(refused(1264).await.0, Wrote::Refused(_)));
    }

    /// Finding: a lock on the shadow held up every dark write on the table for as long as the server lets it; then
    /// the COMMIT and the KILL had times of their own behind the place's.
    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_given_up_in_time_ended_and_never_committed() {
        let began = Instant::now();
        let (wrote, asked, good) = written(Say::Hang, Say::Done).await;
        assert!(matches!(wrote, Wrote::Passing(_)) && !good, "{wrote:?}");
        assert!(began.elapsed() <= Duration::from_secs(1));
        assert!(
            asked.iter().any(|one| one.starts_with("KILL ")),
            "{asked:?}"
        );
        assert!(!asked.contains(&"COMMIT".to_owned()), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_without_an_answer_leaves_open_what_became_of_it() {
        let began = Instant::now();
        let (wrote, _, good) = written(Say::Met(1), Say::Hang).await;
        assert!(
            began.elapsed() <= Duration::from_secs(1),
            "its place's time"
        );
        assert!(matches!(wrote, Wrote::Unknown(_)) && !good, "{wrote:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn its_session_is_set_and_it_is_not_the_primarys() {
        let (fake, dial, server) = shadow(Say::Done, Say::Done);
        Hand::open(&dial, &server, Who::default()).await.unwrap();
        let asked = fake.asked("vitess");
        for setting in SESSION {
            assert!(
                asked.iter().any(|one| one == setting),
                "{setting}: {asked:?}"
            );
        }
        let same = Who {
            primary: Some("of the shadow"),
            ..Who::default()
        };
        let why = Hand::open(&dial, &server, same).await.err();
        let why = why.unwrap_or_default();
        assert!(why.contains("same server as the primary"), "{why}");
        let another = Who {
            shadow: Some("of another"),
            ..Who::default()
        };
        let why = Hand::open(&dial, &server, another).await.err();
        let why = why.unwrap_or_default();
        assert!(
            why.contains("of the shadow where rows are read on of another"),
            "{why}"
        );
    }

    /// Finding: what the shadow refused stood in the ledger with the row's values.
    #[test]
    fn a_refusal_is_told_without_values() {
        let fault = AskError::Refused {
            code: 1062,
            message: "Duplicate entry 'alice@x' for key 't.email'".to_owned(),
        };
        assert_eq!(
            told(&fault, false),
            "Duplicate entry '?' for key 't.email' (1062)"
        );
        assert!(told(&fault, true).contains("alice@x"));
    }
}
