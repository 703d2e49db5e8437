//! The old process' end of the talk: it listens beside the ledger, says what it hands over or why it does not, and hears
//! the new process to the end of either.

mod closing;
mod handed;

use super::container::is_the_container;
use super::giving::{Estate, Order, Stand};
use super::letters::{self, FromNew, FromOld, Hello, Offer};
use super::peer::Peer;
use super::post::Post;
use super::{CATCH_UP, LETTER};
use crate::admin::House;
use crate::app::FALL;
use closing::Closing;
use handed::{Left, Talk};
use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Processes that ask at the same time.
const BACKLOG: i32 = 16;

/// A process that comes too late is told so within this time.
const SHORT: Duration = Duration::from_secs(1);

/// Listens at this path, which may be left from a process that is gone.
pub(super) async fn bind(path: &Path) -> io::Result<UnixListener> {
    let asked = tokio::time::timeout(SHORT, UnixStream::connect(path)).await;
    match asked {
        Err(_) | Ok(Ok(_)) => return Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            std::fs::remove_file(path)?;
        }
        Ok(Err(error)) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // What is bound with it is nobody else's from the first moment on.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))
}

/// The task.
pub(super) struct Porter {
    estate: Estate,
    told: watch::Sender<Stand>,
    path: PathBuf,
}

/// What came of an order while nobody has taken over.
enum Then {
    GoOn,
    Close,
}

/// A new process that can serve.
struct Ready {
    peer: Peer,
    /// By which the ledger knows it.
    token: String,
    /// Its sessions' drain, at most.
    drain: Duration,
}

impl Porter {
    /// `told` is what everybody else sees of it.
    pub(super) const fn new(estate: Estate, told: watch::Sender<Stand>, path: PathBuf) -> Self {
        Self { estate, told, path }
    }

    /// Listens until it is told to close, or until nobody gives orders any more.
    pub(super) async fn run(self, listener: UnixListener, mut orders: mpsc::Receiver<Order>) {
        loop {
            let came = tokio::select! {
                order = orders.recv() => match alone(order) {
                    Then::GoOn => continue,
                    Then::Close => break,
                },
                came = listener.accept() => came,
            };
            let Ok((stream, _)) = came else {
                sleep(PAUSE).await;
                continue;
            };
            let mut post = Post::new(stream);
            if !post.is_trusted() {
                tracing::warn!(
                    "another user's process asked this one to hand over, and was sent away"
                );
                continue;
            }
            let offered = tokio::select! {
                offered = self.offer(&mut post) => offered,
                order = orders.recv() => {
                    self.rest_is_over();
                    match alone(order) {
                        Then::GoOn => continue,
                        Then::Close => break,
                    }
                }
            };
            match offered {
                Err(why) => {
                    self.rest_is_over();
                    tracing::warn!(
                        "process {} was not handed over to: {why}; this one goes on",
                        post.process()
                    );
                }
                Ok(ready) => match self.handed(post, ready, &listener, &mut orders).await {
                    Left::Back => {}
                    Left::Closing(talk) => {
                        drop(listener);
                        return self.close(talk, orders).await;
                    }
                    // The path is the new process' by now.
                    Left::Gone => return,
                },
            }
        }
        drop(listener);
        let _gone_already = std::fs::remove_file(&self.path);
    }

