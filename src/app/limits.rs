//! What the config's limits need of the machine, and limits that follow from the config.

use crate::config::{Config, Server};
use crate::tee;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that the process keeps open besides its connections: files, pipes, the runtimes'.
const DESCRIPTORS_ASIDE: u64 = 200;

/// Connections to a server besides those of sessions: the proxy's own account's, second looks, logins.
const CONNECTIONS_ASIDE: u64 = 100;

/// Exchanges that wait for the shadow, at most, whatever their size.
const SLOTS: usize = 1 << 16;

/// Something that the config's limits need of this machine, and how much of it there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub what: &'static str,
    /// The server that it is for; none where it is for all of the proxy.
    pub server: Option<String>,
    /// How much the limits need.
    pub needed: u64,
    /// How much there is.
    pub had: u64,
    /// What needs it, and what does without the rest.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Need {
    /// Whether there is enough.
    #[must_use]
    pub const fn is_met(&self) -> bool {
        self.needed <= self.had
    }
}

/// All that the config's limits need.
#[must_use]
pub fn needs(config: &Config) -> Vec<Need> {
    let ports = ports_of_an_address();
    let ports = |server, connections| ports_to(server, connections, ports);
    let clients = config.listen.max_connections.now() as u64;
    let replays = config.mirror.connections_max as u64;
    vec![
        descriptors(config),
        // In a cutover every session has its next connection already, beside the replay's; and in a
        // rollback, on the other server.
        ports(&config.primary, clients.saturating_add(replays)),
        ports(&config.shadow, clients.saturating_add(replays)),
    ]
}

/// Two for each client, one for each replay, and in a cutover one more for each client.
fn descriptors(config: &Config) -> Need {
    let clients = config.listen.max_connections.now() as u64;
    let replays = config.mirror.connections_max as u64;
    let needed = clients
        .saturating_mul(3)
        .saturating_add(replays)
        .saturating_add(DESCRIPTORS_ASIDE);
    Need {
        what: "file descriptors",
        server: None,
        needed,
        had: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        why: format!(
            "two for each of {clients} clients and a third in a cutover, {replays} for replays"
        ),
        remedy: "raise the limit (LimitNOFILE, ulimit -n, above a million fs.nr_open), or lower \
                 listen.max_connections and mirror.connections_max"
            .to_owned(),
    }
}

/// A connection is told by its two addresses and ports: from one address to one server there are as many
/// as there are ports.
fn ports_to(server: &Server, connections: u64, of_an_address: u64) -> Need {
    let sources = server.source_addresses.len().max(1) as u64;
    Need {
        what: "source ports",
        server: Some(server.name.clone()),
        needed: connections.saturating_add(CONNECTIONS_ASIDE),
        had: of_an_address.saturating_mul(sources),
        why: format!(
            "{connections} connections to one address, from {sources} with {of_an_address} ports each"
        ),
        remedy: format!(
            "name more of this machine's addresses in source_addresses of {}, or widen \
             net.ipv4.ip_local_port_range",
            server.name
        ),
    }
}

/// Ports that the kernel gives to connections which name none.
fn ports_of_an_address() -> u64 {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default()
    };
    ports_in(
        &read("ip_local_port_range"),
        &read("ip_local_reserved_ports"),
    )
}

/// `range` is as `32768 60999`, `reserved` as `8080,40000-40009`. Where the kernel says nothing, Linux'
/// default.
fn ports_in(range: &str, reserved: &str) -> u64 {
    let ends: Vec<u64> = range.split_whitespace().flat_map(str::parse).collect();
    let (first, last) = match ends.as_slice() {
        [first, last] if first <= last => (*first, *last),
        _ => (32_768, 60_999),
    };
    let reserved = reserved.trim().split(',').filter_map(|span| {
        let (from, to) = span.split_once('-').unwrap_or((span, span));
        let (from, to) = (from.parse::<u64>().ok()?, to.parse::<u64>().ok()?);
        let (from, to) = (from.max(first), to.min(last));
        (from <= to).then(|| to - from + 1)
    });
    (last - first + 1).saturating_sub(reserved.sum())
}

/// Raises the limit of descriptors as far as it goes, and says what the machine lacks.
pub(super) fn prepare_machine(config: &Config) {
    raise_descriptors(&descriptors(config));
    for need in needs(config).iter().filter(|need| !need.is_met()) {
        let Need {
            what, needed, had, ..
        } = need;
        let whose = need.server.as_deref().unwrap_or("understudy");
        let (why, remedy) = (&need.why, &need.remedy);
        tracing::warn!("{what} of {whose}: {had}, the limits need {needed} ({why}): {remedy}");
    }
}

fn raise_descriptors(need: &Need) {
    let now = getrlimit(Resource::Nofile);
    let wanted = need.needed.min(need.had);
    if now.current.is_some_and(|current| current < wanted) {
        let raised = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum: now.maximum,
            },
        );
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
}

/// The tee's limits.
pub(super) fn tee(config: &Config) -> tee::Limits {
    tee::Limits {
        queue_bytes: config.mirror.queue_bytes,
        session_queue_bytes: config.mirror.session_queue_bytes,
        stub_bytes: config.mirror.stub_bytes,
        slots: SLOTS,
        // A session that has ended keeps its place until its end was told.
        sessions: config.listen.max_connections.now().saturating_mul(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_none_for_connections() {
        assert_eq!(ports_in("32768\t60999\n", "\n"), 28_232);
        assert_eq!(ports_in("1024 65535", ""), 64_512);
        assert_eq!(
            ports_in("32768 60999", "8080,40000-40009,60999-61001\n"),
            28_232 - 11
        );
        assert_eq!(ports_in("", ""), 28_232, "nothing is known");
        assert_eq!(ports_in("9 8", ""), 28_232);
    }

    #[test]
    fn sixty_thousand_clients_need_several_source_addresses_on_each_leg() {
        let config = |sources: &str| {
            let text = format!(
                "[listen]\nmax_connections = 60000\n[primary]\nsource_addresses = {sources}\n\
                 [shadow]\nsource_addresses = {sources}\n[mirror]\nconnections_max = 4000\n"
            );
            Config::parse(&text, &[]).unwrap()
        };
        let one = config("[]");
        assert_eq!(descriptors(&one).needed, 184_200);
        assert!(!ports_to(&one.primary, 60_000, 28_232).is_met());
        let three = config(r#"["10.0.0.1", "10.0.0.2", "10.0.0.3"]"#);
        assert!(ports_to(&three.primary, 60_000, 28_232).is_met());
        assert!(ports_to(&three.shadow, 64_000, 28_232).is_met());
        assert!(!ports_to(&three.shadow, 90_000, 28_232).is_met());
    }
}
