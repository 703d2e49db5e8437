//! How a repair gets its place in the mirror's order: one that the roles cannot turn away from under it.

use super::{CATCH_UP, Surroundings};
use crate::cutover::Helm;
use crate::roles::RolesWatch;
use crate::shadow::{NoStand, Stand};
use crate::sql::Table;
use crate::verify::{NoPlace, Place};
use std::sync::Arc;
use std::time::Duration;

/// A repair's place is kept for so long at most: dark writes on its table wait meanwhile.
const HELD_MAX: Duration = Duration::from_secs(2);

/// See the module.
struct Spot {
    _stand: Stand,
    roles: RolesWatch,
    helm: Arc<dyn Helm>,
    server: String,
    at_most: Duration,
}

impl Place for Spot {
    fn holds(&self) -> Result<(), String> {
        let shadow = self.roles.borrow().shadow.name.clone();
        if shadow != self.server {
            return Err(format!("{shadow} is the shadow now"));
        }
        match self.helm.state().rest() {
            Some(_) => Ok(()),
            None => Err("a cutover is under way".to_owned()),
        }
    }

    fn at_most(&self) -> Duration {
        self.at_most
    }
}

impl Surroundings {
    /// See [`crate::verify::Around::place`].
    pub(super) async fn spot(
        &self,
        table: &Table,
        server: &str,
    ) -> Result<Box<dyn Place>, NoPlace> {
        let stand = self.mirror.stand(table, server, CATCH_UP).await;
        let stand = stand.map_err(|none| match none {
            NoStand::Late => NoPlace::Later(none.to_string()),
            NoStand::Turned(_) | NoStand::Ended(_) => NoPlace::Never(none.to_string()),
        })?;
        let spot = Spot {
            _stand: stand,
            roles: self.roles.clone(),
            helm: Arc::clone(&self.helm),
            server: server.to_owned(),
            at_most: HELD_MAX.min(self.config.mirror.order_wait / 4),
        };
        // A cutover that was under way before the place was taken need not have waited for it. One that begins
        // from now on waits until it is given back: it drains the mirror before its switch.
        spot.holds().map_err(NoPlace::Later)?;
        Ok(Box::new(spot))
    }

    /// Why no repair can be run here; none where it can.
    pub(super) fn no_repairs(&self) -> Option<String> {
        self.helm.fleet().map(|_| {
            "other proxies of the fleet write to the shadow too, and their dark writes are in no order with what this one repairs; take --repair plan".to_owned()
        })
    }
}
