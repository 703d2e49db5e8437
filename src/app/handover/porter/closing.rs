//! The old process when no session is left in it: the path is free for the new one, which is told what was written.
//! Should that one end, or hang, before this one has, nobody serves: then this one makes way for the next start.

use super::Talk;
use crate::app::handover::LETTER;
use crate::app::handover::giving::{Order, Stand};
use crate::app::handover::letters::{FromNew, FromOld};
use crate::shadow::Written;
use tokio::sync::{mpsc, oneshot, watch};

/// See the module.
pub(super) struct Closing {
    talk: Talk,
    told: watch::Sender<Stand>,
    is_there: bool,
    /// It has heard what was written, and says nothing more itself: it ends when it is told to.
    was_told: bool,
    waits: Option<oneshot::Sender<()>>,
}

impl Closing {
    pub(super) const fn new(talk: Talk, told: watch::Sender<Stand>) -> Self {
        Self {
            talk,
            told,
            is_there: true,
            was_told: false,
            waits: None,
        }
    }

    /// Until nobody gives orders any more.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let is_watched = self.is_there && !self.was_told;
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                said = self.talk.post.read::<FromNew>(), if self.is_there => match said {
                    Ok(Some(FromNew::End)) => self.told.send_modify(Stand::hurry),
                    Ok(Some(FromNew::Hello(_) | FromNew::Ready | FromNew::Beat)) => self.talk.pulse.beats(),
                    Ok(None) | Err(_) => self.has_gone(),
                },
                () = self.talk.pulse.stops(), if is_watched => {
                    tracing::error!(
                        "process {}, which had taken over, hangs while this one is ending: it is ended",
                        self.talk.peer.process()
                    );
                    // Its end shows as any other's.
                    self.talk.peer.kill();
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Close { if_handed, to } => {
                if !if_handed && self.is_there {
                    self.talk.end(&self.told, !self.was_told).await;
                }
                let _ = to.send(true);
            }
            Order::Ended(written, to) => {
                self.tell(written).await;
                let _ = to.send(());
            }
            Order::Gone(to) if self.is_there => self.waits = Some(to),
            Order::Gone(to) => {
                let _ = to.send(());
            }
        }
    }

    async fn tell(&mut self, written: Written) {
        let ended = FromOld::Ended(written.into());
        if self.is_there
            && let Err(error) = self.talk.post.send(&ended, &[], LETTER).await
        {
            tracing::error!(
                "process {}, which has taken over, does not hear that this one ends: {error}",
                self.talk.peer.process()
            );
        }
        self.was_told = true;
    }

    fn has_gone(&mut self) {
        self.is_there = false;
        if let Some(to) = self.waits.take() {
            let _ = to.send(());
        }
        // Behind this one's last word it ends when it is told to.
        if !self.was_told {
            self.told.send_replace(Stand::Bereft);
            tracing::error!(
                "process {}, which had taken over, has ended while this one was ending: nobody serves until the next start, for which this process makes way",
                self.talk.peer.process()
            );
        }
    }
}
