//! What the proxy's account lacks of what a cutover does at a server: to set a fence, to pass it and to
//! take it away, to stop replication; and to lock tables. By its grants; refuses to look into roles.

/// What an account lacks to set the fence on a server of this version, and to pass it, by the lines of its
/// SHOW GRANTS; nothing where a role may have it.
#[must_use]
pub fn lacks_for_fence(version: &str, grants: &[String]) -> Vec<&'static str> {
    let needed: &[&str] = if version.contains("MariaDB") {
        &["READ_ONLY ADMIN"]
    } else if is_split(version) {
        &["SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"]
    } else {
        &["SUPER"]
    };
    // MariaDB took READ_ONLY ADMIN out of SUPER in 10.11.
    lacks(needed, !is_modern_mariadb(version), grants)
}

/// Of what an account lacks for a fence, what it lacks to take one away: one that is taken away is not passed.
pub(super) fn lacks_to_lift(lacks: &[&'static str]) -> Vec<&'static str> {
    let lacks = lacks.iter().copied();
    lacks.filter(|right| *right != "CONNECTION_ADMIN").collect()
}

/// Likewise, to stop replication into a server and to start it again.
pub(super) fn lacks_to_stop(version: &str, grants: &[String]) -> Vec<&'static str> {
    let needed = if version.contains("MariaDB") {
        "REPLICATION SLAVE ADMIN"
    } else if is_split(version) {
        "REPLICATION_SLAVE_ADMIN"
    } else {
        "SUPER"
    };
    lacks(&[needed], true, grants)
}

/// What an account lacks to lock tables of a database, by the lines of its SHOW GRANTS; nothing where a role may have it.
/// To end its own connections no account needs a right.
#[must_use]
pub fn lacks_to_lock(grants: &[String], database: &str) -> Vec<&'static str> {
    let is_role = |grant: &String| !grant.contains(" ON ");
    if grants.iter().any(is_role) {
        return Vec::new();
    }
    let here = grants.iter().filter_map(|grant| {
        let (rights, rest) = grant.strip_prefix("GRANT ")?.split_once(" ON ")?;
        let (place, _) = rest.split_once(" TO ")?;
        covers(place, database).then_some(rights)
    });
    let here: Vec<&str> = here.flat_map(|rights| rights.split(", ")).collect();
    let has = |right: &str| {
        let mut here = here.iter();
        here.any(|one| one.eq_ignore_ascii_case(right) || one.starts_with("ALL PRIVILEGES"))
    };
    let needed = ["SELECT", "LOCK TABLES"].into_iter();
    needed.filter(|right| !has(right)).collect()
}

/// Whether a grant on this place (``*.*``, `` `app\_%`.* ``) is one on all of a database.
fn covers(place: &str, database: &str) -> bool {
    let Some(of) = place.strip_suffix(".*") else {
        return false;
    };
    let of = of.trim_matches('`').replace("``", "`");
    of == "*" || is_like(&of, database)
}

/// As LIKE has it, in any case: `_` is one character, `%` any, `\` makes the next one itself.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('%') => {
            let from = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            from.filter_map(|at| name.get(at..))
                .any(|left| is_like(rest.as_str(), left))
        }
        Some(one) => {
            let (one, is_any) = match one {
                '\\' => (rest.next().unwrap_or('\\'), false),
                one => (one, one == '_'),
            };
            let mut left = name.chars();
            let met = left
                .next()
                .is_some_and(|c| is_any || c.to_lowercase().eq(one.to_lowercase()));
            met && is_like(rest.as_str(), left.as_str())
        }
    }
}

