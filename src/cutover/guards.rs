//! Whether a cutover may begin: guards over figures. Pure, like [`readiness`], whose guards it asks too.
//!
//! A guard that refuses can be forced by its name, which is written to the record; it is judged all
//! the same, so that the record says what was overridden. On the way back to the server that was
//! primary before, what says how good the shadow is does not stand in the way: it has served already.

use super::fleet::RefusedGuard;
use crate::config::{Account, Config, Cutover, FedBy, Readiness as Limits, Server, Stuck, Writes};
use crate::readiness::{self, Guard, Readiness};
use crate::roles::Roles;
use crate::shadow::Control;
use crate::words::{brief, count, micros};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The names of the guards, in the order in which one looks.
pub const GUARDS: [&str; 14] = [
    "reachability",
    "accounts",
    "divergences",
    "coverage",
    "evidence",
    "latency",
    "lag",
    "taint",
    "verification",
    "writers",
    "ddl",
    "features",
    "journals",
    "open_transactions",
];

/// What says how good a server is that nobody has served from yet.
const OF_QUALITY: [&str; 5] = [
    "divergences",
    "coverage",
    "evidence",
    "latency",
    "verification",
];

/// Names in a guard's words.
const NAMES: usize = 5;

/// Characters of each.
const NAME_CHARS: usize = 320;

/// Free space below which the ledger may not be able to record the switch, in bytes.
const DISK_BYTES_MIN: u64 = 64 << 20;

/// Memory that must be left for the proxy, in bytes; and for the second connection of each session, with
/// what it holds of its statements.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
const SESSION_BYTES: u64 = 128 << 10;

/// What cannot be told is an error, which says why.
pub type Known<T> = Result<T, String>;

/// What a cutover is judged by.
#[derive(Clone, Debug)]
pub struct Figures {
    /// What readiness is judged by.
    pub readiness: readiness::Figures,
    /// The primary.
    pub from: Side,
    /// Who is to be.
    pub to: Side,
    /// `to` was the primary before the last switch.
    pub is_back: bool,
    /// What must be there.
    pub reach: Reach,
    /// Every user that was seen.
    pub users: Vec<User>,
    /// Clients that are connected to the primary past the proxy, each in a few words.
    pub writers: Known<Vec<String>>,
    /// Table definitions that are being changed on either server, each in a few words.
    pub ddl: Known<Vec<String>>,
    /// What was seen that the new primary lacks.
    pub features: Vec<Feature>,
    /// Databases that have another name on the other side: this one's, that one's.
    pub renamed: Vec<(String, String)>,
    /// The sessions that are open.
    pub sessions: Vec<Session>,
    /// Why nothing feeds the shadow, so that it misses what the primary commits; none where it is fed.
    pub unfed: Option<String>,
    /// Rights that the proxy's account on the primary lacks for a fence, where one is asked for.
    pub unfenced: Vec<&'static str>,
    /// Rights that it lacks on who is to be primary to stop replication there, where that is asked for.
    pub unstopped: Vec<&'static str>,
}

/// A server, and where the config has it.
#[derive(Clone, Debug)]
pub struct Side {
    /// The server.
    pub server: Arc<Server>,
    /// Its section in the config: `primary` or `shadow`, whatever role it has now.
    pub section: &'static str,
}

/// What must be there, and why it is not; none where it is.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// The primary.
    pub from: Option<String>,
    /// Who is to be.
    pub to: Option<String>,
    /// The ledger, which has to record the switch.
    pub ledger: Option<String>,
    /// Free bytes beside the ledger, where that can be told.
    pub disk_bytes: Option<u64>,
    /// The proxy's memory.
    pub memory: Memory,
    /// How far each server's clock is ahead of ours, of those that answer.
    pub clocks: Vec<(String, Known<Offset>)>,
    /// So far they may be.
    pub clock_max: Duration,
    /// Who is to be primary refuses the writes of clients, and nothing is going to change that.
    pub read_only: bool,
    /// Rights that the proxy's account there lacks to change that, where the config asks it to.
    pub unlifted: Vec<&'static str>,
}

