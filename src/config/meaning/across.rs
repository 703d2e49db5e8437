//! What only several sections together can get wrong.

use super::super::section::Reading;
use super::super::{Config, FedBy, Server, Writes};
use std::net::{IpAddr, SocketAddr};

/// Notes it.
pub(super) fn check(config: &Config, reading: &mut Reading) {
    let (primary, shadow) = (&config.primary, &config.shadow);
    let mut fault = |key: &str, wrong: String, right: &str| reading.fault(key, wrong, right);
    if primary.name == shadow.name {
        let right = "give each server a name of its own: it keeps it whatever role it has";
        fault(
            "shadow.name",
            format!("both servers are named {:?}", shadow.name),
            right,
        );
    }
    if !config.fleet.etcd.is_empty() && config.cutover.stop_replication {
        fault(
            "cutover.stop_replication",
            "one proxy of a fleet would stop it before the others have seen that all has come"
                .to_owned(),
            "take it out, and stop it in after_switch where UNDERSTUDY_LEADS is 1",
        );
    }
    if !config.fleet.etcd.is_empty() && !config.cutover.fence {
        fault(
            "cutover.fence",
            "a proxy of a fleet may be cut off from the others: what it then still holds must not be able to write to the old primary".to_owned(),
            "set cutover.fence = true, or take fleet.etcd out",
        );
    }
    if config.compare.floor.as_ref() == Some(&config.ledger.path) {
        fault(
            "compare.floor",
            "this is ledger.path: a run is not its own floor".to_owned(),
            "name the ledger of an A/A run",
        );
    }
    let writes = config.mirror.writes.now();
    if writes == Writes::Apply && shadow.fed_by == FedBy::Replication {
        fault(
            "mirror.writes",
            "\"apply\" would write every row twice, for shadow.fed_by is \"replication\""
                .to_owned(),
            "set mirror.writes = \"rollback\" (or \"plan\", \"off\"), or shadow.fed_by = \"mirror\"",
        );
    }
    if is_same_host(&primary.host, &shadow.host)
        && primary.port == shadow.port
        && matches!(writes, Writes::Apply | Writes::Rollback)
    {
        fault(
            "shadow.address",
            "primary and shadow are the same server, and writes would be replayed on it".to_owned(),
            "name another server, or set mirror.writes = \"off\"",
        );
    }
    for (key, server) in [("primary.address", primary), ("shadow.address", shadow)] {
        if is_at(server, config.listen.address) {
            let wrong = "this is listen.address: understudy would connect to itself".to_owned();
            fault(key, wrong, "write the server's own address");
        }
    }
    if config.admin.address == config.listen.address && config.admin.address.port() != 0 {
        fault(
            "admin.address",
            "this is listen.address".to_owned(),
            "choose another port",
        );
    }
    let taken = [config.listen.address, config.admin.address];
    if let Some(console) = config.admin.console
        && console.port() != 0
        && taken.contains(&console)
    {
        fault(
            "admin.console",
            "this is listen.address or admin.address".to_owned(),
            "choose another port",
        );
    }
}

/// Whether two names are those of one host, as far as they tell by themselves; `check` asks the
/// servers.
fn is_same_host(one: &str, other: &str) -> bool {
    let one_way = |host: &str| host.trim_end_matches('.').to_ascii_lowercase();
    let (one, other) = (one_way(one), one_way(other));
    let is_here =
        |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    one == other || is_here(&one) && is_here(&other)
}

fn is_at(server: &Server, address: SocketAddr) -> bool {
    let own = server.host == "localhost"
        || server.host.parse::<IpAddr>().is_ok_and(|ip| {
            ip == address.ip() || (address.ip().is_unspecified() && ip.is_loopback())
        });
    own && server.port == address.port()
        && (server.host != "localhost"
            || address.ip().is_loopback()
            || address.ip().is_unspecified())
}
