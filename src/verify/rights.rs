//! What an account sees, by what SHOW GRANTS says: a server leaves out what it may not show, and says nothing of it.
//! Pure.

use super::board::Outcome;
use super::wish::matches;
use std::collections::BTreeSet;

/// Names that are told.
const NAMED_MAX: usize = 10;

/// What of the databases that are asked for (as patterns) the account may not see, and what that makes of the answer
/// at best.
#[must_use]
pub(super) fn unseen(grants: &[String], wide: &[&str]) -> Vec<(Outcome, String)> {
    if wide.is_empty() {
        // Single tables were named: what is not there of them is told as such.
        return Vec::new();
    }
    let (mut everywhere, mut whole, mut parts, mut revoked) =
        (false, BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for grant in grants {
        let Some((reads, place, database)) = read(grant) else {
            continue;
        };
        match place {
            _ if grant.starts_with("REVOKE") => drop(revoked.insert(database)),
            _ if !reads => {}
            Place::Everywhere => everywhere = true,
            Place::Database => drop(whole.insert(database)),
            Place::Table => drop(parts.insert(database)),
        }
    }
    let asked = |database: &&String| wide.iter().any(|pattern| matches(pattern, database));
    let mut found = Vec::new();
    if everywhere {
        if let Some(names) = listed(revoked.iter().filter(asked)) {
            let why = format!(
                "the proxy's account may not read all of {names}: what it is not shown there was not compared"
            );
            found.push((Outcome::Unfinished, why));
        }
        return found;
    }
    let only = parts.iter().filter(|one| !whole.contains(*one));
    if let Some(names) = listed(only.filter(asked)) {
        let why = format!(
            "the proxy's account sees single tables of {names}: what it is not shown there was not compared"
        );
        found.push((Outcome::Unfinished, why));
    }
    if wide.contains(&"*") {
        let names = listed(whole.iter()).unwrap_or_else(|| "no database".to_owned());
        let why = format!(
            "the proxy's account sees {names}: other databases were not looked at (GRANT SELECT ON *.*, or name these in --tables)"
        );
        found.push((Outcome::EqualInPart, why));
    } else {
        let covered = |pattern: &&&str| {
            whole
                .iter()
                .any(|one| matches(pattern, one) || like(one, pattern))
        };
        let bare = wide.iter().filter(|pattern| !covered(pattern));
        if let Some(names) = listed(bare.map(|one| (*one).to_owned()).collect::<Vec<_>>().iter()) {
            let why = format!(
                "no grant lets the proxy's account see all of {names}: what it is not shown there was not compared"
            );
            found.push((Outcome::Unfinished, why));
        }
    }
    found
}

/// A grant's database may be a pattern of LIKE's.
fn like(granted: &str, name: &str) -> bool {
    let pattern = granted.replace("\\_", "_").replace("\\%", "%");
    matches(&pattern.replace('%', "*"), name)
}

enum Place {
    Everywhere,
    Database,
    Table,
}

/// Whether a line grants (or takes) reading, and where.
fn read(grant: &str) -> Option<(bool, Place, String)> {
    let rest = grant
        .strip_prefix("GRANT ")
        .or_else(|| grant.strip_prefix("REVOKE "))?;
    let (rights, rest) = rest.split_once(" ON ")?;
    let rest = rest.strip_prefix("TABLE ").unwrap_or(rest);
    let end = rest.find(" TO ").or_else(|| rest.find(" FROM "))?;
    let (database, table) = split(rest.get(..end)?)?;
    let reads = rights.split(", ").any(|right| {
        let right = right.trim();
        right.starts_with("ALL") || right == "SELECT" || right.starts_with("SELECT (")
    });
    let columns = rights.contains("SELECT (");
    let place = match (database.as_str(), table.as_str()) {
        ("*", "*") => Place::Everywhere,
        (_, "*") if !columns => Place::Database,
        _ => Place::Table,
    };
    Some((reads, place, database))
}

/// `db`.`table`, each quoted or not.
fn split(place: &str) -> Option<(String, String)> {
    let mut rest = place;
    let mut part = || -> Option<String> {
        if let Some(quoted) = rest.strip_prefix('`') {
            let mut name = String::new();
            let mut chars = quoted.char_indices();
            while let Some((at, c)) = chars.next() {
                if c != '`' {
                    name.push(c);
                } else if quoted
                    .get(at + 1..)
                    .is_some_and(|more| more.starts_with('`'))
                {
                    name.push('`');
                    chars.next();
                } else {
                    rest = quoted.get(at + 1..)?.trim_start_matches('.');
                    return Some(name);
                }
            }
            return None;
        }
        let (name, more) = rest.split_once('.').unwrap_or((rest, ""));
        rest = more;
        Some(name.to_owned())
    };
    Some((part()?, part()?))
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    let told = names.iter().take(NAMED_MAX).copied();
    let told = told.collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => None,
        n if n > NAMED_MAX => Some(format!("{told} and {} more", n - NAMED_MAX)),
        _ => Some(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(grants: &[&str], wide: &[&str]) -> Vec<(Outcome, String)> {
        let grants: Vec<String> = grants.iter().map(|one| (*one).to_owned()).collect();
        unseen(&grants, wide)
    }

    fn outcomes(grants: &[&str], wide: &[&str]) -> Vec<Outcome> {
        told(grants, wide).into_iter().map(|(one, _)| one).collect()
    }

    const USAGE: &str = "GRANT USAGE ON *.* TO `u`@`%`";

    #[test]
    fn whoever_reads_everything_sees_everything() {
        for grant in [
            "GRANT SELECT, INSERT ON *.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON *.* TO 'u'@'%' IDENTIFIED BY PASSWORD '*1' WITH GRANT OPTION",
        ] {
            assert_eq!(told(&[grant], &["*"]), []);
        }
    }

    #[test]
    fn of_what_was_not_granted_nothing_is_equal() {
        let app = "GRANT ALL PRIVILEGES ON `app`.* TO `u`@`%`";
        let all = told(&[USAGE, app], &["*"]);
        assert_eq!(all[0].0, Outcome::EqualInPart);
        assert!(all[0].1.contains("sees app:"), "{all:?}");
        assert_eq!(outcomes(&[USAGE, app], &["app"]), []);
        assert_eq!(outcomes(&[USAGE, app], &[]), []);
        assert_eq!(outcomes(&[USAGE, app], &["shop"]), [Outcome::Unfinished]);
        assert_eq!(outcomes(&[USAGE], &["*"]), [Outcome::EqualInPart]);
        // The right to write is no right to read.
        let writes = "GRANT INSERT ON `app`.* TO `u`@`%`";
        assert_eq!(outcomes(&[writes], &["app"]), [Outcome::Unfinished]);
    }

    #[test]
    fn single_tables_and_columns_are_not_the_database() {
        let table = "GRANT SELECT ON `app`.`t` TO `u`@`%`";
        assert!(outcomes(&[USAGE, table], &["app"]).contains(&Outcome::Unfinished));
        let columns = "GRANT SELECT (a, b), INSERT ON `app`.`t` TO `u`@`%`";
        assert!(outcomes(&[USAGE, columns], &["*"]).contains(&Outcome::Unfinished));
    }

    #[test]
    fn a_partial_revoke_and_a_pattern_are_understood() {
        let all = "GRANT SELECT ON *.* TO `u`@`%`";
        let not = "REVOKE SELECT ON `secret`.* FROM `u`@`%`";
        assert_eq!(outcomes(&[all, not], &["*"]), [Outcome::Unfinished]);
        assert_eq!(outcomes(&[all, not], &["app"]), []);
        let pattern = "GRANT SELECT ON `app\\_%`.* TO `u`@`%`";
        assert_eq!(outcomes(&[pattern], &["app_one"]), []);
    }

    #[test]
    fn a_quoted_name_may_hold_anything() {
        assert_eq!(split("`a.``b`.`c`"), Some(("a.`b".into(), "c".into())));
        assert_eq!(split("*.*"), Some(("*".into(), "*".into())));
    }
}
