//! Tells systemd how the process stands: a few words in a datagram to the socket that `NOTIFY_SOCKET` names
//! ([sd_notify](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)). Where nothing is
//! named, as under any other supervisor, nobody is told anything.
//!
//! `READY=1` is said once clients can be served: the listener is bound and the primary has answered. `WATCHDOG=1`
//! is said only after every thread of the relay's has taken a turn since the last time, so that a thread that
//! hangs, and its sessions with it, ends in a restart. The shadow side has no say in either. `STOPPING=1` says how
//! long the drain may take. Refuses to be in anybody's way: words that cannot be sent are lost, which is logged.

use crate::task;
use rustix::time::{ClockId, clock_gettime};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// To send takes no longer; only a supervisor that hangs lets it come to that.
const SEND: Duration = Duration::from_secs(1);

/// The watchdog is told so many times within its time.
const TURNS: u32 = 3;

/// Whoever is told, if anybody is.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    socket: Option<UnixDatagram>,
    /// Silence of this length ends the process.
    watchdog: Option<Duration>,
    /// Another process speaks.
    silent: AtomicBool,
}

/// What the supervisor left in the environment.
#[derive(Debug, Default)]
struct Left {
    socket: Option<OsString>,
    watchdog_us: Option<String>,
    watchdog_process: Option<String>,
}

impl Supervisor {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        Self::of(&Left {
            socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog_us: std::env::var("WATCHDOG_USEC").ok(),
            watchdog_process: std::env::var("WATCHDOG_PID").ok(),
        })
    }

    fn of(left: &Left) -> Self {
        let Some(name) = left.socket.as_deref().filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let socket = connected(name)
            .inspect_err(|error| {
                tracing::warn!(
                    "NOTIFY_SOCKET {} cannot be used: {error}; systemd is told nothing, and may take the start for failed",
                    name.display()
                );
            })
            .ok();
        let is_ours = |process: &str| process == std::process::id().to_string();
        let us = left.watchdog_us.as_deref().and_then(|us| us.parse().ok());
        let watchdog = us
            .filter(|us| *us > 0 && left.watchdog_process.as_deref().is_none_or(is_ours))
            .map(Duration::from_micros);
        Self {
            socket,
            watchdog,
            silent: AtomicBool::new(false),
        }
    }

    /// Says that it has begun, then that clients can be served, and from then on that the relay's threads
    /// turn. `ready` resolves once the primary, of this name, has answered.
    pub(super) async fn attend(
        &self,
        ready: impl Future<Output = ()>,
        primary: &str,
        relay: &[Handle],
    ) -> Infallible {
        let says_otherwise = async {
            self.say(&format!(
                "STATUS=listening; {primary} has not answered yet, clients are told so"
            ));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = ready => {}
            () = says_otherwise => {}
        }
        self.say("READY=1\nSTATUS=serving clients");
        self.feed(relay).await
    }

    /// Says again and again that the relay's threads turn.
    pub(super) async fn feed(&self, relay: &[Handle]) -> Infallible {
        let Some(watchdog) = self.watchdog else {
            return std::future::pending().await;
        };
        loop {
            if all_turn(relay).await {
                self.say("WATCHDOG=1");
            }
            tokio::time::sleep(watchdog / TURNS).await;
        }
    }

    /// Says that it ends, and that this takes so long at most: neither the unit's time to stop nor its
    /// watchdog cuts a drain off that the config allows.
    pub(super) fn stopping(&self, at_most: Duration) {
        let us = at_most.as_micros();
        let mut words = format!(
            "STOPPING=1\nSTATUS=draining, for {} s at most\nEXTEND_TIMEOUT_USEC={us}",
            at_most.as_secs()
        );
        if self.watchdog.is_some_and(|watchdog| watchdog < at_most) {
            words.push_str(&format!("\nWATCHDOG_USEC={us}"));
        }
        self.say(&words);
    }

    /// Says that the config is being read again.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(&format!(
            "RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=reading the config again"
        ));
    }

    /// Says that it was, and what came of it.
    pub(super) fn reloaded(&self, what_came: &str) {
        self.say(&format!("READY=1\nSTATUS=serving clients; {what_came}"));
    }

    /// Says that this process serves in the place of the one that it has taken over from. Where that one speaks for
    /// both, its last word says so, too.
    pub(super) fn takes_over(&self) {
        self.is_silent(false);
        let process = std::process::id();
        self.say(&format!(
            "MAINPID={process}\nREADY=1\nSTATUS=serving clients"
        ));
    }

    /// Says that another process serves who comes.
    pub(super) fn hands_over(&self, heir: u32) {
        self.say(&beside(heir));
    }

    /// Says that the config was read again, or not, beside a process that serves who comes.
    pub(super) fn reloaded_beside(&self, heir: u32) {
        self.say(&format!("READY=1\n{}", beside(heir)));
    }

    /// Says that this process serves again, for the one that had taken over has ended.
    pub(super) fn serves_again(&self) {
        self.say("STATUS=serving clients");
    }

    /// Says that this process goes on serving, for none could take over that SIGUSR2 had it start.
    pub(super) fn keeps(&self) {
        self.say("STATUS=serving clients; no process took over at SIGUSR2, the log says why");
    }

    /// The last word: another process is the main one.
    pub(super) fn leaves_to(&self, heir: u32) {
        self.say(&format!("MAINPID={heir}"));
    }

    /// Whether anybody is told.
    pub(super) const fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Another process speaks in this one's stead; or does not any more.
    pub(super) fn is_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Release);
    }

    fn say(&self, words: &str) {
        let is_silent = self.silent.load(Ordering::Acquire);
        let Some(socket) = self.socket.as_ref().filter(|_| !is_silent) else {
            return;
        };
        if let Err(error) = socket.send(words.as_bytes()) {
            tracing::warn!("systemd could not be told {words:?}: {error}");
        }
    }
}

