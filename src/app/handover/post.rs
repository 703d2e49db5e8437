//! Letters over a Unix socket, and the listeners that go with one of them.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The longest letter: what was written, in four thousand tables with long names.
const LETTER_MAX: usize = 2 << 20;

/// Listeners that go with a letter.
pub(super) const DOORS_MAX: usize = 3;

const PIECE: usize = 4096;

/// One end of the talk.
#[derive(Debug)]
pub(super) struct Post {
    stream: UnixStream,
    /// What came and is no whole letter yet.
    came: Vec<u8>,
    /// Listeners that came.
    doors: Vec<OwnedFd>,
}

impl Post {
    pub(super) const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            came: Vec::new(),
            doors: Vec::new(),
        }
    }

    /// Whether the other end is this user's own. Root may, too.
    pub(super) fn is_trusted(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
    }

    /// The number of the process at the other end; 0 where the system does not tell.
    pub(super) fn process(&self) -> u32 {
        let peer = self.stream.peer_cred().ok();
        let process = peer.and_then(|peer| peer.pid());
        process.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
    }

    /// The next letter; `None` once the other end is gone.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, or what came is no letter.
    pub(super) async fn read<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(end) = self.came.iter().position(|byte| *byte == b'\n') {
                let letter: Vec<u8> = self.came.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&letter)?));
            }
            if self.came.len() > LETTER_MAX {
                return Err(io::Error::other("a letter without an end"));
            }
            let (stream, came, doors) = (&self.stream, &mut self.came, &mut self.doors);
            let got = stream
                .async_io(Interest::READABLE, || receive(stream, came, doors))
                .await?;
            if got == 0 {
                return Ok(None);
            }
        }
    }

    /// The same within a time.
    ///
    /// # Errors
    /// As [`Post::read`], and where nothing came in time.
    pub(super) async fn read_within<T: DeserializeOwned>(
        &mut self,
        time: Duration,
    ) -> io::Result<Option<T>> {
        let read = tokio::time::timeout(time, self.read()).await;
        read.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    /// Sends a letter, and listeners with it, within a time.
    ///
    /// # Errors
    /// It was not sent, or not all of it.
    pub(super) async fn send(
        &mut self,
        letter: &impl Serialize,
        doors: &[BorrowedFd<'_>],
        time: Duration,
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(letter)?;
        line.push(b'\n');
        let sent = tokio::time::timeout(time, self.send_all(&line, doors)).await;
        sent.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    async fn send_all(&mut self, line: &[u8], doors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let (stream, mut rest, mut doors) = (&self.stream, line, doors);
        while !rest.is_empty() {
            let sent = stream
                .async_io(Interest::WRITABLE, || give(stream, rest, doors))
                .await?;
            // They went with the first byte.
            doors = &[];
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends a letter now, or not at all: of those that say the same again and again none is missed. Short ones alone
    /// go as a whole.
    pub(super) fn drop_in(&self, letter: &impl Serialize) {
        let Ok(mut line) = serde_json::to_vec(letter) else {
            return;
        };
        line.push(b'\n');
        let stream = &self.stream;
        let _full_or_gone = stream.try_io(Interest::WRITABLE, || give(stream, &line, &[]));
    }

    /// The listeners that came so far.
    pub(super) fn doors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.doors)
    }
}

fn receive(stream: &UnixStream, came: &mut Vec<u8>, doors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut piece = [0; PIECE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DOORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(&mut piece)];
    let got = recvmsg(stream, &mut pieces, &mut control, closed_on_exec())?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(given) = message {
            doors.extend(given);
        }
    }
    // More than there may be close here.
    doors.truncate(DOORS_MAX);
    came.extend_from_slice(piece.get(..got.bytes).unwrap_or_default());
    Ok(got.bytes)
}

fn give(stream: &UnixStream, line: &[u8], doors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DOORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !doors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(doors)) {
        return Err(io::Error::other("too many listeners"));
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(line)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}

/// A hook's process has no use for them.
#[cfg(target_os = "linux")]
const fn closed_on_exec() -> RecvFlags {
    RecvFlags::CMSG_CLOEXEC
}

#[cfg(not(target_os = "linux"))]
const fn closed_on_exec() -> RecvFlags {
    RecvFlags::empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn letters_come_whole_and_in_order_and_listeners_with_them() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut one, mut other) = (Post::new(one), Post::new(other));
        assert!(one.is_trusted() && other.is_trusted());
        let doors: Vec<TcpListener> = (0..DOORS_MAX)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        // More than the socket takes at once.
        let long = "x".repeat(1 << 20);
        let sends = async {
            one.send(&"first", &[], SOON).await.unwrap();
            let given: Vec<BorrowedFd<'_>> = doors.iter().map(AsFd::as_fd).collect();
            one.send(&long, &given, SOON).await.unwrap();
            one.send(&7, &[], SOON).await.unwrap();
        };
        let reads = async {
            assert_eq!(other.read::<String>().await.unwrap().unwrap(), "first");
            let read = other.read::<String>().await.unwrap().unwrap();
            assert!(read == long, "it came whole");
            assert_eq!(other.read_within::<u32>(SOON).await.unwrap(), Some(7));
        };
        tokio::join!(sends, reads);
        let came = other.doors().into_iter().map(TcpListener::from);
        let at = |door: TcpListener| door.local_addr().unwrap();
        let came: Vec<_> = came.map(at).collect();
        assert_eq!(came, doors.into_iter().map(at).collect::<Vec<_>>());
        drop(one);
        assert_eq!(other.read::<u32>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_letter_is_an_error_and_no_panic() {
        for wrong in [&b"{\n"[..], b"\n", b"\xff\xfe\n", b"{\"offer\":{}}\n"] {
            let (one, other) = UnixStream::pair().unwrap();
            one.try_write(wrong).unwrap();
            let read = Post::new(other)
                .read::<super::super::letters::FromOld>()
                .await;
            assert!(read.is_err(), "{wrong:?}");
        }
    }
}
