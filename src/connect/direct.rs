//! A plain TCP leg's bytes by one system call each, and as little around it as can be. HOT PATH.
//!
//! The runtime tells when a socket is ready; the call itself is made without the C library's
//! cancellation points. Fewer bytes than there was room for mean that the socket has no more, so that
//! nothing is asked again only to hear so.

use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

/// As [`tokio::io::AsyncRead::poll_read`].
pub(super) fn poll_read(
    stream: &TcpStream,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let space = buffer.initialize_unfilled();
    loop {
        ready!(stream.poll_read_ready(context))?;
        let read = once(stream, Interest::READABLE, space.len(), || {
            recv(stream, &mut *space, RecvFlags::empty()).map(|(read, _)| read)
        });
        if let Some(read) = read {
            buffer.advance(read?);
            return Poll::Ready(Ok(()));
        }
    }
}

/// As [`tokio::io::AsyncWrite::poll_write`].
pub(super) fn poll_write(
    stream: &TcpStream,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        let written = once(stream, Interest::WRITABLE, bytes.len(), || {
            send(stream, bytes, SendFlags::NOSIGNAL)
        });
        if let Some(written) = written {
            return Poll::Ready(written);
        }
    }
}

/// Makes a call on a socket that is said to be ready; `None` where it was not.
fn once(
    stream: &TcpStream,
    interest: Interest,
    whole: usize,
    call: impl FnOnce() -> rustix::io::Result<usize>,
) -> Option<io::Result<usize>> {
    let mut done = None;
    let told = stream.try_io(interest, || {
        let len = call()?;
        done = Some(len);
        if len > 0 && len < whole {
            // Not ready any more, as far as the runtime is concerned.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match (done, told) {
        (Some(len), _) => Some(Ok(len)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
        (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => None,
        (None, Err(error)) => Some(Err(error)),
        (None, Ok(())) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::connect::Stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// Much more than the sockets hold, so that both ends must wait for each other, again and again.
    #[tokio::test]
    async fn many_bytes_pass_whole_in_both_directions() {
        const LEN: usize = 20 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        let bytes: Vec<u8> = (0..=250).cycle().take(LEN).collect();
        let echo = async {
            let mut far = Stream::tcp(accepted.unwrap().0).unwrap();
            let mut buffer = vec![0; 70_000];
            loop {
                let read = far.read(&mut buffer).await.unwrap();
                if read == 0 {
                    break;
                }
                far.write_all(&buffer[..read]).await.unwrap();
            }
            far.shutdown().await.unwrap();
        };
        let near = Stream::tcp(dialled.unwrap()).unwrap();
        let (mut reader, mut writer) = tokio::io::split(near);
        let write = async {
            for piece in bytes.chunks(100_000) {
                writer.write_all(piece).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let (_, (), read) = tokio::join!(echo, write, reader.read_to_end(&mut back));
        read.unwrap();
        assert!(back == bytes);
    }

    #[tokio::test]
    async fn an_end_and_a_reset_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for resets in [false, true] {
            let dialled = TcpStream::connect(listener.local_addr().unwrap());
            let (dialled, accepted) = tokio::join!(dialled, listener.accept());
            let (near, far) = (dialled.unwrap(), accepted.unwrap().0);
            if resets {
                socket2::SockRef::from(&far)
                    .set_linger(Some(std::time::Duration::ZERO))
                    .unwrap();
            }
            drop(far);
            let read = Stream::tcp(near).unwrap().read(&mut [0; 10]).await;
            let told = read.map_err(|error| error.kind());
            let expected = if resets {
                Err(std::io::ErrorKind::ConnectionReset)
            } else {
                Ok(0)
            };
            assert_eq!(told, expected);
        }
    }
}
