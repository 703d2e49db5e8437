//! Whether two servers stand still, so that what differs is late no more: for a verification that no understudy is
//! around, of a shadow that nothing is said to feed.
//!
//! What may still change such a shadow is a command that was under way there when its proxy ended, and what somebody
//! replicates of whom the config says nothing. Nobody tells how far these are. But both show where they begin and end:
//!
//! - Replication carries what is in the primary's binary log, and a commit is written there before it is seen. While the
//!   log stands where it stood, nothing was committed that could still be on its way but what was before.
//! - What was on its way before comes by writing to the shadow: a commit moves its own binary log, a transaction that has
//!   yet to commit is seen among InnoDB's, and a statement that has not come so far, for it waits for a lock, stands in
//!   the list of processes.
//!
//! So where all of these are the same for [`STILL`], counted from before the first row was read, nothing has come for as
//! long although nothing new was in its way, and nothing is seen to be about to. Time that the walk took counts, and all
//! tables of a run share it. What that leaves is a feeder that holds back what it has for longer, while it writes nothing
//! else: so a shadow that says that it is a replica is not judged by this (it may be one that is delayed on purpose). Neither
//! is one that does not say (a vtgate), nor one without a binary log, nor servers on which somebody writes: there
//! what differs is looked at again after pauses, three times two seconds, as ever.

use crate::ask::{AskError, Questions, Row};
use crate::config::Server;
use crate::connect::Dial;
use crate::roles::Roles;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// So long nothing was written.
const STILL: Duration = Duration::from_millis(1_500);

/// Before it is asked again whether a statement that was seen has ended.
const LOOK: Duration = Duration::from_millis(100);

/// For the first look.
const BEGINS_MAX: Duration = Duration::from_secs(2);

/// Questions a second.
const PER_SECOND: u32 = 1_000;

/// A server that does not know a statement: a newer one, or an older one.
const UNKNOWN: u16 = 1064;

/// Where the binary log stands: since MySQL 8.2, and before.
const LOG: [&str; 2] = ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"];

/// Whose replica it is: MariaDB, MySQL since 8.0.22, and before.
const REPLICA: [&str; 3] = [
    "SHOW ALL SLAVES STATUS",
    "SHOW REPLICA STATUS",
    "SHOW SLAVE STATUS",
];

/// Transactions that wrote and have yet to commit, and statements under way that may write. (The servers' counters of rows
/// are of no use: what is asked here is counted there itself.)
const WRITING: &str = "SELECT (SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_modified > 0) \
     + (SELECT COUNT(*) FROM information_schema.processlist WHERE info IS NOT NULL \
     AND info NOT LIKE 'SELECT%' AND info NOT LIKE 'SHOW%' AND info NOT LIKE 'SET%')";

/// What a server says of what was written on it.
type Mark = Vec<Row>;

/// Both marks, and since when they are these.
struct Known {
    marks: (Mark, Mark),
    since: Instant,
}

/// What was seen.
enum Seen {
    /// Nothing was written for so long.
    Still(Duration),
    /// Somebody is about to.
    Writing,
    /// They do not say.
    Unknown,
}

/// See the module.
pub(super) struct Stillness {
    primary: Questions,
    shadow: Questions,
    known: Mutex<Option<Known>>,
}

impl Stillness {
    /// Of these two; none where one cannot be asked.
    pub(super) fn between(dial: &Arc<dyn Dial>, roles: &Roles) -> Option<Self> {
        let questions = |server: &Arc<Server>| {
            let questions = Questions::new(dial, server, PER_SECOND);
            questions.ok().flatten()
        };
        Some(Self {
            primary: questions(&roles.primary)?,
            shadow: questions(&roles.shadow)?,
            known: Mutex::default(),
        })
    }

    /// From here on it is counted.
    pub(super) async fn begins(&self) {
        let _ = timeout(BEGINS_MAX, self.look()).await;
    }

    /// Whether both stand still for long enough; returns as soon as they do, and where they do not, after this time.
    pub(super) async fn lasts(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        loop {
            let seen = timeout_at(until, self.look()).await;
            let next = match seen {
                Ok(Seen::Still(time)) if time >= STILL => return true,
                Ok(Seen::Still(time)) => Instant::now() + STILL.saturating_sub(time),
                Ok(Seen::Writing) => Instant::now() + LOOK,
                Ok(Seen::Unknown) | Err(_) => until,
            };
            sleep_until(next.min(until)).await;
            if next >= until {
                return false;
            }
        }
    }

    async fn look(&self) -> Seen {
        let began = Instant::now();
        let asked = tokio::join!(of_primary(&self.primary), of_shadow(&self.shadow));
        let mut known = self.known.lock();
        let marks = match asked {
            (Some(primary), Some(Some(shadow))) => (primary, shadow),
            (Some(_), Some(None)) => {
                *known = None;
                return Seen::Writing;
            }
            _ => {
                *known = None;
                return Seen::Unknown;
            }
        };
        if let Some(known) = known.as_ref().filter(|known| known.marks == marks) {
            return Seen::Still(began.saturating_duration_since(known.since));
        }
        let since = Instant::now();
        *known = Some(Known { marks, since });
        Seen::Still(Duration::ZERO)
    }
}

