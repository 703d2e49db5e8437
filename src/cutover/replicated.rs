//! Whether replication has brought the shadow what the primary committed, for whoever compares the two: asked in the
//! cutover's way (`cutover.catch_up`), with a heartbeat's row of its own. Refuses to guess: what is not known in time is
//! an error.

use super::catch_up::{self, Way, row_of};
use crate::config::{CatchUp, Cutover};
use crate::connect::Dial;
use crate::roles::Roles;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

/// See the module.
pub struct Replicated {
    /// One at a time: a second heartbeat would be written over the first. It is made when it is asked first.
    way: Mutex<Option<Way>>,
    dial: Arc<dyn Dial>,
    roles: Roles,
    config: Cutover,
    row: u32,
}

impl std::fmt::Debug for Replicated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replicated").finish_non_exhaustive()
    }
}

impl Replicated {
    /// Between these two; `proxy` is its name in a fleet.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, roles: Roles, config: Cutover, proxy: Option<&str>) -> Self {
        let name = format!("{} verifies", proxy.unwrap_or_default());
        Self {
            way: Mutex::new(None),
            dial,
            roles,
            config,
            row: row_of(Some(&name)),
        }
    }

    /// Whether this is between these two.
    #[must_use]
    pub fn is_between(&self, roles: &Roles) -> bool {
        self.roles.primary.name == roles.primary.name && self.roles.shadow.name == roles.shadow.name
    }

    /// Whether the shadow is asked for each transaction, and not for a sign of one that came behind them.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.config.catch_up == CatchUp::Gtid
    }

    /// Returns once the shadow has what the primary had committed when this was called. `on` are the servers that are
    /// compared, by their own word ([`crate::ask::Asker::identity`]), where they have one: what others have says nothing of
    /// them.
    ///
    /// # Errors
    /// It has not, or nobody can say, within this time; or an address led to another server.
    pub async fn wait(&self, on: [Option<&str>; 2], at_most: Duration) -> Result<(), String> {
        let until = Instant::now() + at_most;
        let late = |_| "replication is asked by others all the time".to_owned();
        let mut known = timeout_at(until, self.way.lock()).await.map_err(late)?;
        let way = match known.take() {
            Some(way) => way,
            None => {
                let told = vec![
                    ("FROM", self.roles.primary.name.clone()),
                    ("TO", self.roles.shadow.name.clone()),
                ];
                catch_up::replicated((&self.dial, &self.roles), &self.config, self.row, told)?
            }
        };
        let came = way.wait_on(on, until).await;
        *known = Some(way);
        came
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::IDENTITIES;
    use crate::ask::fake::{Fake, Say, row, server};
    use crate::config::Config;

    const LONG: Duration = Duration::from_secs(30);
    const ON: [Option<&str>; 2] = [Some("of legacy"), Some("of other")];

    fn between(fake: &Fake, catch_up: CatchUp) -> Replicated {
        let mut config = Config::parse("", &[]).unwrap().cutover;
        config.catch_up = catch_up;
        let [primary, shadow] = ["legacy", "other"].map(|name| Arc::new(server(name)));
        let dial = Arc::new(fake.clone());
        Replicated::new(dial, Roles { primary, shadow }, config, None)
    }

    /// Both have everything. The first connection to this server leads to its twin.
    fn twins(whose: &'static str) -> Fake {
        let beat = Arc::new(parking_lot::Mutex::new(String::new()));
        let first = Arc::new(parking_lot::Mutex::new(None));
        Fake::of_connections(move |server, connection, statement| {
            let rows = |cell: &str| Say::Rows(vec![row(&[cell])]);
            let is_twin = server == whose && *first.lock().get_or_insert(connection) == connection;
            let said = if statement == IDENTITIES[0] {
                rows(&format!(
                    "of {server}{}",
                    if is_twin { "'s twin" } else { "" }
                ))
            } else if statement == "SELECT @@GLOBAL.gtid_executed" {
                rows("a-b:1-5")
            } else if statement.starts_with("SELECT WAIT_FOR_EXECUTED_GTID_SET('a-b:1-5'") {
                rows("0")
            } else if let Some((_, told)) = statement.split_once(", '") {
                *beat.lock() = told.trim_end_matches("')").to_owned();
                Say::Done
            } else if statement.starts_with("SELECT beat") {
                rows(&beat.lock())
            } else {
                Say::Refuse(1064)
            };
            (said, false)
        })
    }

    #[tokio::test]
    async fn what_another_server_has_says_nothing_of_the_one_that_is_compared() {
        for catch_up in [CatchUp::Gtid, CatchUp::Heartbeat] {
            let fine = between(&twins("nobody"), catch_up);
            assert_eq!(fine.wait(ON, LONG).await, Ok(()), "{catch_up:?}");
            for whose in ["legacy", "other"] {
                let fake = twins(whose);
                let replicated = between(&fake, catch_up);
                let other = replicated.wait(ON, LONG).await.unwrap_err();
                let words = format!(
                    "led to several servers: of {whose}'s twin was asked where of {whose} is meant"
                );
                assert!(other.contains(&words), "{catch_up:?}: {other}");
                assert_eq!(
                    fake.asked(whose),
                    [IDENTITIES[0]],
                    "{catch_up:?}: nothing else is asked of it"
                );
                // The next connection leads to the one that is meant.
                assert_eq!(replicated.wait(ON, LONG).await, Ok(()), "{catch_up:?}");
            }
        }
    }

    #[tokio::test]
    async fn who_has_no_word_for_itself_is_believed() {
        let fake = twins("other");
        let replicated = between(&fake, CatchUp::Gtid);
        assert_eq!(replicated.wait([ON[0], None], LONG).await, Ok(()));
        let asked = fake.asked("other");
        assert!(!asked.contains(&IDENTITIES[0].to_owned()), "{asked:?}");
    }
}
