//! Commands that are under way on the primary, through this proxy: what one of them did may be seen there before its
//! answer, and so its exchange, has come through the tee.
//!
//! A long read (a report, GET_LOCK) is waited for once and for no longer, as far as it is known to be one: its session
//! logged in for single statements, and the primary shows a SELECT that waits for no replica's word.

use super::super::house::Running;
use super::{CATCH_UP, Surroundings};
use crate::ask::{AskError, Asker, Manner, Row};
use crate::relay::Census;
use crate::wire::capability::Capabilities;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Time for every session to say how it stands.
const ANSWER: Duration = Duration::from_millis(50);

/// Between two times that they all are asked: each time is twice the one before, for who is asked is woken.
const PAUSE: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// To ask the primary what its threads do.
const ASK_MAX: Duration = Duration::from_secs(2);

/// Long reads that are asked for; where there are more, they are all waited for.
const READS_MAX: usize = 1_000;

/// Commands under way, by session: how many it had handed before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flight(BTreeMap<u64, u64>);

/// Commands were under way for longer than was waited.
struct Late {
    flight: Flight,
    waited: Duration,
}

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "commands of {} sessions have been under way on the primary for {} ms, and what they write is not known here before they end",
            self.flight.0.len(),
            self.waited.as_millis()
        )
    }
}

impl Flight {
    /// Those of all sessions that can be told. What goes through a tunnel is mirrored nowhere.
    fn of(census: &Census) -> Self {
        let busy = census.unheld.iter().filter(|one| !one.idle && !one.tunnel);
        Self(busy.map(|one| (one.session, one.seq)).collect())
    }

    /// Those that are under way still. Of a session that is gone nothing comes any more.
    fn and(self, later: &Self) -> Self {
        let left = self.0.into_iter();
        let still = |(session, seq): &(u64, u64)| later.0.get(session) == Some(seq);
        Self(left.filter(still).collect())
    }

    /// Without these.
    fn but(self, these: &Self) -> Self {
        let left = self.0.into_iter();
        let other = |(session, seq): &(u64, u64)| these.0.get(session) != Some(seq);
        Self(left.filter(other).collect())
    }
}

impl Running {
    /// Resolves once every command that is under way now has been handed over with its answer.
    ///
    /// # Errors
    /// It was not within this time.
    pub(in crate::app) async fn in_flight(&self, at_most: Duration) -> Result<(), String> {
        let landed = self.in_flight_but(&Flight::default(), at_most).await;
        landed.map_err(|late| late.to_string())
    }

