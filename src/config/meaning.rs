//! As written → as meant: one function a section. Then what looks at all of them: `across`, what only several sections
//! together can get wrong, and `unknown`, what nobody asked for.

mod across;
mod unknown;

use super::again::Keys;
use super::fault::{Fault, did_you_mean};
use super::section::{Reading, Section};
use super::source::{self, Table};
use super::{
    Admin, Breaker, CatchUp, Compare, Config, Cutover, FedBy, Fleet, LatencyLimits, Ledger, Listen,
    Literals, Live, Log, Measure, Mirror, ProxyProtocol, Readiness, Recheck, Secret, Server,
    SoakAction, Stuck, TOKEN_CHARS_MIN, TlsMode, TokensFile, Verify, Writes,
};
use crate::compare::verdict::{Kind, Tolerance, Tolerances};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The config, what is wrong with it, and every key that there is. A fault alone: not even TOML.
pub(super) fn read(
    text: &str,
    variables: &[(String, String)],
) -> Result<(Config, Vec<Fault>, Vec<String>), Fault> {
    let mut root = source::parse(text)?;
    let mut reading = Reading {
        faults: source::overlay(&mut root, variables),
        ..Reading::default()
    };
    let listen = listen(&mut root, &mut reading);
    let primary = server(&mut root, &mut reading, &PRIMARY);
    let shadow = server(&mut root, &mut reading, &SHADOW);
    let mut config = Config {
        listen,
        primary,
        mirror: mirror(&mut root, &mut reading),
        compare: compare(&mut root, &mut reading),
        ledger: ledger(&mut root, &mut reading),
        readiness: readiness(&mut root, &mut reading).into(),
        cutover: cutover(&mut root, &mut reading, shadow.fed_by),
        fleet: fleet(&mut root, &mut reading),
        verify: verify(&mut root, &mut reading),
        shadow,
        admin: admin(&mut root, &mut reading),
        log: log(&mut root, &mut reading),
        file: None,
        keys: Live::default(),
    };
    let known = reading
        .known
        .iter()
        .map(|(section, key)| format!("{section}.{key}"))
        .collect();
    config.listen.handover = config
        .listen
        .handover
        .map(|path| beside(path, &config.ledger.path));
    if reading.faults.is_empty() {
        across::check(&config, &mut reading);
    }
    config.keys = Keys(std::mem::take(&mut reading.said)).into();
    let mut faults = std::mem::take(&mut reading.faults);
    faults.extend(
        root.into_iter()
            .map(|(name, node)| unknown::section(&name, node.place)),
    );
    faults.extend(
        reading
            .unknown
            .iter()
            .map(|(section, key, place)| unknown::key(&reading, section, key, place)),
    );
    faults.sort_by_key(Fault::line);
    Ok((config, faults, known))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Stands for the path beside the ledger.
const AUTO: &str = "auto";

/// The path of the socket on which another process may take over.
fn beside(written: PathBuf, ledger: &Path) -> PathBuf {
    if written.as_os_str() != AUTO {
        return written;
    }
    let mut name = ledger.as_os_str().to_owned();
    name.push(".handover");
    PathBuf::from(name)
}

/// Certificate chain and key of a section, as they are written; both or neither.
fn certificate(
    section: &mut Section<'_>,
    of: &str,
    written: (Option<PathBuf>, Option<PathBuf>),
) -> Option<(PathBuf, PathBuf)> {
    match written {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            let right = format!("set {of}.tls_key too");
            section.fault("tls_cert", "a certificate without its key", right);
            None
        }
        (None, Some(_)) => {
            let right = format!("set {of}.tls_cert too");
            section.fault("tls_key", "a key without its certificate", right);
            None
        }
    }
}

