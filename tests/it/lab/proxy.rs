//! An understudy of a test's own: a process, its config, its two doors.

use super::{Lab, tls};
use serde_json::Value;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `understudy serve`. Ended, and its files removed, when dropped.
pub struct Proxy {
    child: Child,
    dir: tempfile::TempDir,
    arguments: &'static [&'static str],
    planted: [(&'static str, String); 2],
    /// Where clients connect.
    pub address: String,
    /// The admin's URL.
    pub admin: String,
    /// The console's port.
    pub console: u16,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// Ports that were free a moment ago, each another.
fn free_ports<const N: usize>() -> [u16; N] {
    let listen = |_| TcpListener::bind("127.0.0.1:0").expect("a port can be bound");
    let listeners: [TcpListener; N] = std::array::from_fn(listen);
    listeners.map(|one| one.local_addr().expect("it has an address").port())
}

/// How a test's proxy differs from the usual.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// `host:port` of another primary than the lab's legacy.
    pub primary: Option<String>,
    /// `host:port` of another shadow than the lab's vtgate.
    pub shadow: Option<String>,
    /// TLS on the client leg.
    pub client_tls: bool,
    /// `tls = …` towards the primary; off where empty.
    pub primary_tls: &'static str,
    /// More lines below `[primary]`.
    pub primary_more: String,
    /// More lines below `[shadow]`.
    pub shadow_more: String,
    /// Lines below `[mirror]`; `writes = "apply"` where empty.
    pub mirror: &'static str,
    /// Lines below `[listen]`.
    pub listen: &'static str,
    /// Lines below `[ledger]`.
    pub ledger: &'static str,
    /// Lines below `[admin]`.
    pub admin: String,
    /// The console's port, instead of a free one.
    pub console: Option<u16>,
    /// Anything else: whole sections.
    pub more: String,
    /// Arguments behind `serve --config FILE`.
    pub arguments: &'static [&'static str],
    /// What is measured; nothing where empty. See `planted::measures`.
    pub measures: &'static str,
    /// Where a cutover pauses, as `switching:2000`; nowhere where empty. See `planted::pause`.
    pub pause: String,
}

impl Proxy {
    /// In front of the lab's legacy and vtgate.
    pub fn start(lab: &Lab) -> Self {
        Self::start_with(lab, &Setup::default())
    }

    /// As `setup` says, and ready to serve.
    pub fn start_with(lab: &Lab, setup: &Setup) -> Self {
        let mut proxy = Self::launch(lab, setup);
        proxy.wait_until_ready();
        proxy
    }

    /// As `setup` says; it listens, and may not be ready.
    pub fn start_unready(lab: &Lab, setup: &Setup) -> Self {
        let mut proxy = Self::launch(lab, setup);
        proxy.wait_until("/healthz");
        let end = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(&proxy.address).is_err() {
            assert!(Instant::now() < end, "it does not listen:\n{}", proxy.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        proxy
    }

    /// As `setup` says; nobody waits for anything.
    pub fn launch(lab: &Lab, setup: &Setup) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [listen, admin, console] = free_ports();
        let console = setup.console.unwrap_or(console);
        let ports = [listen, admin, console];
        let config = config(lab, setup, &dir.path().to_string_lossy(), ports);
        std::fs::write(dir.path().join("understudy.toml"), config).expect("the config is written");
        let address = format!("127.0.0.1:{listen}");
        let planted = [
            ("UNDERSTUDY_MEASURES", setup.measures.to_owned()),
            ("UNDERSTUDY_PLANTED_PAUSE", setup.pause.clone()),
        ];
        Self {
            child: serve(dir.path(), setup.arguments, &planted),
            dir,
            arguments: setup.arguments,
            planted,
            address,
            admin: format!("http://127.0.0.1:{admin}"),
            console,
        }
    }

    /// Starts again, with the same files, after the process has ended.
    pub fn start_again(&mut self) {
        self.launch_again();
        self.wait_until_ready();
    }

    /// The same; nobody waits until it serves.
    pub fn launch_again(&mut self) {
        let _reaped = self.child.wait();
        self.child = serve(self.dir.path(), self.arguments, &self.planted);
    }

    /// Waits until it serves.
    pub fn wait_until_ready(&mut self) {
        self.wait_until("/readyz");
    }

    /// Where a cutover pauses from the next start on; nowhere where empty.
    pub fn pause_at(&mut self, pause: &str) {
        let [_, (_, planted)] = &mut self.planted;
        pause.clone_into(planted);
    }

    /// Dies as by `kill -9`, and starts again with the same files.
    pub fn kill_and_start_again(&mut self) {
        self.signal("KILL");
        self.start_again();
    }

    fn wait_until(&mut self, path: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.try_get(path).is_err() {
            let exited = self.child.try_wait().expect("the child can be asked");
            assert!(
                exited.is_none() && Instant::now() < end,
                "{path} fails ({exited:?}):\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A file of the proxy's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A GET that may fail, and why.
    pub fn try_get(&self, path: &str) -> Result<String, String> {
        let url = format!("{}{path}", self.admin);
        let answer = ureq::get(&url).call().map_err(|fault| fault.to_string())?;
        let mut text = String::new();
        answer
            .into_body()
            .into_reader()
            .read_to_string(&mut text)
            .map_err(|fault| fault.to_string())?;
        Ok(text)
    }

    /// A GET, as text.
    pub fn text(&self, path: &str) -> String {
        self.try_get(path)
            .unwrap_or_else(|fault| panic!("GET {path}: {fault}\n{}", self.log()))
    }

    /// One of the metrics without labels.
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.text("/metrics");
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
    }

    /// A GET of the API, as JSON.
    pub fn get(&self, path: &str) -> Value {
        let text = self.text(path);
        serde_json::from_str(&text).unwrap_or_else(|fault| panic!("GET {path}: {fault}: {text}"))
    }

    /// A PATCH or POST of the API.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!(status < 400, "{method} {path}: {status} {answer}");
        answer
    }

    /// The same, refused or not: the HTTP status, and the answer.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.admin);
        let request = if method == "PATCH" {
            ureq::patch(&url)
        } else {
            ureq::post(&url)
        };
        let request = request.config().http_status_as_error(false).build();
        let mut answer = request
            .send_json(body)
            .unwrap_or_else(|fault| panic!("{method} {path}: {fault}"));
        let said = answer.body_mut().read_json().unwrap_or(Value::Null);
        (answer.status().as_u16(), said)
    }

    /// A POST of the API that nobody waits for: the process may die before it answers.
    pub fn ask_aside(&self, path: &str, body: &Value) {
        let (url, body) = (format!("{}{path}", self.admin), body.clone());
        std::thread::spawn(move || drop(ureq::post(&url).send_json(&body)));
    }

    /// The coverage, once every command has its verdict. The identity holds in it.
    pub fn settled(&self) -> Value {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let coverage = self.get("/api/v1/status")["coverage"].clone();
            assert_identity(&coverage);
            if coverage["pending"] == 0 {
                return coverage;
            }
            assert!(
                Instant::now() < end,
                "still pending: {coverage}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the process runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("it has a resident size");
        line.split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("a number")
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("the process runs")
            .count()
    }

    /// Whether the process still runs.
    pub fn alive(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the child can be asked")
            .is_none()
    }

    /// Sends a signal by name (`TERM`, `KILL`).
    pub fn signal(&self, name: &str) {
        super::signal(self.pid().cast_signed(), name);
    }

    /// Waits for the exit code.
    pub fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running after {within:?}:\n{}", self.log());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- understudy's log\n{}", self.log());
        }
    }
}

