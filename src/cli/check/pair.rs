//! Both servers side by side: what clients lose, what differs, what the shadow does not have.

use super::account;
use super::report::{Report, few};
use super::server::Facts;
use crate::config::{Config, FedBy, Server, Writes};
use crate::connect;
use crate::cutover::lacks_for_fence;
use crate::wire::capability::Capabilities;

pub(super) fn check(config: &Config, primary: &Facts, shadow: &Facts, report: &mut Report) {
    distinct(config, primary, shadow, report);
    capabilities(config, primary, shadow, report);
    settings(primary, shadow, report);
    tables(config, primary, shadow, report);
    generated(config, primary, report);
    for (server, facts) in [(&config.primary, primary), (&config.shadow, shadow)] {
        fence(config, server, facts, report);
    }
    if shadow.is_vitess() {
        vitess(&config.shadow.name, report);
    }
}

/// Two names may lead to one server, where every write would then run twice.
fn distinct(config: &Config, primary: &Facts, shadow: &Facts, report: &mut Report) {
    let own = |facts: &Facts| facts.variables.get("server_uuid").cloned();
    let (Some(one), Some(other)) = (own(primary), own(shadow)) else {
        return;
    };
    if one.is_empty() || one != other {
        return;
    }
    let found = format!("both lead to one server ({one})");
    let remedy = "name another server, or set mirror.writes = \"off\"";
    match config.mirror.writes.now() {
        Writes::Apply | Writes::Rollback => {
            report.fail(
                "both",
                "servers",
                format!("{found}: every write would run on it twice"),
                remedy,
            );
        }
        Writes::Plan | Writes::Off => report.warn("both", "servers", found, remedy),
    }
}

/// Clients are offered what both servers can, as far as it gives answers another form.
fn capabilities(config: &Config, primary: &Facts, shadow: &Facts, report: &mut Report) {
    let offered = primary.capabilities.and(Capabilities::DIALECT);
    let lost = offered.without(shadow.capabilities);
    let common = connect::names(offered.without(lost));
    report.ok("both", "capabilities", format!("in common: {common}"));
    if lost == Capabilities::default() {
        return;
    }
    let (name, lost_names) = (&config.primary.name, connect::names(lost));
    let found = format!("{name} has, clients are not offered: {lost_names}");
    let hard = Capabilities::MULTI_STATEMENTS.with(Capabilities::FOUND_ROWS);
    if lost.and(hard) == Capabilities::default() {
        report.ok(&config.shadow.name, "capabilities", found);
    } else {
        let remedy = "clients that insist on them will not get them";
        report.warn(&config.shadow.name, "capabilities", found, remedy);
    }
}

/// Variables whose difference shows in answers, and how.
const TELLING: [(&str, &str); 9] = [
    (
        "character_set_server",
        "the charset of tables created without one",
    ),
    (
        "collation_server",
        "order and equality of texts in tables created without one",
    ),
    ("div_precision_increment", "digits of quotients"),
    (
        "explicit_defaults_for_timestamp",
        "TIMESTAMP columns created without a default",
    ),
    ("group_concat_max_len", "where GROUP_CONCAT is cut"),
    ("innodb_lock_wait_timeout", "which side gives up first"),
    ("lower_case_table_names", "names of tables"),
    (
        "sql_mode",
        "what is refused, truncated or grouped; sessions that SET it are alike",
    ),
    ("transaction_isolation", "what a transaction sees"),
];

fn settings(primary: &Facts, shadow: &Facts, report: &mut Report) {
    let both = |name: &str| Some((primary.variables.get(name)?, shadow.variables.get(name)?));
    let mut same = Vec::new();
    for (name, why) in TELLING {
        match both(name) {
            Some((ours, theirs)) if ours != theirs => {
                let found = format!("{} against {}: {why}", shown(ours), shown(theirs));
                report.warn("both", name, found, "set them alike");
            }
            Some(_) => same.push(name.to_owned()),
            None => {}
        }
    }
    if !same.is_empty() {
        report.ok("both", "settings", format!("alike: {}", same.join(", ")));
    }
    time_zone(primary, shadow, report);
    for (name, why) in [
        (
            "max_allowed_packet",
            "longer commands and rows fail on the shadow only: shadow_limit",
        ),
        ("max_connections", "sessions beyond it are not mirrored"),
        (
            "wait_timeout",
            "idle sessions end sooner on the shadow; replay opens them again",
        ),
    ] {
        let number = |facts: &Facts| {
            facts
                .variables
                .get(name)
                .and_then(|text| text.parse::<u64>().ok())
        };
        if let (Some(ours), Some(theirs)) = (number(primary), number(shadow))
            && theirs < ours
        {
            report.warn(
                "both",
                name,
                format!("{ours} against {theirs}: {why}"),
                "raise the shadow's",
            );
        }
    }
}

