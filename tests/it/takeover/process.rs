//! A real understudy between two fake servers, and the next one with the same config.

use super::PATIENCE;
use super::server::Server;
use serde_json::Value;
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// What two processes share: a directory, a config, ports, and the servers.
pub struct House {
    dir: tempfile::TempDir,
    pub primary: Server,
    pub shadow: Server,
    pub address: String,
    pub admin: String,
}

impl House {
    /// `listen`: more lines below `[listen]`. A machine that is busy lets the shadow side, at its low priority, wait
    /// for longer than a command's turn may take by default.
    pub fn new(listen: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (primary, shadow) = (Server::start(), Server::start());
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [address, admin] = ports.map(|one| one.local_addr().expect("an address").to_string());
        let files = dir.path().display();
        let config = format!(
            "[listen]\naddress = \"{address}\"\ndrain_timeout_s = 5\n{listen}\n\
             [primary]\naddress = \"{}\"\ntls = \"off\"\n\
             [mirror]\norder_wait_ms = 60000\n\
             [shadow]\naddress = \"{}\"\ntls = \"off\"\nuser = \"understudy\"\npassword = \"understudy\"\n\
             [ledger]\npath = \"{files}/ledger.db\"\nlog = \"\"\n\
             [admin]\naddress = \"{admin}\"\nconsole = \"\"\n",
            primary.address, shadow.address
        );
        let house = Self {
            dir,
            primary,
            shadow,
            address,
            admin: format!("http://{admin}"),
        };
        std::fs::write(house.file("understudy.toml"), config).expect("the config is written");
        house
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a process; its log is a file of this name.
    pub fn start(&self, name: &'static str, arguments: &[&str]) -> Process {
        let notify = self.notify();
        self.start_with(name, arguments, |command| {
            command.env("NOTIFY_SOCKET", notify)
        })
    }

    /// The same, and nobody watches it.
    pub fn start_without_supervisor(&self, name: &'static str, arguments: &[&str]) -> Process {
        self.start_with(name, arguments, |command| {
            command.env_remove("NOTIFY_SOCKET")
        })
    }

    fn notify(&self) -> PathBuf {
        self.file("notify")
    }

    /// The supervisor, as processes name it to each other.
    pub fn supervisor(&self) -> Option<String> {
        let unit = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        // One that is not there is told nothing.
        Some(format!("{} {}", self.notify().display(), unit.trim_end()))
    }

    fn start_with(
        &self,
        name: &'static str,
        arguments: &[&str],
        with: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Process {
        let log = self.file(name);
        let errors = OpenOptions::new().create(true).append(true).open(&log);
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        command
            .args(["serve", "--config"])
            .arg(self.file("understudy.toml"))
            .args(arguments)
            .env("WATCHDOG_USEC", "3000000")
            .stdin(Stdio::null())
            .stderr(errors.expect("a log"));
        let child = with(&mut command).spawn().expect("understudy starts");
        Process { child, log }
    }

    /// One that serves.
    pub fn serving(&self) -> Process {
        let process = self.start("old", &[]);
        until("it is ready", || self.get("/readyz").is_ok());
        process
    }

    pub fn get(&self, path: &str) -> Result<Value, String> {
        let asked = ureq::get(format!("{}{path}", self.admin)).call();
        let mut answer = asked.map_err(|fault| fault.to_string())?;
        answer
            .body_mut()
            .read_json()
            .map_err(|fault| fault.to_string())
    }

    /// A POST: its status, and what was said.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = ureq::post(format!("{}{path}", self.admin));
        let request = request.config().http_status_as_error(false).build();
        let mut answer = request.send_json(body).expect("the admin answers");
        let said = answer.body_mut().read_json().unwrap_or(Value::Null);
        (answer.status().as_u16(), said)
    }

    /// A PATCH: its status, and what was said.
    pub fn patch(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = ureq::patch(format!("{}{path}", self.admin));
        let request = request.config().http_status_as_error(false).build();
        let mut answer = request.send_json(body).expect("the admin answers");
        let said = answer.body_mut().read_json().unwrap_or(Value::Null);
        (answer.status().as_u16(), said)
    }

    /// Waits until a process other than this one answers at the admin's door, and has settled everything; its
    /// coverage.
    pub fn settled(&self) -> Value {
        let mut last = Value::Null;
        until("all is settled", || {
            let Ok(status) = self.get("/api/v1/status") else {
                return false;
            };
            last = status["coverage"].clone();
            status["handover"].is_null() && last["pending"] == 0
        });
        last
    }

    /// Who has the ledger, as its lock file says.
    pub fn owner(&self) -> String {
        let word = std::fs::read_to_string(self.file("ledger.db.lock")).unwrap_or_default();
        word.trim_end().to_owned()
    }

    pub fn taints(&self) -> Vec<Value> {
        let taints = self.get("/api/v1/taints").expect("the taints");
        taints["items"].as_array().expect("a list").clone()
    }
}

/// Waits for something to be so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A process; killed when dropped, and its log shown where a test fails.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn says(&self, words: &str) {
        until(words, || self.log().contains(words));
    }

    pub fn signal(&self, name: &str) {
        crate::lab::signal(self.id().cast_signed(), name);
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        until("it ends", || !self.is_alive());
        self.child.wait().expect("it has ended").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}
