//! Whether two servers stand still, so that what differs is late no more: for a verification that no understudy is
//! around, of a shadow that nothing is said to feed.
//!
//! What may still change such a shadow is a command that was under way there when its proxy ended, and what somebody
//! replicates of whom the config says nothing. Nobody tells how far these are. But both show where they begin and end:
//!
//! - Replication carries what is in the primary's binary log, and a commit is written there before it is seen. While the
//!   log stands where it stood, nothing was committed that could still be on its way but what was before. That is so
//!   where all that is committed is written there: not where databases are left out of it, nor on a server that
//!   replicates itself, or is one of a Galera cluster, which may have rows that never stood in its own log.
//! - What was on its way before comes by writing to the shadow: a commit moves its own binary log, a transaction that has
//!   yet to commit is seen among InnoDB's, and so is one that waits for a lock, and a statement that has not come so far
//!   stands in the list of processes.
//!
//! So where all of these are the same for [`STILL`], counted from before the first row was read and looked at all the
//! while ([`TICK`]), nothing has come for as long although nothing new was in its way, and nothing is seen to be about to.
//! Time that the walk took counts, and all tables of a run share it. What that leaves is a feeder that holds back what it
//! has for longer, while it writes nothing else (so a shadow that says that it is a replica is not judged by this: it may
//! be one that is delayed on purpose), and one whose commits stand in no log (`sql_log_bin = 0`), where each is shorter
//! than the time between two looks. Neither is one judged that does not say (a vtgate), nor one without a binary log, nor
//! servers on which somebody writes, nor others than rows are read on: there what differs is looked at again after
//! pauses, three times two seconds, as ever.

use crate::ask::{AskError, IDENTITIES, Questions, Row};
use crate::config::Server;
use crate::connect::Dial;
use crate::roles::Roles;
use crate::task;
use crate::verify::On;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// So long nothing was written.
const STILL: Duration = Duration::from_millis(1_500);

/// Between two looks, and what may lie between two of them that say that nothing was written in between.
const TICK: Duration = Duration::from_millis(400);
const APART: Duration = Duration::from_secs(1);

/// Before it is asked again whether a statement that was seen has ended.
const LOOK: Duration = Duration::from_millis(100);

/// For the first look.
const BEGINS_MAX: Duration = Duration::from_secs(2);

/// Questions a second.
const PER_SECOND: u32 = 1_000;

/// A server that does not know a statement: a newer one, or an older one.
const UNKNOWN: u16 = 1064;

/// A server that does not know a variable.
const NO_VARIABLE: u16 = 1193;

/// Where the binary log stands: since MySQL 8.2, and before. The third and the fourth column say what it leaves out.
const LOG: [&str; 2] = ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"];

/// Whose replica it is: MariaDB, MySQL since 8.0.22, and before.
const REPLICA: [&str; 3] = [
    "SHOW ALL SLAVES STATUS",
    "SHOW REPLICA STATUS",
    "SHOW SLAVE STATUS",
];

/// Whether it is one of a Galera cluster.
const CLUSTER: &str = "SELECT @@GLOBAL.wsrep_on";

/// Transactions that wrote, or locked to write, and have yet to commit, and such as wait to. (The servers' counters of
/// rows are of no use: what is asked here is counted there itself.)
const OPEN: &str = "SELECT COUNT(*) FROM information_schema.innodb_trx \
     WHERE trx_rows_modified > 0 OR trx_rows_locked > 0 OR trx_state = 'LOCK WAIT'";

/// Statements under way.
const UNDER_WAY: &str = "SELECT id, user, LEFT(LTRIM(info), 40) FROM information_schema.processlist \
     WHERE info IS NOT NULL AND id <> CONNECTION_ID()";

/// Who asks first: whoever connects after it may be one of those that read rows.
const SELF: &str = "SELECT CONNECTION_ID()";

/// What a server says of what was written on it, and which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    identity: Option<String>,
    log: Vec<Row>,
}

/// Both marks, since when they are these, and when that was seen last.
struct Known {
    marks: (Mark, Mark),
    since: Instant,
    last: Instant,
}

/// What was seen.
#[derive(Debug, PartialEq, Eq)]
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
    watch: Arc<Watch>,
    /// Who looks all the while.
    ticking: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Stillness {
    fn drop(&mut self) {
        if let Some(ticking) = self.ticking.lock().take() {
            ticking.abort();
        }
    }
}

