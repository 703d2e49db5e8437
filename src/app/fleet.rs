//! The fleet at the start and at the end: who is primary is learned from it before anybody is served, and
//! it is left once nobody is.

use super::AppError;
use crate::config::Config;
use crate::cutover::Fleet;
use crate::cutover::fleet::{FleetError, Primary};
use std::sync::Arc;
use std::time::Duration;

/// A start whose primary an operator names asks etcd for so long.
const TOLD: Duration = Duration::from_secs(3);

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
    match fleet.declare(primary).await {
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

/// Leaves it: no session is left.
pub(super) async fn leave(fleet: Option<&Fleet>) {
    let Some(fleet) = fleet else { return };
    let name = fleet.name();
    match tokio::time::timeout(LEAVE, fleet.leave()).await {
        Ok(Ok(())) => tracing::info!("{name} has left the fleet"),
        Ok(Err(error)) => tracing::error!(
            "{name} could not leave the fleet: {error}. The others wait for it at the next cutover: start it again, or `understudy fleet forget {name}`"
        ),
        Err(_) => tracing::error!(
            "{name} could not leave the fleet, for etcd does not answer. The others wait for it at the next cutover: start it again, or `understudy fleet forget {name}`"
        ),
    }
}
