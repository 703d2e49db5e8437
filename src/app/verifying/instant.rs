//! How a verification has one instant for both servers: every session stands at its boundary, and the shadow has all
//! that the primary has committed.
//!
//! It is done on the main thread, at its own priority: the verification's would keep sessions waiting. What can be done
//! before anybody waits is done before.

use super::Surroundings;
use crate::config::{FedBy, Writes};
use crate::cutover::{Moment, Replicated, Standstill};
use crate::roles::Roles;
use crate::shadow::Mirror;
use crate::task;
use crate::verify::{Held, Opening};
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
    pub(super) async fn one_instant(&self, at_most: Duration, opening: Opening) -> Held {
        if self.helm.state().rest().is_none() {
            return none("a cutover is under way".to_owned());
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
        let roles = self.roles.borrow().clone();
        let is_replicated = roles.shadow.fed_by == FedBy::Replication;
        Feed {
            mirror: Arc::clone(&self.mirror),
            replicated: is_replicated.then(|| self.replicated(roles.clone())),
            roles,
        }
    }

    /// Why there can be no instant at all; none where there can.
    pub(super) fn never_an_instant(&self) -> Option<String> {
        if self.standstill.is_none() {
            return Some(NOBODY.to_owned());
        }
        if self.helm.fleet().is_some() {
            return Some("other proxies of the fleet write to the primary too, and nobody holds their sessions meanwhile; take --mode chunks".to_owned());
        }
        let feed = self.feed();
        let never = feed.replicated.is_none() && self.mirror.control().writes != Writes::Apply;
        let why = feed.is_dry().filter(|_| never);
        why.map(|why| format!("{why}; take --mode chunks"))
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
        feed.has_everything(began + at_most).await?;
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
    }
}

/// What brings the shadow what the primary commits.
struct Feed {
    mirror: Arc<Mirror>,
    roles: Roles,
    /// Where it is replication.
    replicated: Option<Arc<Replicated>>,
}

impl Feed {
    /// Why the shadow does not get what the primary commits.
    fn is_dry(&self) -> Option<String> {
        if self.roles.shadow.fed_by == FedBy::Replication {
            return None;
        }
        let control = self.mirror.control();
        match self.mirror.figures().suspended {
            Some(why) => Some(format!("mirroring is suspended: {why}")),
            None if control.paused => Some("mirroring is paused".to_owned()),
            None if control.writes != Writes::Apply => Some(
                "dark writes are not applied (mirror.writes), so nothing brings the shadow what is written".to_owned(),
            ),
            None => None,
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
    async fn has_everything(&self, until: Instant) -> Result<(), String> {
        // Dark writes that are rolled back again are seen by nobody; those that are applied are waited for.
        let drained = self.mirror.drained().await;
        drained.map_err(|ended| ended.to_string())?;
        if let Some(replicated) = &self.replicated {
            let left = until.saturating_duration_since(Instant::now());
            return replicated.wait(left).await;
        }
        // What came while it was suspended was not waited for.
        self.is_dry().map_or(Ok(()), Err)
    }
}