fn listen(root: &mut Table, reading: &mut Reading) -> Listen {
    let mut section = Section::take(root, "listen", reading);
    let address = section.address("address", loopback(3306));
    let written = (section.file("tls_cert"), section.file("tls_key"));
    let tls = certificate(&mut section, "listen", written);
    let threads = section.count("threads", 0, 0..=1024);
    let listen = Listen {
        address,
        tls,
        max_connections: section
            .count("max_connections", 10_000, 1..=1_000_000)
            .into(),
        proxy_protocol_networks: section.networks("proxy_protocol_networks"),
        login_timeout: section
            .time("login_timeout_s", Duration::from_secs(10), 1..=600)
            .into(),
        write_timeout: section
            .time("write_timeout_s", Duration::from_secs(3600), 0..=86_400)
            .into(),
        drain_timeout: section
            .time("drain_timeout_s", Duration::from_secs(30), 0..=3_600)
            .into(),
        // Where it is beside the ledger is known once the ledger is.
        handover: section.path_or("handover", AUTO),
        handover_time: section
            .time("handover_s", Duration::from_secs(600), 0..=86_400)
            .into(),
        threads: if threads == 0 { processors() } else { threads },
        command_bytes_max: section.bytes("command_bytes_max", GIB, KIB..=4 * GIB),
    };
    section.finish();
    listen
}

/// What differs between the two server sections.
struct Role {
    section: &'static str,
    name: &'static str,
    port: u16,
    /// Keys that make sense for a shadow only.
    rehearses: bool,
}

const PRIMARY: Role = Role {
    section: "primary",
    name: "legacy",
    port: 3356,
    rehearses: false,
};
const SHADOW: Role = Role {
    section: "shadow",
    name: "vitess",
    port: 15306,
    rehearses: true,
};

/// Words of the API's latency shape, beside which a server's name stands as a key.
const TAKEN: [&str; 5] = ["fingerprint", "digest", "class", "count", "queue_wait"];

fn server(root: &mut Table, reading: &mut Reading, role: &Role) -> Server {
    let mut section = Section::take(root, role.section, reading);
    let name = section.text_or("name", role.name);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        section.fault(
            "name",
            format!("found {name:?}"),
            "write 1 to 64 letters, digits, dots, dashes or underscores",
        );
    } else if TAKEN.contains(&name.as_str()) {
        section.fault(
            "name",
            format!("{name:?} is a word of the API's own"),
            "choose another name",
        );
    }
    let (host, port) = section.host("address", "127.0.0.1", role.port);
    let tls = section.choice("tls", TlsMode::Preferred, &TLS_MODES);
    let tls_ca = section.file("tls_ca");
    if tls_ca.is_some() && !matches!(tls, TlsMode::VerifyCa | TlsMode::VerifyIdentity) {
        section.fault(
            "tls_ca",
            "roots that nothing is checked against",
            "set tls = \"verify-ca\" or \"verify-identity\"",
        );
    }
    let account = section.account();
    let users = section.accounts("users");
    let mut server = Server {
        name,
        host,
        port,
        tls,
        tls_ca,
        account,
        users,
        databases: BTreeMap::new(),
        fed_by: FedBy::Mirror,
        init: section.texts("init").unwrap_or_default(),
        connect_timeout: section.time("connect_timeout_ms", Duration::from_secs(5), 10..=600_000),
        source_addresses: section.source_addresses("source_addresses"),
        proxy_protocol: section.choice("proxy_protocol", ProxyProtocol::Off, &PROXY_PROTOCOLS),
    };
    if role.rehearses {
        let feeds = [
            ("mirror", FedBy::Mirror),
            ("replication", FedBy::Replication),
        ];
        server.fed_by = section.choice("fed_by", FedBy::Mirror, &feeds);
        server.databases = section.names("databases");
    }
    section.finish();
    server
}

const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 3] = [
    ("off", ProxyProtocol::Off),
    ("v1", ProxyProtocol::V1),
    ("v2", ProxyProtocol::V2),
];

const TLS_MODES: [(&str, TlsMode); 5] = [
    ("off", TlsMode::Off),
    ("preferred", TlsMode::Preferred),
    ("required", TlsMode::Required),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-identity", TlsMode::VerifyIdentity),
];

