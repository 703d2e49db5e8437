use super::*;
use crate::config::Writes;
use crate::tee::{Charged, End, Exchange, Limits, Tee, door};
use crate::wire::answer::Answer;
use std::time::Duration;

const CAME: Came = Came {
    control: Control {
        reads: true,
        writes: Writes::Apply,
        sample: 1.0,
        paused: false,
        observe: true,
        flows_back: false,
    },
    journal_unknown: false,
};

fn facts(session: u64) -> Arc<Facts> {
    Facts::plain(session, &Arc::default())
}

fn exchange(facts: &Arc<Facts>, seq: u64, bytes: usize, acked: Instant) -> Exchange {
    Exchange {
        facts: Arc::clone(facts),
        seq,
        command: vec![3; bytes],
        command_bytes: bytes as u64,
        in_transaction_before: false,
        answer: Answer::default(),
        answered: true,
        began: acked,
        sent: acked,
        first_byte: acked,
        acked,
    }
}

/// An antechamber behind a door.
struct House {
    tee: Tee,
    receiver: crate::tee::Receiver,
    antechamber: Antechamber,
    start: Instant,
}

impl House {
    fn new(queue_bytes: u64) -> Self {
        let (tee, receiver) = door(Limits {
            queue_bytes,
            ..Limits::default()
        });
        Self {
            tee,
            receiver,
            antechamber: Antechamber::default(),
            start: Instant::now(),
        }
    }

    fn at(&self, s: u64) -> Instant {
        self.start + Duration::from_secs(s)
    }

    /// One of this session's comes, acknowledged so many seconds after the start.
    fn comes(&mut self, facts: &Arc<Facts>, s: u64, bytes: usize) {
        self.tee.hand(exchange(facts, s, bytes, self.at(s)));
        let handed = self.receiver.try_recv().expect("it fits");
        self.enter(handed);
    }

    fn enter(&mut self, handed: Handed) {
        let budget = self.tee.budget();
        self.antechamber.enter(handed, CAME, true, &budget);
    }

    fn next(&mut self) -> Option<u64> {
        match self.antechamber.next()?.0 {
            Handed::Exchange(one) => Some(one.seq),
            other => panic!("{other:?}"),
        }
    }

    fn is_short(&mut self) -> bool {
        let budget = self.tee.budget();
        self.antechamber.is_short(&budget)
    }
}

#[test]
fn what_lies_there_comes_out_in_its_order_and_is_accounted_for() {
    let mut house = House::new(256 << 20);
    let sessions = [facts(1), facts(2)];
    let many = 3 * CHUNK as u64 + 1;
    for s in 0..many {
        house.comes(&sessions[usize::from(s % 3 == 0)], s, 10);
    }
    assert_eq!(house.antechamber.len() as u64, many);
    let mut own = 0;
    for s in 0..many {
        assert_eq!(house.antechamber.since(), Some(house.at(s)));
        assert_eq!(house.antechamber.left(), s);
        own += usize::from(s % 3 == 0);
        assert_eq!(house.next(), Some(s));
        assert_eq!(house.antechamber.has(2), own < CHUNK + 1);
    }
    assert_eq!(house.next(), None);
    assert!(house.antechamber.is_empty() && house.antechamber.since().is_none());
    assert_eq!(house.antechamber.chunks.len(), 1, "one is kept");
    assert_eq!(house.antechamber.sessions().count(), 0);
    assert_eq!(house.antechamber.entered(), many);
    assert_eq!(house.tee.budget().used(), 0);
}

#[test]
fn the_relay_has_its_buffers_back() {
    let mut house = House::new(256 << 20);
    let facts = facts(1);
    house.comes(&facts, 1, 4_000);
    assert!(house.tee.blank(&facts).command.capacity() >= 4_000);
    assert_eq!(house.next(), Some(1));
}

#[test]
fn it_is_short_until_the_session_for_which_there_was_no_room_has_some() {
    let mut house = House::new(100_000);
    let (one, other) = (facts(1), facts(2));
    house.comes(&one, 1, 40_000);
    assert!(!house.is_short());
    house.comes(&other, 2, 50_000);
    assert!(house.is_short());
    assert_eq!(house.next(), Some(1));
    assert!(!house.is_short(), "half of it is free");
    assert_eq!(house.next(), Some(2));
    // What was lost says that there was no room then.
    house.enter(Handed::Lost(one));
    assert!(!house.is_short(), "there is now");
}

#[test]
fn what_says_not_when_it_came_came_no_sooner_than_what_was_before_it() {
    let mut house = House::new(256 << 20);
    let one = facts(1);
    house.comes(&one, 3, 10);
    house.enter(Handed::Lost(Arc::clone(&one)));
    house.enter(Handed::Closed {
        session: 1,
        end: End::Left,
    });
    assert_eq!(house.next(), Some(3));
    for kind in ["Lost", "Closed"] {
        assert_eq!(house.antechamber.since(), Some(house.at(3)), "{kind}");
        let (next, _) = house.antechamber.next().expect("one more");
        assert!(format!("{next:?}").starts_with(kind), "{next:?}");
    }
    house.enter(Handed::Lost(one));
    let since = house.antechamber.since();
    assert!(since.is_some_and(|since| since >= house.start));
}

#[test]
fn sessions_that_are_behind_are_those_of_what_is_old_enough() {
    let mut house = House::new(256 << 20);
    for (session, s) in [(1, 1), (2, 2), (1, 3), (3, 4)] {
        house.comes(&facts(session), s, 10);
    }
    let behind = |s, enough| {
        let mut all = BTreeSet::from([7]);
        house.antechamber.add_behind(house.at(s), enough, &mut all);
        all.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(behind(1, 100), [7]);
    assert_eq!(behind(4, 100), [1, 2, 7]);
    assert_eq!(behind(9, 100), [1, 2, 3, 7]);
    assert_eq!(behind(9, 2), [1, 7], "no more are needed");
}

#[test]
fn what_is_free_is_put_aside_too() {
    let mut house = House::new(256 << 20);
    let free = Charged::free(exchange(&facts(1), 5, 10, house.start));
    house.enter(Handed::Exchange(free));
    assert_eq!(house.next(), Some(5));
}
