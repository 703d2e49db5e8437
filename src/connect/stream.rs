//! One type for every leg: plain TCP, TLS over it, or memory in the simulation.

use super::direct;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A leg of a connection.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP, either side's.
    Tls(Box<TlsStream<TcpStream>>),
    /// Memory, in tests and in the simulation.
    Memory(DuplexStream),
}

/// After this much silence a leg is probed, so that a peer that is gone does not stay for ever.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

impl Stream {
    /// A TCP leg with NODELAY and keepalive.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY)
            .with_retries(KEEPALIVE_PROBES);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Self::Tcp(stream))
    }

    /// A leg that is gone: a read finds its end, a write fails. It stands where another leg stood
    /// that was given away.
    #[must_use]
    pub fn gone() -> Self {
        let (near, _) = tokio::io::duplex(1);
        Self::Memory(near)
    }

    /// Makes the leg known to the current thread's runtime, and to no other any more: one that was
    /// opened elsewhere would wake this thread's task from there, for each of its bytes.
    ///
    /// # Errors
    /// No descriptor is left for the moment of the change; the leg is as good as before.
    pub fn come_home(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => *stream = known_here(stream)?,
            Self::Tls(stream) => {
                let (stream, _) = stream.get_mut();
                *stream = known_here(stream)?;
            }
            Self::Memory(_) => {}
        }
        Ok(())
    }

    /// Whether the leg is TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether a read may bring something. Plain TCP answers from the socket's readiness, without
    /// a system call and before any buffer is needed; the others say yes, and a read finds out.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Tls(_) | Self::Memory(_) => Poll::Ready(Ok(())),
        }
    }
}

/// The same connection, by another descriptor.
fn known_here(stream: &TcpStream) -> io::Result<TcpStream> {
    let again = SockRef::from(stream).try_clone()?;
    TcpStream::from_std(again.into())
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
            Stream::Memory(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Self::Tcp(stream) = &*self {
            return direct::poll_read(stream, context, buffer);
        }
        each!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Self::Tcp(stream) = &*self {
            return direct::poll_write(stream, context, bytes);
        }
        each!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }
}
