//! All that is done before anybody waits for a table's lock: whether it can be had at all, the connections, and the
//! looks that say whether it would be had in time.

use super::barred::barred;
use super::grip::Grip;
use super::names::{Table, named, texts};
use super::{Barred, Lock, never_locks};
use crate::ask::{AskError, Asker, Manner, Row};
use crate::config::Account;
use crate::cutover::position::{Follower, Position};
use crate::cutover::rights::lacks_to_lock;
use std::fmt::Display;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Replication comes as near as it must at some moment, or the lock is asked for later.
const NEAR_MAX: Duration = Duration::from_secs(3);

/// Between two looks whether it is near.
const NEAR_LOOK: Duration = Duration::from_millis(20);

/// All of it together.
const READY_MAX: Duration = Duration::from_secs(30);

impl Lock {
    /// Whether tables of these databases can be locked, and the shadow be waited for.
    pub(super) async fn able(&self, databases: &[String]) -> Result<(), Barred> {
        in_time(self.is_able(databases)).await
    }

    /// What a lock of this table needs, and that it is likely to be had.
    pub(super) async fn ready(
        &self,
        table: &Table,
        on: [Option<String>; 2],
        at_most: Duration,
    ) -> Result<(Grip, Follower<'_>), Barred> {
        in_time(self.make_ready(table, on, at_most)).await
    }

    fn account(&self) -> Result<&Account, Barred> {
        let primary = &self.roles.primary;
        primary.account.as_ref().ok_or_else(|| Barred {
            why: format!("the proxy has no account on {}", primary.name),
            hopeless: true,
        })
    }

    async fn is_able(&self, databases: &[String]) -> Result<(), Barred> {
        let primary = &self.roles.primary;
        let manner = Manner::default();
        let opened = Asker::open(&*self.dial, primary, self.account()?, &manner).await;
        let failed = |fault: &dyn Display| Barred::now(format!("{}: {fault}", primary.name));
        let mut asker = opened.map_err(|fault| failed(&fault))?;
        locks(asker.version(), &primary.name)?;
        Position::of(&mut asker, &primary.name).await?;
        let told = asker
            .ask("SHOW GRANTS")
            .await
            .map_err(|fault| failed(&fault))?;
        let grants: Vec<String> = told.into_iter().flatten().flatten().collect();
        for database in databases {
            let lacks = lacks_to_lock(&grants, database).join(", ");
            if !lacks.is_empty() {
                let who = asker.ask("SELECT CURRENT_USER()").await;
                let who = who
                    .unwrap_or_default()
                    .into_iter()
                    .flatten()
                    .flatten()
                    .next();
                return Err(Barred::now(format!(
                    "the proxy's account may not lock tables of {database} on {}: GRANT {lacks} ON `{database}`.* TO {} there, or take --mode chunks",
                    primary.name,
                    quoted_account(who.as_deref().unwrap_or("it"))
                )));
            }
        }
        asker.leave().await;
        Follower::of(&*self.dial, &self.roles.shadow, &self.command).await?;
        Ok(())
    }

    async fn make_ready(
        &self,
        table: &Table,
        [on, on_shadow]: [Option<String>; 2],
        at_most: Duration,
    ) -> Result<(Grip, Follower<'_>), Barred> {
        let primary = &self.roles.primary;
        let account = self.account()?;
        let to = (&**primary, account);
        let ready = Grip::ready(&*self.dial, to, at_most, self.thread.clone()).await;
        let failed = |fault: &dyn Display| Barred::now(format!("{}: {fault}", primary.name));
        let mut grip = ready.map_err(|fault| failed(&fault))?;
        is_the_one(&primary.name, grip.server(), on.as_deref())?;
        let aside = grip.aside().map_err(|fault| failed(&fault))?;
        locks(aside.version(), &primary.name)?;
        let bounds = aside.ask(BOUNDS).await.map_err(|fault| failed(&fault))?;
        too_long(&bounds, at_most)?;
        if let Some(rules) = cascades(aside, table)
            .await
            .map_err(|fault| failed(&fault))?
        {
            return Err(Barred {
                why: format!(
                    "{} cannot be locked against all that writes to it: its rows change with another table's ({rules}), and before MySQL 8 no lock of it keeps them; take --mode chunks",
                    named(table)
                ),
                hopeless: true,
            });
        }
        if let Some(who) = barred(aside, table, at_most).await {
            return Err(Barred::now(format!(
                "{} was not locked, for the lock would have waited, and whoever writes to it behind it: {who}",
                named(table)
            )));
        }
        let mut follower = Follower::of(&*self.dial, &self.roles.shadow, &self.command).await?;
        if let Some(on) = &on_shadow
            && let Some(asked) = follower.identity().await?
        {
            is_the_one(&self.roles.shadow.name, &asked, Some(on))?;
        }
        let most = at_most / follower.share();
        let near = self.comes_near(aside, &mut follower, table, most);
        near.await?;
        Ok((grip, follower))
    }

