//! The receiver's doze: while exchanges come, it looks for the next ones by itself from time to time,
//! so that the relay need not wake it for each, and they are taken in together.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// How long the receiver dozes before it looks again. It is what a dark command waits at most, and half
/// of that on average: little beside the order that it waits for anyway. Longer, and what comes in one
/// go would hold a processor for longer than a client likes to wait for it. A timer of the runtime's has
/// steps of a millisecond.
const DOZE: Duration = Duration::from_millis(1);

/// After so many in which nothing came it sleeps until it is rung for.
const EMPTY_MAX: u32 = 5;

/// Awake, dozing, or asleep.
#[derive(Debug, Default)]
pub(super) struct Doze {
    timer: Option<Pin<Box<Sleep>>>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing has come for long enough, if ever: it may sleep.
    #[default]
    Rested,
    /// It dozes before it sleeps; this was found empty so often.
    Awake(u32),
    /// The timer runs.
    Dozing(u32),
}

impl Doze {
    /// Something came.
    pub(super) fn is_awake(&mut self) {
        self.state = State::Awake(0);
    }

    /// Nothing has come. Pending: it dozes, and will look again; ready: it may sleep, once it has looked
    /// once more.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.state {
                State::Rested => return Poll::Ready(()),
                State::Awake(empty) => {
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(DOZE)));
                    timer.as_mut().reset(Instant::now() + DOZE);
                    self.state = State::Dozing(empty);
                }
                State::Dozing(empty) => {
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(DOZE)));
                    ready!(timer.as_mut().poll(context));
                    let empty = empty.saturating_add(1);
                    self.state = State::Awake(empty);
                    if empty >= EMPTY_MAX {
                        self.state = State::Rested;
                    }
                }
            }
        }
    }
}
