//! Accepts clients, and stops accepting them.

use super::drain::Phase;
use super::refuse::Refusal;
use super::{Relay, session};
use crate::connect::Stream;
use crate::task;
use crate::wire::proxied::Addresses;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// Pauses after failed accepts (no file descriptors left): the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Time between two looks at how far the drain has come.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// Binds an address with a backlog for bursts of connections.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The next connection, while any are accepted.
///
/// Cancel-safe.
async fn accept(
    listener: &TcpListener,
    accepts: &mut watch::Receiver<bool>,
) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        // Who tells lives as long as the relay.
        let _ = accepts.wait_for(|accepts| *accepts).await;
        tokio::select! {
            biased;
            _off = accepts.wait_for(|accepts| !*accepts) => {}
            accepted = listener.accept() => return accepted,
        }
    }
}

impl Relay {
    /// Accepts and serves clients until `shutdown`; then stops accepting, lets sessions end at
    /// their next boundary, and returns once all have ended or the drain's time is up.
    pub async fn run(&self, listener: TcpListener, shutdown: CancellationToken) {
        let mut pause = PAUSE_MIN;
        let mut accepts = self.shared.accepts.subscribe();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &mut accepts) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = PAUSE_MIN;
                    self.admit(stream, peer);
                }
                // Of the two processes that have it one has shut it down, for both end: nobody comes any more.
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    tracing::info!(
                        "the other process has shut the listener down: nobody comes any more"
                    );
                    shutdown.cancelled().await;
                    break;
                }
                Err(error) => {
                    if pause == PAUSE_MIN {
                        tracing::warn!(%error, "no connection can be accepted; trying again");
                    }
                    self.shared.counters.accept_errors.add(1);
                    sleep(pause).await;
                    pause = pause.saturating_mul(2).min(PAUSE_MAX);
                }
            }
        }
        drop(listener);
        self.drain().await;
    }

    /// Whether connections are accepted. Where they are not, those that come wait in the kernel for whoever else
    /// accepts on this socket. One that is being accepted is served all the same.
    pub fn set_accepts(&self, accepts: bool) {
        self.shared.accepts.send_replace(accepts);
    }

    /// Gives a connection a task of its own, or refuses it.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let shared = Arc::clone(&self.shared);
        shared.counters.accepted.add(1);
        let Some(open) = shared.open.enter(shared.limits.connections_max.now()) else {
            shared.counters.too_many.add(1);
            // The socket's buffer is empty, so this takes it whole and at once.
            let packet = Refusal::too_many_connections().packet(0);
            let _ = SockRef::from(&stream).send(&packet);
            return;
        };
        // One whose end is gone by now is found out at its first read.
        let met = stream.local_addr().unwrap_or(peer);
        let ends = Addresses::between(peer, met);
        // A timer of the kernel's, so that a client that never reads holds its place for no longer,
        // and the relay has no timer to keep.
        let write_timeout = shared.limits.write_timeout.now();
        let limit = (write_timeout > Duration::ZERO).then_some(write_timeout);
        if SockRef::from(&stream).set_tcp_user_timeout(limit).is_err() {
            return;
        }
        // It is known to this thread's runtime; it will be to that of the thread where it lives.
        let Ok(stream) = stream.into_std() else {
            return;
        };
        let place = shared.homes.place();
        let home = place.as_ref().map(|place| place.handle().clone());
        let client = move || TcpStream::from_std(stream).and_then(Stream::tcp);
        let session = session::serve(shared, client, ends, (open, place));
        // Its end is the client's, the primary's, or the drain's, which waits for `open`.
        drop(match home {
            Some(home) => task::spawn_on(&home, "session", session),
            None => task::spawn("session", session),
        });
    }

    pub(super) async fn drain(&self) {
        let deadline = Instant::now() + self.shared.limits.drain_timeout.now();
        tracing::info!(sessions = self.shared.open.value(), "draining");
        self.shared.drain.set(Phase::Draining);
        let drained = timeout_at(deadline, self.all_ended()).await.is_ok();
        if !drained {
            tracing::warn!(
                sessions = self.shared.open.value(),
                "the drain's time is up: closing the sessions that are left"
            );
            self.shared.drain.set(Phase::Cut);
            let last = Instant::now() + PAUSE_MAX;
            let _ = timeout_at(last, self.all_ended()).await;
        }
    }

    async fn all_ended(&self) {
        while self.shared.open.value() > 0 {
            sleep(DRAIN_STEP).await;
        }
    }
}
