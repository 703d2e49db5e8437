//! How a verification has one instant for both servers: every session stands at its boundary, and the shadow has all
//! that the primary has committed.
//!
//! It is done on the main thread, at its own priority: the verification's would keep sessions waiting. What can be done
//! before anybody waits is done before.

use super::Surroundings;
use super::locked::{held, never_locked, of};
use crate::config::{FedBy, Writes};
use crate::cutover::{Moment, Standstill};
use crate::shadow::Mirror;
use crate::task;
use crate::verify::{By, Held, Opening, Still};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The shadow may be behind for this part of what sessions are held for: they wait until it is not.
const LAG_SHARE: u32 = 4;

/// It comes so near at some moment, or the instant is asked for later.
const NEAR_MAX: Duration = Duration::from_secs(3);

/// Between two looks whether it is near.
const NEAR_LOOK: Duration = Duration::from_millis(2);

const OPENING: &str = "the opening of both snapshots";

impl Surroundings {
    /// See [`crate::verify::Around::instant`].
    pub(super) async fn one_instant(
        &self,
        still: Still<'_>,
        at_most: Duration,
        opening: Opening,
    ) -> Held {
        if self.helm.state().rest().is_none() {
            return none("a cutover is under way".to_owned());
        }
        if let Still::Table(table, on) = still {
            let lock = self.lock();
            let locked = lock.moment(of(table, on), at_most, opening);
            return held(locked.await);
        }
        let Some(standstill) = self.standstill.clone() else {
            return none(NOBODY.to_owned());
        };
        let feed = self.feed();
        if let Some(why) = feed.is_dry() {
            return none(why);
        }
        if let Err(why) = feed.comes_near(at_most / LAG_SHARE).await {
            return none(why);
        }
        // It ends by itself, whether or not it is waited for.
        let moment = moment(standstill, feed, at_most, opening);
        match task::spawn_on(&self.main, "instant", moment).await {
            Ok(held) => held,
            Err(broken) => none(format!("it broke off: {broken}")),
        }
    }

    fn feed(&self) -> Feed {
        Feed {
            mirror: Arc::clone(&self.mirror),
            fed_by: self.roles.borrow().shadow.fed_by,
        }
    }

    /// Why there can be no instant at all; none where there can.
    pub(super) fn never_an_instant(&self, by: By) -> Option<String> {
        if by == By::Lock {
            let is_fleet = self.helm.fleet().is_some();
            return never_locked(self.roles.borrow().shadow.fed_by, is_fleet);
        }
        if self.standstill.is_none() {
            return Some(NOBODY.to_owned());
        }
        if self.helm.fleet().is_some() {
            return Some("other proxies of the fleet write to the primary too, and nobody holds their sessions meanwhile; take --mode chunks, or where replication feeds the shadow --lock".to_owned());
        }
        self.feed()
            .is_never()
            .map(|why| format!("{why}; or take --mode chunks"))
    }
}

const NOBODY: &str = "nobody holds the sessions here; take --mode chunks";

fn none(why: String) -> Held {
    Held {
        failed: Some(why),
        ..Held::default()
    }
}

/// On the main thread: sessions wait for it.
async fn moment(standstill: Standstill, feed: Feed, at_most: Duration, opening: Opening) -> Held {
    let caught_up = Mutex::new(None);
    let work = async {
        let began = Instant::now();
        feed.has_everything().await?;
        *caught_up.lock() = Some(began.elapsed());
        opening.await
    };
    let Moment {
        held,
        gathered,
        sessions,
        outcome,
    } = standstill.moment(at_most, OPENING, work).await;
    Held {
        held,
        gathered,
        caught_up: caught_up.into_inner(),
        sessions,
        failed: outcome.err().map(|why| why.to_string()),
        hopeless: false,
    }
}

/// What brings the shadow what the primary commits.
struct Feed {
    mirror: Arc<Mirror>,
    fed_by: FedBy,
}

const REPLICATED: &str = "replication feeds the shadow, and a heartbeat or a GTID that has come across does not prove that all that was committed before has (parallel appliers, a stream for each shard), so that an instant may show what is late as different: take --lock, which has the primary lock one table at a time and waits for its position";

const NOT_APPLIED: &str =
    "dark writes are not applied (mirror.writes), so nothing brings the shadow what is written";

/// Why this brings a shadow nothing that an instant could rest on, however long one waits.
fn never(fed_by: FedBy, writes: Writes) -> Option<&'static str> {
    match (fed_by, writes) {
        (FedBy::Replication, _) => Some(REPLICATED),
        (FedBy::Mirror, Writes::Apply) => None,
        (FedBy::Mirror, _) => Some(NOT_APPLIED),
    }
}

impl Feed {
    /// See [`never`].
    fn is_never(&self) -> Option<&'static str> {
        never(self.fed_by, self.mirror.control().writes)
    }

    /// Why the shadow does not get what the primary commits.
    fn is_dry(&self) -> Option<String> {
        let control = self.mirror.control();
        match self.mirror.figures().suspended {
            Some(why) => Some(format!("mirroring is suspended: {why}")),
            None if control.paused => Some("mirroring is paused".to_owned()),
            None => self.is_never().map(str::to_owned),
        }
    }

    /// Returns once the mirror is only so far behind.
    async fn comes_near(&self, most: Duration) -> Result<(), String> {
        let until = Instant::now() + NEAR_MAX;
        loop {
            let figures = self.mirror.figures();
            if figures.oldest <= most {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(format!(
                    "the shadow is behind: the first of {} commands waits for {} ms, and sessions would wait as long",
                    figures.waiting,
                    figures.oldest.as_millis()
                ));
            }
            tokio::time::sleep(NEAR_LOOK).await;
        }
    }

    /// Returns once the shadow has everything; sessions stand still.
    async fn has_everything(&self) -> Result<(), String> {
        let drained = self.mirror.drained().await;
        drained.map_err(|ended| ended.to_string())?;
        // What came while it was suspended was not waited for.
        self.is_dry().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of replication nobody knows that all has come, so it is refused, whatever the mirror does beside it.
    #[test]
    fn there_is_no_instant_where_nothing_tells_that_the_shadow_has_everything() {
        let all = [Writes::Apply, Writes::Rollback, Writes::Plan, Writes::Off];
        assert!(all.iter().all(|writes| {
            never(FedBy::Replication, *writes).is_some_and(|why| why.contains("replication feeds"))
        }));
        let by_mirror = all.map(|writes| never(FedBy::Mirror, writes));
        let refused = Some(NOT_APPLIED);
        assert_eq!(by_mirror, [None, refused, refused, refused]);
    }
}