/// The proxy's memory in bytes, as far as the machine tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What it has.
    pub resident: Option<u64>,
    /// What it may still take.
    pub left: Option<u64>,
}

/// How far a server's clock is ahead of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// In microseconds; negative where it is behind.
    pub ahead_us: i64,
    /// It is known to within this.
    pub way: Duration,
}

impl Offset {
    /// The least that it can be, whichever way.
    fn at_least(self) -> Duration {
        Duration::from_micros(self.ahead_us.unsigned_abs()).saturating_sub(self.way)
    }
}

/// A user that was seen.
#[derive(Clone, Debug)]
pub struct User {
    /// The name.
    pub name: String,
    /// Whether the login that replay has for it works on the other side, where it was tried.
    pub tried: Option<Result<(), String>>,
}

/// Something that was seen and the new primary lacks.
#[derive(Clone, Debug)]
pub struct Feature {
    /// What: `cursors`, `CALL` …
    pub name: String,
    /// How often.
    pub seen: u64,
}

/// An open session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its number.
    pub id: u64,
    /// Its user.
    pub user: String,
    /// Its connection's id at the primary, where it is still open.
    pub connection: Option<u32>,
    /// Why nobody knows what another server would need to take it over; none where that is known.
    pub unknown: Option<String>,
    /// What keeps it where it is.
    pub holds: Option<Holds>,
}

impl Session {
    /// Its number, with its user and its connection: `12 (app, connection 4711)`.
    fn name(&self) -> String {
        match self.connection {
            Some(connection) => format!("{} ({}, connection {connection})", self.id, self.user),
            None => format!("{} ({})", self.id, self.user),
        }
    }
}

/// What keeps a session where it is.
#[derive(Clone, Debug)]
pub struct Holds {
    /// What: `a transaction`, `temporary tables` …
    pub what: String,
    /// How long it has been so for what ends by itself; none for what may last as long as the session.
    pub lasts: Option<Duration>,
}

/// One guard's judgement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// The guard.
    #[serde(flatten)]
    pub guard: Guard,
    /// It was named to be overridden.
    pub forced: bool,
}

/// All guards.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether every guard passes or is forced.
    pub pass: bool,
    /// In their order.
    pub guards: Vec<Judged>,
}

impl Verdict {
    /// Why it is refused: the guards that refuse, with their reasons.
    #[must_use]
    pub fn refusal(&self) -> String {
        let refuses = self.guards.iter();
        let words: Vec<String> = refuses
            .filter(|one| !one.guard.pass && !one.forced)
            .map(|one| format!("{}: {}", one.guard.name, one.guard.why))
            .collect();
        words.join("; ")
    }

    /// The guard refuses at another proxy of the fleet.
    pub(super) fn refuse(&mut self, proxy: &str, refused: &RefusedGuard) {
        self.pass = false;
        for one in &mut self.guards {
            if one.guard.name == refused.name {
                one.guard.pass = false;
                one.guard.value = refused.value.clone();
                one.guard.why = format!("at the proxy {proxy}: {}", refused.why);
            }
        }
    }

    /// The guards that would have refused.
    #[must_use]
    pub fn overridden(&self) -> Vec<&'static str> {
        let judged = self.guards.iter();
        judged
            .filter(|one| !one.guard.pass && one.forced)
            .map(|one| one.guard.name)
            .collect()
    }
}

/// The guard with this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static str> {
    GUARDS.into_iter().find(|one| *one == name)
}

/// The login that replay has for a user on a server.
#[must_use]
pub fn login<'a>(server: &'a Server, user: &str) -> Option<&'a Account> {
    server.users.get(user).or(server.account.as_ref())
}

