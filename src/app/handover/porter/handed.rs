//! The old process while its sessions go on and the new one serves who comes: should that one fail, this one serves
//! again. Not before it is dead: what it would go on to serve nobody mirrors.

use super::{PAUSE, Porter, Ready, SHORT};
use crate::app::handover::beat::Pulse;
use crate::app::handover::giving::{Order, Stand};
use crate::app::handover::letters::{FromNew, FromOld};
use crate::app::handover::peer::Peer;
use crate::app::handover::post::Post;
use crate::task;
use std::io;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

/// Why it taints where the new process ended.
const LOST_HEIR: &str =
    "the process that had taken over ended, and what its clients wrote was not mirrored";

/// How a hand-over ended here.
pub(super) enum Left {
    /// The new process is gone: this one serves.
    Back,
    /// No session is left here, and the new process waits for the ledger.
    Closing(Talk),
    /// Nobody gives orders any more.
    Gone,
}

/// The talk with the process that has taken over.
pub(super) struct Talk {
    pub(super) post: Post,
    pub(super) peer: Peer,
    pub(super) pulse: Pulse,
    /// It was told to end, too.
    was_ended: bool,
}

impl Talk {
    /// Has it end, too; once. `listens`: it still waits for this one's last word, and hears what comes before.
    pub(super) async fn end(&mut self, told: &watch::Sender<Stand>, listens: bool) {
        told.send_modify(Stand::hurry);
        if std::mem::replace(&mut self.was_ended, true) {
            return;
        }
        if listens {
            let _it_ends_already = self.post.send(&FromOld::End, &[], SHORT).await;
        } else {
            self.peer.terminate();
        }
    }
}

impl Porter {
    /// The new process serves, to the end of this one, or to its own: then this one serves again.
    pub(super) async fn handed(
        &self,
        post: Post,
        ready: Ready,
        listener: &UnixListener,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Left {
        let Ready { token, peer, drain } = ready;
        let mut talk = Talk {
            post,
            peer,
            pulse: Pulse::new(),
            was_ended: false,
        };
        self.hand(&talk.peer, &token, drain);
        if let Err(error) = self.leave_to(&mut talk.post).await {
            // It has had no word by which it could serve anybody.
            talk.peer.kill();
            self.take_back();
            tracing::error!(
                "process {} was to take over, and did not hear so ({error}): it is ended, and this one goes on; no client of its is lost",
                talk.peer.process()
            );
            return Left::Back;
        }
        let mut was_killed = false;
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Close { if_handed, to }) => {
                        if !if_handed {
                            talk.end(&self.told, true).await;
                        }
                        let _ = to.send(true);
                        return Left::Closing(talk);
                    }
                    Some(Order::Ended(_, to) | Order::Gone(to)) => {
                        let _ = to.send(());
                    }
                    None => return Left::Gone,
                },
                said = talk.post.read::<FromNew>() => match said {
                    Ok(Some(FromNew::End)) => {
                        self.told.send_modify(Stand::hurry);
                    }
                    Ok(Some(FromNew::Hello(_) | FromNew::Ready | FromNew::Beat)) => talk.pulse.beats(),
                    // It has let the listener go by then.
                    Ok(None) | Err(_) if self.hurries() => return Left::Closing(talk),
                    Ok(None) => return self.lost(&talk),
                    Err(error) => {
                        was_killed = was_killed || ends(&talk, &format!("cannot be understood ({error})"));
                        sleep(PAUSE).await;
                    }
                },
                () = talk.pulse.stops(), if !self.hurries() => {
                    // Its end shows as any other's; one that cannot even end serves nobody.
                    if was_killed {
                        return self.lost(&talk);
                    }
                    was_killed = ends(&talk, "hangs");
                }
                came = listener.accept() => match came {
                    // It is not waited for: the orders are, and the new process' end.
                    Ok((stream, _)) => {
                        drop(task::spawn("refusal", refuse(stream, talk.peer.process())));
                    }
                    Err(_) => sleep(PAUSE).await,
                },
            }
        }
    }

    /// From here on the new process serves who comes.
    fn hand(&self, peer: &Peer, token: &str, drain: Duration) {
        let (estate, process) = (&self.estate, peer.process());
        estate.relay.set_accepts(false);
        estate.house.shadow_side().is_beside_an_heir(true);
        estate.house.set_heir(Some(process));
        estate.ledger.is_left_to(Some(token));
        estate.supervisor.hands_over(process);
        self.told.send_replace(Stand::Handed {
            heir: process,
            since: Instant::now(),
            drain,
            hurries: false,
        });
        let sessions = estate.relay.sessions().open;
        let most = estate.config.listen.handover_time.now().as_secs();
        tracing::info!(
            "process {process} has taken over; {sessions} sessions go on here until their clients end them, {most} s at most"
        );
    }

    /// Says so to the new process. What is switched here from now on is refused: what is switched now is the last word.
    async fn leave_to(&self, post: &mut Post) -> io::Result<()> {
        let estate = &self.estate;
        let control = estate.house.shadow_side().control();
        let yours = FromOld::Yours(control.switched(&estate.config.mirror));
        post.send(&yours, &[], SHORT).await
    }

    /// The new process has served, and is dead.
    fn lost(&self, talk: &Talk) -> Left {
        // Whoever has closed the connection is about to end at least.
        talk.peer.kill();
        self.estate.house.shadow_side().taint_all(LOST_HEIR);
        self.take_back();
        tracing::error!(
            "process {}, which had taken over, has ended: this one accepts clients again. What the other's clients wrote was not mirrored, so all tables count as tainted",
            talk.peer.process()
        );
        Left::Back
    }

    /// This one serves again.
    fn take_back(&self) {
        let estate = &self.estate;
        estate.relay.set_accepts(true);
        estate.supervisor.serves_again();
        estate.house.set_heir(None);
        estate.house.shadow_side().is_beside_an_heir(false);
        estate.ledger.is_left_to(None);
        self.rest_is_over();
        self.told.send_replace(Stand::Alone);
    }

    fn hurries(&self) -> bool {
        self.told.borrow().hurries()
    }
}

/// Ends a new process that is not fit to serve; whether it serves nobody from here on. Where it cannot be ended it may,
/// and this one does not serve beside it.
fn ends(talk: &Talk, what: &str) -> bool {
    tracing::error!(
        "process {}, which had taken over, {what}: it is ended, and this one serves again once it is",
        talk.peer.process()
    );
    talk.peer.kill()
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