impl Stillness {
    /// Of these two; none where one cannot be asked.
    pub(super) fn between(dial: &Arc<dyn Dial>, roles: &Roles) -> Option<Self> {
        let watch = Watch {
            primary: Asked::of(dial, &roles.primary)?,
            shadow: Asked::of(dial, &roles.shadow)?,
            first: Mutex::default(),
            known: Mutex::default(),
        };
        Some(Self {
            watch: Arc::new(watch),
            ticking: Mutex::default(),
        })
    }

    /// From here on it is counted, on this runtime.
    pub(super) async fn begins(&self) {
        let _ = timeout(BEGINS_MAX, self.watch.look(None)).await;
        let watch = Arc::clone(&self.watch);
        let ticking = task::spawn("still", async move {
            loop {
                sleep(TICK).await;
                watch.look(None).await;
            }
        });
        if let Some(before) = self.ticking.lock().replace(ticking) {
            before.abort();
        }
    }

    /// Whether both, which must be these, stand still for long enough; returns as soon as they do, and where they do not,
    /// after this time.
    pub(super) async fn lasts(&self, on: On<'_>, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        loop {
            let seen = timeout_at(until, self.watch.look(Some(on))).await;
            let next = match seen {
                Ok(Seen::Still(time)) if time >= STILL => return true,
                Ok(Seen::Still(time)) => Instant::now() + STILL.saturating_sub(time).min(TICK),
                Ok(Seen::Writing) => Instant::now() + LOOK,
                Ok(Seen::Unknown) | Err(_) => until,
            };
            sleep_until(next.min(until)).await;
            if next >= until {
                return false;
            }
        }
    }
}

/// Both servers, and what was seen of them.
struct Watch {
    primary: Asked,
    shadow: Asked,
    /// The number of the connection that asked the shadow first.
    first: Mutex<Option<u64>>,
    known: Mutex<Option<Known>>,
}

impl Watch {
    async fn look(&self, on: Option<On<'_>>) -> Seen {
        let began = Instant::now();
        let asked = tokio::join!(self.primary.mark(), self.shadow_mark());
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
        let these = On {
            primary: marks.0.identity.as_deref(),
            shadow: marks.1.identity.as_deref(),
        };
        if on.is_some_and(|on| on != these) {
            return Seen::Unknown;
        }
        let now = Instant::now();
        let goes_on = |known: &&mut Known| {
            known.marks == marks && now.saturating_duration_since(known.last) <= APART
        };
        if let Some(known) = known.as_mut().filter(goes_on) {
            known.last = known.last.max(began);
            return Seen::Still(began.saturating_duration_since(known.since));
        }
        *known = Some(Known {
            marks,
            since: now,
            last: began,
        });
        Seen::Still(Duration::ZERO)
    }

    /// What was written on the shadow; nothing while somebody is about to. None where it does not say, or is fed by itself.
    async fn shadow_mark(&self) -> Option<Option<Mark>> {
        let first = *self.first.lock();
        let first = match first {
            Some(first) => first,
            None => {
                let first = self.shadow.number(SELF).await?;
                *self.first.lock().get_or_insert(first)
            }
        };
        let mark = self.shadow.mark().await?;
        // Asked last: what has ended by then is seen by the look at its rows that follows.
        if self.shadow.number(OPEN).await? > 0 {
            return Some(None);
        }
        let under_way = self.shadow.questions.ask(UNDER_WAY).await.ok()?;
        let writes = under_way
            .iter()
            .any(|row| may_write(row, &self.shadow.account, first));
        Some((!writes).then_some(mark))
    }
}

/// A server that is asked.
struct Asked {
    questions: Questions,
    account: String,
    /// Which of the words for its log, and for its replication, it was found to know.
    knows: [AtomicUsize; 2],
}

impl Asked {
    fn of(dial: &Arc<dyn Dial>, server: &Arc<Server>) -> Option<Self> {
        let account = server.account.as_ref()?.user.clone();
        let questions = Questions::new(dial, server, PER_SECOND).ok().flatten()?;
        Some(Self {
            questions,
            account,
            knows: Default::default(),
        })
    }