    /// The same, but for these.
    async fn in_flight_but(&self, these: &Flight, at_most: Duration) -> Result<(), Late> {
        let (began, mut pause) = (Instant::now(), PAUSE);
        let mut flight = self.called().await.but(these);
        while !flight.0.is_empty() {
            if began.elapsed() >= at_most {
                return Err(Late {
                    flight,
                    waited: at_most,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            flight = flight.and(&self.called().await);
        }
        Ok(())
    }

    /// The primary's numbers for the threads of these commands, by session; of those alone whose session logged in for
    /// single statements: another may have written before it reads.
    fn threads_of(&self, flight: &Flight) -> BTreeMap<u64, u32> {
        let sessions = self.open_sessions().into_iter();
        let single = sessions.filter(|one| !one.capabilities.has(Capabilities::MULTI_STATEMENTS));
        let single: BTreeSet<u64> = single.map(|one| one.session).collect();
        let unheld = self.census().unheld.into_iter();
        let of = unheld.filter(|one| flight.0.contains_key(&one.session));
        of.filter(|one| single.contains(&one.session))
            .map(|one| (one.session, one.thread_id))
            .collect()
    }

    async fn called(&self) -> Flight {
        self.call();
        tokio::time::sleep(ANSWER).await;
        Flight::of(&self.census())
    }
}

impl Surroundings {
    /// Resolves once what is under way on the primary now, and may write, has been handed over.
    ///
    /// # Errors
    /// It was not in time.
    pub(super) async fn landed(&self) -> Result<(), String> {
        let known = self.long_reads.lock().clone();
        let Err(late) = self.house.in_flight_but(&known, CATCH_UP).await else {
            return Ok(());
        };
        let reads = tokio::time::timeout(ASK_MAX, self.reads_of(&late.flight)).await;
        let reads = reads.ok().and_then(Result::ok).unwrap_or_default();
        // What was asked of a thread says something of a command that it was before and after.
        let why = late.to_string();
        let now = self.house.called().await;
        let left = late.flight.and(&now);
        if !left.clone().but(&reads).0.is_empty() {
            return Err(why);
        }
        let mut known = known.and(&now);
        known.0.extend(left.0);
        *self.long_reads.lock() = known;
        Ok(())
    }

    /// Those of these commands that only read, as far as the primary tells.
    async fn reads_of(&self, flight: &Flight) -> Result<Flight, AskError> {
        let threads = self.house.threads_of(flight);
        let server = self.roles.borrow().primary.clone();
        let Some(account) = server.account.as_ref() else {
            return Ok(Flight::default());
        };
        if threads.is_empty() || threads.len() > READS_MAX {
            return Ok(Flight::default());
        }
        let numbers: Vec<String> = threads.values().map(u32::to_string).collect();
        let ask = format!(
            "SELECT id, LEFT(LTRIM(info), 20), state FROM information_schema.processlist WHERE id IN ({})",
            numbers.join(", ")
        );
        let mut asker = Asker::open(&*self.dial, &server, account, &Manner::default()).await?;
        let rows = asker.ask(&ask).await?;
        asker.leave().await;
        let reading = reading(&rows);
        let of = flight.0.iter().filter(|(session, _)| {
            let thread = threads.get(session);
            thread.is_some_and(|thread| reading.contains(thread))
        });
        Ok(Flight(of.map(|(session, seq)| (*session, *seq)).collect()))
    }
}

/// The threads that read, by their statement and its state: one that waits for a replica's word has committed.
fn reading(rows: &[Row]) -> BTreeSet<u32> {
    let read = rows.iter().filter_map(|row| {
        let cell = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
        let word = cell(1).split(|c: char| !c.is_ascii_alphabetic()).next()?;
        let waits = cell(2).to_ascii_lowercase().contains("semi-sync");
        let number = cell(0).parse().ok()?;
        (word.eq_ignore_ascii_case("select") && !waits).then_some(number)
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Unheld;

    fn census(sessions: &[(u64, bool, u64)]) -> Census {
        let unheld = sessions.iter().map(|(session, idle, seq)| Unheld {
            session: *session,
            user: String::new(),
            thread_id: 0,
            is_vitess: false,
            in_transaction: false,
            tunnel: false,
            idle: *idle,
            seq: *seq,
        });
        Census {
            unheld: unheld.collect(),
            ..Census::default()
        }
    }

    /// Finding: with semi-sync a commit is seen long before its answer, and 100 ms were taken for that time.
    #[test]
    fn a_command_is_waited_for_until_it_was_handed() {
        let first = Flight::of(&census(&[(1, true, 5), (2, false, 7), (3, false, 1)]));
        assert_eq!(first.0, [(2, 7), (3, 1)].into());
        // The one goes on with its next command, the other still has the first.
        let left = first.and(&Flight::of(&census(&[(2, false, 8), (3, false, 1)])));
        assert_eq!(left.0, [(3, 1)].into());
        let left = left.and(&Flight::of(&census(&[(2, false, 9), (3, true, 2)])));
        assert_eq!(left, Flight::default());
        // Of a session that is gone nothing comes any more.
        let gone = Flight([(4, 1)].into()).and(&Flight::of(&census(&[])));
        assert_eq!(gone, Flight::default());
        // A long read is waited for once; another command of its session is another one.
        let reads = Flight([(3, 1), (4, 7)].into());
        assert_eq!(
            Flight([(3, 1), (4, 8)].into()).but(&reads).0,
            [(4, 8)].into()
        );
    }

    #[test]
    fn a_command_that_may_have_written_is_no_read() {
        let row = |id: &str, info: Option<&str>, state: &str| -> Row {
            let cells = [Some(id), info, Some(state)];
            cells.iter().map(|one| one.map(str::to_owned)).collect()
        };
        let rows = [
            row("1", Some("select sleep(100)"), "User sleep"),
            row("2", Some("SELECT\nid FROM t"), "Sending data"),
            row("3", Some("UPDATE t SET a = 1"), "updating"),
            row(
                "4",
                Some("SELECT f(1)"),
                "Waiting for semi-sync ACK from replica",
            ),
            row("5", Some("selected()"), ""),
            row("6", None, ""),
        ];
        assert_eq!(reading(&rows), [1, 2].into());
    }
}
