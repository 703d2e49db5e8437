//! The fleet at the start and at the end: who is primary is learned from it before anybody is served, and
//! it is left once nobody is.

use super::AppError;
use super::house::Running;
use crate::config::{Config, FedBy};
use crate::cutover::Fleet;
use crate::cutover::fleet::{FleetError, Primary};
use crate::ledger::Ledger;
use crate::relay::Relay;
use crate::roles::{Roles, RolesWatch};
use std::sync::Arc;
use std::time::Duration;

/// A start whose primary an operator names asks etcd for so long.
const TOLD: Duration = Duration::from_secs(3);

/// Between two looks where nobody steers cutovers.
const LOOK: Duration = Duration::from_secs(1);

/// To leave takes no longer.
const LEAVE: Duration = Duration::from_secs(5);

/// The fleet of the config, where it has one.
pub(super) fn of(config: &Config) -> Result<Option<Arc<Fleet>>, AppError> {
    Fleet::of(config).map_err(|error| AppError::Config(error.to_string()))
}

/// Joins it: the primary, where it knows one. `told`: whom `--primary` names.
pub(super) async fn join(
    fleet: Option<&Fleet>,
    config: &Config,
    told: Option<&str>,
) -> Result<Option<Primary>, AppError> {
    let Some(fleet) = fleet else {
        return Ok(None);
    };
    let most = told.map_or(config.fleet.start_timeout, |_| TOLD);
    match (fleet.join(most).await, told) {
        (Ok(joined), _) => Ok(joined.primary),
        (Err(error), None) => Err(AppError::Failed(error.to_string())),
        (Err(error), Some(name)) => {
            tracing::error!(
                "{error}; --primary {name} says who answers: once etcd answers this proxy joins its fleet, and ends should another server be primary there"
            );
            Ok(None)
        }
    }
}

/// Says to the fleet who is primary here, where nobody has said it yet.
pub(super) async fn declare(fleet: Option<&Fleet>, primary: &str) -> Result<(), AppError> {
    let Some(fleet) = fleet else {
        return Ok(());
    };
    match fleet.declare(primary, false).await {
        Ok(told) if told.name == primary => Ok(()),
        Ok(told) => Err(AppError::Failed(format!(
            "{primary} is primary here, and another proxy of the fleet has said just now that {} is: make them agree ([primary] of the configs, or the ledgers), then start both again",
            told.name
        ))),
        // It was joined a moment ago, or an operator has said who is primary: the others tell later.
        Err(FleetError::Down(why) | FleetError::No(why)) => {
            tracing::error!("the fleet does not hear who is primary here: {why}");
            Ok(())
        }
    }
}

/// Resolves once this proxy must not go on in its fleet, and why. Where nobody steers cutovers, nobody hears
/// of the fleet's: then it is looked for here.
pub(super) async fn lost(
    fleet: Option<&Arc<Fleet>>,
    is_steered: bool,
    roles: &RolesWatch,
    relay: &Relay,
) -> String {
    let Some(fleet) = fleet else {
        return std::future::pending().await;
    };
    if is_steered {
        return fleet.lost().await;
    }
    let here = roles.borrow().primary.name.clone();
    loop {
        if let Ok(joined) = fleet.join_now().await
            && let Some(told) = joined.primary
            && told.name != here
        {
            relay.hold();
            return format!(
                "etcd says that {} is the fleet's primary, and this proxy answers from {here}, as --primary says: it ends. Start it without --primary",
                told.name
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Dark writes that go with this proxy are told to the others, whose ledgers know nothing of them.
pub(super) fn takes_along(fleet: Option<&Fleet>, roles: &Roles, house: &Running, ledger: &Ledger) {
    let fed = roles.shadow.fed_by == FedBy::Mirror;
    let Some(fleet) = fleet.filter(|_| fed) else {
        return;
    };
    let (waiting, taints) = (house.waiting(), ledger.taints().len());
    if waiting > 0 {
        fleet.takes_along(&format!(
            "was stopped before {waiting} commands had come to the shadow"
        ));
    } else if taints > 0 {
        fleet.takes_along(&format!(
            "was stopped while {taints} tables were tainted there"
        ));
    }
}

/// Leaves it: no session is left, and the runtimes have ended.
pub(super) fn leave(fleet: &Fleet) {
    if !fleet.is_registered() {
        return;
    }
    let name = fleet.name();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let left = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            let leaving = async { tokio::time::timeout(LEAVE, fleet.leave()).await };
            let left = runtime.block_on(leaving);
            runtime.shutdown_background();
            left.map_err(|_| "etcd does not answer".to_owned())?
                .map_err(|error| error.to_string())
        });
    match left {
        Ok(()) => tracing::info!("{name} has left the fleet"),
        Err(why) => tracing::error!(
            "{name} could not leave the fleet: {why}. The others wait for it at the next cutover: start it again, or `understudy fleet forget {name}`"
        ),
    }
}