    /// Returns once the shadow has what the primary has, as soon as writers may wait for it.
    async fn comes_near(
        &self,
        aside: &mut Asker,
        follower: &mut Follower<'_>,
        table: &Table,
        most: Duration,
    ) -> Result<(), Barred> {
        let until = Instant::now() + NEAR_MAX;
        loop {
            let position = Position::of(aside, &self.roles.primary.name).await?;
            let began = Instant::now();
            let came = follower.comes_to(&position, &named(table), until).await;
            came.map_err(|why| Barred::now(format!("{} was not locked: {why}", named(table))))?;
            let took = began.elapsed();
            if took <= most {
                return Ok(());
            }
            if Instant::now() + NEAR_LOOK >= until {
                return Err(Barred::now(format!(
                    "{} was not locked: what the primary commits is known to be on {} only {} ms later, and writers would wait as long, so it may not be later than {} ms (verify.hold_ms_max)",
                    named(table),
                    self.roles.shadow.name,
                    took.as_millis(),
                    most.as_millis()
                )));
            }
            tokio::time::sleep(NEAR_LOOK).await;
        }
    }
}

/// Behind an address of several servers one may be locked, or waited for, while rows are read on another.
fn is_the_one(name: &str, server: &str, on: Option<&str>) -> Result<(), Barred> {
    match on {
        Some(on) if on != server => Err(Barred {
            why: format!(
                "{name}'s address led to several servers: a lock, or a wait, on {server} says nothing of rows that are read on {on}; give the address of one"
            ),
            hopeless: true,
        }),
        Some(_) | None => Ok(()),
    }
}

async fn in_time<T>(ready: impl Future<Output = Result<T, Barred>>) -> Result<T, Barred> {
    let late = |_| {
        let s = READY_MAX.as_secs();
        Barred::now(format!("what is done before a lock took longer than {s} s"))
    };
    timeout(READY_MAX, ready).await.map_err(late)?
}

/// After how many seconds the primary's sessions give up what they wait for, where they have not said otherwise.
const BOUNDS: &str = "SELECT LEAST(@@GLOBAL.lock_wait_timeout, @@GLOBAL.innodb_lock_wait_timeout)";

/// Writers that wait must not be refused for it.
fn too_long(bounds: &[Row], at_most: Duration) -> Result<(), Barred> {
    let bound = bounds.iter().flatten().flatten().next();
    let bound = bound.and_then(|seconds| seconds.parse().ok());
    match bound.map(Duration::from_secs) {
        Some(bound) if at_most.saturating_mul(2) > bound => Err(Barred {
            why: format!(
                "writers may be refused with error 1205 while they wait for a lock of {} ms: sessions of the primary wait for {} s at most (lock_wait_timeout, innodb_lock_wait_timeout); set verify.hold_ms_max to less than half of that",
                at_most.as_millis(),
                bound.as_secs()
            ),
            hopeless: true,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Whether a server of this version can lock a table at all.
fn locks(version: &str, name: &str) -> Result<(), Barred> {
    match never_locks(version) {
        None => Ok(()),
        Some(why) => Err(Barred {
            why: format!("{name} ({version}) cannot be locked: {why}; take --mode chunks"),
            hopeless: true,
        }),
    }
}

/// What a foreign key changes in this table past its lock: before MySQL 8 a lock of the server's does not cover that.
async fn cascades(aside: &mut Asker, table: &Table) -> Result<Option<String>, AskError> {
    let major = aside.version().split('.').next();
    let major = major.and_then(|n| n.parse().ok());
    if major.is_some_and(|major: u32| major >= 8) {
        return Ok(None);
    }
    let (database, name) = texts(table);
    let ask = format!(
        "SELECT constraint_name FROM information_schema.referential_constraints \
         WHERE constraint_schema = {database} AND table_name = {name} \
         AND (delete_rule NOT IN ('RESTRICT', 'NO ACTION') OR update_rule NOT IN ('RESTRICT', 'NO ACTION'))"
    );
    let rows = aside.ask(&ask).await?;
    Ok(rows.into_iter().flatten().flatten().next())
}

/// `user@host` as a GRANT has it.
fn quoted_account(account: &str) -> String {
    match account.rsplit_once('@') {
        Some((user, host)) => format!("'{user}'@'{host}'"),
        None => account.to_owned(),
    }
}