    /// Where its log stands, of which it is told that all that is committed there is in it; none where it is not, or
    /// has none, or does not say.
    async fn mark(&self) -> Option<Mark> {
        let [log, replica] = &self.knows;
        let identity = self.identity().await?;
        let is_replica = !self.first_known(&REPLICA, replica).await?.is_empty();
        if is_replica || self.is_of_a_cluster().await? {
            return None;
        }
        let log = self.first_known(&LOG, log).await?;
        (!log.is_empty() && log.iter().all(has_all)).then_some(Mark { identity, log })
    }

    /// Which it is, as who reads rows asks too; none where nothing can be asked.
    async fn identity(&self) -> Option<Option<String>> {
        for ask in IDENTITIES {
            match self.questions.ask(ask).await {
                Ok(rows) => return Some(rows.into_iter().flatten().next().flatten()),
                Err(AskError::Refused { .. }) => {}
                Err(_) => return None,
            }
        }
        Some(None)
    }

    async fn is_of_a_cluster(&self) -> Option<bool> {
        match self.questions.ask(CLUSTER).await {
            Ok(rows) => {
                let is_on = rows.into_iter().flatten().next().flatten()?;
                Some(is_on != "0" && !is_on.eq_ignore_ascii_case("off"))
            }
            Err(AskError::Refused {
                code: NO_VARIABLE, ..
            }) => Some(false),
            Err(_) => None,
        }
    }

    /// The answer to the first of these that the server knows.
    async fn first_known(&self, words: &[&str], knows: &AtomicUsize) -> Option<Vec<Row>> {
        let from = knows.load(Ordering::Relaxed);
        for (nth, statement) in words.iter().enumerate().skip(from) {
            match self.questions.ask(statement).await {
                Err(AskError::Refused { code: UNKNOWN, .. }) => {}
                told => {
                    knows.store(nth, Ordering::Relaxed);
                    return told.ok();
                }
            }
        }
        None
    }

    async fn number(&self, ask: &str) -> Option<u64> {
        let rows = self.questions.ask(ask).await.ok()?;
        rows.into_iter().flatten().next().flatten()?.parse().ok()
    }
}

/// Whether the log leaves nothing out.
fn has_all(log: &Row) -> bool {
    let filters = log.get(2..4).unwrap_or_default();
    let is_empty = |filter: &Option<String>| filter.as_deref().is_none_or(str::is_empty);
    filters.len() == 2 && filters.iter().all(is_empty)
}

