//! One server by itself: reached, logged in to, what its account may do, how it is set.

use super::account;
use super::hosts;
use super::report::{Report, few};
use crate::ask::{Asker, Manner, Row};
use crate::config::{Account, Server, TlsMode, Writes};
use crate::connect::{ConnectError, PacketReader, Tcp, dial_for, greet};
use crate::wire::capability::Capabilities;
use std::collections::{BTreeMap, BTreeSet};

/// What was learned of a server, for the checks that look at both.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) capabilities: Capabilities,
    pub(super) variables: BTreeMap<String, String>,
    /// Databases that are not the server's own, and their tables; `None` where they cannot be read.
    pub(super) tables: BTreeMap<String, Option<BTreeSet<String>>>,
    /// `database.table` with AUTO_INCREMENT.
    pub(super) generated: Vec<String>,
    /// The lines of the own account's SHOW GRANTS; none where it cannot be asked, or of a vtgate.
    pub(super) grants: Option<Vec<String>>,
}

impl Facts {
    /// Whether it is a vtgate.
    pub(super) fn is_vitess(&self) -> bool {
        self.version.contains("Vitess")
    }
}

/// What a server is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    /// It answers clients.
    Answers,
    /// It rehearses: which writes, and whether table DDL too.
    Rehearses(Writes, bool),
}

/// Checks one server. `None` where it could not be logged in to.
pub(super) async fn check(server: &Server, is_for: Use, report: &mut Report) -> Option<Facts> {
    let rehearses = matches!(is_for, Use::Rehearses(..));
    let mut facts = greeted(server, report).await?;
    let asker = match &server.account {
        Some(account) => log_in(server, account, report).await,
        None => {
            no_account(server, rehearses, report);
            None
        }
    };
    users(server, rehearses, report).await;
    let Some(mut asker) = asker else {
        return Some(facts);
    };
    encrypted(server, &asker, report);
    if !facts.is_vitess() {
        facts.grants = granted(server, &mut asker, is_for, report).await;
    }
    facts.variables = variables(&mut asker).await;
    if !rehearses {
        hosts::check(server, &mut asker, report).await;
        blocking(server, &facts, report);
        effects(server, &mut asker, report).await;
    }
    databases(&mut asker, &mut facts).await;
    asker.leave().await;
    Some(facts)
}

/// Reads the greeting. With an account the login that follows makes up for the visit, which would
/// else count against this host.
async fn greeted(server: &Server, report: &mut Report) -> Option<Facts> {
    let at = format!("{}:{}", server.host, server.port);
    let greeting = tokio::time::timeout(server.connect_timeout, async {
        let mut stream = dial_for(&Tcp::default(), server, None)
            .await
            .map_err(|error| error.to_string())?;
        let greeting = greet(&mut stream, &mut PacketReader::default()).await;
        greeting
            .map(|(_, greeting)| greeting)
            .map_err(|error| error.to_string())
    });
    match greeting
        .await
        .unwrap_or_else(|_| Err("no greeting within connect_timeout_ms".to_owned()))
    {
        Ok(greeting) => {
            report.ok(
                &server.name,
                "reached",
                format!("{at}, version {}", greeting.version),
            );
            Some(Facts {
                version: greeting.version,
                capabilities: greeting.capabilities,
                ..Facts::default()
            })
        }
        Err(error) => {
            let remedy = format!(
                "see that {} runs, listens there, and lets this host in",
                server.name
            );
            report.fail(&server.name, "reached", format!("{at}: {error}"), remedy);
            None
        }
    }
}

async fn open(server: &Server, account: &Account) -> Result<Asker, ConnectError> {
    Asker::open(&Tcp::default(), server, account, &Manner::default()).await
}

async fn log_in(server: &Server, account: &Account, report: &mut Report) -> Option<Asker> {
    match open(server, account).await {
        Ok(asker) => {
            report.ok(
                &server.name,
                "own account",
                format!("logged in as {}", account.user),
            );
            Some(asker)
        }
        Err(error) => {
            report.fail(
                &server.name,
                "own account",
                format!("{}: {error}", account.user),
                "put user, password and tls right",
            );
            None
        }
    }
}