fn shown(value: &str) -> String {
    if value.is_empty() {
        "(empty)".to_owned()
    } else {
        value.to_owned()
    }
}

fn time_zone(primary: &Facts, shadow: &Facts, report: &mut Report) {
    let zone = |facts: &Facts| {
        let zone = facts.variables.get("time_zone")?;
        let system = facts.variables.get("system_time_zone")?;
        Some(if zone == "SYSTEM" {
            system.clone()
        } else {
            zone.clone()
        })
    };
    let utc = |zone: &str| matches!(zone, "UTC" | "+00:00" | "GMT" | "Etc/UTC");
    if let (Some(ours), Some(theirs)) = (zone(primary), zone(shadow)) {
        if ours == theirs || (utc(&ours) && utc(&theirs)) {
            report.ok("both", "time zone", ours);
        } else {
            let found = format!("{ours} against {theirs}: NOW() and TIMESTAMP columns differ");
            report.warn(
                "both",
                "time zone",
                found,
                "set them alike, or shadow.init = [\"SET time_zone = …\"]",
            );
        }
    }
}

fn tables(config: &Config, primary: &Facts, shadow: &Facts, report: &mut Report) {
    let name = &config.shadow.name;
    for (database, tables) in &primary.tables {
        let there = config.shadow.databases.get(database).unwrap_or(database);
        let mapped = if there == database {
            String::new()
        } else {
            format!(" (as {there})")
        };
        match (tables, shadow.tables.get(there)) {
            (_, None) if shadow.tables.is_empty() => {}
            (_, None) => {
                let remedy =
                    format!("create it, or map it in [shadow.databases]: {database} = \"…\"");
                report.warn(
                    name,
                    "database",
                    format!(
                        "{database}{mapped} is not there: its commands will fail on the shadow"
                    ),
                    remedy,
                );
            }
            (Some(ours), Some(Some(theirs))) => {
                let missing: Vec<String> = ours.difference(theirs).cloned().collect();
                if missing.is_empty() {
                    let found = match ours.len() {
                        0 => "there, and the primary has no tables in it".to_owned(),
                        1 => "its table is there".to_owned(),
                        n => format!("all {n} tables are there"),
                    };
                    report.ok(name, "database", format!("{database}{mapped}: {found}"));
                } else {
                    let found = format!(
                        "{database}{mapped} lacks {} of {} tables: {}",
                        missing.len(),
                        ours.len(),
                        few(&missing)
                    );
                    report.warn(name, "tables", found, "create them, and load the rows");
                }
            }
            (None, _) | (_, Some(None)) => {
                report.warn(
                    "both",
                    "tables",
                    format!("those of {database}{mapped} cannot be listed"),
                    "grant the accounts rights on it",
                );
            }
        }
    }
}

fn generated(config: &Config, primary: &Facts, report: &mut Report) {
    let writes = matches!(config.mirror.writes.now(), Writes::Apply | Writes::Rollback);
    if !writes || primary.generated.is_empty() {
        return;
    }
    let tables = few(&primary.generated);
    if config.mirror.pin_keys && config.primary.account.is_some() {
        let found = format!("AUTO_INCREMENT in {tables}: the shadow is given the primary's keys");
        return report.ok("both", "generated keys", found);
    }
    let found = format!("AUTO_INCREMENT in {tables}: each side generates its own keys");
    let remedy = if config.shadow.fed_by == FedBy::Mirror {
        "set mirror.pin_keys: else INSERTs without a key taint their tables"
    } else {
        "set mirror.pin_keys: else INSERTs without a key show as last_insert_id"
    };
    report.warn("both", "generated keys", found, remedy);
}

/// Each of the two may be the old primary, which a cutover fences; dark writes pass the fence with the
/// proxy's own account.
fn fence(config: &Config, server: &Server, facts: &Facts, report: &mut Report) {
    const WHAT: &str = "fence";
    let name = &server.name;
    let Some(user) = server.account.as_ref().map(|account| &account.user) else {
        if config.cutover.fence {
            let found = "cutover.fence is on, and the proxy has no account there to set it with";
            report.fail(name, WHAT, found, "set user and password_file");
        }
        return;
    };
    let Some(grants) = facts.grants.as_ref().filter(|_| config.cutover.fence) else {
        return;
    };
    let lacks = lacks_for_fence(&facts.version, grants).join(", ");
    if lacks.is_empty() {
        return report.ok(name, WHAT, format!("{user} may set it, and pass it"));
    }
    let found =
        format!("{user} lacks {lacks}: a cutover away from {name} is refused (cutover.fence)");
    let account = account::of_grants(grants, user);
    report.fail(
        name,
        WHAT,
        found,
        format!("GRANT {lacks} ON *.* TO {account}"),
    );
}

