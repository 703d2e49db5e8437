//! How a repair gets its place in the mirror's order, and is run on the shadow in it.

use super::{CATCH_UP, Surroundings};
use crate::ask::{Asker, Manner};
use crate::sql::Table;
use crate::verify::{Applied, Make};
use std::sync::Arc;
use std::time::Duration;

/// Tries to find a moment in which nobody writes to a row.
const REPAIRS_MAX: u32 = 20;

/// The acknowledgement of a commit that was seen has come through the tee after this time.
const QUIET: Duration = Duration::from_millis(100);

impl Surroundings {
    /// See [`crate::verify::Around::apply`].
    pub(super) async fn repair(
        &self,
        table: &Table,
        mut make: Make<'_>,
    ) -> Result<Applied, String> {
        for _ in 0..REPAIRS_MAX {
            let before = make().await?;
            // What was seen has come through the tee by then, and stands before this place.
            tokio::time::sleep(QUIET).await;
            let stand = self.mirror.stand(table, CATCH_UP).await;
            let stand = stand.map_err(|ended| ended.to_string())?;
            let Some(stand) = stand else {
                return Err("its turn did not come in the mirror's order".to_owned());
            };
            let made = make().await?;
            if made.seen != before.seen {
                // A commit since: its dark write waits behind this place, and would be run twice.
                continue;
            }
            let Some(statement) = made.statement else {
                return Ok(Applied::Nothing);
            };
            self.run(&statement).await?;
            drop(stand);
            return Ok(Applied::Done);
        }
        Err(format!(
            "the row of {} changes all the time: there was no moment in which it could be read and written",
            table.name
        ))
    }

    /// Runs a repair on the shadow.
    async fn run(&self, statement: &str) -> Result<(), String> {
        let shadow = Arc::clone(&self.roles.borrow().shadow);
        let account = shadow.account.clone();
        let account =
            account.ok_or_else(|| format!("{} has no account of the proxy's own", shadow.name))?;
        let opened = Asker::open(&*self.dial, &shadow, &account, &Manner::default()).await;
        let mut asker = opened.map_err(|fault| format!("{}: {fault}", shadow.name))?;
        for one in [
            "SET NAMES utf8mb4",
            "SET time_zone = '+00:00'",
            // A key of 0 is 0, and zero dates are what they are.
            "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
            statement,
        ] {
            let run = asker.ask(one).await;
            run.map_err(|fault| format!("{}: {fault}", shadow.name))?;
        }
        asker.leave().await;
        Ok(())
    }
}
