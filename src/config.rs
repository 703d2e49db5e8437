//! The file as written → [`Config`] as meant. An unknown key is an error that names it.
//!
//! What may change while the process runs is a [`Live`] value: [`Config::follow`] has it become what another reading
//! of the file says.

mod again;
mod fault;
mod file;
mod holders;
mod live;
mod meaning;
mod rules;
mod section;
mod source;
mod units;

pub use again::{Difference, Differences};
pub use fault::{ConfigError, Fault, Place};
pub use holders::{Holder, Role, SOMEBODY, TOKEN_CHARS_MIN, TokenDigest, TokensFile};
pub use live::Live;
pub use rules::{OURSELVES, RULES_MAX, Rule, RuleState, Written, Wrong, said};

use crate::compare::verdict::{Tolerance, Tolerances};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that can be configured, checked and with defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The client leg.
    pub listen: Listen,
    /// The server that answers at the very first start.
    pub primary: Server,
    /// The server that rehearses at the very first start.
    pub shadow: Server,
    /// What is mirrored, and its limits.
    pub mirror: Mirror,
    /// How answers are compared.
    pub compare: Compare,
    /// Where findings are kept.
    pub ledger: Ledger,
    /// When the shadow is ready.
    pub readiness: Live<Readiness>,
    /// How the shadow becomes the primary.
    pub cutover: Cutover,
    /// The other proxies of the deployment.
    pub fleet: Fleet,
    /// How data at rest is verified.
    pub verify: Verify,
    /// The operators' door.
    pub admin: Admin,
    /// What is logged.
    pub log: Log,
    /// The file that it was read from; none where it was a text.
    pub file: Option<PathBuf>,
    /// What each key says, for a comparison with another reading.
    keys: Live<again::Keys>,
}

impl Config {
    /// Reads the file, lays the environment's `UNDERSTUDY__…` over it, and checks the whole.
    ///
    /// # Errors
    /// Names every key that is wrong, where it stands, and what would be right.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            ConfigError::one(
                file,
                format!("the file cannot be read: {error}"),
                "name a file with --config FILE",
            )
        })?;
        Self::written(file, &text)
    }

    /// The same for a process that runs with what the file said before. It is somebody's who may be writing it just
    /// now: what looks half written is not taken.
    ///
    /// # Errors
    /// As [`Config::load`]; and where the file is no regular one, is empty or does not end with a newline, or changes
    /// meanwhile.
    pub fn load_again(file: &Path) -> Result<Self, ConfigError> {
        let text =
            file::settled(file).map_err(|(wrong, right)| ConfigError::one(file, wrong, right))?;
        Self::written(file, &text)
    }

    fn written(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let ours = |(name, text): (OsString, OsString)| {
            let name = name
                .into_string()
                .ok()
                .filter(|name| name.starts_with(source::PREFIX))?;
            Some((name, text.to_string_lossy().into_owned()))
        };
        let variables: Vec<_> = std::env::vars_os().filter_map(ours).collect();
        let read = Self::parse(text, &variables).map_err(|faults| ConfigError {
            file: file.to_owned(),
            faults,
        })?;
        Ok(Self {
            file: Some(file.to_owned()),
            ..read
        })
    }

    /// The same from a text and a list of variables; everything that is not written has its default.
    ///
    /// # Errors
    /// Every fault, in the order of the file.
    pub fn parse(text: &str, variables: &[(String, String)]) -> Result<Self, Vec<Fault>> {
        let (config, faults, _) = meaning::read(text, variables).map_err(|fault| vec![fault])?;
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(faults)
        }
    }
}

/// `[listen]`
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where clients connect.
    pub address: SocketAddr,
    /// PEM certificate chain and key for TLS with clients; both or neither.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Client connections at most; one more gets MySQL's error 1040.
    pub max_connections: Live<usize>,
    /// Connections from these networks begin with a PROXY header that says whose they are.
    pub proxy_protocol_networks: Vec<IpNet>,
    /// A login must be done within this time.
    pub login_timeout: Live<Duration>,
    /// A client that takes none of its answer for so long is closed; zero for no limit.
    pub write_timeout: Live<Duration>,
    /// Time for SIGTERM's drain.
    pub drain_timeout: Live<Duration>,
    /// The socket on which another process may take over; `None` where none may.
    pub handover: Option<PathBuf>,
    /// After another process took over, sessions may go on in this one for so long.
    pub handover_time: Live<Duration>,
    /// Threads of the relay's runtime.
    pub threads: usize,
    /// The longest command that is relayed, in bytes; a longer one ends the connection with 1153.
    pub command_bytes_max: u64,
}

/// How the TLS of a server leg is meant, as in MySQL's `--ssl-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Off,
    /// Where the server offers it; the certificate is not checked.
    Preferred,
    /// Always; the certificate is not checked.
    Required,
    /// Always; the certificate's chain is checked.
    VerifyCa,
    /// Always; chain and host name are checked.
    VerifyIdentity,
}