/// Judges.
#[must_use]
pub fn judge(figures: &Figures, limits: &Limits, config: &Cutover, forced: &[&str]) -> Verdict {
    let mut guards = readiness::judge(&figures.readiness, limits, config).guards;
    tell_unsettled(&mut guards);
    guards.extend([
        reachability(figures),
        accounts(figures),
        writers(figures),
        ddl(figures),
        features(figures),
        journals(figures, config),
        open_transactions(figures, config),
    ]);
    let mut judged: Vec<Judged> = Vec::new();
    for name in GUARDS {
        let Some(at) = guards.iter().position(|guard| guard.name == name) else {
            continue;
        };
        let mut guard = guards.swap_remove(at);
        if name == "lag" {
            guard = fed(guard, figures);
        }
        if figures.is_back && OF_QUALITY.contains(&name) {
            guard = waived(guard, figures);
        }
        let forced = forced.contains(&name);
        judged.push(Judged { guard, forced });
    }
    Verdict {
        pass: judged.iter().all(|one| one.guard.pass || one.forced),
        guards: judged,
    }
}

/// Readiness has a guard more, which has no name among these: it speaks through `divergences`.
fn tell_unsettled(guards: &mut [Guard]) {
    let unsettled = guards
        .iter()
        .find(|one| one.name == "unsettled" && !one.pass);
    let Some(why) = unsettled.map(|one| one.why.clone()) else {
        return;
    };
    if let Some(guard) = guards.iter_mut().find(|one| one.name == "divergences") {
        guard.pass = false;
        guard.why = format!("{}; unsettled: {why}", guard.why);
    }
}

/// On the way back.
fn waived(guard: Guard, figures: &Figures) -> Guard {
    let to = &figures.to.server.name;
    Guard {
        pass: true,
        limit: Value::Null,
        why: format!(
            "not required on the way back to {to}, which has been the primary; {}",
            guard.why
        ),
        ..guard
    }
}

/// Which guards would bar the way back by what readiness has seen, each with its reason: those on how good the
/// shadow is are not asked there. `unfed`: why nothing feeds it; see [`unfed`]. What only a cutover asks is not
/// among them.
#[must_use]
pub fn bars_way_back(readiness: &Readiness, unfed: Option<&str>) -> Vec<(&'static str, String)> {
    let asked = readiness
        .guards
        .iter()
        .filter(|guard| GUARDS.contains(&guard.name) && !OF_QUALITY.contains(&guard.name));
    let judged = asked.filter_map(|guard| {
        let unfed = unfed.filter(|_| guard.name == "lag");
        match (guard.pass, unfed) {
            (true, None) => None,
            (true, Some(why)) => Some((guard.name, why.to_owned())),
            (false, None) => Some((guard.name, guard.why.clone())),
            (false, Some(why)) => Some((guard.name, format!("{}; {why}", guard.why))),
        }
    });
    judged.collect()
}

/// Why the shadow misses what the primary commits; none where it is fed.
#[must_use]
pub fn unfed(config: &Config, control: &Control, roles: &Roles) -> Option<String> {
    if roles.shadow.fed_by == FedBy::Replication {
        return None;
    }
    let name = &roles.shadow.name;
    if control.paused {
        return Some(format!("nothing feeds {name}: mirroring is paused"));
    }
    let writes = control.writes;
    (writes != Writes::Apply).then(|| {
        if config.shadow.fed_by == FedBy::Replication {
            format!("nothing feeds {name}: dark writes wait until POST /api/v1/cutover/replication_stopped says that replication to {} has ended", roles.primary.name)
        } else {
            format!("nothing feeds {name}: mirror.writes is {:?}", writes.name())
        }
    })
}

/// What nothing feeds lags without end.
fn fed(guard: Guard, figures: &Figures) -> Guard {
    match &figures.unfed {
        None => guard,
        Some(why) => Guard {
            pass: false,
            why: format!("{}; {why}", guard.why),
            ..guard
        },
    }
}