    /// Offers it all, and returns once the new process can serve. Given up, [`Porter::rest_is_over`] takes it back.
    async fn offer(&self, post: &mut Post) -> Result<Ready, String> {
        let said = |error: io::Error| error.to_string();
        let hello = match post.read_within(LETTER).await.map_err(said)? {
            Some(FromNew::Hello(hello)) => hello,
            Some(FromNew::Ready | FromNew::Beat | FromNew::End) | None => {
                return Err("it said nothing".to_owned());
            }
        };
        let peer = Peer::new(post.process());
        if let Err(why) = self.may(&hello, &peer).await {
            let refused = FromOld::Refused(why.clone());
            post.send(&refused, &[], LETTER).await.map_err(said)?;
            return Err(why);
        }
        let token = token();
        let estate = &self.estate;
        let listen = &estate.config.listen;
        let drain = listen.drain_timeout.now();
        let ends = listen.handover_time.now() + drain + CATCH_UP + FALL;
        let doors = &estate.doors;
        let offer = FromOld::Offer(Offer {
            process: std::process::id(),
            primary: estate.roles.borrow().primary.name.clone(),
            dialect: estate.offer.now().0,
            token: token.clone(),
            ends_s: ends.as_secs(),
            console: doors.console.is_some(),
            supervised: estate.supervisor.is_there(),
            drain_s: drain.as_secs(),
        });
        let mut given: Vec<BorrowedFd<'_>> = vec![doors.clients.as_fd(), doors.admin.as_fd()];
        given.extend(doors.console.as_ref().map(AsFd::as_fd));
        post.send(&offer, &given, LETTER).await.map_err(said)?;
        match post.read_within(LETTER).await.map_err(said)? {
            Some(FromNew::Ready) => Ok(Ready {
                peer,
                token,
                drain: letters::drain(hello.drain_s),
            }),
            Some(FromNew::Hello(_) | FromNew::Beat | FromNew::End) => {
                Err("it said something else".to_owned())
            }
            None => Err("it ended before it could serve".to_owned()),
        }
    }

    /// Whether this process may hand over now; if so, it begins nothing that would be in the way.
    async fn may(&self, hello: &Hello, peer: &Peer) -> Result<(), String> {
        let estate = &self.estate;
        if let Some(why) = hello.is_wrong_for(&estate.config) {
            return Err(why);
        }
        if let Some(why) = is_the_container() {
            return Err(why.to_owned());
        }
        if !peer.is_in_reach() {
            return Err("the new process has no number here, so it could not be ended should it hang: start it where this one runs, and not in another container".to_owned());
        }
        let ready = estate.house.ready();
        if ready.draining {
            return Err("it drains, and ends".to_owned());
        }
        if !ready.is_ready() {
            return Err("it is not ready itself: the primary has not answered yet".to_owned());
        }
        if estate.cutovers.is_none() || !estate.ledger.is_kept() {
            return Err("it serves without a ledger: that takes a restart".to_owned());
        }
        let behind = estate.house.mirror().oldest;
        if behind > CATCH_UP {
            return Err(format!(
                "its mirror is {} s behind, and what waits there would be lost: wait until it has caught up (understudy status), or pause it",
                behind.as_secs()
            ));
        }
        self.rest().await
    }

    /// From here on no cutover and no verification begins, and what holds of the config is what is offered.
    async fn rest(&self) -> Result<(), String> {
        let estate = &self.estate;
        estate.house.set_reload_rests(true);
        if let Some(cutovers) = &estate.cutovers {
            cutovers.rest().await?;
        }
        match &estate.verifier {
            Some(verifier) => verifier.rest(),
            None => Ok(()),
        }
    }

    /// All of that may be again.
    fn rest_is_over(&self) {
        let estate = &self.estate;
        if let Some(cutovers) = &estate.cutovers {
            cutovers.rest_is_over();
        }
        if let Some(verifier) = &estate.verifier {
            verifier.rest_is_over();
        }
        estate.house.set_reload_rests(false);
    }

    /// No session is left: the path is free for the new process. So are the listeners, should that one be replaced
    /// before this one has ended.
    async fn close(self, talk: Talk, orders: mpsc::Receiver<Order>) {
        let Self { estate, told, path } = self;
        let _gone_already = std::fs::remove_file(&path);
        drop(estate);
        Closing::new(talk, told).run(orders).await;
    }
}

/// An order while nobody has taken over.
fn alone(order: Option<Order>) -> Then {
    match order {
        Some(Order::Close {
            if_handed: true,
            to,
        }) => {
            let _ = to.send(false);
            Then::GoOn
        }
        Some(Order::Close { to, .. }) => {
            let _ = to.send(false);
            Then::Close
        }
        Some(Order::Ended(_, to) | Order::Gone(to)) => {
            let _ = to.send(());
            Then::GoOn
        }
        None => Then::Close,
    }
}

/// What no other process has. It is no secret.
fn token() -> String {
    let now = jiff::Timestamp::now().as_microsecond();
    format!("{:x}-{now:x}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_path_that_is_left_is_taken_and_one_that_is_used_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("handover");
        let first = bind(&path).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let kind = bind(&path).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind(&path).await.unwrap());
        // What is no socket is somebody's.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        bind(&path).await.unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