fn no_account(server: &Server, rehearses: bool, report: &mut Report) {
    if rehearses && server.users.is_empty() {
        let remedy = "set user and password_file in [shadow], or logins in [shadow.users]";
        report.fail(
            &server.name,
            "own account",
            "none, and no [shadow.users]: nothing can be replayed",
            remedy,
        );
    } else {
        let found = if rehearses {
            "none: only the users in [shadow.users] are mirrored"
        } else {
            "none: the checks of grants, accounts and tables below are off, generated keys and the clock are not pinned on the shadow, half-open logins of probes count against this host, and no read is run again here (compare.recheck)"
        };
        report.warn(
            &server.name,
            "own account",
            found,
            "set user and password_file",
        );
    }
}

async fn users(server: &Server, rehearses: bool, report: &mut Report) {
    for (user, account) in &server.users {
        match open(server, account).await {
            Ok(asker) => {
                report.ok(
                    &server.name,
                    "user's login",
                    format!("{user} as {}", account.user),
                );
                asker.leave().await;
            }
            Err(error) => {
                let found = format!("{user} as {}: {error}", account.user);
                let remedy = "create the account, or put the login right";
                if rehearses {
                    report.fail(&server.name, "user's login", found, remedy);
                } else {
                    report.warn(&server.name, "user's login", found, remedy);
                }
            }
        }
    }
}

fn encrypted(server: &Server, asker: &Asker, report: &mut Report) {
    let local =
        server.host == "localhost" || server.host.starts_with("127.") || server.host == "::1";
    match (asker.is_tls(), server.tls) {
        (true, TlsMode::VerifyCa | TlsMode::VerifyIdentity) => {
            report.ok(&server.name, "tls", "on, the certificate is checked")
        }
        (true, _) => report.ok(&server.name, "tls", "on, the certificate is not checked"),
        (false, _) if local => report.ok(&server.name, "tls", "off, on this host"),
        (false, TlsMode::Off) => report.warn(
            &server.name,
            "tls",
            "off: data crosses the network in the clear",
            "set tls where the server can",
        ),
        (false, _) => report.warn(
            &server.name,
            "tls",
            "the server offers none: data crosses the network in the clear",
            "",
        ),
    }
}

/// What the account is for, and what that takes.
async fn granted(
    server: &Server,
    asker: &mut Asker,
    is_for: Use,
    report: &mut Report,
) -> Option<Vec<String>> {
    let grants = match asker.ask("SHOW GRANTS").await {
        Ok(rows) => rows.into_iter().flatten().flatten().collect::<Vec<_>>(),
        Err(error) => {
            report.warn(
                &server.name,
                "grants",
                format!("cannot be read: {error}"),
                "",
            );
            return None;
        }
    };
    suffices(server, &grants, is_for, report);
    Some(grants)
}

fn suffices(server: &Server, grants: &[String], is_for: Use, report: &mut Report) {
    let user = server.account.as_ref().map_or("", |account| &account.user);
    let account = account::of_grants(grants, user);
    let (needed, place) = match is_for {
        Use::Answers => (vec!["PROCESS", "REPLICATION CLIENT"], "*.*"),
        Use::Rehearses(writes, ddl) => (replayed(writes, ddl), "the application's databases"),
    };
    if matches!(is_for, Use::Answers) && !lacking(grants, &["TRIGGER"], false).is_empty() {
        report.warn(
            &server.name,
            "triggers",
            format!("{user} cannot see them: a key that one of them changes is pinned wrongly"),
            format!("GRANT TRIGGER ON the application's databases TO {account}"),
        );
    }
    let missing = lacking(grants, &needed, matches!(is_for, Use::Answers));
    if missing.is_empty() {
        return report.ok(&server.name, "grants", needed.join(", "));
    }
    let missing = missing.join(", ");
    let remedy = format!("GRANT {missing} ON {place} TO {account}");
    match is_for {
        Use::Answers => report.warn(
            &server.name,
            "grants",
            format!("lacks {missing}: lag and writers cannot be watched"),
            remedy,
        ),
        // Rights may come from a role, which this does not look into; users may have their own login.
        Use::Rehearses(..) if has_role(grants) || !server.users.is_empty() => report.warn(
            &server.name,
            "grants",
            format!("{user} itself lacks {missing}: what needs them is refused on replay"),
            remedy,
        ),
        Use::Rehearses(..) => report.fail(
            &server.name,
            "grants",
            format!("lacks {missing}: what needs them is refused on replay"),
            remedy,
        ),
    }
}

