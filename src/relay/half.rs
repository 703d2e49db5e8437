//! One direction's bytes: read, looked at, written. HOT PATH.
//!
//! What was read is written before more is read, so a slow reader slows its writer and memory
//! stays at one buffer. A buffer is held only while bytes are in it.

use super::buffer;
use crate::connect::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `written <= cleared <= read`, all within the buffer.
#[derive(Debug, Default)]
pub(super) struct Half {
    buffer: Option<Box<[u8]>>,
    written: usize,
    cleared: usize,
    read: usize,
    unflushed: bool,
    /// What was read and not let go waits for what comes behind it.
    partial: bool,
    /// Bytes written since the beginning.
    moved: u64,
    /// Whether the reading end has ended.
    ended: bool,
}

impl Half {
    /// Whether the reading end has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes written since the beginning.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_none() && !self.unflushed
    }

    /// Whether more may be read: nothing is on its way, or what is left waits for more.
    pub(super) fn may_fill(&self) -> bool {
        self.is_empty() || (self.partial && self.is_settled())
    }

    /// Whether all that was let go has been written, to the last byte.
    pub(super) fn is_settled(&self) -> bool {
        self.written == self.cleared && !self.unflushed
    }

    /// What was read and not looked at.
    pub(super) fn unseen(&self) -> &[u8] {
        let buffer = self.buffer.as_deref().unwrap_or_default();
        buffer.get(self.cleared..self.read).unwrap_or_default()
    }

    /// [`Half::unseen`], to be changed in place.
    pub(super) fn unseen_mut(&mut self) -> &mut [u8] {
        let buffer = self.buffer.as_deref_mut().unwrap_or_default();
        buffer.get_mut(self.cleared..self.read).unwrap_or_default()
    }

    /// What is left cannot be let go before more has come: a few bytes, never a buffer full.
    pub(super) fn wait_for_more(&mut self) {
        self.partial = true;
    }

    /// Lets the next `len` bytes go.
    pub(super) fn clear(&mut self, len: usize) {
        self.cleared = self.cleared.saturating_add(len).min(self.read);
    }

    /// Lets all bytes go.
    pub(super) fn clear_all(&mut self) {
        self.cleared = self.read;
    }

    /// Reads once; only while nothing is on its way, or behind what waits for more. Zero bytes are
    /// the end.
    pub(super) fn poll_fill(
        &mut self,
        from: &mut Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready!(from.poll_readable(context))?;
        let mut buffer = self.buffer.take().unwrap_or_else(buffer::borrow);
        let kept = self.read.saturating_sub(self.cleared);
        if kept > 0 {
            buffer.copy_within(self.cleared..self.read, 0);
        }
        let mut space = ReadBuf::new(&mut buffer);
        space.set_filled(kept);
        let polled = Pin::new(from).poll_read(context, &mut space);
        let read = space.filled().len();
        (self.written, self.cleared, self.read) = (0, 0, read);
        if read == kept {
            if kept == 0 {
                buffer::give_back(buffer);
            } else {
                self.buffer = Some(buffer);
            }
            ready!(polled)?;
            self.ended = true;
            return Poll::Ready(Ok(0));
        }
        self.buffer = Some(buffer);
        self.partial = false;
        Poll::Ready(Ok(read.saturating_sub(kept)))
    }

    /// Writes what is cleared, and flushes it.
    pub(super) fn poll_drain(
        &mut self,
        to: &mut Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.cleared {
            let buffer = self.buffer.as_deref().unwrap_or_default();
            let bytes = buffer.get(self.written..self.cleared).unwrap_or_default();
            let len = ready!(Pin::new(&mut *to).poll_write(context, bytes))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = self.written.saturating_add(len);
            self.moved = self.moved.saturating_add(len as u64);
            self.unflushed = true;
        }
        if self.written == self.read {
            self.release();
        }
        if self.unflushed {
            // Nothing to do for TCP; TLS may still hold what it has encrypted.
            ready!(Pin::new(to).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes out what was read and not let go.
    pub(super) fn take_unseen(&mut self) -> Vec<u8> {
        let unseen = self.unseen().to_vec();
        self.read = self.cleared;
        if self.written == self.read {
            self.release();
        }
        unseen
    }

    /// Puts bytes in: those taken out before, or a packet of our own. Only while nothing is on
    /// its way. What a login read ahead may be longer than a buffer, and gets one of its own.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut buffer = self.buffer.take().unwrap_or_else(buffer::borrow);
        match buffer.get_mut(..bytes.len()) {
            Some(space) => space.copy_from_slice(bytes),
            None => buffer = bytes.into(),
        }
        (self.written, self.cleared, self.read) = (0, 0, bytes.len());
        self.buffer = Some(buffer);
    }

    /// Loses the last byte: the bug that the simulation must catch.
    #[cfg(feature = "simulation")]
    pub(super) fn drop_byte(&mut self) {
        self.read = self.read.saturating_sub(1).max(1);
        self.cleared = self.cleared.min(self.read);
    }

    fn release(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            buffer::give_back(buffer);
        }
        (self.written, self.cleared, self.read) = (0, 0, 0);
        self.partial = false;
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.release();
    }
}