fn lacks(needed: &[&'static str], super_may: bool, grants: &[String]) -> Vec<&'static str> {
    let is_role = |grant: &String| !grant.contains(" ON ");
    let has = |right: &str| {
        let global = grants.iter().filter(|grant| grant.contains(" ON *.* "));
        let mut rights = global.filter_map(|grant| {
            let (rights, _) = grant.split_once(" ON ")?;
            rights.strip_prefix("GRANT ")
        });
        rights.any(|rights| {
            let mut rights = rights.split(',').map(str::trim);
            rights.any(|one| one.eq_ignore_ascii_case(right) || one.starts_with("ALL PRIVILEGES"))
        })
    };
    let by_super = super_may && has("SUPER");
    if by_super || grants.iter().any(is_role) {
        return Vec::new();
    }
    needed.iter().copied().filter(|right| !has(right)).collect()
}

/// Whether SUPER was split up there: MySQL 8.
fn is_split(version: &str) -> bool {
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= 8)
}

fn is_modern_mariadb(version: &str) -> bool {
    let Some((numbers, _)) = version.split_once("-MariaDB") else {
        return false;
    };
    // It calls itself 5.5.5 first.
    let numbers = numbers.strip_prefix("5.5.5-").unwrap_or(numbers);
    let mut numbers = numbers.split('.').filter_map(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (10, 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(version: &str, grants: &[&str]) -> Vec<&'static str> {
        let grants: Vec<String> = grants.iter().map(|grant| (*grant).to_owned()).collect();
        lacks_for_fence(version, &grants)
    }

    #[test]
    fn whoever_is_to_set_a_fence_and_pass_it_needs_what_that_version_asks_for() {
        const SUPER: &str = "GRANT PROCESS, SUPER ON *.* TO `understudy`@`%`";
        const NONE: &str = "GRANT USAGE ON *.* TO `understudy`@`%`";
        for (version, grants, lacks) in [
            ("5.6.24-log", &[NONE][..], &["SUPER"][..]),
            ("5.6.24-log", &[SUPER], &[]),
            ("9.7.0", &[SUPER], &[]),
            (
                "9.7.0",
                &[NONE],
                &["SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"],
            ),
            (
                "8.0.36",
                &[
                    NONE,
                    "GRANT CONNECTION_ADMIN,XA_RECOVER_ADMIN ON *.* TO `understudy`@`%`",
                ],
                &["SYSTEM_VARIABLES_ADMIN"],
            ),
            ("8.0.36", &["GRANT ALL PRIVILEGES ON *.* TO `u`@`%`"], &[]),
            (
                "8.0.36",
                &["GRANT ALL PRIVILEGES ON `app`.* TO `u`@`%`"],
                &["SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"],
            ),
            // What a role gives is not looked into.
            (
                "8.0.36",
                &[NONE, "GRANT `dba`@`%` TO `understudy`@`%`"],
                &[],
            ),
            ("5.5.5-10.11.6-MariaDB-log", &[SUPER], &["READ_ONLY ADMIN"]),
            (
                "5.5.5-10.11.6-MariaDB",
                &["GRANT SUPER, READ_ONLY ADMIN ON *.* TO `u`@`%`"],
                &[],
            ),
            ("10.6.12-MariaDB", &[SUPER], &[]),
        ] {
            assert_eq!(lacking(version, grants), lacks, "{version} {grants:?}");
        }
    }

    #[test]
    fn replication_is_stopped_by_who_may_and_a_fence_is_taken_away_without_passing_it() {
        const NONE: &str = "GRANT SELECT ON *.* TO `understudy`@`%`";
        const STOPS: &str = "GRANT REPLICATION_SLAVE_ADMIN ON *.* TO `understudy`@`%`";
        const SUPER: &str = "GRANT SUPER ON *.* TO `understudy`@`%`";
        for (version, grant, lacks) in [
            ("9.7.0", NONE, &["REPLICATION_SLAVE_ADMIN"][..]),
            ("9.7.0", STOPS, &[]),
            ("9.7.0", SUPER, &[]),
            ("5.7.44-log", NONE, &["SUPER"]),
            ("5.7.44-log", SUPER, &[]),
            ("11.4.2-MariaDB", NONE, &["REPLICATION SLAVE ADMIN"]),
        ] {
            assert_eq!(
                lacks_to_stop(version, &[grant.to_owned()]),
                lacks,
                "{version} {grant}"
            );
        }
        let lifts = lacks_to_lift(&["SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"]);
        assert_eq!(lifts, ["SYSTEM_VARIABLES_ADMIN"]);
        assert!(lacks_to_lift(&["CONNECTION_ADMIN"]).is_empty());
    }

    #[test]
    fn tables_are_locked_by_who_may_read_and_lock_in_their_database() {
        const USAGE: &str = "GRANT USAGE ON *.* TO `u`@`%`";
        for (grant, lacks) in [
            ("GRANT SELECT, LOCK TABLES ON `app`.* TO `u`@`%`", &[][..]),
            ("GRANT SELECT, PROCESS, LOCK TABLES ON *.* TO `u`@`%`", &[]),
            ("GRANT ALL PRIVILEGES ON `app`.* TO 'u'@'%'", &[]),
            (
                "GRANT ALL PRIVILEGES ON `a\\_p`.* TO 'u'@'%'",
                &["SELECT", "LOCK TABLES"],
            ),
            ("GRANT SELECT, LOCK TABLES ON `a%`.* TO `u`@`%`", &[]),
            ("GRANT SELECT, LOCK TABLES ON `ap_`.* TO `u`@`%`", &[]),
            (
                "GRANT SELECT, LOCK TABLES ON `ap`.* TO `u`@`%`",
                &["SELECT", "LOCK TABLES"],
            ),
            ("GRANT SELECT ON *.* TO `u`@`%`", &["LOCK TABLES"]),
            ("GRANT LOCK TABLES ON *.* TO `u`@`%`", &["SELECT"]),
            (
                "GRANT SELECT ON `app`.`t` TO `u`@`%`",
                &["SELECT", "LOCK TABLES"],
            ),
            // What a role gives is not looked into.
            ("GRANT `reader`@`%` TO `u`@`%`", &[]),
        ] {
            let grants = [USAGE.to_owned(), grant.to_owned()];
            assert_eq!(lacks_to_lock(&grants, "app"), lacks, "{grant}");
        }
        let two = [
            "GRANT SELECT ON *.* TO `u`@`%`",
            "GRANT LOCK TABLES ON `app`.* TO `u`@`%`",
        ];
        assert!(lacks_to_lock(&two.map(str::to_owned), "app").is_empty());
    }
}