/// Whether connections to a server begin with a header of HAProxy's PROXY protocol, and of which version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// Version 1, a line of text.
    V1,
    /// Version 2, binary.
    V2,
}

/// `[primary]`, `[shadow]`
#[derive(Clone, Debug)]
pub struct Server {
    /// The server's name, whatever role it has.
    pub name: String,
    /// `host:port`, resolved at every connect.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS.
    pub tls: TlsMode,
    /// PEM roots for verify-ca and verify-identity; the system's where absent.
    pub tls_ca: Option<PathBuf>,
    /// The proxy's own account.
    pub account: Option<Account>,
    /// Application user → the login that replay uses in its stead.
    pub users: BTreeMap<String, Account>,
    /// Primary's database name → this server's, where they differ. `[shadow.databases]`
    pub databases: BTreeMap<String, String>,
    /// Who writes the application's rows into this server while it is the shadow.
    pub fed_by: FedBy,
    /// Statements run on every replay connection after login.
    pub init: Vec<String>,
    /// A connect (with TLS and login) must be done within this time.
    pub connect_timeout: Duration,
    /// This machine's addresses that connections to the server are opened from, by turns; with none
    /// the system chooses.
    pub source_addresses: Vec<IpAddr>,
    /// Whether connections tell it whose they are.
    pub proxy_protocol: ProxyProtocol,
}

/// A login. The password is never printed.
#[derive(Clone)]
pub struct Account {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Who feeds the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FedBy {
    /// The mirror's dark writes.
    Mirror,
    /// A replication stream of the operator's own.
    Replication,
}

/// What happens to dark writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Run and commit.
    Apply,
    /// Run and roll back.
    Rollback,
    /// Ask the shadow to plan, not to run.
    Plan,
    /// Not mirrored.
    Off,
}

impl Writes {
    /// The words for it, in config and API.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("apply", Self::Apply),
        ("rollback", Self::Rollback),
        ("plan", Self::Plan),
        ("off", Self::Off),
    ];

    /// The word for it, in config and API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Rollback => "rollback",
            Self::Plan => "plan",
            Self::Off => "off",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES
            .into_iter()
            .find(|(one, _)| *one == name)
            .map(|(_, meant)| meant)
    }
}

/// `[mirror]`
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Mirror reads.
    pub reads: Live<bool>,
    /// Mirror writes.
    pub writes: Live<Writes>,
    /// Mirror table DDL; has a meaning only while `writes` is `apply`.
    pub ddl: bool,
    /// Give the shadow the keys that the primary generated.
    pub pin_keys: bool,
    /// Give the shadow the primary's clock.
    pub pin_clock: bool,
    /// Share of reads outside transactions that is mirrored, 0 to 1.
    pub sample: Live<f64>,
    /// Follow production while nothing is mirrored: see [`crate::tee::Regard`].
    pub observe: Live<bool>,
    /// Bytes that wait for the shadow, all sessions together.
    pub queue_bytes: u64,
    /// Bytes that wait for the shadow, for each session.
    pub session_queue_bytes: u64,
    /// Bytes of dropped commands' stubs, all sessions together.
    pub stub_bytes: u64,
    /// The longest command that is copied, in bytes.
    pub command_bytes_max: usize,
    /// The longest answer that is fetched from the shadow, in bytes.
    pub answer_bytes_max: Live<u64>,
    /// How long a command waits for its turn across sessions.
    pub order_wait: Live<Duration>,
    /// How long the shadow may take for one command.
    pub timeout: Live<Duration>,
    /// Connections to the shadow at most.
    pub connections_max: usize,
    /// A shadow connection is parked after this time without a command.
    pub idle: Duration,
    /// Prepared statements remembered for each session.
    pub prepared_max: usize,
    /// Threads of the shadow side's runtime.
    pub threads: usize,
    /// When mirroring is suspended.
    pub breaker: Live<Breaker>,
}

/// The limits past which mirroring is suspended. `[mirror] breaker_…`
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// Errors of the connection to the shadow in a row.
    pub errors: u32,
    /// Lag: the age of the oldest waiting exchange.
    pub lag: Duration,
    /// First pause before a suspended mirror tries again; doubles up to a minute.
    pub pause: Duration,
}

