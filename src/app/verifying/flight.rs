//! Commands that are under way on the primary, through this proxy: what one of them did may be seen there before its
//! answer, and so its exchange, has come through the tee.

use super::super::house::Running;
use crate::relay::Census;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Time for every session to say how it stands.
const ANSWER: Duration = Duration::from_millis(50);

/// Commands under way, by session: how many it had handed before.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flight(BTreeMap<u64, u64>);

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
}

impl Running {
    /// Resolves once every command that is under way now has been handed over with its answer.
    ///
    /// # Errors
    /// It was not within this time.
    pub(in crate::app) async fn in_flight(&self, at_most: Duration) -> Result<(), String> {
        let began = Instant::now();
        let mut flight = self.called().await;
        while !flight.0.is_empty() {
            if began.elapsed() >= at_most {
                return Err(format!(
                    "commands of {} sessions have been under way on the primary for {} ms, and what they write is not known here before they end",
                    flight.0.len(),
                    at_most.as_millis()
                ));
            }
            flight = flight.and(&self.called().await);
        }
        Ok(())
    }

    async fn called(&self) -> Flight {
        self.call();
        tokio::time::sleep(ANSWER).await;
        Flight::of(&self.census())
    }
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
    }
}