/// The rights that replay takes.
fn replayed(writes: Writes, ddl: bool) -> Vec<&'static str> {
    let mut rights = vec!["SELECT"];
    if matches!(writes, Writes::Apply | Writes::Rollback) {
        rights.extend(["INSERT", "UPDATE", "DELETE"]);
    }
    if writes == Writes::Apply && ddl {
        rights.extend(["CREATE", "ALTER", "DROP", "INDEX"]);
    }
    rights
}

/// The rights that no line of SHOW GRANTS gives, `everywhere` or on any database at all.
fn lacking<'a>(grants: &[String], needed: &[&'a str], everywhere: bool) -> Vec<&'a str> {
    let lines: Vec<String> = grants
        .iter()
        .filter(|grant| !everywhere || grant.contains(" ON *.* "))
        .filter_map(|grant| Some(grant.split_once(" ON ")?.0.to_uppercase()))
        .collect();
    let has = |right: &str| {
        lines.iter().any(|line| {
            let rights = line.strip_prefix("GRANT ").unwrap_or(line);
            rights.split(',').map(str::trim).any(|given| {
                given.starts_with("ALL PRIVILEGES")
                    || given == right
                    || given.starts_with(&format!("{right} ("))
            })
        })
    };
    needed.iter().copied().filter(|right| !has(right)).collect()
}

/// Whether a line of SHOW GRANTS gives a role.
fn has_role(grants: &[String]) -> bool {
    grants.iter().any(|grant| !grant.contains(" ON "))
}

/// Variables that shape answers, or bound them.
pub(super) const VARIABLES: [&str; 23] = [
    "autocommit",
    "character_set_server",
    "collation_server",
    "default_storage_engine",
    "div_precision_increment",
    "explicit_defaults_for_timestamp",
    "foreign_key_checks",
    "group_concat_max_len",
    "init_connect",
    "innodb_lock_wait_timeout",
    "lower_case_table_names",
    "max_allowed_packet",
    "max_connect_errors",
    "max_connections",
    "max_execution_time",
    "server_uuid",
    "sql_mode",
    "system_time_zone",
    "time_zone",
    "transaction_isolation",
    "tx_isolation",
    "version_comment",
    "wait_timeout",
];

async fn variables(asker: &mut Asker) -> BTreeMap<String, String> {
    let list = VARIABLES.map(|name| format!("'{name}'")).join(", ");
    let global = asker
        .ask(&format!(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({list})"
        ))
        .await;
    let rows = match global {
        Ok(rows) if !rows.is_empty() => rows,
        Ok(_) | Err(_) => asker.ask("SHOW VARIABLES").await.unwrap_or_default(),
    };
    let mut variables: BTreeMap<String, String> = rows.into_iter().filter_map(pair).collect();
    variables.retain(|name, _| VARIABLES.contains(&name.as_str()));
    if let Some(old) = variables.remove("tx_isolation") {
        variables
            .entry("transaction_isolation".to_owned())
            .or_insert(old);
    }
    variables
}

fn pair(row: Row) -> Option<(String, String)> {
    let mut cells = row.into_iter();
    Some((
        cells.next()??.to_lowercase(),
        cells.next()?.unwrap_or_default(),
    ))
}

