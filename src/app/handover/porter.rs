//! The old process' end of the talk: it listens beside the ledger, says what it hands over or why it does not, and hears
//! the new process to the end of either.

use super::beat::Pulse;
use super::giving::{Estate, Order, Stand};
use super::letters::{FromNew, FromOld, Hello, Offer};
use super::post::Post;
use super::{CATCH_UP, LETTER, kill};
use crate::admin::House;
use crate::app::FALL;
use crate::task;
use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Processes that ask at the same time.
const BACKLOG: i32 = 16;

/// A process that comes too late is told so within this time.
const SHORT: Duration = Duration::from_secs(1);

/// Why it taints where the new process ended.
const LOST_HEIR: &str =
    "the process that had taken over ended, and what its clients wrote was not mirrored";

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

/// How a hand-over ended here.
enum Left {
    /// The new process is gone: this one serves.
    Back,
    /// No session is left here, and the new process waits for the ledger.
    Closing(Post),
    /// Nobody gives orders any more.
    Gone,
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
                Ok(token) => match self.handed(post, &token, &listener, &mut orders).await {
                    Left::Back => {}
                    Left::Closing(post) => {
                        drop(listener);
                        return self.close(post, orders).await;
                    }
                    // The path is the new process' by now.
                    Left::Gone => return,
                },
            }
        }
        drop(listener);
        let _gone_already = std::fs::remove_file(&self.path);
    }

    /// Offers it all; the new process' token, once that is ready. Given up, [`Porter::rest_is_over`] takes it back.
    async fn offer(&self, post: &mut Post) -> Result<String, String> {
        let said = |error: io::Error| error.to_string();
        let hello = match post.read_within(LETTER).await.map_err(said)? {
            Some(FromNew::Hello(hello)) => hello,
            Some(FromNew::Ready | FromNew::Beat | FromNew::End) | None => {
                return Err("it said nothing".to_owned());
            }
        };
        if let Err(why) = self.may(&hello).await {
            let refused = FromOld::Refused(why.clone());
            post.send(&refused, &[], LETTER).await.map_err(said)?;
            return Err(why);
        }
        let token = token();
        let estate = &self.estate;
        let listen = &estate.config.listen;
        let ends = listen.handover_time.now() + listen.drain_timeout.now() + CATCH_UP + FALL;
        let doors = &estate.doors;
        let control = estate.house.shadow_side().control();
        let offer = FromOld::Offer(Offer {
            process: std::process::id(),
            primary: estate.roles.borrow().primary.name.clone(),
            dialect: estate.offer.now().0,
            token: token.clone(),
            ends_s: ends.as_secs(),
            console: doors.console.is_some(),
            supervised: estate.supervisor.is_there(),
            switched: control.switched(&estate.config.mirror),
        });
        let mut given: Vec<BorrowedFd<'_>> = vec![doors.clients.as_fd(), doors.admin.as_fd()];
        given.extend(doors.console.as_ref().map(AsFd::as_fd));
        post.send(&offer, &given, LETTER).await.map_err(said)?;
        match post.read_within(LETTER).await.map_err(said)? {
            Some(FromNew::Ready) => Ok(token),
            Some(FromNew::Hello(_) | FromNew::Beat | FromNew::End) => {
                Err("it said something else".to_owned())
            }
            None => Err("it ended before it could serve".to_owned()),
        }
    }

    /// Whether this process may hand over now; if so, it begins nothing that would be in the way.
    async fn may(&self, hello: &Hello) -> Result<(), String> {
        let estate = &self.estate;
        if let Some(why) = hello.is_wrong_for(&estate.config) {
            return Err(why);
        }
        if let Some(why) = is_the_container(std::process::id()) {
            return Err(why.to_owned());
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

    /// No cutover and no verification begins from here on.
    async fn rest(&self) -> Result<(), String> {
        if let Some(cutovers) = &self.estate.cutovers {
            cutovers.rest().await?;
        }
        match &self.estate.verifier {
            Some(verifier) => verifier.rest(),
            None => Ok(()),
        }
    }

    /// They may begin again.
    fn rest_is_over(&self) {
        if let Some(cutovers) = &self.estate.cutovers {
            cutovers.rest_is_over();
        }
        if let Some(verifier) = &self.estate.verifier {
            verifier.rest_is_over();
        }
    }

    /// The new process serves, to the end of this one, or to its own: then this one serves again.
    async fn handed(
        &self,
        mut post: Post,
        token: &str,
        listener: &UnixListener,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Left {
        self.hand(&post, token);
        // Where it does not hear that, its end is seen here.
        let _said = post.send(&FromOld::Yours, &[], SHORT).await;
        let (mut pulse, mut was_killed) = (Pulse::new(), false);
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Close { if_handed, to }) => {
                        if !if_handed {
                            self.hurry();
                            let _it_ends_already = post.send(&FromOld::End, &[], SHORT).await;
                        }
                        let _ = to.send(true);
                        return Left::Closing(post);
                    }
                    Some(Order::Ended(_, to) | Order::Gone(to)) => {
                        let _ = to.send(());
                    }
                    None => return Left::Gone,
                },
                said = post.read::<FromNew>() => match said {
                    Ok(Some(FromNew::End)) => self.hurry(),
                    Ok(Some(FromNew::Hello(_) | FromNew::Ready | FromNew::Beat)) => pulse.beats(),
                    // It has let the listener go by then.
                    Ok(None) | Err(_) if self.hurries() => return Left::Closing(post),
                    Ok(None) | Err(_) => {
                        self.take_back(post.process()).await;
                        return Left::Back;
                    }
                },
                () = pulse.stops(), if !self.hurries() => {
                    // Its end shows as any other's; one that cannot even end serves nobody.
                    if was_killed {
                        self.take_back(post.process()).await;
                        return Left::Back;
                    }
                    tracing::error!(
                        "process {}, which had taken over, hangs: it is ended, and this one serves again",
                        post.process()
                    );
                    kill(post.process());
                    was_killed = true;
                }
                came = listener.accept() => match came {
                    // It is not waited for: the orders are, and the new process' end.
                    Ok((stream, _)) => drop(task::spawn("refusal", refuse(stream, post.process()))),
                    Err(_) => sleep(PAUSE).await,
                },
            }
        }
    }

    /// No session is left: the rest of it is told, and the path is free for the new process. So are the listeners,
    /// should that one be replaced before this one has ended.
    async fn close(self, mut post: Post, mut orders: mpsc::Receiver<Order>) {
        let Self { estate, told, path } = self;
        let _gone_already = std::fs::remove_file(&path);
        drop(estate);
        let (mut is_there, mut was_told, mut waits) = (true, false, None::<oneshot::Sender<()>>);
        loop {
            let order = tokio::select! {
                biased;
                order = orders.recv() => order,
                said = post.read::<FromNew>(), if is_there => {
                    if matches!(said, Ok(Some(_))) {
                        continue;
                    }
                    is_there = false;
                    if let Some(to) = waits.take() {
                        let _ = to.send(());
                    }
                    // Behind this one's last word it ends when it is told to.
                    if !was_told {
                        told.send_replace(Stand::Bereft);
                        tracing::error!(
                            "process {}, which had taken over, has ended while this one was ending: nobody serves until the next start, for which this process makes way",
                            post.process()
                        );
                    }
                    continue;
                }
            };
            let Some(order) = order else { return };
            match order {
                Order::Close { to, .. } => {
                    let _ = to.send(true);
                }
                Order::Ended(written, to) => {
                    let ended = FromOld::Ended(written.into());
                    if is_there && let Err(error) = post.send(&ended, &[], LETTER).await {
                        tracing::error!(
                            "the process that has taken over does not hear that this one ends: {error}"
                        );
                    }
                    was_told = true;
                    let _ = to.send(());
                }
                Order::Gone(to) if is_there => waits = Some(to),
                Order::Gone(to) => {
                    let _ = to.send(());
                }
            }
        }
    }

    /// From here on the new process serves who comes.
    fn hand(&self, post: &Post, token: &str) {
        let (estate, process) = (&self.estate, post.process());
        estate.relay.set_accepts(false);
        estate.house.shadow_side().is_beside_an_heir(true);
        estate.house.set_heir(Some(process));
        estate.ledger.is_left_to(Some(token));
        estate.supervisor.hands_over(process);
        self.told.send_replace(Stand::Handed {
            heir: process,
            since: Instant::now(),
            hurries: false,
        });
        let sessions = estate.relay.sessions().open;
        let most = estate.config.listen.handover_time.now().as_secs();
        tracing::info!(
            "process {process} has taken over; {sessions} sessions go on here until their clients end them, {most} s at most"
        );
    }

    /// The new process has ended: this one serves again.
    async fn take_back(&self, process: u32) {
        let estate = &self.estate;
        estate.relay.set_accepts(true);
        estate.supervisor.serves_again();
        estate.house.set_heir(None);
        estate.house.shadow_side().is_beside_an_heir(false);
        estate.ledger.is_left_to(None);
        estate.house.shadow_side().taint_all(LOST_HEIR);
        self.rest_is_over();
        self.told.send_replace(Stand::Alone);
        tracing::error!(
            "process {process}, which had taken over, has ended: this one accepts clients again. What the other's clients wrote was not mirrored, so all tables count as tainted"
        );
    }

    fn hurries(&self) -> bool {
        matches!(*self.told.borrow(), Stand::Handed { hurries: true, .. })
    }

    fn hurry(&self) {
        self.told.send_modify(|stand| {
            if let Stand::Handed { hurries, .. } = stand {
                *hurries = true;
            }
        });
    }
}

/// Why a process of this number has no heir; none where it may have one.
pub(super) fn is_the_container(process: u32) -> Option<&'static str> {
    (process == 1).then_some(
        "it is process 1, whose end is its container's, and the new process' with it: start a second container beside this one, and stop this one (docs/upgrade.md)",
    )
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

/// Another process has come first.
async fn refuse(stream: UnixStream, first: u32) {
    let why = format!("process {first} has taken over already, and waits for this one's end");
    let mut post = Post::new(stream);
    if !post.is_trusted() {
        return;
    }
    let _hello = post.read_within::<FromNew>(SHORT).await;
    let _gone = post.send(&FromOld::Refused(why), &[], SHORT).await;
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

    #[test]
    fn the_process_whose_end_is_the_containers_has_no_heir() {
        assert!(is_the_container(1).is_some());
        assert!(is_the_container(2).is_none());
    }

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
