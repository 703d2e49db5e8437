//! A verification without a running understudy: both servers of a config are read from here.
//!
//! Nobody knows of dark writes, so what differs is looked at again after pauses alone; and nobody puts repairs in
//! order, so none is applied. The ledger belongs to this process for as long.

use super::super::Trouble;
use crate::config::{Config, FedBy, Literals};
use crate::connect::Tcp;
use crate::ledger::{Commands, Judged, Ledger, Recorded, Verifications, recorded};
use crate::roles::Roles;
use crate::sql::Table;
use crate::verify::{Applied, Around, Inspector, Make, Soon, Verifier, VerifierParts, Wish};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Whoever feeds the shadow is given this time to catch up.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs it to its end; how it stands then.
pub(super) fn run(
    file: &Path,
    wish: &Wish,
    who: Option<&str>,
    look: impl Fn(&Value),
) -> Result<Value, Trouble> {
    let config = Config::load(file).map_err(Trouble::usage)?;
    let roles = roles(&config)?;
    // A second process on one ledger is refused here: a running understudy is to be asked with --admin.
    let nothing = Arc::new(|| Commands { handed: 0, lost: 0 });
    let fed_by = roles.shadow.fed_by;
    let ledger = Ledger::open(&config.ledger, fed_by, Judged::default(), nothing);
    let ledger = ledger.map_err(|fault| {
        Trouble::failed(format!(
            "{fault}. Where an understudy runs with it, leave --config out and ask it"
        ))
    })?;
    let (_turns, roles) = watch::channel(roles);
    let verifier = Verifier::new(VerifierParts {
        roles,
        dial: Arc::new(Tcp::default()),
        limits: config.verify.clone(),
        tells_keys: config.ledger.literals == Literals::Keep,
        around: Arc::new(Alone {
            ledger: ledger.clone(),
            fed_by,
        }),
        records: Arc::new(Verifications::at(&config.ledger.path)),
    });
    let begun = verifier.start(wish, who.unwrap_or("operator"));
    if let Err(refused) = begun {
        ledger.close();
        return Err(Trouble::failed(refused));
    }
    let told = loop {
        std::thread::sleep(PAUSE);
        let told = verifier.standing();
        if told.get("state").and_then(Value::as_str) == Some("ended") {
            break told;
        }
        look(&told);
    };
    verifier.leave();
    ledger.close();
    Ok(told)
}

/// Who is primary: the ledger says so, else the config.
fn roles(config: &Config) -> Result<Roles, Trouble> {
    match recorded(&config.ledger.path) {
        Recorded::Nothing => Ok(Roles::configured(config)),
        Recorded::Is(name) => Roles::with_primary(config, &name).ok_or_else(|| {
            Trouble::failed(format!(
                "the ledger says that {name} is primary, and the config has no server of that name"
            ))
        }),
        Recorded::Unreadable(why) => Err(Trouble::failed(format!(
            "the ledger, which says who is primary, cannot be read: {why}"
        ))),
    }
}

/// Nobody is around.
struct Alone {
    ledger: Ledger,
    fed_by: FedBy,
}

impl Around for Alone {
    fn holds(&self) -> Option<String> {
        None
    }

    fn caught_up<'a>(&'a self, _table: &'a Table) -> Soon<'a, Result<(), String>> {
        Box::pin(async {
            tokio::time::sleep(CATCH_UP).await;
            Ok(())
        })
    }

    fn apply<'a>(
        &'a self,
        _table: &'a Table,
        _make: Make<'a>,
    ) -> Soon<'a, Result<Applied, String>> {
        Box::pin(async { Err(NO_ORDER.to_owned()) })
    }

    fn verified(&self, table: &Table, since: jiff::Timestamp) {
        if self.fed_by == FedBy::Mirror {
            self.ledger.verified(table, since);
        }
    }

    fn cannot_apply(&self) -> Option<String> {
        Some(NO_ORDER.to_owned())
    }
}

const NO_ORDER: &str = "repairs are put in the order of a running understudy's dark writes; ask one without --config, or take --repair plan";