fn mirror(root: &mut Table, reading: &mut Reading) -> Mirror {
    let mut section = Section::take(root, "mirror", reading);
    let threads = section.count("threads", 0, 0..=1024);
    let mirror = Mirror {
        reads: section.flag("reads", true).into(),
        writes: section
            .choice("writes", Writes::Apply, &Writes::NAMES)
            .into(),
        ddl: section.flag("ddl", true),
        pin_keys: section.flag("pin_keys", true),
        pin_clock: section.flag("pin_clock", true),
        sample: section.share("sample", 1.0).into(),
        observe: section.flag("observe", true).into(),
        queue_bytes: section.bytes("queue_bytes", 256 * MIB, MIB..=1024 * GIB),
        session_queue_bytes: section.bytes("session_queue_bytes", 32 * MIB, 64 * KIB..=1024 * GIB),
        stub_bytes: section.bytes("stub_bytes", 8 * MIB, 64 * KIB..=GIB),
        command_bytes_max: section.memory("command_bytes_max", 16 * MIB, KIB..=GIB),
        answer_bytes_max: section
            .bytes("answer_bytes_max", 64 * MIB, KIB..=1024 * GIB)
            .into(),
        order_wait: section
            .time("order_wait_ms", Duration::from_secs(10), 0..=600_000)
            .into(),
        timeout: section
            .time("timeout_ms", Duration::from_secs(60), 10..=3_600_000)
            .into(),
        connections_max: section.count("connections_max", 1_000, 1..=1_000_000),
        idle: section.time("idle_s", Duration::from_secs(60), 1..=86_400),
        prepared_max: section.count("prepared_max", 1_024, 1..=1_000_000),
        threads: if threads == 0 {
            processors().div_ceil(2)
        } else {
            threads
        },
        breaker: breaker(&mut section).into(),
    };
    if mirror.session_queue_bytes > mirror.queue_bytes {
        section.fault(
            "session_queue_bytes",
            "one session's share is larger than mirror.queue_bytes",
            "lower it",
        );
    }
    if mirror.command_bytes_max as u64 > mirror.session_queue_bytes {
        section.fault(
            "command_bytes_max",
            "such a command never fits mirror.session_queue_bytes",
            "lower it",
        );
    }
    section.finish();
    mirror
}

fn breaker(section: &mut Section<'_>) -> Breaker {
    Breaker {
        errors: u32::try_from(section.number("breaker_errors", 5, 1..=1_000_000))
            .unwrap_or(u32::MAX),
        lag: section.time("breaker_lag_ms", Duration::from_secs(30), 100..=86_400_000),
        pause: section.time("breaker_pause_ms", Duration::from_secs(1), 10..=5_000),
    }
}

fn compare(root: &mut Table, reading: &mut Reading) -> Compare {
    let mut section = Section::take(root, "compare", reading);
    let compare = Compare {
        sample_bytes: section.memory("sample_bytes", 64 * KIB, KIB..=16 * MIB),
        measure: measure(&mut section).into(),
        rules: section.rules("rules").into(),
        rule_stale: section
            .time(
                "rule_stale_s",
                Duration::from_secs(7 * 86_400),
                0..=315_360_000,
            )
            .into(),
        floor: section.path("floor"),
        recheck: section.choice("recheck", Recheck::Shadow, &RECHECKS),
        recheck_for: section.time("recheck_ms", Duration::from_secs(2), 500..=60_000),
        recheck_rate: u32::try_from(section.number("recheck_rate", 10, 1..=10_000)).unwrap_or(1),
        recheck_replica: section.optional_host("recheck_replica"),
    };
    let names_replica = compare.recheck_replica.is_some();
    if (compare.recheck == Recheck::Replica) != names_replica {
        let (wrong, right) = if names_replica {
            (
                "a replica that nothing is asked of",
                "set recheck = \"replica\"",
            )
        } else {
            (
                "recheck is \"replica\", and none is named",
                "write its host and port",
            )
        };
        section.fault("recheck_replica", wrong, right);
    }
    section.finish();
    compare
}

const RECHECKS: [(&str, Recheck); 4] = [
    ("off", Recheck::Off),
    ("shadow", Recheck::Shadow),
    ("replica", Recheck::Replica),
    ("primary", Recheck::Primary),
];

