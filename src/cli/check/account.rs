//! The proxy's own account as a server names it, `user`@`host`: a GRANT without the host is for another account.

use crate::ask::Asker;

/// By the lines of its SHOW GRANTS; the user alone where they do not say it.
pub(super) fn of_grants(grants: &[String], user: &str) -> String {
    let named = grants.iter().find_map(|line| named(line));
    named.unwrap_or(user).to_owned()
}

/// As the server says it; the user alone where it does not.
pub(super) async fn asked(asker: &mut Asker, user: &str) -> String {
    let rows = asker.ask("SELECT CURRENT_USER()").await.unwrap_or_default();
    let said = rows.into_iter().flatten().flatten().next();
    let said = said.as_deref().and_then(|said| said.rsplit_once('@'));
    match said {
        Some((user, host)) => format!("`{user}`@`{host}`"),
        None => user.to_owned(),
    }
}

/// What stands behind TO; a hash of a password that may follow is left where it is.
fn named(line: &str) -> Option<&str> {
    let (_, rest) = line.rsplit_once(" TO ")?;
    let user = quoted_end(rest)?;
    let host = rest.get(user..)?.strip_prefix('@')?;
    rest.get(..user + 1 + quoted_end(host)?)
}

/// Where the quoted name ends with which a text begins.
fn quoted_end(text: &str) -> Option<usize> {
    let mut letters = text.chars();
    let quote = letters.next().filter(|first| "`'\"".contains(*first))?;
    letters.as_str().find(quote).map(|at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_with_its_host() {
        for (line, account) in [
            ("GRANT USAGE ON *.* TO `app`@`%`", "`app`@`%`"),
            (
                "GRANT USAGE ON *.* TO 'a b'@'10.0.0.%' IDENTIFIED BY PASSWORD '*HASH'",
                "'a b'@'10.0.0.%'",
            ),
            ("GRANT `dba`@`%` TO `app`@`db1`", "`app`@`db1`"),
            ("GRANT USAGE ON *.* TO app", "app"),
        ] {
            assert_eq!(of_grants(&[line.to_owned()], "app"), account, "{line}");
        }
        assert_eq!(of_grants(&[], "app"), "app");
    }
}