fn reachability(figures: &Figures) -> Guard {
    let reach = &figures.reach;
    let (from, to) = (&figures.from.server.name, &figures.to.server.name);
    let mut faults = Vec::new();
    for (name, fault) in [
        (from.as_str(), &reach.from),
        (to.as_str(), &reach.to),
        ("the ledger", &reach.ledger),
    ] {
        // A primary that died is a reason for the way back, not against it.
        if !(figures.is_back && name == from) {
            faults.extend(fault.iter().map(|why| format!("{name}: {why}")));
        }
    }
    if reach.read_only {
        faults.push(read_only(figures));
    }
    if let Some(free) = reach.disk_bytes.filter(|free| *free < DISK_BYTES_MIN) {
        faults.push(format!(
            "the ledger's disk has {} MiB left, and must be able to record the switch",
            free >> 20
        ));
    }
    let memory_min = memory_min(figures.sessions.len());
    // What may not be enough is no reason to stay with a new primary that fails.
    let short = reach.memory.left.filter(|left| *left < memory_min);
    if let Some(left) = short.filter(|_| !figures.is_back) {
        faults.push(format!(
            "{} MiB of memory are left to the proxy, which has {} MiB, and a second connection for each of {} sessions may take {} MiB: end what else runs here, or raise the limit",
            left >> 20,
            reach.memory.resident.unwrap_or_default() >> 20,
            count(figures.sessions.len() as u64),
            memory_min >> 20
        ));
    }
    // A clock is no reason to stay with a new primary that fails.
    if !figures.is_back {
        faults.extend(clocks(reach));
    }
    let ahead = reach.clocks.iter().map(|(name, offset)| {
        let ahead = offset.as_ref().map(|offset| offset.ahead_us / 1_000);
        (name.clone(), json!(ahead.ok()))
    });
    let ahead: serde_json::Map<String, Value> = ahead.collect();
    guard(
        "reachability",
        &faults,
        json!({"from": reach.from.is_none(), "to": reach.to.is_none(), "ledger": reach.ledger.is_none(), "to_is_read_only": reach.read_only, "disk_bytes": reach.disk_bytes, "memory_bytes": reach.memory.left, "resident_bytes": reach.memory.resident, "clock_ms": ahead}),
        json!({"from": true, "to": true, "ledger": true, "to_is_read_only": false, "disk_bytes": DISK_BYTES_MIN, "memory_bytes": memory_min, "clock_ms": whole_millis(reach.clock_max)}),
        format!("{from} and {to} answer, and the ledger can be written"),
    )
}

/// What is read-only there stays so, and why.
fn read_only(figures: &Figures) -> String {
    let to = &figures.to.server;
    let refuses = format!(
        "{} is read-only, and would refuse what clients write",
        to.name
    );
    let lacks = figures.reach.unlifted.join(", ");
    if lacks.is_empty() {
        return format!(
            "{refuses}: SET GLOBAL read_only = 0 there, or let understudy do it in the hold (cutover.fence = true)"
        );
    }
    let user = to.account.as_ref().map_or("", |own| &own.user);
    format!(
        "{refuses}; the fence would let it write in the hold, and {user} lacks {lacks} there: GRANT {lacks} ON *.* TO {user}, or SET GLOBAL read_only = 0"
    )
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const fn memory_min(sessions: usize) -> u64 {
    MEMORY_BYTES_MIN.saturating_add((sessions as u64).saturating_mul(SESSION_BYTES))
}

/// After the switch the application sees the other server's clock.
fn clocks(reach: &Reach) -> impl Iterator<Item = String> + '_ {
    let most = reach.clock_max;
    reach.clocks.iter().filter_map(move |(name, offset)| match offset {
        Err(why) => Some(format!("{name}: {why}")),
        Ok(offset) if offset.at_least() > most => Some(format!(
            "{name}: its clock is {} {} the proxy's, and compare.clock_ms allows {} ms: synchronise them",
            micros(offset.ahead_us.unsigned_abs()),
            if offset.ahead_us < 0 { "behind" } else { "ahead of" },
            most.as_millis()
        )),
        Ok(_) => None,
    })
}