fn measure(section: &mut Section<'_>) -> Measure {
    let tolerate = tolerate(section);
    section.means("tolerate", &tolerate);
    Measure {
        tolerate,
        examples: section.count("examples", 3, 0..=100),
        example_cell_bytes: section.memory("example_cell_bytes", 256, 16..=64 * KIB),
        clock: section.time("clock_ms", Duration::from_secs(1), 0..=3_600_000),
    }
}

fn tolerate(section: &mut Section<'_>) -> Tolerances {
    let Some(names) = section.texts("tolerate") else {
        return Tolerances::all();
    };
    let mut tolerances = Tolerances::NONE;
    for name in names {
        match Tolerance::named(&name) {
            Some(one) => tolerances = tolerances.with(one),
            None => {
                let all = Tolerance::ALL.map(Tolerance::name);
                let right = did_you_mean(&name, all.into_iter()).map_or_else(
                    || format!("the names are {}", all.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                section.fault("tolerate", format!("{name:?} is no tolerance"), right);
            }
        }
    }
    tolerances
}

fn ledger(root: &mut Table, reading: &mut Reading) -> Ledger {
    let mut section = Section::take(root, "ledger", reading);
    let path = section.text_or("path", "understudy.db");
    if path.is_empty() {
        section.fault(
            "path",
            "an empty path",
            "write where the findings are kept, such as \"understudy.db\"",
        );
    }
    let log = section.text_or("log", "divergences.jsonl");
    let ledger = Ledger {
        path: PathBuf::from(path),
        log: (!log.is_empty()).then(|| PathBuf::from(log)),
        log_bytes: section
            .bytes("log_bytes", 64 * MIB, 64 * KIB..=1024 * GIB)
            .into(),
        log_files: section.count("log_files", 5, 0..=1_000).into(),
        literals: section.choice(
            "literals",
            Literals::Redact,
            &[("redact", Literals::Redact), ("keep", Literals::Keep)],
        ),
        divergences_max: section
            .number("divergences_max", 100_000, 1..=100_000_000)
            .into(),
        findings_max: section
            .number("findings_max", 10_000, 1..=10_000_000)
            .into(),
        max_age: section
            .time(
                "max_age_s",
                Duration::from_secs(30 * 86_400),
                60..=315_360_000,
            )
            .into(),
        queue: section.count("queue", 8_192, 16..=10_000_000),
        fingerprints_max: section.count("fingerprints_max", 2_000, 1..=1_000_000),
    };
    section.finish();
    ledger
}

fn readiness(root: &mut Table, reading: &mut Reading) -> Readiness {
    const DAY: Duration = Duration::from_secs(86_400);
    const YEAR_S: u64 = 366 * 86_400;
    const MANY: u64 = 1_000_000_000_000;
    let mut section = Section::take(root, "readiness", reading);
    // Those of kind latency have a guard of their own, with limits of its own.
    let judged = |name: &str| name != Kind::Latency.name() && Kind::named(name).is_some();
    let names = Kind::ALL.map(Kind::name);
    let names: Vec<&str> = names.into_iter().filter(|name| judged(name)).collect();
    let kinds = format!("the kinds are {}", names.join(", "));
    let readiness = Readiness {
        metadata: section.flag("metadata", false),
        window: section.time("window_s", DAY, 3_600..=YEAR_S),
        coverage_commands: section.share("coverage_commands", 0.95),
        coverage_fingerprints: section.share("coverage_fingerprints", 0.9),
        coverage_tables: section.share("coverage_tables", 0.95),
        evidence: section.time("evidence_s", DAY, 0..=YEAR_S),
        evidence_hours: section.number("evidence_hours", 12, 0..=9_000),
        evidence_commands: section.number("evidence_commands", 10_000, 0..=MANY),
        evidence_age_max: section.time(
            "evidence_age_max_s",
            Duration::from_secs(3_600),
            1..=YEAR_S,
        ),
        latency: LatencyLimits {
            p50_ratio: section.factor("latency_p50_ratio", 1.5),
            p50: section.time("latency_p50_ms", Duration::from_millis(2), 0..=3_600_000),
            p99_ratio: section.factor("latency_p99_ratio", 1.5),
            p99: section.time("latency_p99_ms", Duration::from_millis(5), 0..=3_600_000),
            window: section.time("latency_window_s", Duration::from_secs(3_600), 1..=YEAR_S),
            samples: section.number("latency_samples", 500, 1..=MANY),
            fingerprints: section.count("latency_fingerprints", 100, 0..=10_000),
        },
        lag_commands: section.number("lag_commands", 1_000, 0..=MANY),
        lag: section.time("lag_ms", Duration::from_secs(5), 0..=86_400_000),
        taints: section.number("taints", 0, 0..=MANY),
        unsettled: section.number("unsettled", 0, 0..=MANY),
        unsettled_commands: section.number("unsettled_commands", 20, 1..=MANY),
        divergences: section.numbers("divergences", judged, &kinds),
    };
    section.finish();
    readiness
}

fn cutover(root: &mut Table, reading: &mut Reading, fed_by: FedBy) -> Cutover {
    let mut section = Section::take(root, "cutover", reading);
    let by_default = match fed_by {
        FedBy::Mirror => CatchUp::Mirror,
        FedBy::Replication => CatchUp::Heartbeat,
    };
    let cutover = Cutover {
        hold_max: section
            .time("hold_ms_max", Duration::from_secs(5), 10..=600_000)
            .into(),
        stuck: section.choice("stuck", Stuck::Abort, &STUCK),
        catch_up: section.choice("catch_up", by_default, &CATCH_UP),
        heartbeat_table: heartbeat(&mut section),
        catch_up_hook: hook(&mut section, "catch_up_hook"),
        stop_replication: section.flag("stop_replication", false),
        soak: section
            .time("soak_s", Duration::from_secs(300), 0..=604_800)
            .into(),
        soak_action: section.choice("soak_action", SoakAction::Alert, &SOAK_ACTIONS),
        soak_errors_max: section.factor("soak_errors_max", 2.0).into(),
        soak_latency_max: section.factor("soak_latency_max", 2.0).into(),
        before_hold: hook(&mut section, "before_hold"),
        after_switch: hook(&mut section, "after_switch"),
        after_rollback: hook(&mut section, "after_rollback"),
        hook_timeout: section
            .time("hook_timeout_s", Duration::from_secs(30), 1..=3_600)
            .into(),
        fence: section.flag("fence", false),
        require_verification: section.flag("require_verification", false).into(),
        verification_age_max: section
            .time(
                "verification_age_max_s",
                Duration::from_secs(7 * 86_400),
                60..=366 * 86_400,
            )
            .into(),
        verification_tables: section.share("verification_tables", 1.0).into(),
        verification_rows: section.share("verification_rows", 0.99).into(),
    };
    let is_fed = cutover.catch_up == CatchUp::Mirror;
    if is_fed && fed_by == FedBy::Replication {
        section.fault(
            "catch_up",
            "the mirror does not feed this shadow: shadow.fed_by is \"replication\"",
            "write \"heartbeat\", \"gtid\" or \"hook\"",
        );
    } else if !is_fed && fed_by == FedBy::Mirror {
        section.fault(
            "catch_up",
            "nothing but the mirror feeds this shadow: shadow.fed_by is \"mirror\"",
            "write \"mirror\", or take it out",
        );
    }
    if cutover.stop_replication && fed_by == FedBy::Mirror {
        section.fault(
            "stop_replication",
            "no replication feeds this shadow: shadow.fed_by is \"mirror\"",
            "take it out",
        );
    }
    let has_hook = !cutover.catch_up_hook.is_empty();
    if has_hook != (cutover.catch_up == CatchUp::Hook) {
        let (wrong, right) = if has_hook {
            ("a hook that nothing runs", "set catch_up = \"hook\"")
        } else {
            (
                "catch_up is \"hook\", and none is named",
                "write a command, such as [\"/usr/local/bin/caught-up\"]",
            )
        };
        section.fault("catch_up_hook", wrong, right);
    }
    section.finish();
    cutover
}

fn verify(root: &mut Table, reading: &mut Reading) -> Verify {
    let mut section = Section::take(root, "verify", reading);
    let rows = section.number("rows_per_second", 0, 0..=1_000_000_000);
    let verify = Verify {
        jobs: section.count("jobs", 1, 1..=16),
        rows_per_second: (rows > 0).then_some(rows),
        share: section.share("share", 0.5),
        range_rows: section.number("range_rows", 2_000, 1..=100_000),
        range_bytes: section.bytes("range_bytes", 4 * MIB, 64 * KIB..=256 * MIB),
        settle: section.time("settle_s", Duration::from_secs(20), 1..=3_600),
        patience: section.time("patience_s", Duration::from_secs(120), 0..=86_400),
        differences_max: section.number("differences_max", 1_000, 1..=1_000_000),
        lag: section.time("lag_ms", Duration::from_secs(1), 1..=3_600_000),
        ease_ratio: section.factor("ease_ratio", 1.1),
        latency_ratio: section.factor("latency_ratio", 1.5),
        latency: section.time("latency_ms", Duration::from_millis(2), 0..=60_000),
        hold_max: section.time("hold_ms_max", Duration::from_millis(50), 5..=10_000),
        snapshot: section.time("snapshot_s", Duration::from_secs(20), 1..=3_600),
        position_command: hook(&mut section, "position_command"),
    };
    section.finish();
    verify
}

/// A table's name, as it is put into statements.
fn heartbeat(section: &mut Section<'_>) -> String {
    const KEY: &str = "heartbeat_table";
    let table = section.text_or(KEY, "understudy.heartbeat");
    let plain = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !name.is_empty() && name.bytes().all(allowed)
    };
    let parts = table.split_once('.');
    if !parts.is_some_and(|(database, name)| plain(database) && plain(name)) {
        section.fault(
            KEY,
            "no database and table of letters, digits and _",
            "write \"database.table\"",
        );
    }
    table
}

/// A command: the program, then its arguments. None is an empty list.
fn hook(section: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let command = section.texts(key).unwrap_or_default();
    if command.first().is_some_and(String::is_empty) {
        section.fault(
            key,
            "the program has no name",
            "write the program and its arguments, such as [\"/usr/local/bin/hook\", \"now\"]",
        );
    }
    command
}

const STUCK: [(&str, Stuck); 2] = [("abort", Stuck::Abort), ("end", Stuck::End)];

const SOAK_ACTIONS: [(&str, SoakAction); 2] = [
    ("alert", SoakAction::Alert),
    ("rollback", SoakAction::Rollback),
];

const CATCH_UP: [(&str, CatchUp); 4] = [
    ("mirror", CatchUp::Mirror),
    ("heartbeat", CatchUp::Heartbeat),
    ("gtid", CatchUp::Gtid),
    ("hook", CatchUp::Hook),
];

fn fleet(root: &mut Table, reading: &mut Reading) -> Fleet {
    let mut section = Section::take(root, "fleet", reading);
    let mut etcd = section.texts("etcd").unwrap_or_default();
    for url in &mut etcd {
        *url = url.trim_end_matches('/').to_owned();
    }
    let is_secure = |url: &String| url.starts_with("https://");
    if let Some(at) = etcd.iter().position(|url| !is_url(url)) {
        // It is not shown: there may be a password in it.
        section.fault(
            "etcd",
            format!("no. {} in the list is no URL without a path", at + 1),
            "write etcd's client URLs, such as [\"http://127.0.0.1:2379\"]",
        );
    }
    let name = section.text_or("name", "");
    if name.contains('/') {
        section.fault(
            "name",
            format!("found {name:?}"),
            "write a name without \"/\"",
        );
    } else if name.is_empty() && !etcd.is_empty() {
        section.fault(
            "name",
            "this proxy of a fleet has no name",
            "give each proxy a name of its own, which it keeps when it is started again",
        );
    }
    let prefix = section.text_or("prefix", "/understudy/");
    if prefix.trim_matches('/').is_empty() {
        section.fault(
            "prefix",
            format!("found {prefix:?}: everything in etcd would be read"),
            "write a prefix of this deployment's own, such as \"/understudy/\"",
        );
    }
    let tls_ca = section.file("tls_ca");
    if tls_ca.is_none() && etcd.iter().any(is_secure) {
        section.fault(
            "tls_ca",
            "etcd has URLs with https, and nobody is named who signs its certificate",
            "name the CA's file (PEM)",
        );
    }
    let tls = match (section.file("tls_cert"), section.file("tls_key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            let right = "write fleet.tls_cert and fleet.tls_key, or neither";
            section.fault("tls_cert", "certificate and key go together", right);
            None
        }
    };
    let fleet = Fleet {
        etcd,
        name,
        prefix,
        timeout: section.time("timeout_ms", Duration::from_secs(1), 10..=5_000),
        start_timeout: section.time("start_timeout_s", Duration::from_secs(60), 1..=86_400),
        tls_ca,
        tls,
        account: section.account(),
    };
    section.finish();
    fleet
}

fn is_url(url: &str) -> bool {
    let host = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ', '?', '#']))
}

fn admin(root: &mut Table, reading: &mut Reading) -> Admin {
    let mut section = Section::take(root, "admin", reading);
    let address = section.address("address", loopback(8306));
    let token = section.secret("token", "token_file");
    if token.as_ref().is_some_and(|token| {
        token.0.trim().is_empty() || !token.0.chars().all(|c| c.is_ascii_graphic())
    }) {
        section.fault(
            "token_file",
            "the token is empty or has blanks in it",
            "write printable ASCII without blanks",
        );
    }
    let tokens_file = section.path("tokens_file");
    let asks = token.is_some() || tokens_file.is_some();
    let tokens_file = tokens_file.and_then(|path| tokens(&mut section, &path, token.as_ref()));
    if !asks && !address.ip().is_loopback() {
        section.fault(
            "address",
            format!("{address} can be reached from elsewhere, and there is no token"),
            "set admin.token_file, or listen on 127.0.0.1",
        );
    }
    // Its files are looked at all the time.
    let written = (section.path("tls_cert"), section.path("tls_key"));
    let tls = certificate(&mut section, "admin", written);
    let console = section.address_or_none("console", loopback(8307));
    if let Some(console) = console.filter(|at| !asks && !at.ip().is_loopback()) {
        section.fault(
            "console",
            format!("{console} can be reached from elsewhere, and there is no token"),
            "set admin.token_file, or listen on 127.0.0.1",
        );
    }
    let doors = [Some(address), console];
    let is_elsewhere = |at: &&SocketAddr| !at.ip().is_loopback();
    let is_short = |token: &Secret| token.0.len() < TOKEN_CHARS_MIN;
    if let Some(at) = doors.iter().flatten().find(is_elsewhere)
        && token.as_ref().is_some_and(is_short)
    {
        section.fault(
            "token_file",
            format!(
                "the token has fewer than {TOKEN_CHARS_MIN} characters, and {at} can be reached from elsewhere"
            ),
            "write a longer one, such as what `openssl rand -hex 32` prints, or listen on 127.0.0.1",
        );
    }
    let admin = Admin {
        address,
        token,
        tokens_file,
        tls,
        console,
        console_rows: section.count("console_rows", 10_000, 1..=1_000_000).into(),
        console_timeout: section
            .time("console_timeout_ms", Duration::from_secs(5), 10..=60_000)
            .into(),
    };
    section.finish();
    admin
}

fn log(root: &mut Table, reading: &mut Reading) -> Log {
    let mut section = Section::take(root, "log", reading);
    let filter = section.text_or("filter", "");
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&filter) {
        section.fault(
            "filter",
            format!("found {filter:?}: {error}"),
            "write a level (\"info\", \"debug\", \"warn\"), or parts with their levels, such as \"info,understudy::shadow=debug\"",
        );
    }
    section.finish();
    Log {
        filter: filter.into(),
    }
}

/// Who stands in the tokens' file.
fn tokens(section: &mut Section<'_>, path: &Path, one: Option<&Secret>) -> Option<TokensFile> {
    TokensFile::read(path, one)
        .inspect_err(|error| {
            for fault in &error.faults {
                section.fault("tokens_file", fault.told(path), &*fault.right);
            }
        })
        .ok()
}

#[cfg(test)]
mod tests;
