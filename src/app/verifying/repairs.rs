//! How a repair gets its place in the mirror's order: one that the roles cannot turn away from under it.

use super::{CATCH_UP, Surroundings};
use crate::config::Config;
use crate::cutover::Helm;
use crate::roles::RolesWatch;
use crate::shadow::{NoStand, Stand};
use crate::sql::Table;
use crate::verify::{NoPlace, Place};
use std::sync::Arc;
use std::time::Duration;

/// A repair's place is kept for so long at most: dark writes on its table wait meanwhile.
const HELD_MAX: Duration = Duration::from_secs(2);

/// And for no longer than this part of `cutover.hold_ms_max`: a cutover that begins just then holds its sessions until
/// the place is given back.
const HOLD_SHARE: u32 = 5;

/// Commands that are under way on the primary are waited for.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(3);

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

/// How long a place may be kept: all that is done in it ends by then.
fn kept_at_most(config: &Config) -> Duration {
    let of_the_hold = config.cutover.hold_max.now() / HOLD_SHARE;
    HELD_MAX
        .min(config.mirror.order_wait.now() / 4)
        .min(of_the_hold)
}

impl Surroundings {
    /// See [`crate::verify::Around::place`].
    pub(super) async fn spot(
        &self,
        table: &Table,
        server: &str,
    ) -> Result<Box<dyn Place>, NoPlace> {
        // One that is under way, or begins, waits for no new place.
        if self.helm.state().rest().is_none() {
            return Err(NoPlace::Later("a cutover is under way".to_owned()));
        }
        // What the primary has committed, and has not answered yet, comes through the tee behind any place that is
        // taken now, and would be run on top of a row that has it already.
        let in_flight = self.house.in_flight(IN_FLIGHT_MAX).await;
        in_flight.map_err(NoPlace::Later)?;
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
            at_most: kept_at_most(&self.config),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Finding: a place, its COMMIT and its KILL could take as long as a cutover may hold production.
    #[test]
    fn a_place_is_short_against_the_hold() {
        for (hold_ms, at_most_ms) in [(400, 80), (5_000, 1_000)] {
            let text = format!(
                "[primary]\nname = \"a\"\naddress = \"h:1\"\n[shadow]\nname = \"b\"\naddress = \"h:2\"\n[cutover]\nhold_ms_max = {hold_ms}"
            );
            let config = Config::parse(&text, &[]).unwrap();
            let at_most = Duration::from_millis(at_most_ms);
            assert!(kept_at_most(&config) <= at_most, "{hold_ms}");
        }
    }
}
