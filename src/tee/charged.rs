//! An exchange on its way from the relay to the shadow side: one allocation that comes back.
//!
//! The relay fills it while the command and its answer pass by, the shadow side drops it, and then
//! it lies ready for the next command with all the buffers that it has grown. In the steady state
//! neither side allocates.

use super::door::Door;
use super::{Exchange, Facts};
use crate::wire::answer::{Answer, Outcome};
use std::sync::Arc;
use tokio::time::Instant;

/// One whose buffers have grown beyond this, together, is not kept.
pub(super) const KEPT_BYTES_MAX: usize = 16 << 10;

/// An exchange and its share of the budget, given back when this is dropped.
#[derive(Debug)]
pub struct Charged {
    /// Taken out by the drop alone.
    parcel: Option<Box<Parcel>>,
}

/// What comes and goes as one.
#[derive(Debug)]
pub(super) struct Parcel {
    exchange: Exchange,
    /// Charged to the budget, and to the session's share of it.
    bytes: u64,
    /// The door by which it goes; none knows of an exchange that is free.
    door: Option<Arc<Door>>,
    /// A copy, no larger than it is: not worth keeping.
    is_copy: bool,
}

impl Charged {
    /// An exchange that no budget knows, for tests and for what never came through the door.
    #[must_use]
    pub fn free(exchange: Exchange) -> Self {
        Self::of(Parcel {
            exchange,
            bytes: 0,
            door: None,
            is_copy: false,
        })
    }

    /// An empty one for a session's next command, to be handed by this door.
    pub(super) fn blank(door: &Arc<Door>, facts: &Arc<Facts>) -> Self {
        if let Some(mut parcel) = door.kept() {
            if !Arc::ptr_eq(&parcel.exchange.facts, facts) {
                parcel.exchange.facts = Arc::clone(facts);
            }
            return Self {
                parcel: Some(parcel),
            };
        }
        Self::of(Parcel {
            exchange: empty(Arc::clone(facts)),
            bytes: 0,
            door: Some(Arc::clone(door)),
            is_copy: false,
        })
    }

    fn of(parcel: Parcel) -> Self {
        Self {
            parcel: Some(Box::new(parcel)),
        }
    }

    #[expect(clippy::expect_used, reason = "only the drop takes it out")]
    fn parcel(&self) -> &Parcel {
        self.parcel.as_deref().expect("a parcel until the drop")
    }

    #[expect(clippy::expect_used, reason = "only the drop takes it out")]
    fn parcel_mut(&mut self) -> &mut Parcel {
        self.parcel.as_deref_mut().expect("a parcel until the drop")
    }

    /// Bytes charged to the budget.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parcel().bytes
    }

    /// So much is charged from here on.
    pub(super) fn is_charged(&mut self, bytes: u64) {
        self.parcel_mut().bytes = bytes;
    }

    /// Lets the answer's sample go and gives its bytes back. The digests stay.
    pub fn shed_sample(&mut self) {
        let parcel = self.parcel_mut();
        let freed = shed_sample(&mut parcel.exchange);
        parcel.give_back(freed);
    }

    /// For one that is to lie somewhere: it moves to an allocation of its own, no larger than it is, and
    /// the one that it came in is ready for the relay's next command. What it needs less is given back.
    /// One that would not be kept stays as it is.
    #[must_use]
    pub fn put_aside(mut self) -> Self {
        if self.parcel().is_copy || self.parcel().exchange.grown() > KEPT_BYTES_MAX {
            return self;
        }
        let parcel = self.parcel_mut();
        let mut aside = Self::of(Parcel {
            exchange: parcel.exchange.clone(),
            bytes: std::mem::take(&mut parcel.bytes),
            door: parcel.door.clone(),
            is_copy: true,
        });
        let less = aside.bytes().saturating_sub(aside.cost());
        aside.parcel_mut().give_back(less);
        aside
    }

    /// What it holds in memory, in bytes.
    pub(super) fn cost(&self) -> u64 {
        let exchange = &self.parcel().exchange;
        let texts: usize = exchange.answer.results.iter().map(text_bytes).sum();
        [
            size_of::<Parcel>(),
            exchange.command.capacity(),
            exchange.answer.sample.capacity(),
            results_bytes(&exchange.answer),
            texts,
        ]
        .iter()
        .fold(0, |sum, part| sum.saturating_add(*part as u64))
    }
}

impl Parcel {
    fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(door) = self.door.as_ref().filter(|_| bytes > 0) {
            door.budget.give_back(&self.exchange.facts.share, bytes);
        }
    }

    /// Empties it; whether it is worth keeping.
    fn empty(&mut self) -> bool {
        let grown = self.exchange.grown();
        self.exchange.command.clear();
        self.exchange.answer.clear();
        grown <= KEPT_BYTES_MAX && !self.is_copy
    }
}

impl Exchange {
    /// What its buffers have grown to, together, in bytes.
    fn grown(&self) -> usize {
        let Self {
            command, answer, ..
        } = self;
        command
            .capacity()
            .saturating_add(answer.sample.capacity())
            .saturating_add(results_bytes(answer))
    }
}

/// Frees the sample and says how many bytes that were.
pub(super) fn shed_sample(exchange: &mut Exchange) -> u64 {
    let freed = exchange.answer.sample.capacity() as u64;
    if !exchange.answer.sample.is_empty() {
        exchange.answer.sample_whole = false;
    }
    exchange.answer.sample = Vec::new();
    freed
}

fn empty(facts: Arc<Facts>) -> Exchange {
    let now = Instant::now();
    Exchange {
        facts,
        seq: 0,
        command: Vec::new(),
        command_bytes: 0,
        in_transaction_before: false,
        answer: Answer::default(),
        answered: false,
        began: now,
        sent: now,
        first_byte: now,
        acked: now,
    }
}

fn results_bytes(answer: &Answer) -> usize {
    let capacity = answer.results.capacity();
    capacity.saturating_mul(size_of::<Outcome>())
}

fn text_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Error(failure) | Outcome::RowsThenError(_, failure) => failure.message.capacity(),
        Outcome::Ok(_)
        | Outcome::Rows(_)
        | Outcome::Prepared { .. }
        | Outcome::LocalInfile
        | Outcome::Other => 0,
    }
}

impl std::ops::Deref for Charged {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        &self.parcel().exchange
    }
}

impl std::ops::DerefMut for Charged {
    fn deref_mut(&mut self) -> &mut Exchange {
        &mut self.parcel_mut().exchange
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        let Some(mut parcel) = self.parcel.take() else {
            return;
        };
        parcel.give_back(u64::MAX);
        if parcel.empty()
            && let Some(door) = &parcel.door
        {
            Arc::clone(door).keep(parcel);
        }
    }
}
