//! Whether the shadow has everything that the primary acknowledged, before the roles change.
//!
//! Where the mirror feeds the shadow, that is its queue drained and every dark write confirmed.
//! Where replication does, a heartbeat is written to the primary and looked for on the shadow, the
//! primary's GTIDs are waited for, or a hook says so. Refuses to guess: what cannot be known in time
//! is an error.

use super::behind::Behind;
use super::coordinator::Parts;
use super::fleet::Fleet;
use super::hooks;
use super::position;
use super::replication::{self, Halt};
use crate::ask::{AskError, Questions};
use crate::config::{self, CatchUp, FedBy, Server, Writes};
use crate::connect::Dial;
use crate::ledger::Taint;
use crate::roles::Roles;
use crate::shadow::Mirror;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Between two looks for the heartbeat. The proxy holds its clients meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// Rows of a fleet's proxies: with the first two they fit in an INT.
const ROWS: u32 = i32::MAX.unsigned_abs() - 2;

/// Taints that are named in a reason.
const NAMED_MAX: usize = 5;

/// Questions a second while sessions are held.
const PER_SECOND: u32 = 1_000;

/// How one finds out.
pub(super) enum Way {
    /// The mirror is drained.
    Mirror(Arc<Mirror>),
    /// A row of ours, in this table on both sides.
    Heartbeat {
        primary: Arc<Questions>,
        shadow: Arc<Questions>,
        table: String,
        row: u32,
    },
    /// The shadow is told to wait for the primary's executed GTIDs.
    Gtid {
        primary: Arc<Questions>,
        shadow: Arc<Questions>,
    },
    /// A command of the operators.
    Hook {
        command: Vec<String>,
        told: Vec<(&'static str, String)>,
    },
}

/// How it is found out with these roles: what the mirror feeds is asked of the mirror.
///
/// # Errors
/// The proxy has no account on a server that must be asked.
pub(super) fn way(parts: &Parts, told: Vec<(&'static str, String)>) -> Result<Way, String> {
    let roles = parts.roles.borrow().clone();
    let config = &parts.config.cutover;
    if roles.shadow.fed_by == FedBy::Mirror || config.catch_up == CatchUp::Mirror {
        return Ok(Way::Mirror(Arc::clone(&parts.mirror)));
    }
    let row = row_of(parts.fleet.as_deref().map(Fleet::name));
    replicated((&parts.dial, &roles), config, row, told)
}

/// The same of what replication feeds, with this row for the heartbeat.
///
/// # Errors
/// As [`way`].
pub(super) fn replicated(
    (dial, roles): (&Arc<dyn Dial>, &Roles),
    config: &config::Cutover,
    row: u32,
    told: Vec<(&'static str, String)>,
) -> Result<Way, String> {
    let questions = |server: &Arc<Server>| {
        let questions = Questions::new(dial, server, PER_SECOND);
        let questions = questions.map_err(|error| error.to_string())?;
        let none = || format!("the proxy has no account on {}", server.name);
        questions.map(Arc::new).ok_or_else(none)
    };
    Ok(match config.catch_up {
        CatchUp::Mirror => {
            return Err(
                "replication feeds the shadow, and nothing says how far it has come".to_owned(),
            );
        }
        CatchUp::Heartbeat => Way::Heartbeat {
            primary: questions(&roles.primary)?,
            shadow: questions(&roles.shadow)?,
            table: config.heartbeat_table.clone(),
            row,
        },
        CatchUp::Gtid => Way::Gtid {
            primary: questions(&roles.primary)?,
            shadow: questions(&roles.shadow)?,
        },
        CatchUp::Hook => Way::Hook {
            command: config.catch_up_hook.clone(),
            told,
        },
    })
}

impl Way {
    /// Returns once the shadow has everything.
    ///
    /// # Errors
    /// It does not, or nobody can say, by the deadline; a dark write went wrong on the way.
    pub(super) async fn wait(&self, until: Instant) -> Result<(), String> {
        self.wait_on([None; 2], until).await
    }

    /// The same of this primary and of this shadow, by their own word ([`crate::ask::Asker::identity`]), where they have
    /// one: an address may lead to several. What the mirror or a hook says is of no one server.
    ///
    /// # Errors
    /// As [`Way::wait`]; another one was asked.
    pub(super) async fn wait_on(
        &self,
        on: [Option<&str>; 2],
        until: Instant,
    ) -> Result<(), String> {
        match self {
            Self::Mirror(mirror) => drained(mirror, until).await,
            Self::Heartbeat {
                primary,
                shadow,
                table,
                row,
            } => heartbeat([primary, shadow], on, (table, *row), until).await,
            Self::Gtid { primary, shadow } => gtid([primary, shadow], on, until).await,
            Self::Hook { command, told } => {
                let told: Vec<(&str, &str)> = told
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                let left = until.saturating_duration_since(Instant::now());
                let ran = hooks::run(command, &told, left).await;
                ran.map_err(|error| error.to_string())
            }
        }
    }
}

/// Waits before the hold until what replication brings comes within `most`: sessions would wait as long.
/// A dry run writes no heartbeat. What the mirror feeds has a way of its own, and a hook is run once.
///
/// # Errors
/// It does not come so soon within `hold_ms_max`. Nobody was held.
pub(super) async fn comes_near(parts: &Parts, most: Duration, dry_run: bool) -> Result<(), String> {
    let way = way(parts, Vec::new())?;
    match way {
        Way::Mirror(_) | Way::Hook { .. } => return Ok(()),
        Way::Heartbeat { .. } if dry_run => return Ok(()),
        Way::Heartbeat { .. } | Way::Gtid { .. } => {}
    }
    let until = Instant::now() + parts.config.cutover.hold_max.now();
    loop {
        let began = Instant::now();
        let came = way.wait(until).await;
        came.map_err(|why| format!("before the hold: {why}"))?;
        let took = began.elapsed();
        if took <= most {
            return Ok(());
        }
        if Instant::now() + took >= until {
            return Err(format!(
                "before the hold: what the primary commits is on the shadow only {} ms later, and sessions would be held for as long, so it may not be later than {} ms: replication is behind. Choose a quieter time, raise cutover.hold_ms_max, of which a quarter is allowed, or override the guard lag (--force lag)",
                took.as_millis(),
                most.as_millis()
            ));
        }
    }
}

/// What held when the guards were judged, and must hold when the roles change.
pub(super) struct Expected {
    pub(super) taints: Vec<Taint>,
    /// Guards that are overridden.
    pub(super) forced: Vec<&'static str>,
    /// Where it is written down that replication was stopped, and for which cutover.
    pub(super) halt: Halt,
    pub(super) record: i64,
}

/// Whether nothing was lost since the guards were judged: the mirror is drained and runs, and nothing
/// more is tainted. Then replication has brought all that there is, and is stopped where the config says
/// so.
///
/// # Errors
/// Something was, and what.
pub(super) async fn is_whole(
    parts: &Parts,
    expected: &Expected,
    until: Instant,
) -> Result<(), String> {
    drained(&parts.mirror, until).await?;
    let before: Vec<_> = expected.taints.iter().map(Taint::key).collect();
    let mut taints = parts.ledger.taints();
    taints.retain(|taint| !before.contains(&taint.key()));
    if !taints.is_empty() && !expected.forced.contains(&"taint") {
        return Err(format!(
            "dark writes went wrong since the guards were judged: {}",
            told(&taints)
        ));
    }
    let feeds = parts.roles.borrow().shadow.fed_by == FedBy::Mirror;
    if feeds && !expected.forced.contains(&"lag") {
        runs(parts)?;
    }
    replication::settle(parts, (&expected.halt, expected.record), until).await
}

/// Whether the mirror has fed the shadow all along.
fn runs(parts: &Parts) -> Result<(), String> {
    let control = parts.mirror.control();
    match parts.mirror.figures().suspended {
        Some(why) => Err(format!("mirroring was suspended meanwhile: {why}")),
        None if control.paused => Err("mirroring was paused meanwhile".to_owned()),
        None if control.writes != Writes::Apply => {
            Err("dark writes were switched off meanwhile".to_owned())
        }
        None => Ok(()),
    }
}

fn told(taints: &[Taint]) -> String {
    let causes: Vec<String> = taints
        .iter()
        .take(NAMED_MAX)
        .map(|taint| format!("{}: {}", taint.table, taint.cause.text))
        .collect();
    causes.join("; ")
}

async fn drained(mirror: &Mirror, until: Instant) -> Result<(), String> {
    #[cfg(feature = "simulation")]
    if crate::planted::is(crate::planted::Bug::Undrained) {
        return Ok(());
    }
    let Ok(drained) = timeout_at(until, mirror.drained()).await else {
        return Err(format!(
            "the shadow was not seen to have everything by the end of the hold: it {}. Choose a quieter time, find out why that takes so long there (understudy latency, understudy findings), or raise cutover.hold_ms_max",
            Behind::of(mirror).words()
        ));
    };
    drained.map_err(|ended| ended.to_string())
}

/// Both sides have the table, or this fails at its first step.
async fn heartbeat(
    [primary, shadow]: [&Questions; 2],
    [on, on_shadow]: [Option<&str>; 2],
    (table, row): (&str, u32),
    until: Instant,
) -> Result<(), String> {
    let beat = jiff::Timestamp::now().as_nanosecond();
    let write = format!("REPLACE INTO {table} (id, beat) VALUES ({row}, '{beat}')");
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        format!("the heartbeat in {table} cannot be {what}: {error}")
    };
    match timeout_at(until, primary.ask_of(&write, on)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(failed("written to the primary", &error)),
        Err(late) => return Err(failed("written to the primary", &late)),
    }
    let read = format!("SELECT beat FROM {table} WHERE id = {row}");
    loop {
        let seen = match timeout_at(until, shadow.ask_of(&read, on_shadow)).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => return Err(failed("read from the shadow", &error)),
            Err(_) => break,
        };
        let cell = seen.first().and_then(|row| row.first());
        if cell.and_then(Option::as_deref) == Some(beat.to_string().as_str()) {
            return Ok(());
        }
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(format!(
        "the heartbeat written to the primary was not seen on the shadow in {table} in time: replication is behind or stopped"
    ))
}

const NOT_THERE: &str =
    "the shadow did not have the primary's GTIDs in time: replication is behind or stopped";

/// The row of this proxy: of several in a fleet none may write over another's.
pub(super) fn row_of(name: Option<&str>) -> u32 {
    let Some(name) = name else { return 1 };
    let digest = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
    let folded = u32::try_from(digest % u64::from(ROWS)).unwrap_or(0);
    folded + 2
}

async fn gtid(
    [primary, shadow]: [&Questions; 2],
    [on, on_shadow]: [Option<&str>; 2],
    until: Instant,
) -> Result<(), String> {
    const INSTEAD: &str = "use cutover.catch_up = \"heartbeat\" or \"hook\"";
    let asked = primary.ask_of("SELECT @@GLOBAL.gtid_executed", on);
    let asked = timeout_at(until, asked).await;
    let asked = asked.map_err(|late| format!("the primary's GTIDs cannot be read: {late}"))?;
    let rows = asked.map_err(|error| match error {
        AskError::Refused { code: position::UNKNOWN_VARIABLE, .. } => format!(
            "{} has no GTIDs of MySQL's (MariaDB's, such as 0-1-100, are others, which no server of MySQL's can wait for): {INSTEAD}",
            primary.server().name
        ),
        error => format!("the primary's GTIDs cannot be read: {error}"),
    })?;
    let told = rows.first().and_then(|row| row.first()).cloned().flatten();
    let told = told.unwrap_or_default();
    let Some(set) = position::gtids(&told) else {
        let name = &primary.server().name;
        return Err(if told.is_empty() {
            format!("the primary, {name}, has no GTIDs (gtid_mode is off): {INSTEAD}")
        } else {
            format!("what {name} says of its GTIDs is no set of MySQL's: {INSTEAD}")
        });
    };
    // To wait for 0 seconds is to wait for ever.
    let left = until.saturating_duration_since(Instant::now());
    let left = left.as_secs_f64().max(0.001);
    let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', {left:.3})");
    let asked = timeout_at(until, shadow.ask_of(&wait, on_shadow)).await;
    let asked = asked.map_err(|_| NOT_THERE.to_owned())?;
    let rows = asked.map_err(|error| match error {
        AskError::Refused { code: position::UNKNOWN_FUNCTION, .. } => format!(
            "{} cannot wait for GTIDs of MySQL's (it is a MariaDB, or a MySQL before 5.7): {INSTEAD}",
            shadow.server().name
        ),
        error => format!("the shadow cannot wait for GTIDs: {error}"),
    })?;
    if position::came(&rows) {
        Ok(())
    } else {
        Err(NOT_THERE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_proxy_of_a_fleet_has_a_row_of_its_own_for_its_heartbeat() {
        assert_eq!(row_of(None), 1);
        let rows = ["a", "b", "c", ""].map(|name| row_of(Some(name)));
        for (at, row) in rows.iter().enumerate() {
            assert!(*row > 1 && i32::try_from(*row).is_ok(), "{row}");
            assert!(!rows[..at].contains(row));
        }
        assert_eq!(row_of(Some("a")), rows[0], "the same at every start");
    }
}
