//! Values of prepared statements' parameters that were sent apart, until the next execution.

use crate::tee::Charged;
use crate::wire::execute;
use std::collections::{BTreeMap, BTreeSet};

/// Those of one session, by statement.
#[derive(Debug, Default)]
pub(super) struct LongValues(BTreeMap<u32, Long>);

/// Those of one statement.
#[derive(Debug, Default)]
pub(super) struct Long {
    pub(super) parts: Vec<Charged>,
    pub(super) numbers: BTreeSet<u16>,
    /// One of them did not come through: the execution cannot be carried.
    pub(super) lost: bool,
}

impl LongValues {
    /// Keeps a part, charged, until the execution; once one was lost, none are kept, so that they
    /// do not fill the session's share of the queue for nothing.
    pub(super) fn keep(&mut self, id: u32, charged: Charged) {
        let long = self.0.entry(id).or_default();
        let whole = charged.command_bytes <= charged.command.len() as u64;
        let number = execute::long_parameter(&charged.command).ok();
        long.numbers.extend(number);
        if whole && number.is_some() && !long.lost {
            long.parts.push(charged);
        } else {
            long.lose();
        }
    }

    /// A part did not come through.
    pub(super) fn lose(&mut self, id: u32) {
        self.0.entry(id).or_default().lose();
    }

    /// An execution takes them, a reset or a close forgets them.
    pub(super) fn take(&mut self, id: u32) -> Long {
        self.0.remove(&id).unwrap_or_default()
    }

    /// Whether none waits for an execution.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The session was reset.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Long {
    fn lose(&mut self) {
        self.lost = true;
        self.parts = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tee::{Exchange, Facts};
    use crate::wire::answer::Answer;
    use std::sync::Arc;
    use tokio::time::Instant;

    /// A part of the parameter `number`, of which `missing` bytes did not come through.
    fn part(number: u8, missing: u64) -> Charged {
        let now = Instant::now();
        let command = vec![0x18, 7, 0, 0, 0, number, 0, b'x'];
        Charged::free(Exchange {
            facts: Facts::plain(1, &Arc::default()),
            seq: 1,
            command_bytes: command.len() as u64 + missing,
            command,
            in_transaction_before: false,
            answer: Answer::default(),
            answered: true,
            began: now,
            sent: now,
            first_byte: now,
            acked: now,
        })
    }

    #[test]
    fn once_a_part_is_lost_none_is_kept_until_the_next_execution() {
        let mut long = LongValues::default();
        long.keep(7, part(0, 0));
        long.keep(7, part(1, 9));
        long.keep(7, part(2, 0));
        let taken = long.take(7);
        assert!(taken.lost && taken.parts.is_empty());
        assert_eq!(taken.numbers, [0, 1, 2].into());
        long.keep(7, part(0, 0));
        let taken = long.take(7);
        assert!(!taken.lost && taken.parts.len() == 1);
    }
}
