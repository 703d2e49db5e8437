//! How a proxy comes to its fleet and leaves it.
//!
//! It joins before it serves: first it is a member, whom every later switch needs; then it ends a call
//! that has not switched, in which an earlier run of it may have said its word; then it reads who is
//! primary. In that order whatever it reads holds until it takes part itself.

use super::board::{Lost, Member};
use super::store::Change;
use super::{Fleet, FleetError, Primary, TRIES, json};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Between two tries to join.
const AGAIN: Duration = Duration::from_secs(1);

/// Between two words of it.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// So long a proxy that starts waits for those that serve to say who is primary: more than the time
/// between two of their looks.
const OTHERS_SAY: Duration = Duration::from_secs(3);

/// Why a proxy has not joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// etcd did not answer for so long.
    #[error(
        "[fleet] who is primary could not be learned within {} s: {why}. Is etcd running, and is fleet.etcd right? If you know who is primary, `understudy serve --primary NAME` serves without etcd until it answers", .waited.as_secs()
    )]
    Down {
        /// `fleet.start_timeout_s`
        waited: Duration,
        /// Why.
        why: String,
    },
}

/// What a proxy learned when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Who is primary; none where nobody has said so yet.
    pub primary: Option<Primary>,
}

impl Fleet {
    /// Joins, trying until the time is over.
    ///
    /// # Errors
    /// etcd does not answer by then.
    pub async fn join(&self, at_most: Duration) -> Result<Joined, JoinError> {
        let until = Instant::now() + at_most;
        let mut said: Option<Instant> = None;
        loop {
            let why = match self.join_now().await {
                Ok(joined) => return Ok(joined),
                Err(why) => why.to_string(),
            };
            let now = Instant::now();
            if now >= until {
                return Err(JoinError::Down {
                    waited: at_most,
                    why,
                });
            }
            if said.is_none_or(|said| now >= said + SAY_AGAIN) {
                said = Some(now);
                tracing::error!("no client is served before the fleet's primary is known: {why}");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Joins, or fails at once.
    pub(crate) async fn join_now(&self) -> Result<Joined, FleetError> {
        self.register().await?;
        let board = self.board().await?;
        if let Some(call) = board.under_way() {
            self.abort(call, "started in its midst").await?;
        }
        let primary = self.board().await?.primary;
        self.joined.store(true, Ordering::Release);
        Ok(Joined { primary })
    }

    /// Makes this run of the proxy a member, in place of an earlier one of its name.
    async fn register(&self) -> Result<(), FleetError> {
        for _ in 0..TRIES {
            let board = self.board().await?;
            let mut members = board.members;
            if members
                .get(&self.name)
                .is_some_and(|member| member.instance == self.instance)
            {
                {
                    self.registered.store(true, Ordering::Release);
                    return Ok(());
                }
            }
            let member = Member {
                instance: self.instance.clone(),
                at: jiff::Timestamp::now(),
            };
            members.insert(self.name.clone(), member);
            let change = Change {
                seen: vec![(self.keys.members(), board.members_at)],
                puts: vec![(self.keys.members(), json(&members))],
                clears: Vec::new(),
            };
            if self.change(change).await? {
                {
                    self.registered.store(true, Ordering::Release);
                    return Ok(());
                }
            }
        }
        Err(super::busy())
    }

    /// Says who is primary where nobody has; who is. A proxy that has just started gives those that serve
    /// a moment to say it: etcd may have lost its data, and they know.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn declare(&self, name: &str, serves: bool) -> Result<Primary, FleetError> {
        let until = Instant::now() + OTHERS_SAY;
        for _ in 0..TRIES {
            let board = self.board().await?;
            if let Some(primary) = board.primary {
                return Ok(primary);
            }
            if !serves && board.members.len() > 1 && Instant::now() < until {
                tokio::time::sleep(OTHERS_SAY / 10).await;
                continue;
            }
            let primary = Primary {
                name: name.to_owned(),
                cutover: None,
                is_back: false,
                at: jiff::Timestamp::now(),
            };
            let change = Change {
                seen: vec![(self.keys.primary(), 0)],
                puts: vec![(self.keys.primary(), json(&primary))],
                clears: Vec::new(),
            };
            if self.change(change).await? {
                return Ok(primary);
            }
        }
        Err(super::busy())
    }

    /// Leaves: this proxy has no session any more. What it takes along is told.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn leave(&self) -> Result<(), FleetError> {
        let lost = self.along.lock().clone();
        self.remove(&self.name, Some(&self.instance), lost.as_deref())
            .await
    }

    /// Takes a proxy out that is gone for good. `lost`: how dark writes may have gone with it.
    ///
    /// # Errors
    /// There is none of that name, or it is this one; etcd does not answer.
    pub async fn forget(&self, name: &str, lost: Option<&str>) -> Result<(), FleetError> {
        if name == self.name {
            return Err(FleetError::No(format!(
                "{name} is this proxy: it leaves by itself when it is stopped (SIGTERM)"
            )));
        }
        let board = self.board().await?;
        if !board.members.contains_key(name) {
            let names: Vec<&str> = board.members.keys().map(String::as_str).collect();
            return Err(FleetError::No(format!(
                "the fleet has no proxy {name:?}; its proxies are {}",
                names.join(", ")
            )));
        }
        if let Some(call) = board.under_way()
            && call.members.contains_key(name)
        {
            let why = format!("{name} is taken out of the fleet");
            self.abort(call, &why).await?;
        }
        self.remove(name, None, lost).await?;
        tracing::warn!("{name} was taken out of the fleet");
        Ok(())
    }

    /// `instance`: only this run of it.
    async fn remove(
        &self,
        name: &str,
        instance: Option<&str>,
        lost: Option<&str>,
    ) -> Result<(), FleetError> {
        for _ in 0..TRIES {
            let board = self.board().await?;
            let mut members = board.members;
            let is_it = members
                .get(name)
                .is_some_and(|member| instance.is_none_or(|one| one == member.instance));
            if !is_it {
                return Ok(());
            }
            members.remove(name);
            let mut puts = vec![(self.keys.members(), json(&members))];
            puts.extend(lost.map(|why| {
                let lost = Lost {
                    at: jiff::Timestamp::now(),
                    why: why.to_owned(),
                };
                (self.keys.lost(name), json(&lost))
            }));
            let change = Change {
                seen: vec![(self.keys.members(), board.members_at)],
                puts,
                clears: Vec::new(),
            };
            if self.change(change).await? {
                return Ok(());
            }
        }
        Err(super::busy())
    }
}
