//! The signals that it heeds. One that comes before anybody asks for it waits until then; and to its end none of them ends
//! the process by itself.

use futures_util::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT; SIGUSR2, for another process to take over; and SIGHUP, for the config to be read again.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
    reload: Signal,
}

/// What a signal has a process that serves do.
pub(super) enum Told {
    /// End; the signal's name.
    End(&'static str),
    HandOver,
    Reload,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hand_over: signal(SignalKind::user_defined2())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Lets a SIGUSR2 go that came too early.
    pub(super) fn forget_hand_over(&mut self) {
        if self.hand_over.recv().now_or_never().is_some() {
            tracing::warn!(
                "SIGUSR2 came while this process was itself being handed over to, and is let go: send it again"
            );
        }
    }

    /// The next that has it end.
    ///
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The next that has it do something.
    ///
    /// Cancel-safe.
    pub(super) async fn any(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End("SIGTERM"),
            _ = self.interrupt.recv() => Told::End("SIGINT"),
            _ = self.hand_over.recv() => Told::HandOver,
            _ = self.reload.recv() => Told::Reload,
        }
    }
}
