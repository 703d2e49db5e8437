//! Accounts of the primary that clients may no longer reach once they come by way of the proxy.
//!
//! MySQL knows an account by user and host. Behind the proxy every client comes from the proxy's
//! address: an account for another host only is refused.

use super::account;
use super::report::{Report, few};
use crate::ask::{Asker, Row};
use crate::config::Server;
use std::collections::BTreeMap;

/// An account as the server keeps it.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    host: String,
    plugin: String,
}

/// Plugins that a relayed login carries whatever the two legs are.
const CARRIED: [&str; 3] = ["", "mysql_native_password", "ed25519"];

/// Plugins whose full login needs both legs encrypted, or both plain.
const SHA2: [&str; 2] = ["caching_sha2_password", "sha256_password"];

pub(super) async fn check(server: &Server, asker: &mut Asker, report: &mut Report) {
    let Some(own) = own_address(asker).await else {
        return;
    };
    let rows = match asker.ask("SELECT user, host, plugin FROM mysql.user").await {
        Ok(rows) => rows,
        Err(error) => {
            let user = server
                .account
                .as_ref()
                .map_or("", |account| account.user.as_str());
            let named = account::asked(asker, user).await;
            let remedy = format!("GRANT SELECT ON mysql.user TO {named}");
            report.warn(
                &server.name,
                "accounts",
                format!("cannot be read: {error}"),
                remedy,
            );
            return;
        }
    };
    let accounts = accounts(rows);
    let strangers: Vec<String> = accounts
        .iter()
        .filter(|(_, entries)| !entries.iter().any(|entry| matches(&entry.host, &own)))
        .map(|(user, entries)| {
            let hosts: Vec<&str> = entries.iter().map(|entry| entry.host.as_str()).collect();
            format!("{user}@{}", hosts.join("|"))
        })
        .collect();
    if strangers.is_empty() {
        report.ok(
            &server.name,
            "accounts",
            format!("each may log in from the proxy's address, {own}"),
        );
    } else {
        let found = format!("not from the proxy's address, {own}: {}", few(&strangers));
        report.warn(
            &server.name,
            "accounts",
            found,
            format!("for those that clients use: CREATE USER …@'{own}' with the same rights"),
        );
    }
    plugins(server, &accounts, &own, report);
}

fn plugins(
    server: &Server,
    accounts: &BTreeMap<String, Vec<Entry>>,
    own: &str,
    report: &mut Report,
) {
    let with = |kind: &dyn Fn(&str) -> bool| -> Vec<String> {
        let used = |entries: &Vec<Entry>| {
            entries
                .iter()
                .any(|entry| matches(&entry.host, own) && kind(&entry.plugin))
        };
        accounts
            .iter()
            .filter(|(_, entries)| used(entries))
            .map(|(user, _)| user.clone())
            .collect()
    };
    let sha2 = with(&|plugin| SHA2.contains(&plugin));
    if !sha2.is_empty() {
        let found = format!("caching_sha2_password or sha256_password: {}", few(&sha2));
        let remedy = "encrypt both legs (listen.tls_cert and primary.tls), or neither: a full login cannot cross from one to the other";
        report.warn(&server.name, "plugins", found, remedy);
    }
    let other = with(&|plugin| !SHA2.contains(&plugin) && !CARRIED.contains(&plugin));
    if !other.is_empty() {
        let found = format!(
            "a plugin that may need the client's own connection: {}",
            few(&other)
        );
        report.warn(
            &server.name,
            "plugins",
            found,
            "try such a login through the proxy",
        );
    }
}

/// How the server names this host: what stands behind the `@` of USER().
async fn own_address(asker: &mut Asker) -> Option<String> {
    let rows = asker.ask("SELECT USER()").await.ok()?;
    let user = rows.into_iter().flatten().flatten().next()?;
    user.rsplit_once('@').map(|(_, host)| host.to_owned())
}

/// Accounts of people and programs, not of the server itself.
fn accounts(rows: Vec<Row>) -> BTreeMap<String, Vec<Entry>> {
    let mut accounts: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for row in rows {
        let mut cells = row.into_iter().map(Option::unwrap_or_default);
        let (user, host, plugin) = (cells.next(), cells.next(), cells.next());
        let (Some(user), Some(host)) = (user, host) else {
            continue;
        };
        let server_own = user.starts_with("mysql.")
            || user == "mariadb.sys"
            || (user == "root" && is_here(&host));
        if !server_own && !user.is_empty() {
            accounts.entry(user).or_default().push(Entry {
                host,
                plugin: plugin.unwrap_or_default(),
            });
        }
    }
    accounts
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host == "127.0.0.1" || host == "::1"
}

/// Whether an account's host pattern takes a client at `address`: `%` and `_`, or a netmask.
fn matches(pattern: &str, address: &str) -> bool {
    if let Some((network, mask)) = pattern.split_once('/') {
        let parse = |text: &str| text.parse::<std::net::Ipv4Addr>().ok().map(u32::from);
        let mask = mask
            .parse::<u32>()
            .ok()
            .filter(|bits| *bits <= 32)
            .map_or_else(
                || parse(mask),
                |bits| Some(u32::MAX.checked_shl(32 - bits).unwrap_or(0)),
            );
        return match (parse(network), mask, parse(address)) {
            (Some(network), Some(mask), Some(address)) => network & mask == address & mask,
            _ => false,
        };
    }
    let here = is_here(address) && is_here(pattern);
    here || pattern.is_empty() || like(&pattern.to_lowercase(), &address.to_lowercase())
}

/// SQL's LIKE, for `%` and `_`.
fn like(pattern: &str, text: &str) -> bool {
    let mut heads = pattern.chars();
    let rest = |chars: &std::str::Chars<'_>| chars.as_str().to_owned();
    match heads.next() {
        None => text.is_empty(),
        Some('%') => {
            let rest = rest(&heads);
            (0..=text.len()).any(|at| text.get(at..).is_some_and(|tail| like(&rest, tail)))
        }
        Some(one) => {
            let mut chars = text.chars();
            chars
                .next()
                .is_some_and(|c| (one == '_' || one == c) && like(&rest(&heads), &rest(&chars)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_patterns_are_read_as_mysql_reads_them() {
        for (pattern, address, takes) in [
            ("%", "10.1.2.3", true),
            ("", "10.1.2.3", true),
            ("10.%", "10.1.2.3", true),
            ("10.1.2._", "10.1.2.3", true),
            ("10.1.2._", "10.1.2.34", false),
            ("192.168.%", "10.1.2.3", false),
            ("10.1.2.0/255.255.255.0", "10.1.2.3", true),
            ("10.1.0.0/16", "10.1.2.3", true),
            ("10.1.0.0/255.255.255.0", "10.1.2.3", false),
            ("%.example.com", "proxy.example.com", true),
            ("localhost", "localhost", true),
            ("localhost", "127.0.0.1", true),
            ("localhost", "10.1.2.3", false),
        ] {
            assert_eq!(matches(pattern, address), takes, "{pattern} {address}");
        }
    }

    #[test]
    fn the_servers_own_accounts_are_left_out() {
        let row = |user: &str, host: &str| vec![Some(user.to_owned()), Some(host.to_owned()), None];
        let rows = vec![
            row("mysql.sys", "localhost"),
            row("root", "localhost"),
            row("", "%"),
            row("app", "10.%"),
            row("app", "%"),
        ];
        let found = accounts(rows);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["app"]);
        assert_eq!(found["app"].len(), 2);
    }
}
