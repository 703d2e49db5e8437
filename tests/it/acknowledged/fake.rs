//! The judge must be able to fail: a store that keeps what it was told is right, and one with any
//! single fault is not, whatever the clients did.

use super::held::{Held, differences};
use super::memory::{Memory, Move, Outcome, Write};
use super::{BALANCE, judge};
use proptest::prelude::*;

const CLIENTS: i64 = 3;
const ACCOUNTS: i64 = 4;

/// What is wrong with the store, with the write of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is acknowledged and not kept.
    Loses,
    /// It is kept twice.
    Doubles,
    /// It is refused and kept.
    KeepsRefused,
    /// Of a transfer only the first account is changed.
    HalfApplies,
    /// Of a transfer the row that tells of it is missing.
    Untold,
    /// The generated key is another than was said.
    OtherKey,
}

/// What a client asks, what it is told in the end, and whether an unknown write took place.
#[derive(Clone, Copy, Debug)]
struct Asked {
    client: i64,
    kind: u8,
    told: Outcome,
    happened: bool,
}

#[derive(Default)]
struct Fake {
    held: Held,
}

impl Fake {
    fn new() -> Self {
        let held = Held {
            counters: (0..CLIENTS).map(|client| (client, 0)).collect(),
            accounts: (0..ACCOUNTS).map(|id| (id, BALANCE)).collect(),
            ..Held::default()
        };
        Self { held }
    }

    fn keep(&mut self, client: i64, write: Write, fault: Option<Fault>) {
        let held = &mut self.held;
        match write {
            Write::Mark(n) => held.marks.push((client, n)),
            Write::Row(n) => held.rows.push((client, n)),
            Write::Key(n, id) => {
                let id = id.unwrap_or_else(|| client * 1_000 + n);
                let id = if fault == Some(Fault::OtherKey) {
                    id + 1
                } else {
                    id
                };
                held.keys.push((id, client, n));
            }
            Write::Count => *held.counters.entry(client).or_default() += 1,
            Write::Transfer(one) => {
                *held.accounts.entry(one.source).or_default() -= one.amount;
                if fault != Some(Fault::HalfApplies) {
                    *held.accounts.entry(one.target).or_default() += one.amount;
                }
                if fault != Some(Fault::Untold) {
                    held.moves.push(one);
                }
            }
        }
    }
}

fn write(asked: &Asked, n: i64) -> Write {
    match asked.kind {
        0 => Write::Mark(n),
        1 => Write::Row(n),
        2 => Write::Key(n, Some(asked.client * 1_000 + n)),
        3 => Write::Count,
        _ => Write::Transfer(Move {
            id: n,
            source: n % ACCOUNTS,
            target: (n + 1) % ACCOUNTS,
            amount: 1 + n % 7,
        }),
    }
}

/// All is asked of a store, with one fault at most.
fn run(asked: &[Asked], fault: Option<(usize, Fault)>) -> (Vec<Memory>, Held) {
    let mut memories: Vec<Memory> = (0..CLIENTS).map(Memory::of).collect();
    let mut fake = Fake::new();
    for (number, one) in asked.iter().enumerate() {
        let write = write(one, i64::try_from(number).unwrap());
        let fault = fault.and_then(|(at, fault)| (at == number).then_some(fault));
        let keeps = match one.told {
            Outcome::Acknowledged => true,
            Outcome::Refused => false,
            Outcome::Unknown => one.happened,
        };
        let times = match fault {
            Some(Fault::Loses) => 0,
            Some(Fault::Doubles) => 2,
            Some(Fault::KeepsRefused) => 1,
            _ => usize::from(keeps),
        };
        for _ in 0..times {
            fake.keep(one.client, write, fault);
        }
        let client = usize::try_from(one.client).unwrap();
        memories[client].remember(write, one.told);
    }
    (memories, fake.held)
}

/// Whether the fault can be seen at all at this write.
fn shows(fault: Fault, one: &Asked) -> bool {
    let transfer = one.kind > 3;
    let kept = one.told == Outcome::Acknowledged || (one.told == Outcome::Unknown && one.happened);
    match fault {
        Fault::Loses => one.told == Outcome::Acknowledged,
        Fault::Doubles => one.told != Outcome::Refused,
        Fault::KeepsRefused => one.told == Outcome::Refused,
        Fault::HalfApplies | Fault::Untold => transfer && kept,
        Fault::OtherKey => one.kind == 2 && one.told == Outcome::Acknowledged,
    }
}

fn asked() -> impl Strategy<Value = Vec<Asked>> {
    let told = prop_oneof![
        6 => Just(Outcome::Acknowledged),
        1 => Just(Outcome::Refused),
        2 => Just(Outcome::Unknown),
    ];
    let one = (0..CLIENTS, 0..6_u8, told, any::<bool>());
    let one = one.prop_map(|(client, kind, told, happened)| Asked {
        client,
        kind,
        told,
        happened,
    });
    proptest::collection::vec(one, 1..60)
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Loses),
        Just(Fault::Doubles),
        Just(Fault::KeepsRefused),
        Just(Fault::HalfApplies),
        Just(Fault::Untold),
        Just(Fault::OtherKey),
    ]
}

proptest! {
    #[test]
    fn a_store_that_keeps_what_it_was_told_is_right(asked in asked()) {
        let (memories, held) = run(&asked, None);
        prop_assert_eq!(judge(&memories, ACCOUNTS, &held), Vec::<String>::new());
    }

    #[test]
    fn a_store_with_one_fault_is_wrong(asked in asked(), fault in fault(), at in any::<prop::sample::Index>()) {
        let at = at.index(asked.len());
        prop_assume!(shows(fault, &asked[at]));
        let (memories, held) = run(&asked, Some((at, fault)));
        // A counter may be one too low or high within what is unknown of it.
        let unknown = |one: &Asked| one.kind == 3 && one.client == asked[at].client && one.told == Outcome::Unknown;
        prop_assume!(asked[at].kind != 3 || !asked.iter().any(unknown));
        let wrong = judge(&memories, ACCOUNTS, &held);
        prop_assert!(!wrong.is_empty(), "{fault:?} at {at} was not seen");
        let (_, right) = run(&asked, None);
        prop_assert!(!differences(&held, &right).is_empty());
    }
}

#[test]
fn what_nobody_wrote_is_wrong() {
    let (memories, mut held) = run(&[], None);
    held.marks.push((0, 1));
    held.rows.push((9, 1));
    held.keys.push((1, 2, 3));
    let wrong = judge(&memories, ACCOUNTS, &held);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(wrong.iter().all(|line| line.starts_with("nobody wrote")));
}

#[test]
fn an_account_that_changes_by_itself_is_wrong() {
    let (memories, mut held) = run(&[], None);
    held.accounts.insert(1, BALANCE + 5);
    assert_eq!(judge(&memories, ACCOUNTS, &held).len(), 2);
    held.accounts.insert(2, BALANCE - 5);
    // The sum is right again, and each is wrong.
    assert_eq!(judge(&memories, ACCOUNTS, &held).len(), 2);
    held.accounts.remove(&2);
    held.accounts.insert(1, BALANCE);
    // An account that is gone, and the sum with it.
    assert_eq!(judge(&memories, ACCOUNTS, &held).len(), 2);
}
