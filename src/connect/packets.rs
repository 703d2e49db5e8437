//! Packets one at a time, for the connection phase: never a byte further than the packet, so that
//! TLS or the command phase can begin right behind it.

use super::Stream;
use crate::wire::{HEADER_LEN, Header};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

/// The longest packet that a login may hold: a login's attributes are at most 64 KiB, an
/// authentication plugin's packets far less.
pub(crate) const LOGIN_PACKET_MAX: usize = 256 << 10;

/// A packet as it came, header included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packet(Vec<u8>);

impl Packet {
    /// A packet of our own. The payload must fit one chunk.
    pub(crate) fn new(seq: u8, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_LEN.saturating_add(payload.len()));
        crate::wire::packet::write_packet(&mut bytes, seq, payload);
        Self(bytes)
    }

    /// A packet that is encoded already.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.0.get(HEADER_LEN..).unwrap_or_default()
    }

    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        self.0.get_mut(HEADER_LEN..).unwrap_or_default()
    }

    pub(crate) fn first(&self) -> Option<u8> {
        self.payload().first().copied()
    }

    pub(crate) fn seq(&self) -> u8 {
        self.0.get(3).copied().unwrap_or_default()
    }

    /// Adds to the sequence number, where two legs count differently.
    pub(crate) fn shift(&mut self, by: u8) {
        if let Some(seq) = self.0.get_mut(3) {
            *seq = seq.wrapping_add(by);
        }
    }
}

/// Reads packets from one leg.
#[derive(Debug, Default)]
pub(crate) struct PacketReader {
    /// What another reader has read ahead of this one; taken first.
    ahead: Vec<u8>,
    taken: usize,
    packet: Vec<u8>,
}

impl PacketReader {
    /// A reader that takes what was read ahead before it reads on.
    pub(crate) fn with_ahead(ahead: Vec<u8>) -> Self {
        Self {
            ahead,
            ..Self::default()
        }
    }

    /// What was read and not returned as a packet.
    pub(crate) fn into_ahead(self) -> Vec<u8> {
        let mut ahead = self.packet;
        ahead.extend_from_slice(self.ahead.get(self.taken..).unwrap_or_default());
        ahead
    }

    /// The next packet. `UnexpectedEof` where the peer leaves; `InvalidData` for one longer than
    /// a login's can be.
    ///
    /// Cancel-safe: what has been read stays in the reader.
    pub(crate) async fn read(&mut self, stream: &mut Stream) -> io::Result<Packet> {
        poll_fn(|context| self.poll(stream, context)).await
    }

    /// Reads up to the next packet's header and says its sequence number; the packet is still to
    /// be read.
    pub(crate) fn poll_seq(
        &mut self,
        stream: &mut Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<u8>> {
        loop {
            if let Some(header) = self.packet.first_chunk::<HEADER_LEN>() {
                return Poll::Ready(Ok(Header::parse(*header).seq));
            }
            let missing = HEADER_LEN.saturating_sub(self.packet.len());
            ready!(self.poll_more(stream, context, missing))?;
        }
    }

    /// [`PacketReader::read`] as a poll.
    pub(crate) fn poll(
        &mut self,
        stream: &mut Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Packet>> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                return Poll::Ready(Ok(Packet(std::mem::take(&mut self.packet))));
            }
            ready!(self.poll_more(stream, context, missing))?;
        }
    }

    /// Bytes that are certainly still missing.
    fn missing(&self) -> io::Result<usize> {
        let Some(header) = self.packet.first_chunk::<HEADER_LEN>() else {
            return Ok(HEADER_LEN.saturating_sub(self.packet.len()));
        };
        let len = usize::try_from(Header::parse(*header).len).unwrap_or(usize::MAX);
        if len > LOGIN_PACKET_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a packet of the login is longer than any login's",
            ));
        }
        Ok(len
            .saturating_add(HEADER_LEN)
            .saturating_sub(self.packet.len()))
    }

    fn poll_more(
        &mut self,
        stream: &mut Stream,
        context: &mut Context<'_>,
        missing: usize,
    ) -> Poll<io::Result<()>> {
        let ahead = self.ahead.get(self.taken..).unwrap_or_default();
        if !ahead.is_empty() {
            let now = ahead.get(..missing).unwrap_or(ahead);
            self.packet.extend_from_slice(now);
            self.taken = self.taken.saturating_add(now.len());
            return Poll::Ready(Ok(()));
        }
        let mut space = [0; 1024];
        let mut buffer = ReadBuf::new(&mut space);
        let mut limited = buffer.take(missing);
        ready!(Pin::new(stream).poll_read(context, &mut limited))?;
        let filled = limited.filled().len();
        if filled == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.packet
            .extend_from_slice(space.get(..filled).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

/// Writes a packet whole.
pub(crate) async fn write(stream: &mut Stream, packet: &Packet) -> io::Result<()> {
    stream.write_all(packet.bytes()).await?;
    stream.flush().await
}
