//! What looked different is looked at again beside the walk, which goes on meanwhile: on connections of its own, one
//! batch at a time. What became of it is taken in between two ranges, so that nobody else touches what a walk knows.
//! Refuses to move a cursor past what it looks at: it knows where the walk stood when it began.

use super::cursor::Cursor;
use super::rows::Suspect;
use super::settle::{Broke, Pair, Places, Settled, settle};
use super::walk::Walk;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// See the module.
pub(super) struct Batch<'a> {
    looking: Pin<Box<dyn Future<Output = Looked> + 'a>>,
    looked: Option<Looked>,
    behind: Option<Cursor>,
}

/// What became of a batch.
pub(super) struct Looked {
    /// The connections, where they are still good.
    pub(super) pair: Option<Pair>,
    /// What it was; or why not, and what is still to be looked at.
    pub(super) became: Result<Settled, (Broke, Vec<Suspect>)>,
    /// Where the walk stood when it began, if all before that is settled with it.
    pub(super) behind: Option<Cursor>,
}

impl<'a> Batch<'a> {
    /// Of these suspects, on these connections if there are some; it does nothing before it is waited for.
    pub(super) fn new(
        (walk, places): (&'a Walk<'a>, Places<'a>),
        suspects: Vec<Suspect>,
        pair: Option<Pair>,
        behind: Option<Cursor>,
    ) -> Self {
        Self {
            looking: Box::pin(look(walk, places, suspects, pair)),
            looked: None,
            behind,
        }
    }

    /// Does this, and looks meanwhile. Where it is dropped, the looking goes on when it is waited for again.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.look(context);
            work.as_mut().poll(context)
        })
        .await
    }

    /// Looks to the end. Cancel-safe.
    pub(super) async fn looks_on(&mut self) {
        poll_fn(|context| {
            self.look(context);
            if self.looked.is_some() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn look(&mut self, context: &mut Context<'_>) {
        if self.looked.is_none()
            && let Poll::Ready(looked) = self.looking.as_mut().poll(context)
        {
            self.looked = Some(looked);
        }
    }

    /// What became of it, once; none where it is still under way.
    pub(super) fn outcome(&mut self) -> Option<Looked> {
        let looked = self.looked.take()?;
        Some(Looked {
            behind: self.behind.take(),
            ..looked
        })
    }
}

async fn look<'a>(
    walk: &'a Walk<'a>,
    places: Places<'a>,
    suspects: Vec<Suspect>,
    pair: Option<Pair>,
) -> Looked {
    let (gate, at_most) = (walk.gate, walk.limits.settle);
    let looking = async {
        let mut pair = match pair {
            Some(pair) => pair,
            None => walk.pair().await?,
        };
        let settled = settle(&mut pair, &places, gate, suspects.clone(), at_most).await?;
        Ok((pair, settled))
    };
    let (pair, became) = match looking.await {
        Ok((pair, settled)) => (Some(pair), Ok(settled)),
        Err(broke) => (None, Err((broke, suspects))),
    };
    Looked {
        pair,
        became,
        behind: None,
    }
}