/// Where the primary's log stands; none where it has none, or does not say.
async fn of_primary(primary: &Questions) -> Option<Mark> {
    let log = first_known(primary, &LOG).await?;
    (!log.is_empty()).then_some(log)
}

/// What was written on the shadow; nothing while somebody is about to. None where it does not say, or is fed by itself.
async fn of_shadow(shadow: &Questions) -> Option<Option<Mark>> {
    if !first_known(shadow, &REPLICA).await?.is_empty() {
        return None;
    }
    let mark = first_known(shadow, &LOG).await?;
    if mark.is_empty() {
        return None;
    }
    // Asked last: what has ended by then is seen by the look at its rows that follows.
    let writing = shadow.ask(WRITING).await.ok()?;
    let writing = writing.first()?.first()?.as_deref()?;
    Some((writing == "0").then_some(mark))
}

/// The answer to the first of these that the server knows.
async fn first_known(server: &Questions, words: &[&str]) -> Option<Vec<Row>> {
    for statement in words {
        match server.ask(statement).await {
            Err(AskError::Refused { code: UNKNOWN, .. }) => {}
            told => return told.ok(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::fake::{Fake, Say, row, server};

    const CATCH_UP: Duration = Duration::from_secs(2);

    /// Two servers on which nobody writes, unless the test says otherwise.
    fn between(says: impl Fn(&str, &str) -> Option<Say> + Send + Sync + 'static) -> Stillness {
        let usual = |server: &str, statement: &str| match statement {
            "SHOW MASTER STATUS" => Say::Rows(vec![row(&["mysql-bin.000003", "154"])]),
            "SHOW SLAVE STATUS" if server == "other" => Say::Rows(Vec::new()),
            WRITING => Say::Rows(vec![row(&["0"])]),
            _ => Say::Refuse(UNKNOWN),
        };
        let fake = Fake::new(move |server, statement| {
            says(server, statement).unwrap_or_else(|| usual(server, statement))
        });
        let dial: Arc<dyn Dial> = Arc::new(fake);
        let roles = Roles {
            primary: Arc::new(server("legacy")),
            shadow: Arc::new(server("other")),
        };
        Stillness::between(&dial, &roles).unwrap()
    }

    /// Whether they stand still, and how long it took to know.
    async fn lasts(still: &Stillness) -> (bool, Duration) {
        let began = Instant::now();
        (still.lasts(CATCH_UP).await, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_still_is_known_to_as_soon_as_it_has_for_long_enough() {
        let still = between(|_, _| None);
        still.begins().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (lasts_so, took) = lasts(&still).await;
        assert!(lasts_so && took < Duration::from_millis(600), "{took:?}");
        // What a walk takes counts, and so does the look before.
        let (lasts_so, took) = lasts(&still).await;
        assert!(lasts_so && took < Duration::from_millis(50), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_somebody_writes_the_time_that_it_was_given_passes() {
        for written_on in ["legacy", "other"] {
            let n = Mutex::new(0);
            let still = between(move |server, statement| {
                (server == written_on && statement == "SHOW MASTER STATUS").then(|| {
                    *n.lock() += 1;
                    Say::Rows(vec![row(&["log", &n.lock().to_string()])])
                })
            });
            still.begins().await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            let (lasts_so, took) = lasts(&still).await;
            assert!(!lasts_so && took >= CATCH_UP, "{written_on}: {took:?}");
        }
    }

    /// A statement that waits for a lock moves no counter, and is under way all the same.
    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_on_the_shadow_is_waited_for() {
        let waits = Arc::new(Mutex::new("1"));
        let now = Arc::clone(&waits);
        let still = between(move |_, statement| {
            (statement == WRITING).then(|| Say::Rows(vec![row(&[*now.lock()])]))
        });
        still.begins().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let (lasts_so, took) = lasts(&still).await;
        assert!(!lasts_so && took >= CATCH_UP, "{took:?}");
        *waits.lock() = "0";
        // It is counted from when it had ended.
        let (lasts_so, took) = lasts(&still).await;
        assert!(lasts_so && took >= STILL, "{took:?}");
    }

    /// One may be a replica that is behind on purpose; of another nobody knows what comes to it.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_say_is_not_judged_by_its_silence() {
        let nothing = || Say::Rows(Vec::new());
        let refused = |code| move || Say::Refuse(code);
        let one = || Say::Rows(vec![row(&["a source"])]);
        type Saying = Box<dyn Fn() -> Say + Send + Sync>;
        let cases: [(&'static str, &'static str, Saying); 6] = [
            // The account does not see what others do.
            ("other", WRITING, Box::new(refused(1227))),
            ("other", "SHOW SLAVE STATUS", Box::new(one)),
            // A vtgate.
            ("other", "SHOW ALL SLAVES STATUS", Box::new(refused(1105))),
            // The account may not ask.
            ("legacy", "SHOW MASTER STATUS", Box::new(refused(1227))),
            ("legacy", "SHOW MASTER STATUS", Box::new(nothing)),
            ("other", "SHOW MASTER STATUS", Box::new(nothing)),
        ];
        for (of, asked, says) in cases {
            let still =
                between(move |server, statement| (server == of && statement == asked).then(&says));
            still.begins().await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            let (lasts_so, took) = lasts(&still).await;
            assert!(!lasts_so && took >= CATCH_UP, "{of}: {asked}: {took:?}");
        }
    }
}