/// Clients that vanish in the login are counted by MySQL against the proxy's address.
fn blocking(server: &Server, facts: &Facts, report: &mut Report) {
    let Some(most) = facts
        .variables
        .get("max_connect_errors")
        .and_then(|most| most.parse::<u64>().ok())
    else {
        return;
    };
    if most < 10_000 {
        let found = format!(
            "{most}: so many broken logins in a row would block this host, with every client behind it"
        );
        let remedy =
            "SET GLOBAL max_connect_errors = 4294967295; point load balancers' probes at /readyz";
        report.warn(&server.name, "max_connect_errors", found, remedy);
    } else {
        report.ok(&server.name, "max_connect_errors", most.to_string());
    }
}

/// What changes rows without a client's statement, or is not mirrored.
async fn effects(server: &Server, asker: &mut Asker, report: &mut Report) {
    let own = "NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')";
    let kinds = [
        (
            "triggers",
            format!(
                "SELECT CONCAT(trigger_schema, '.', trigger_name) FROM information_schema.triggers WHERE trigger_schema {own}"
            ),
            "vtgate has none: what they write is not written on the shadow",
        ),
        (
            "events",
            format!(
                "SELECT CONCAT(event_schema, '.', event_name) FROM information_schema.events WHERE event_schema {own}"
            ),
            "they write past the proxy",
        ),
        (
            "routines",
            format!(
                "SELECT CONCAT(routine_schema, '.', routine_name) FROM information_schema.routines WHERE routine_schema {own}"
            ),
            "CALL is served, not mirrored, and taints what it may have written",
        ),
    ];
    for (what, statement, why) in kinds {
        let Ok(rows) = asker.ask(&statement).await else {
            continue;
        };
        let names: Vec<String> = rows.into_iter().flatten().flatten().collect();
        if !names.is_empty() {
            report.warn(
                &server.name,
                what,
                format!("{}: {why}", few(&names)),
                "move what they do into the application",
            );
        }
    }
}

/// Databases that belong to the server itself.
const SYSTEM: [&str; 5] = [
    "mysql",
    "sys",
    "information_schema",
    "performance_schema",
    "_vt",
];

/// Databases looked at, at most: a server may have thousands.
const DATABASES_MAX: usize = 200;

async fn databases(asker: &mut Asker, facts: &mut Facts) {
    let rows = asker.ask("SHOW DATABASES").await.unwrap_or_default();
    let names = rows.into_iter().flatten().flatten();
    let names: Vec<String> = names
        .filter(|name| !SYSTEM.contains(&name.as_str()))
        .take(DATABASES_MAX)
        .collect();
    for name in names {
        let quoted = name.replace('`', "``");
        let tables = asker.ask(&format!("SHOW TABLES FROM `{quoted}`")).await;
        let tables = tables.ok().map(|rows| {
            rows.into_iter()
                .filter_map(|row| row.into_iter().next()?)
                .collect()
        });
        facts.tables.insert(name, tables);
    }
    let generated = asker
        .ask("SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.columns WHERE extra LIKE '%auto_increment%'")
        .await
        .unwrap_or_default();
    let generated = generated.into_iter().flatten().flatten();
    facts.generated = generated
        .filter(|name| {
            !SYSTEM
                .iter()
                .any(|own| name.starts_with(&format!("{own}.")))
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn an_account_without_rights_cannot_replay() {
        let usage = shown(&["GRANT USAGE ON *.* TO `app`@`%`"]);
        let needed = replayed(Writes::Apply, false);
        assert_eq!(lacking(&usage, &needed, false), needed);
        let reads = shown(&[
            "GRANT USAGE ON *.* TO `app`@`%`",
            "GRANT SELECT ON `app`.* TO `app`@`%`",
        ]);
        assert_eq!(
            lacking(&reads, &needed, false),
            ["INSERT", "UPDATE", "DELETE"]
        );
        assert!(lacking(&reads, &replayed(Writes::Off, true), false).is_empty());
        let all = shown(&["GRANT ALL PRIVILEGES ON `app`.* TO `app`@`%`"]);
        assert!(lacking(&all, &replayed(Writes::Apply, true), false).is_empty());
        assert_eq!(lacking(&all, &["PROCESS"], true), ["PROCESS"]);
    }
}