/// `[compare]`
#[derive(Clone, Debug)]
pub struct Compare {
    /// Bytes of each answer that are kept as a sample.
    pub sample_bytes: usize,
    /// What two answers are measured by.
    pub measure: Live<Measure>,
    /// Divergences that are judged beforehand; the first rule that takes one has it.
    pub rules: Live<Vec<Rule>>,
    /// A rule that took nothing for so long is reported as stale; zero for never.
    pub rule_stale: Live<Duration>,
    /// The ledger of an A/A run.
    pub floor: Option<PathBuf>,
    /// Where a differing read is run again before it is called a divergence.
    pub recheck: Recheck,
    /// How long it is looked at.
    pub recheck_for: Duration,
    /// Rechecks on the legacy side in a second at most.
    pub recheck_rate: u32,
    /// The replica that they read, where `recheck` says so.
    pub recheck_replica: Option<(String, u16)>,
}

/// What two answers are measured by.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Differences that are tolerated.
    pub tolerate: Tolerances,
    /// Rows kept as examples of one divergence.
    pub examples: usize,
    /// Bytes of one cell kept in an example.
    pub example_cell_bytes: usize,
    /// How far columns filled by the clock may differ.
    pub clock: Duration,
}

impl Measure {
    /// The same, where that is tolerated; else nothing.
    #[must_use]
    pub const fn clock_tolerated(&self) -> Duration {
        if self.tolerate.has(Tolerance::Clock) {
            self.clock
        } else {
            Duration::ZERO
        }
    }
}

/// Where a differing read is run again before it is called a divergence. Each includes the ones
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recheck {
    /// Nowhere.
    Off,
    /// On the shadow.
    Shadow,
    /// On a replica of the primary, too.
    Replica,
    /// On the primary, too.
    Primary,
}

/// What becomes of literals in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literals {
    /// Replaced by `?`.
    Redact,
    /// Kept.
    Keep,
}

/// `[ledger]`
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The SQLite file.
    pub path: PathBuf,
    /// The JSON-lines log of divergences; none for no log.
    pub log: Option<PathBuf>,
    /// Size at which the log is rotated, in bytes.
    pub log_bytes: Live<u64>,
    /// Rotated logs kept.
    pub log_files: Live<usize>,
    /// Literals in statements, values and error texts.
    pub literals: Literals,
    /// Divergences kept at most; the oldest go first.
    pub divergences_max: Live<u64>,
    /// Findings kept at most.
    pub findings_max: Live<u64>,
    /// Divergences older than this are let go.
    pub max_age: Live<Duration>,
    /// Observations that may wait for the writer.
    pub queue: usize,
    /// Fingerprints whose latency is kept apart; the rest is `other`.
    pub fingerprints_max: usize,
}

/// `[readiness]`: the limits of its guards.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Kind → open findings of it that are let pass; none of those that are not named.
    pub divergences: BTreeMap<String, u64>,
    /// Findings of SHOW and of information_schema count too.
    pub metadata: bool,
    /// Shares are of what was seen within this time.
    pub window: Duration,
    /// Share of commands that must be compared, 0 to 1.
    pub coverage_commands: f64,
    /// Share of statements of which some command must have been compared.
    pub coverage_fingerprints: f64,
    /// Share of tables likewise.
    pub coverage_tables: f64,
    /// The first comparison must be as long ago.
    pub evidence: Duration,
    /// Hours of the clock in which something must have been compared.
    pub evidence_hours: u64,
    /// Commands that must have been compared.
    pub evidence_commands: u64,
    /// The last comparison must be no longer ago.
    pub evidence_age_max: Duration,
    /// How much slower the shadow may be.
    pub latency: LatencyLimits,
    /// Commands that may wait for the shadow.
    pub lag_commands: u64,
    /// How long the oldest of them may have been waiting.
    pub lag: Duration,
    /// Tainted tables that are let pass.
    pub taints: u64,
    /// Statements that always raced and are let pass.
    pub unsettled: u64,
    /// From so many races on a statement that was never compared is unsettled.
    pub unsettled_commands: u64,
}

/// How much slower than the primary the shadow may be: a quantile is past its limit where it is
/// past both, the factor and the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyLimits {
    /// The shadow's median over the primary's.
    pub p50_ratio: f64,
    /// The shadow's median less the primary's.
    pub p50: Duration,
    /// The same of the 99th percentile.
    pub p99_ratio: f64,
    /// The same of the 99th percentile.
    pub p99: Duration,
    /// What is older than once to twice this time does not count.
    pub window: Duration,
    /// Timed commands on either server below which nothing is said.
    pub samples: u64,
    /// Statements that are looked at, the busiest.
    pub fingerprints: usize,
}

/// What becomes of sessions that cannot be held in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stuck {
    /// They go on, and the cutover is aborted.
    Abort,
    /// They end, with an error that says why.
    End,
}

/// What becomes of a cutover whose new primary fails its soak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SoakAction {
    /// An operator is told.
    Alert,
    /// It is rolled back.
    Rollback,
}

/// How one knows that the shadow has all that the primary acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// The mirror's queue is drained and every dark write confirmed.
    Mirror,
    /// A row that is written to the primary is seen through the shadow.
    Heartbeat,
    /// The shadow has the primary's GTIDs.
    Gtid,
    /// A command of the operator's says so.
    Hook,
}

