//! Who is primary at the start: what the fleet says, else the ledger's record, else the config, else whom
//! `--primary` names.
//!
//! It never guesses: where a ledger is there and does not tell, an operator has to. And `--primary`
//! does not beat a record, for one that was left in a unit file would undo a cutover at each start.

use super::AppError;
use crate::config::{self, Config, FedBy};
use crate::cutover::fleet::Primary;
use crate::ledger::{Ledger, LedgerError, Recorded, Records, recorded};
use crate::roles::Roles;
use std::sync::Arc;

/// The ledger, and what it says of the primary.
pub(super) struct Start {
    /// In memory alone where the file cannot be used and an operator has said who is primary.
    pub(super) ledger: Ledger,
    /// The cutovers' records; none without a file.
    pub(super) records: Option<Arc<Records>>,
    pub(super) roles: Roles,
}

impl Start {
    /// Opens the ledger and reads who is primary. `told` is whom `--primary` names.
    pub(super) fn with(
        config: &Config,
        told: Option<&str>,
        fleet: Option<&Primary>,
        open: impl FnOnce() -> Result<Ledger, LedgerError>,
        in_memory: impl FnOnce() -> Ledger,
    ) -> Result<Self, AppError> {
        if let Some(name) = told {
            known(config, name)?;
        }
        agree(told, fleet)?;
        let ledger = match (open(), told) {
            (Ok(ledger), _) => ledger,
            (Err(LedgerError::Unreadable { .. } | LedgerError::Newer { .. }), Some(name)) => {
                tracing::error!(
                    path = %config.ledger.path.display(),
                    "the ledger cannot be used, and --primary {name} says who answers: nothing that is found is kept, and there is no cutover until a start with a ledger"
                );
                return Ok(Self {
                    ledger: in_memory(),
                    records: None,
                    roles: known(config, name)?,
                });
            }
            (Err(fault @ (LedgerError::Unreadable { .. } | LedgerError::Newer { .. })), None) => {
                return Err(AppError::Failed(format!("{fault}. {WITHOUT}")));
            }
            (Err(fault @ (LedgerError::InUse { .. } | LedgerError::Thread(_))), _) => {
                return Err(AppError::Failed(fault.to_string()));
            }
        };
        let chosen = choose(config, &recorded(&config.ledger.path), told, fleet)
            .inspect_err(|_| ledger.close())?;
        if let Some(words) = &chosen.words {
            tracing::warn!("{words}");
        }
        let records = Arc::new(Records::at(&config.ledger.path));
        if told.is_some() && fleet.is_none() && !config.fleet.etcd.is_empty() {
            may_be_told(&records).inspect_err(|_| ledger.close())?;
        }
        bring_up(&records, &ledger, &chosen, fleet);
        Ok(Self {
            ledger,
            records: Some(records),
            roles: chosen.roles,
        })
    }
}

/// Who feeds the server that is the shadow at this start: after a cutover that is another one than the
/// config's. Where nobody can tell yet, the one whose loss taints.
pub(super) fn fed_by(config: &Config, told: Option<&str>, fleet: Option<&Primary>) -> FedBy {
    let chosen = choose(config, &recorded(&config.ledger.path), told, fleet);
    chosen.map_or(FedBy::Mirror, |chosen| chosen.roles.shadow.fed_by)
}

const WITHOUT: &str = "Which server is primary stands in the ledger, and a start without one takes the config's [primary]: if you know who it is, `understudy serve --primary NAME` serves all the same, without this ledger";

/// The roles with this server as the primary.
fn known(config: &Config, name: &str) -> Result<Roles, AppError> {
    Roles::with_primary(config, name).ok_or_else(|| {
        AppError::Config(format!(
            "--primary {name}: there is no such server; [primary] is {}, [shadow] is {}",
            config.primary.name, config.shadow.name
        ))
    })
}

/// Who is primary, and what an operator should know of it.
#[derive(Debug)]
struct Chosen {
    roles: Roles,
    /// It is to be recorded, for an operator said so.
    declare: bool,
    words: Option<String>,
}

/// A proxy that ended in the midst of a fleet's switch may have been switched: nobody here knows.
fn may_be_told(records: &Records) -> Result<(), AppError> {
    let left = records.left_at_a_switch_of_a_fleet();
    if left.unwrap_or(false) {
        return Err(AppError::Failed(
            "this proxy ended in the midst of the fleet's switch, and etcd, which alone knows whether that was made, does not answer: --primary would be a guess. Start it when etcd answers; or ask another proxy of the fleet who is primary, move the ledger aside and start with --primary".to_owned(),
        ));
    }
    Ok(())
}

/// `--primary` does not beat the fleet either.
fn agree(told: Option<&str>, fleet: Option<&Primary>) -> Result<(), AppError> {
    match (told, fleet) {
        (Some(name), Some(fleet)) if fleet.name != name => Err(AppError::Failed(format!(
            "etcd says that {} is the fleet's primary, and --primary says {name}; --primary is for a start when etcd does not answer. Start without it",
            fleet.name
        ))),
        _ => Ok(()),
    }
}

