//! The receiver's doze: while exchanges come, it looks for the next ones by itself from time to time,
//! so that the relay need not wake it for each, and they are taken in together.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// How long the receiver dozes before it looks again; nothing may have come in all of it before it
/// sleeps until it is rung for. It is what a dark command waits at most, and half of that on
/// average: little beside the order that it waits for anyway. Longer, and what comes in one go would
/// hold a processor for longer than a client likes to wait for it. A timer of the runtime's has steps
/// of a millisecond.
const DOZE: Duration = Duration::from_millis(1);

/// Awake, dozing, or asleep.
#[derive(Debug, Default)]
pub(super) struct Doze {
    timer: Option<Pin<Box<Sleep>>>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing has come since it dozed, if it did: it may sleep.
    #[default]
    Rested,
    /// Something has come: it dozes before it sleeps.
    Awake,
    /// The timer runs.
    Dozing,
}

impl Doze {
    /// Something came.
    pub(super) fn is_awake(&mut self) {
        self.state = State::Awake;
    }

    /// Nothing has come: waits for a while where something came lately; ready where it has, so that
    /// the receiver may sleep. Looked at again before it does.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.state == State::Rested {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(DOZE)));
        if self.state == State::Awake {
            timer.as_mut().reset(Instant::now() + DOZE);
            self.state = State::Dozing;
        }
        ready!(timer.as_mut().poll(context));
        self.state = State::Rested;
        Poll::Ready(())
    }
}