fn accounts(figures: &Figures) -> Guard {
    let (from, to) = (&figures.from, &figures.to);
    let mut faults = Vec::new();
    let own = from.server.account.is_none();
    for user in &figures.users {
        faults.extend(no_login(user, to));
        if own && login(&from.server, &user.name).is_none() {
            faults.push(format!(
                "{}: once {} is the shadow, nothing is replayed there without a login: set [{}] user and password",
                user.name, from.server.name, from.section
            ));
        }
    }
    if !figures.unfenced.is_empty() {
        let lacks = figures.unfenced.join(", ");
        let user = from.server.account.as_ref().map_or("", |own| &own.user);
        faults.push(format!(
            "{user}: cutover.fence needs {lacks} on {}, to set the fence and to pass it with dark writes: GRANT {lacks} ON *.* TO {user}",
            from.server.name
        ));
    }
    if !figures.unstopped.is_empty() {
        let lacks = figures.unstopped.join(", ");
        let user = to.server.account.as_ref().map_or("", |own| &own.user);
        faults.push(format!(
            "{user}: cutover.stop_replication needs {lacks} on {}, to stop replication in the hold and to start it again: GRANT {lacks} ON *.* TO {user}",
            to.server.name
        ));
    }
    let refused = faults.len();
    let users = figures.users.len();
    let proviso = "that the password which a client sends is the same there cannot be tested beforehand, for the proxy never sees it";
    let well = match users {
        0 => format!("no user was seen yet, so none is tested; {proviso}"),
        _ => format!(
            "{} users have a login of their own name on {}; {proviso}",
            count(users as u64),
            to.server.name
        ),
    };
    guard(
        "accounts",
        &faults,
        json!({"users": users, "refused": refused}),
        json!({"refused": 0}),
        well,
    )
}

/// Why a user could not log in to the other side, as far as can be told.
fn no_login(user: &User, to: &Side) -> Option<String> {
    let (name, server) = (&user.name, &to.server.name);
    let remedy = format!(
        "write [{}.users] {name} = {{ user = \"{name}\", password_file = \"…\" }}",
        to.section
    );
    match login(&to.server, name) {
        None => Some(format!("{name}: no login to {server} is known; {remedy}")),
        Some(account) if account.user != *name => Some(format!(
            "{name}: it is replayed on {server} as {:?}, and will have to log in there as itself: create it there, and {remedy}",
            account.user
        )),
        Some(_) => match &user.tried {
            Some(Err(why)) => Some(format!("{name}: {server} refuses it: {why}")),
            Some(Ok(())) | None => None,
        },
    }
}

fn writers(figures: &Figures) -> Guard {
    let name = &figures.from.server.name;
    let well = format!("nobody is connected to {name} past the proxy");
    let ill = format!("connected to {name} past the proxy");
    none_of(("writers", figures.is_back), &figures.writers, &ill, well)
}

fn ddl(figures: &Figures) -> Guard {
    let well = "no table is being changed".to_owned();
    none_of(
        ("ddl", figures.is_back),
        &figures.ddl,
        "tables are being changed",
        well,
    )
}