/// The fleet's word holds, whatever stands here: this proxy may have been away when it changed.
fn of_fleet(config: &Config, record: &Recorded, fleet: &Primary) -> Result<Chosen, AppError> {
    let name = &fleet.name;
    let Some(roles) = Roles::with_primary(config, name) else {
        return Err(AppError::Failed(format!(
            "etcd says that {name} is the fleet's primary, and the config has no server of that name: [primary] is {}, [shadow] is {}",
            config.primary.name, config.shadow.name
        )));
    };
    let is_known = matches!(record, Recorded::Is(is) if is == name);
    let is_new = matches!(record, Recorded::Nothing) && *name == config.primary.name;
    let words = (!is_known && !is_new).then(|| {
        format!(
            "{name} is primary, for the fleet's etcd says so: it changed while this proxy was away"
        )
    });
    Ok(Chosen {
        roles,
        declare: !is_known,
        words,
    })
}

fn choose(
    config: &Config,
    record: &Recorded,
    told: Option<&str>,
    fleet: Option<&Primary>,
) -> Result<Chosen, AppError> {
    if let Some(fleet) = fleet {
        return of_fleet(config, record, fleet);
    }
    let configured = &config.primary.name;
    let path = config.ledger.path.display();
    let as_told = |name: &str, why: &str| {
        let words = format!("{name} is primary, for --primary says so and {why}");
        Ok(Chosen {
            roles: known(config, name)?,
            declare: true,
            words: Some(words),
        })
    };
    match (record, told) {
        (Recorded::Nothing, None) => Ok(Chosen {
            roles: Roles::configured(config),
            declare: false,
            words: None,
        }),
        (Recorded::Nothing, Some(name)) => as_told(name, "the ledger has no record of a primary"),
        (Recorded::Unreadable(why), Some(name)) => {
            as_told(name, &format!("the ledger cannot be read now: {why}"))
        }
        (Recorded::Unreadable(why), None) => Err(AppError::Failed(format!(
            "the ledger {path} cannot be read: {why}. {WITHOUT}"
        ))),
        (Recorded::Is(is), told) => match (Roles::with_primary(config, is), told) {
            (Some(_), Some(name)) if name != is => Err(AppError::Failed(format!(
                "the ledger {path} says that {is} is primary, and --primary says {name}; --primary is for a ledger that does not tell. Start without it (`understudy rollback` then changes roles without losing writes), or move the ledger aside if you know that it is wrong"
            ))),
            (Some(roles), _) => {
                let beaten = is != configured;
                let words = beaten.then(|| format!("{is} is primary, for the ledger says so: the record beats the config, whose [primary] is {configured}"));
                Ok(Chosen {
                    roles,
                    declare: false,
                    words,
                })
            }
            (None, Some(name)) => as_told(
                name,
                &format!("the server that the ledger names, {is}, is not in the config"),
            ),
            (None, None) => Err(AppError::Failed(format!(
                "the ledger {path} says that {is} is primary, and the config has no server of that name: give it back its name, or start once with --primary NAME"
            ))),
        },
    }
}

/// Writes down what an operator said, and closes what an earlier process left. Production does not
/// wait for a file that cannot be written now.
fn bring_up(records: &Records, ledger: &Ledger, chosen: &Chosen, fleet: Option<&Primary>) {
    let primary = &chosen.roles.primary.name;
    if let Some(cutover) = fleet.and_then(|fleet| fleet.cutover.as_deref()) {
        // The process may have ended between the fleet's switch and its own record of it.
        match records.switch_of_fleet(cutover) {
            Ok(()) => {}
            Err(fault) => tracing::warn!(%fault, "the fleet's switch could not be recorded here"),
        }
    }
    if chosen.declare {
        let why = chosen.words.as_deref().unwrap_or_default();
        let declared = records.declare(primary, config::OURSELVES, why);
        if let Err(fault) = declared {
            tracing::error!(%fault, "that {primary} is primary could not be recorded: the next start needs --primary {primary} again");
        }
    }
    if !ledger.health().ok {
        return;
    }
    if let Some(fleet) = fleet
        && let Err(fault) = records.end_others(&fleet.name)
    {
        tracing::warn!(%fault, "a soak that the fleet has gone on from could not be closed");
    }
    match records.take_over() {
        Ok(Some(record)) => {
            let id = record.id;
            tracing::warn!(
                "cutover {id} was switched before understudy ended: {primary} goes on with its soak"
            );
        }
        Ok(None) => {}
        Err(fault) => {
            tracing::warn!(%fault, "a cutover that was left in its midst could not be closed");
        }
    }
}

#[cfg(test)]
mod tests;