fn beside(heir: u32) -> String {
    format!(
        "STATUS=process {heir} has taken over; sessions go on here until their clients end them"
    )
}

/// Which supervisor this process has and as a part of what, in words that are another's for every other process but
/// those in the same unit; `None` without one.
pub(super) fn whose() -> Option<String> {
    let socket = std::env::var("NOTIFY_SOCKET").ok();
    let socket = socket.filter(|socket| !socket.is_empty())?;
    // A unit is a cgroup, and all of systemd's have one socket.
    let unit = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(format!("{socket} {}", unit.trim_end()))
}

/// Resolves once every thread has taken a turn; false where one has ended.
pub(super) async fn all_turn(threads: &[Handle]) -> bool {
    let turn = |thread| task::spawn_on(thread, "watchdog", async {});
    let turns: Vec<_> = threads.iter().map(turn).collect();
    for turn in turns {
        if turn.await.is_err() {
            return false;
        }
    }
    true
}

/// A name that begins with @ is no path, but one in the abstract namespace.
fn connected(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', rest)) => named(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND))?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn named(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn named(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    /// A supervisor's end, and what it hears.
    struct Ear {
        socket: UnixDatagram,
        _files: tempfile::TempDir,
        told: Left,
    }

    impl Ear {
        fn new(watchdog_us: Option<&str>) -> Self {
            let files = tempfile::tempdir().unwrap();
            let path = files.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let told = Left {
                socket: Some(path.into()),
                watchdog_us: watchdog_us.map(str::to_owned),
                watchdog_process: None,
            };
            Self {
                socket,
                _files: files,
                told,
            }
        }

        fn heard(&self) -> Option<String> {
            let mut buffer = [0; 512];
            let length = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
        }
    }

    /// Attends for a while of paused time.
    async fn attend(supervisor: &Supervisor, answered: bool, relay: &[Handle], seconds: u64) {
        let ready = async {
            if !answered {
                std::future::pending::<()>().await;
            }
        };
        let attending = supervisor.attend(ready, "legacy", relay);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), attending).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_once_the_primary_has_answered_and_not_before() {
        let ear = Ear::new(None);
        let supervisor = Supervisor::of(&ear.told);
        attend(&supervisor, false, &[], 60).await;
        let begun = ear.heard().unwrap();
        assert_eq!(
            begun,
            "STATUS=listening; legacy has not answered yet, clients are told so"
        );
        assert_eq!(ear.heard(), None);
        // It has answered by then: nothing else is said in between.
        attend(&supervisor, true, &[], 60).await;
        assert_eq!(ear.heard().unwrap(), "READY=1\nSTATUS=serving clients");
        assert_eq!(ear.heard(), None, "nobody asked for a watchdog");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_hears_of_threads_that_turn() {
        let ear = Ear::new(Some("3000000"));
        let supervisor = Supervisor::of(&ear.told);
        attend(&supervisor, true, &[Handle::current()], 5).await;
        let turns = std::iter::from_fn(|| ear.heard()).filter(|words| words == "WATCHDOG=1");
        assert_eq!(turns.count(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_hears_nothing_while_a_thread_hangs() {
        let ear = Ear::new(Some("3000000"));
        let supervisor = Supervisor::of(&ear.told);
        // Nobody drives it, as if its thread were in a loop.
        let hangs = Builder::new_current_thread().build().unwrap();
        let threads = [Handle::current(), hangs.handle().clone()];
        attend(&supervisor, true, &threads, 10).await;
        let turns = std::iter::from_fn(|| ear.heard()).filter(|words| words == "WATCHDOG=1");
        assert_eq!(turns.count(), 0);
        hangs.shutdown_background();
    }

    #[test]
    fn a_drain_is_not_cut_off_by_the_unit_nor_by_the_watchdog() {
        let ear = Ear::new(Some("60000000"));
        let supervisor = Supervisor::of(&ear.told);
        supervisor.stopping(Duration::from_secs(90));
        assert_eq!(
            ear.heard().unwrap(),
            "STOPPING=1\nSTATUS=draining, for 90 s at most\nEXTEND_TIMEOUT_USEC=90000000\nWATCHDOG_USEC=90000000"
        );
        supervisor.stopping(Duration::from_secs(9));
        let short = ear.heard().unwrap();
        assert!(!short.contains("WATCHDOG"), "{short}");
    }

    #[test]
    fn a_reload_begins_and_ends() {
        let ear = Ear::new(None);
        let supervisor = Supervisor::of(&ear.told);
        supervisor.reloading();
        let said = ear.heard().unwrap();
        let us = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let us = us.split('\n').next().unwrap();
        assert!(us.parse::<u64>().unwrap() > 0, "{said}");
        supervisor.reloaded("2 keys were changed");
        assert_eq!(
            ear.heard().unwrap(),
            "READY=1\nSTATUS=serving clients; 2 keys were changed"
        );
    }

    #[test]
    fn of_two_processes_the_one_that_serves_speaks() {
        let ear = Ear::new(None);
        let supervisor = Supervisor::of(&ear.told);
        supervisor.is_silent(true);
        supervisor.stopping(Duration::ZERO);
        assert_eq!(ear.heard(), None);
        supervisor.takes_over();
        let own = format!("MAINPID={}\n", std::process::id());
        let said = ear.heard().unwrap();
        assert!(said.starts_with(&own) && said.contains("READY=1"), "{said}");
        supervisor.hands_over(7);
        let status = ear.heard().unwrap();
        assert!(status.starts_with("STATUS=process 7"), "{status}");
        // Finding: a reload meanwhile said that this one served clients.
        supervisor.reloaded_beside(7);
        assert_eq!(ear.heard().unwrap(), format!("READY=1\n{status}"));
        supervisor.leaves_to(7);
        assert_eq!(ear.heard().unwrap(), "MAINPID=7");
    }

    #[test]
    fn another_process_watchdog_is_not_ours() {
        let mut ear = Ear::new(Some("1000"));
        ear.told.watchdog_process = Some("1".to_owned());
        assert_eq!(Supervisor::of(&ear.told).watchdog, None);
        ear.told.watchdog_process = Some(std::process::id().to_string());
        let ours = Supervisor::of(&ear.told).watchdog;
        assert_eq!(ours, Some(Duration::from_millis(1)));
    }

    #[test]
    fn without_a_supervisor_nobody_is_told_and_nothing_fails() {
        Supervisor::of(&Left::default()).stopping(Duration::ZERO);
        let gone = Left {
            socket: Some("/nowhere/notify".into()),
            ..Left::default()
        };
        let supervisor = Supervisor::of(&gone);
        assert!(supervisor.socket.is_none());
        supervisor.stopping(Duration::ZERO);
    }

    #[test]
    fn a_name_of_the_abstract_namespace_is_understood() {
        let name = format!("understudy-test-{}", std::process::id());
        let address = named(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let left = Left {
            socket: Some(format!("@{name}").into()),
            ..Left::default()
        };
        Supervisor::of(&left).stopping(Duration::ZERO);
        let mut buffer = [0; 10];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 10);
        assert_eq!(&buffer, b"STOPPING=1");
    }
}