/// Whether a statement under way may be one that writes: whatever is not known to be harmless. `first` connected before
/// those of this account that read rows.
fn may_write(row: &Row, account: &str, first: u64) -> bool {
    let cell = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
    let mut words = cell(2).split(|c: char| !c.is_ascii_alphabetic());
    let mut word = || words.next().unwrap_or_default().to_ascii_uppercase();
    let (one, next) = (word(), word());
    if one == "SHOW" {
        return false;
    }
    let is_ours = cell(1) == account && cell(0).parse().is_ok_and(|id: u64| id > first);
    let reads = matches!(one.as_str(), "SELECT" | "SET" | "KILL") && next != "STATEMENT";
    !(is_ours && reads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::fake::{Fake, Say, row, server};

    const CATCH_UP: Duration = Duration::from_secs(2);

    /// Rows are read on these.
    const THESE: On<'static> = On {
        primary: Some("of legacy"),
        shadow: Some("of other"),
    };

    /// Two servers on which nobody writes, unless the test says otherwise.
    fn between(says: impl Fn(&str, &str) -> Option<Say> + Send + Sync + 'static) -> Stillness {
        let usual = |server: &str, statement: &str| match statement {
            "SHOW MASTER STATUS" => Say::Rows(vec![row(&["mysql-bin.000003", "154", "", ""])]),
            "SHOW SLAVE STATUS" | UNDER_WAY => Say::Rows(Vec::new()),
            SELF => Say::Rows(vec![row(&["40"])]),
            OPEN => Say::Rows(vec![row(&["0"])]),
            CLUSTER => Say::Refuse(NO_VARIABLE),
            one if one == IDENTITIES[0] => Say::Rows(vec![row(&[&format!("of {server}")])]),
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
        (still.lasts(THESE, CATCH_UP).await, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_still_is_known_to_as_soon_as_it_has_for_long_enough() {
        let still = between(|_, _| None);
        still.begins().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (lasts_so, took) = lasts(&still).await;
        assert!(lasts_so && took < Duration::from_millis(700), "{took:?}");
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
                    Say::Rows(vec![row(&["log", &n.lock().to_string(), "", ""])])
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
            (statement == OPEN).then(|| Say::Rows(vec![row(&[*now.lock()])]))
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

    /// Finding: two looks far apart were rest, whatever a load that stands in no log did in between.
    #[tokio::test(start_paused = true)]
    async fn what_is_written_between_two_tables_is_met() {
        let writes = Arc::new(Mutex::new("0"));
        let now = Arc::clone(&writes);
        let still = between(move |_, statement| {
            (statement == OPEN).then(|| Say::Rows(vec![row(&[*now.lock()])]))
        });
        still.begins().await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        *writes.lock() = "1";
        tokio::time::sleep(Duration::from_secs(1)).await;
        *writes.lock() = "0";
        let (lasts_so, took) = lasts(&still).await;
        assert!(lasts_so && took >= STILL - TICK, "{took:?}");
        // Where nobody looked meanwhile, nothing is known of the time.
        let unseen = between(|_, _| None);
        for _ in 0..2 {
            let seen = unseen.watch.look(Some(THESE)).await;
            assert_eq!(seen, Seen::Still(Duration::ZERO));
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    /// Finding: who waits for a lock behind SELECT … FOR UPDATE, or SET STATEMENT …, was not seen.
    #[test]
    fn what_is_not_known_to_be_harmless_may_write() {
        for (id, user, info, writes) in [
            ("50", "understudy", "SELECT `id` FROM `app`.`t`", false),
            ("50", "understudy", "SET NAMES utf8mb4", false),
            (
                "50",
                "understudy",
                "SET STATEMENT max_statement_time=1 FOR UPDATE t",
                true,
            ),
            ("50", "understudy", "UPDATE t SET a = 1", true),
            // One of an understudy's that ended in its midst.
            ("30", "understudy", "SELECT 1 FROM t FOR UPDATE", true),
            ("50", "feeder", "SELECT 1 FROM t FOR UPDATE", true),
            ("50", "feeder", "SET @a = f()", true),
            ("50", "feeder", "SHOW PROCESSLIST", false),
            ("50", "feeder", "/* batch */ INSERT INTO t", true),
            ("50", "feeder", "", true),
        ] {
            let one = row(&[id, user, info]);
            assert_eq!(may_write(&one, "understudy", 40), writes, "{user}: {info}");
        }
    }

    /// One may be a replica that is behind on purpose; of another nobody knows what comes to it, or stands in its log.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_say_is_not_judged_by_its_silence() {
        let nothing = || Say::Rows(Vec::new());
        let refused = |code| move || Say::Refuse(code);
        let says = |cells: &'static [&'static str]| move || Say::Rows(vec![row(cells)]);
        type Saying = Box<dyn Fn() -> Say + Send + Sync>;
        let cases: [(&'static str, &'static str, Saying); 14] = [
            // The account does not see what others do.
            ("other", OPEN, Box::new(refused(1227))),
            ("other", "SHOW SLAVE STATUS", Box::new(says(&["a source"]))),
            ("legacy", "SHOW SLAVE STATUS", Box::new(says(&["a source"]))),
            ("other", CLUSTER, Box::new(says(&["1"]))),
            ("legacy", CLUSTER, Box::new(says(&["ON"]))),
            // A vtgate.
            ("other", "SHOW ALL SLAVES STATUS", Box::new(refused(1105))),
            // The account may not ask.
            ("legacy", "SHOW MASTER STATUS", Box::new(refused(1227))),
            ("legacy", "SHOW MASTER STATUS", Box::new(nothing)),
            ("other", "SHOW MASTER STATUS", Box::new(nothing)),
            // Databases are left out.
            (
                "legacy",
                "SHOW MASTER STATUS",
                Box::new(says(&["log", "4", "app", ""])),
            ),
            (
                "other",
                "SHOW MASTER STATUS",
                Box::new(says(&["log", "4", "", "app"])),
            ),
            ("other", "SHOW MASTER STATUS", Box::new(says(&["log", "4"]))),
            // Rows are read on others.
            ("legacy", IDENTITIES[0], Box::new(says(&["of its twin"]))),
            ("other", IDENTITIES[0], Box::new(says(&["of its twin"]))),
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