/// A guard that passes where there is none of something, and that is known. On the way back it passes
/// where it cannot be known, too: vtgate does not tell, and the way back must be open at night.
fn none_of(
    (name, is_back): (&'static str, bool),
    found: &Known<Vec<String>>,
    ill: &str,
    well: String,
) -> Guard {
    let (value, why) = match found {
        Ok(found) if found.is_empty() => (json!(0), well),
        Ok(found) => (json!(found.len()), format!("{ill}: {}", listed(found))),
        Err(why) if is_back => (
            Value::Null,
            format!("not required on the way back: it cannot be told, {why}"),
        ),
        Err(why) => (Value::Null, format!("it cannot be told: {why}")),
    };
    Guard {
        name,
        pass: found.as_ref().map_or(is_back, Vec::is_empty),
        value,
        limit: json!(0),
        why,
    }
}

fn features(figures: &Figures) -> Guard {
    let to = &figures.to.server.name;
    let seen = figures.features.iter();
    let mut faults: Vec<String> = seen
        .map(|one| format!("{} (seen {} times)", one.name, count(one.seen)))
        .collect();
    let lacked = faults.len();
    if !figures.renamed.is_empty() {
        let names = figures.renamed.iter();
        let names: Vec<String> = names
            .map(|(here, there)| format!("{here} is {there}"))
            .collect();
        faults.push(format!(
            "databases with another name there, which clients would not find, for the relay renames nothing: {}; give them the same name and take [shadow.databases] out",
            listed(&names)
        ));
    }
    let ill = format!("{to} lacks");
    let mut guard = guard(
        "features",
        &faults,
        json!({"lacked": lacked, "renamed": figures.renamed.len()}),
        json!({"lacked": 0, "renamed": 0}),
        format!("nothing was seen that {to} lacks"),
    );
    if lacked > 0 {
        guard.why = format!("{ill}: {}", guard.why);
    }
    guard
}

fn journals(figures: &Figures, config: &Cutover) -> Guard {
    let unknown = figures.sessions.iter().filter_map(|session| {
        let why = session.unknown.as_ref()?;
        Some(format!("{}: {why}", session.name()))
    });
    let unknown: Vec<String> = unknown.collect();
    let well = "of every session it is known what another server needs to take it over";
    stuck(
        "journals",
        &unknown,
        "nobody knows what another server needs to take over the sessions",
        well,
        config,
    )
}

fn open_transactions(figures: &Figures, config: &Cutover) -> Guard {
    let lasting = figures.sessions.iter().filter_map(|session| {
        let holds = session.holds.as_ref()?;
        let lasts = match holds.lasts {
            Some(lasts) if lasts < config.hold_max.now() => return None,
            Some(lasts) => micros(u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX)),
            None => "as long as the session".to_owned(),
        };
        Some(format!("{}: {}, {lasts}", session.name(), holds.what))
    });
    let lasting: Vec<String> = lasting.collect();
    let well = "no session holds anything for longer than the hold may last";
    stuck(
        "open_transactions",
        &lasting,
        "these sessions cannot be moved within cutover.hold_ms_max",
        well,
        config,
    )
}

/// A guard on sessions that would be ended where the config says so.
fn stuck(
    name: &'static str,
    sessions: &[String],
    ill: &str,
    well: &str,
    config: &Cutover,
) -> Guard {
    let ends = config.stuck == Stuck::End;
    let why = match sessions.len() {
        0 => well.to_owned(),
        _ if ends => format!(
            "{ill}, so they would be ended (cutover.stuck = \"end\"): {}",
            listed(sessions)
        ),
        _ => format!("{ill}: {}", listed(sessions)),
    };
    Guard {
        name,
        pass: ends || sessions.is_empty(),
        value: json!(sessions.len()),
        limit: if ends { Value::Null } else { json!(0) },
        why,
    }
}

/// A guard that passes where nothing is wrong.
fn guard(name: &'static str, faults: &[String], value: Value, limit: Value, well: String) -> Guard {
    Guard {
        name,
        pass: faults.is_empty(),
        value,
        limit,
        why: if faults.is_empty() {
            well
        } else {
            listed(faults)
        },
    }
}

/// The first names, and how many more there are.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMES).map(|name| brief(name, NAME_CHARS));
    let shown: Vec<String> = shown.collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(" | "),
        more => format!("{} and {} more", shown.join(" | "), count(more as u64)),
    }
}

#[cfg(test)]
mod tests;
