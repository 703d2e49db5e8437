//! Against real servers, which `tests/bin/with-lab` starts. Without them every test here fails.

mod alerts;
mod bad_input;
mod carrying;
mod checker;
mod console;
mod counters;
mod cutover;
mod differences;
mod faults;
mod fleet;
mod healthy;
mod load;
mod logins;
mod mirroring;
mod operators;
mod order;
mod page;
mod pinning;
mod planted;
mod proof;
mod proxied;
mod proxy;
mod readiness;
mod sessions;
mod settling;
mod throughput;
mod transient;
mod upgrade;
mod verify;
mod way;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use proxy::Proxy;

/// One lab's `env` file.
#[derive(Clone, Debug)]
pub struct Lab {
    values: BTreeMap<String, String>,
}

/// A primary that the tests run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primary {
    MySql56,
    MySql97,
    MariaDb,
}

impl Primary {
    fn variable(self) -> &'static str {
        match self {
            Self::MySql56 => "LAB_ENV",
            Self::MySql97 => "LAB_ENV_MYSQL97",
            Self::MariaDb => "LAB_ENV_MARIADB",
        }
    }
}

impl Lab {
    /// The lab whose `env` stands in the variable, or a failure that says what to do.
    fn read(variable: &str) -> Self {
        let path = std::env::var(variable).unwrap_or_else(|_| {
            panic!("{variable} is not set: run this through tests/bin/with-lab, or `make test`")
        });
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|fault| panic!("the lab's {path}: {fault}"));
        let values = text.lines().filter_map(|line| line.split_once('='));
        Self {
            values: values
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    /// MySQL 5.6 and vtgate.
    pub fn get() -> Self {
        Self::read(Primary::MySql56.variable())
    }

    /// The lab of another primary (without a shadow of its own).
    pub fn of(primary: Primary) -> Self {
        Self::read(primary.variable())
    }

    /// MySQL 9.7 as the legacy, and another one, which is no replica of it yet, in the shadow's place.
    pub fn pair() -> Self {
        let (mut pair, other) = (Self::of(Primary::MySql97), Self::read("LAB_ENV_REPLICA"));
        for (key, of_other) in [
            ("SHADOW_HOST", "LEGACY_HOST"),
            ("SHADOW_PORT", "LEGACY_PORT"),
            ("SHADOW_PID", "LEGACY_PID"),
            ("SHADOW_ROOT_SOCKET", "LEGACY_ROOT_SOCKET"),
        ] {
            let value = other.value(of_other).to_owned();
            pair.values.insert(key.to_owned(), value);
        }
        pair
    }

    /// The same lab with another value.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.values.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A value of the `env` file.
    pub fn value(&self, key: &str) -> &str {
        self.values
            .get(key)
            .unwrap_or_else(|| panic!("the lab's env has no {key}"))
    }

    pub fn port(&self, key: &str) -> u16 {
        self.value(key).parse().expect("a port is a number")
    }

    pub fn pid(&self, key: &str) -> i32 {
        self.value(key).parse().expect("a pid is a number")
    }

    pub fn legacy(&self) -> String {
        format!(
            "{}:{}",
            self.value("LEGACY_HOST"),
            self.value("LEGACY_PORT")
        )
    }

    pub fn shadow(&self) -> String {
        format!(
            "{}:{}",
            self.value("SHADOW_HOST"),
            self.value("SHADOW_PORT")
        )
    }
}

/// The directory of the certificates that `with-lab` made: `ca.pem`, `cert.pem`, `key.pem`.
pub fn tls() -> PathBuf {
    std::env::var("LAB_TLS")
        .expect("LAB_TLS is set by tests/bin/with-lab")
        .into()
}

/// Options of a client of ours at `address`, as the application.
pub fn client(address: &str, database: &str) -> mysql_async::Opts {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    mysql_async::OptsBuilder::default()
        .ip_or_hostname(host)
        .tcp_port(port.parse().expect("a port"))
        .user(Some("app"))
        .pass(Some("app"))
        .db_name(Some(database))
        .prefer_socket(false)
        .max_allowed_packet(Some(64 << 20))
        .into()
}

/// Sends a signal to a process of the lab or of the test, by pid.
pub fn signal(pid: i32, name: &str) {
    let status = std::process::Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "kill -s {name} {pid}"
    );
}
