//! What is asked of both servers where replication feeds the shadow: how far it is, and for `verify --lock` a lock of
//! tables on the primary.

use super::account;
use super::report::{Report, few};
use super::server::Facts;
use crate::config::{CatchUp, Config, FedBy};
use crate::cutover::{lacks_to_lock, never_locks};
use std::collections::BTreeMap;

/// The check's name.
const LOCK: &str = "verify --lock";

pub(super) fn check(config: &Config, primary: &Facts, shadow: &Facts, report: &mut Report) {
    if config.shadow.fed_by != FedBy::Replication {
        return;
    }
    lock(config, primary, report);
    gtids(config, primary, shadow, report);
}

/// Who verifies with `--lock` locks one table after the other.
fn lock(config: &Config, primary: &Facts, report: &mut Report) {
    let server = &config.primary;
    if let Some(why) = never_locks(&primary.version) {
        let found = format!("refused there: {why}");
        return report.warn(&server.name, LOCK, found, "take --mode chunks");
    }
    let (Some(account), Some(grants)) = (&server.account, &primary.grants) else {
        return;
    };
    let user = &account.user;
    let databases = primary.tables.keys();
    let lacks: BTreeMap<&String, String> = databases
        .map(|database| (database, lacks_to_lock(grants, database).join(", ")))
        .filter(|(_, lacks)| !lacks.is_empty())
        .collect();
    let Some((database, first)) = lacks.first_key_value() else {
        let found = format!("{user} may lock tables, each for a moment");
        return report.ok(&server.name, LOCK, found);
    };
    let names: Vec<String> = lacks.keys().map(|name| (*name).clone()).collect();
    let named = account::of_grants(grants, user);
    report.warn(
        &server.name,
        LOCK,
        format!(
            "{user} lacks {first}: tables of {} are not verified with --lock; nothing else needs it",
            few(&names)
        ),
        format!("GRANT {first} ON `{database}`.* TO {named}, and so of each database that is to be verified with --lock"),
    );
}

/// MariaDB's GTIDs are others.
fn gtids(config: &Config, primary: &Facts, shadow: &Facts, report: &mut Report) {
    if config.cutover.catch_up != CatchUp::Gtid {
        return;
    }
    for (server, facts) in [(&config.primary, primary), (&config.shadow, shadow)] {
        if facts.version.contains("MariaDB") {
            report.fail(
                &server.name,
                "cutover.catch_up",
                "gtid: MariaDB has no GTIDs of MySQL's (its own, such as 0-1-100, are others), so nobody knows when the shadow has caught up",
                "set cutover.catch_up = \"heartbeat\" or \"hook\"",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;
    use std::collections::BTreeSet;

    /// What is told of a pair with these versions, where the primary's account has these grants.
    fn told(more: &str, versions: [&str; 2], grants: &[&str]) -> Vec<(Level, String)> {
        let config = format!("[primary]\nuser = \"own\"\n[shadow]\nuser = \"own\"\n{more}");
        let config = Config::parse(&config, &[]).expect("sound");
        let facts = |version: &str| Facts {
            version: version.to_owned(),
            tables: [("shop".to_owned(), Some(BTreeSet::new()))].into(),
            grants: Some(grants.iter().map(|one| (*one).to_owned()).collect()),
            ..Facts::default()
        };
        let [primary, shadow] = versions.map(facts);
        let mut report = Report::default();
        check(&config, &primary, &shadow, &mut report);
        let lines = report.lines.into_iter();
        lines
            .map(|one| (one.level, format!("{}; {}", one.found, one.remedy)))
            .collect()
    }

    const FED: &str =
        "fed_by = \"replication\"\n[mirror]\nwrites = \"off\"\n[cutover]\ncatch_up = \"gtid\"";
    const MYSQL: [&str; 2] = ["8.4.6", "9.7.4"];

    #[test]
    fn the_right_to_lock_tables_is_named_where_a_verification_would_need_it() {
        const READS: &str = "GRANT SELECT, PROCESS ON *.* TO `own`@`%`";
        let lines = told(FED, MYSQL, &[READS]);
        let [(Level::Warn, line)] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert!(
            line.contains("own lacks LOCK TABLES") && line.contains("shop"),
            "{line}"
        );
        assert!(
            line.contains("GRANT LOCK TABLES ON `shop`.* TO `own`@`%`,"),
            "{line}"
        );
        let locks = "GRANT LOCK TABLES ON `shop`.* TO `own`@`%`";
        let lines = told(FED, MYSQL, &[READS, locks]);
        assert!(matches!(lines.as_slice(), [(Level::Ok, _)]), "{lines:?}");
        // Where the mirror feeds the shadow nobody locks.
        assert_eq!(told("", MYSQL, &[READS]), []);
        let old = told(FED, ["5.6.24", "9.7.4"], &[READS]);
        assert!(old[0].1.contains("before MySQL 5.7"), "{old:?}");
    }

    #[test]
    fn gtids_of_mariadb_are_refused_on_either_side() {
        const ALL: &str = "GRANT ALL PRIVILEGES ON *.* TO `own`@`%`";
        for versions in [["10.11.6-MariaDB", "9.7.4"], ["9.7.4", "10.11.6-MariaDB"]] {
            let lines = told(FED, versions, &[ALL]);
            let refused = lines.iter().filter(|(level, _)| *level == Level::Fail);
            let refused: Vec<_> = refused.collect();
            assert_eq!(refused.len(), 1, "{lines:?}");
            assert!(refused[0].1.contains("0-1-100"), "{lines:?}");
        }
        let by_beat = FED.replace("gtid", "heartbeat");
        let lines = told(&by_beat, ["9.7.4", "10.11.6-MariaDB"], &[ALL]);
        assert!(
            lines.iter().all(|(level, _)| *level != Level::Fail),
            "{lines:?}"
        );
    }
}