fn serve(dir: &Path, arguments: &[&str], planted: &[(&str, String)]) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    let planted = planted.iter().filter(|(_, value)| !value.is_empty());
    command
        .envs(planted.map(|(name, value)| (*name, value)))
        .args(["serve", "--config"])
        .arg(dir.join("understudy.toml"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("understudy starts")
}

/// commands = matched + tolerated + diverged + not compared by reason + pending.
pub fn assert_identity(coverage: &Value) {
    let number = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("not a number in {coverage}"))
    };
    let reasons = coverage["not_compared"].as_object().expect("reasons");
    let skipped: u64 = reasons.values().map(number).sum();
    let parts: u64 = ["matched", "tolerated", "diverged", "pending"]
        .iter()
        .map(|name| number(&coverage[*name]))
        .sum();
    assert_eq!(number(&coverage["commands"]), parts + skipped, "{coverage}");
}

fn config(lab: &Lab, setup: &Setup, dir: &str, ports: [u16; 3]) -> String {
    let [listen, admin, console] = ports;
    let legacy = lab.legacy();
    let primary = setup.primary.as_deref().unwrap_or(&legacy);
    let vtgate = Lab::get().shadow();
    let shadow = setup.shadow.as_deref().unwrap_or(&vtgate);
    let primary_tls = if setup.primary_tls.is_empty() {
        "off"
    } else {
        setup.primary_tls
    };
    let mirror = if setup.mirror.is_empty() {
        "writes = \"apply\""
    } else {
        setup.mirror
    };
    let certificate = tls();
    let client_tls = if setup.client_tls {
        format!(
            "tls_cert = \"{0}/cert.pem\"\ntls_key = \"{0}/key.pem\"",
            certificate.display()
        )
    } else {
        String::new()
    };
    format!(
        r#"[listen]
address = "127.0.0.1:{listen}"
{client_tls}
{listen_more}
[primary]
name = "legacy"
address = "{primary}"
tls = "{primary_tls}"
user = "{user}"
password = "{password}"
{primary_more}
[shadow]
name = "vitess"
address = "{shadow}"
tls = "off"
user = "understudy"
password = "understudy"
{shadow_more}
[mirror]
{mirror}
[ledger]
path = "{dir}/ledger.db"
log = "{dir}/divergences.jsonl"
{ledger}
[admin]
address = "127.0.0.1:{admin}"
console = "127.0.0.1:{console}"
{admin_more}
{more}
"#,
        listen_more = setup.listen,
        primary_more = setup.primary_more,
        shadow_more = setup.shadow_more,
        user = lab.value("LEGACY_PROXY_USER"),
        password = lab.value("LEGACY_PROXY_PASSWORD"),
        ledger = setup.ledger,
        admin_more = setup.admin,
        more = setup.more,
    )
}
