//! Threads: the relay's, the shadow side's at a lower priority, the admin's, and the main one.

use crate::admin;
use crate::config::Config;
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// How much lower the shadow side's priority is (`nice`).
const SHADOW_NICE: i32 = 10;

/// Threads for reads of the ledger and the like, on the admin's runtime.
const BLOCKING_MAX: usize = 8;

/// What still runs in the end is given this moment.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// The runtimes.
pub(super) struct Threads {
    main: Runtime,
    pub(super) relay: RelayThreads,
    pub(super) shadow: Runtime,
}

impl Threads {
    /// Starts the threads that the config asks for.
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let main = Builder::new_current_thread().enable_all().build()?;
        let relay = RelayThreads::start(config.listen.threads)?;
        let shadow = Builder::new_multi_thread()
            .worker_threads(config.mirror.threads)
            .max_blocking_threads(BLOCKING_MAX)
            .thread_name("shadow")
            .on_thread_start(step_back)
            .enable_all()
            .build()?;
        Ok(Self {
            main,
            relay,
            shadow,
        })
    }

    /// Runs the orchestration on the main thread.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.main.block_on(work)
    }

    /// Serves the operators' doors (the console's may be closed) on a thread of their own, until told
    /// to end.
    pub(super) fn admin(
        &self,
        http: std::net::TcpListener,
        console: Option<std::net::TcpListener>,
        parts: admin::Parts,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_MAX)
            .build()?;
        let (http, console) = {
            let _on_it = runtime.enter();
            (
                TcpListener::from_std(http)?,
                console.map(TcpListener::from_std).transpose()?,
            )
        };
        // Its end is the process's: it answers to the last, and holds nothing that must be saved.
        std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || runtime.block_on(admin::serve(http, console, parts, stop)))
            .map(drop)
    }

    /// Ends all of them; what still runs is given a moment.
    pub(super) fn end(self) {
        self.relay.end();
        self.shadow.shutdown_timeout(LAST_MOMENT);
        // A ledger that cannot be closed must not hold the process.
        self.main.shutdown_timeout(LAST_MOMENT);
    }
}

/// The relay's threads, each with a runtime of its own: a session lives and ends on one of them, so that
/// nothing of it is ever handed to another thread, and no thread wakes another.
pub(super) struct RelayThreads {
    handles: Vec<Handle>,
    stop: CancellationToken,
    /// One of them has ended, whyever.
    ended: CancellationToken,
    running: Vec<std::thread::JoinHandle<()>>,
}

impl RelayThreads {
    fn start(threads: usize) -> io::Result<Self> {
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (mut handles, mut running) = (Vec::new(), Vec::new());
        for _ in 0..threads.max(1) {
            let runtime = Builder::new_current_thread()
                .max_blocking_threads(BLOCKING_MAX)
                .enable_all()
                .build()?;
            handles.push(runtime.handle().clone());
            let (stop, ended) = (stop.clone(), ended.clone());
            let thread = std::thread::Builder::new().name("relay".to_owned());
            running.push(thread.spawn(move || {
                let _says_so = ended.drop_guard();
                runtime.block_on(stop.cancelled());
                runtime.shutdown_timeout(LAST_MOMENT);
            })?);
        }
        Ok(Self {
            handles,
            stop,
            ended,
            running,
        })
    }

    /// All of them. There is one at least.
    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Resolves once one of them has ended before its time: it has panicked, and took its sessions with it.
    pub(super) async fn broken(&self) {
        self.ended.cancelled().await;
    }

    /// Lets them end. One that hangs is left behind: the process ends without it.
    fn end(self) {
        const STEP: Duration = Duration::from_millis(5);
        self.stop.cancel();
        let mut left = LAST_MOMENT * 3;
        let hangs = |one: &std::thread::JoinHandle<()>| !one.is_finished();
        while self.running.iter().any(hangs) && left > Duration::ZERO {
            std::thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
        if self.running.iter().any(hangs) {
            tracing::error!(
                "one of the relay's threads hangs and is left behind; what it was doing is lost"
            );
        }
    }
}

/// On Linux a thread has a priority of its own.
fn step_back() {
    if let Err(error) = rustix::process::nice(SHADOW_NICE) {
        tracing::warn!(%error, "a thread of the shadow side keeps its priority");
    }
}