/// `[cutover]`
#[derive(Clone, Debug)]
pub struct Cutover {
    /// How long new transactions may wait.
    pub hold_max: Live<Duration>,
    /// What becomes of sessions that cannot be held in that time.
    pub stuck: Stuck,
    /// How one knows that the shadow has everything.
    pub catch_up: CatchUp,
    /// The heartbeat's table, `database.table`.
    pub heartbeat_table: String,
    /// The command that says so, where `catch_up` is a hook.
    pub catch_up_hook: Vec<String>,
    /// Replication into the shadow is stopped in the hold, once it has everything.
    pub stop_replication: bool,
    /// How long the new primary is watched.
    pub soak: Live<Duration>,
    /// What becomes of a cutover whose new primary fails that.
    pub soak_action: SoakAction,
    /// The new primary's share of errors over the old one's.
    pub soak_errors_max: Live<f64>,
    /// The new primary's 99th percentile over the old one's.
    pub soak_latency_max: Live<f64>,
    /// Run before the hold; it aborts the cutover by failing.
    pub before_hold: Vec<String>,
    /// Run after a switch forward.
    pub after_switch: Vec<String>,
    /// Run after a switch back.
    pub after_rollback: Vec<String>,
    /// How long a hook may take.
    pub hook_timeout: Live<Duration>,
    /// The old primary is made to refuse the writes of others.
    pub fence: bool,
    /// Data at rest must have been verified.
    pub require_verification: Live<bool>,
    /// What was verified longer ago does not count.
    pub verification_age_max: Live<Duration>,
    /// The share of the primary's tables that must have been.
    pub verification_tables: Live<f64>,
    /// The share of its rows, as far as their number is known without reading them.
    pub verification_rows: Live<f64>,
}

/// `[verify]`
#[derive(Clone, Debug)]
pub struct Verify {
    /// Tables at a time.
    pub jobs: usize,
    /// Rows a second at most, both sides together; none for no limit.
    pub rows_per_second: Option<u64>,
    /// The share of the time in which it reads.
    pub share: f64,
    /// Rows of a range at most.
    pub range_rows: u64,
    /// Bytes of a range, roughly.
    pub range_bytes: u64,
    /// How long what looks different is looked at again.
    pub settle: Duration,
    /// How long a server that is gone is waited for.
    pub patience: Duration,
    /// Rows that differ, after which a table is left.
    pub differences_max: u64,
    /// It gives way while the shadow is further behind.
    pub lag: Duration,
    /// It works less of the time while the primary's 99th percentile is past this factor of what it is without it.
    pub ease_ratio: f64,
    /// It gives way while that is past this factor of what it was before.
    pub latency_ratio: f64,
    /// But for so much.
    pub latency: Duration,
    /// In mode snapshot sessions are held for so long at most.
    pub hold_max: Duration,
    /// And a snapshot is read for so long, before another one is opened.
    pub snapshot: Duration,
    /// Says whether a shadow that cannot be asked has what was committed, for `--lock`; none where it is empty.
    pub position_command: Vec<String>,
}

/// `[fleet]`
#[derive(Clone, Debug)]
pub struct Fleet {
    /// etcd's client URLs, without a path; none where this proxy is alone.
    pub etcd: Vec<String>,
    /// This proxy's name among the others.
    pub name: String,
    /// Before every key in etcd.
    pub prefix: String,
    /// How long one request to one of the URLs may take.
    pub timeout: Duration,
    /// How long a start waits for etcd.
    pub start_timeout: Duration,
    /// Who signs etcd's certificate, for URLs with https.
    pub tls_ca: Option<PathBuf>,
    /// Certificate and key that etcd asks of its clients.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where etcd asks who one is.
    pub account: Option<Account>,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct Admin {
    /// HTTP.
    pub address: SocketAddr,
    /// The one bearer token, an operator's; without any token the addresses are loopback addresses.
    pub token: Option<Secret>,
    /// Who else may ask, each with a token and a role of their own.
    pub tokens_file: Option<TokensFile>,
    /// PEM certificate chain and key for HTTPS; without them it is HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The console's MySQL protocol; none for no console.
    pub console: Option<SocketAddr>,
    /// Rows of one answer of the console at most.
    pub console_rows: Live<usize>,
    /// How long a query on the console may take.
    pub console_timeout: Live<Duration>,
}

impl Admin {
    /// Whether who asks must have a token.
    #[must_use]
    pub const fn wants_token(&self) -> bool {
        self.token.is_some() || self.tokens_file.is_some()
    }
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// Which lines are logged, in the words of RUST_LOG; empty for what that says, or `info`.
    pub filter: Live<String>,
}

/// A text that is never printed.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