/// What vtgate is known not to do, whatever the schema.
fn vitess(name: &str, report: &mut Report) {
    for (what, found) in [
        (
            "cursors",
            "STMT_FETCH is not implemented: counted as not compared: cursor",
        ),
        ("CHANGE_USER", "not implemented: carried out as a new login"),
        (
            "FIELD_LIST",
            "not implemented, nor is STATISTICS: shown as unsupported",
        ),
        (
            "row cap",
            "more than 10,000 rows of a shard end in error 1317: shown as shadow_limit; shadow.init = [\"SET workload = 'olap'\"] lifts it, and streams",
        ),
        (
            "not mirrored",
            "LOAD DATA, CALL, LOCK TABLES, XA, KILL and administration never reach the shadow, and taint what they may have written",
        ),
        (
            "sharded tables",
            "temporary tables, REPLACE and updates of the sharding column are refused: shown as unsupported",
        ),
    ] {
        report.warn(name, what, found, "");
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;
    use std::collections::BTreeSet;

    fn facts(version: &str, variables: &[(&str, &str)], tables: &[(&str, &[&str])]) -> Facts {
        let set = |names: &&[&str]| {
            Some(
                names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<BTreeSet<_>>(),
            )
        };
        Facts {
            version: version.to_owned(),
            capabilities: Capabilities::MULTI_STATEMENTS.with(Capabilities::SESSION_TRACK),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            tables: tables
                .iter()
                .map(|(name, names)| ((*name).to_owned(), set(names)))
                .collect(),
            generated: vec!["shop.orders".to_owned()],
            grants: Some(vec!["GRANT PROCESS ON *.* TO `u`@`%`".to_owned()]),
        }
    }

    #[test]
    fn what_differs_between_the_two_is_told() {
        let config = Config::parse("[shadow.databases]\nshop = \"commerce\"", &[]).expect("sound");
        let primary = facts(
            "5.6.24",
            &[
                ("sql_mode", ""),
                ("time_zone", "SYSTEM"),
                ("system_time_zone", "UTC"),
                ("wait_timeout", "10"),
            ],
            &[("shop", &["orders", "users"]), ("old", &[])],
        );
        let mut shadow = facts(
            "8.4.6-Vitess",
            &[
                ("sql_mode", "STRICT_TRANS_TABLES"),
                ("time_zone", "+00:00"),
                ("system_time_zone", "CET"),
                ("wait_timeout", "5"),
            ],
            &[("commerce", &["orders"])],
        );
        shadow.capabilities = Capabilities::MULTI_STATEMENTS;
        let mut report = Report::default();
        check(&config, &primary, &shadow, &mut report);
        let told = |level: Level, part: &str| {
            assert!(
                report
                    .lines
                    .iter()
                    .any(|line| line.level == level && line.found.contains(part)),
                "{part}: {report:#?}"
            );
        };
        told(
            Level::Ok,
            "legacy has, clients are not offered: SESSION_TRACK",
        );
        told(Level::Warn, "(empty) against STRICT_TRANS_TABLES");
        told(Level::Ok, "UTC");
        told(Level::Warn, "10 against 5");
        told(Level::Warn, "shop (as commerce) lacks 1 of 2 tables: users");
        told(Level::Warn, "old is not there");
        told(Level::Warn, "AUTO_INCREMENT in shop.orders: each side");
        told(Level::Warn, "STMT_FETCH");
        assert!(report.is_good());
    }

    #[test]
    fn who_is_to_set_a_fence_and_may_not_is_told_so() {
        let primary = facts("5.6.24", &[], &[]);
        let found = |config: &str| {
            let config = Config::parse(config, &[]).expect("sound");
            let mut report = Report::default();
            fence(&config, &config.primary, &primary, &mut report);
            let is_good = report.is_good();
            let lines = report.lines.iter().map(|line| line.found.clone());
            (is_good, lines.collect::<Vec<_>>().join("; "))
        };
        const OWN: &str = "[primary]\nuser = \"understudy\"\n";
        assert_eq!(found(OWN), (true, String::new()), "nobody asks for it");
        let (is_good, told) = found(&format!("{OWN}[cutover]\nfence = true"));
        assert!(
            !is_good && told.contains("understudy lacks SUPER"),
            "{told}"
        );
        let (is_good, told) = found("[cutover]\nfence = true");
        assert!(!is_good && told.contains("no account"), "{told}");
    }
}
