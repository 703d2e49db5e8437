//! Rows by their key and a digest of their values: a range of the primary's against what the shadow has in
//! it, in whatever order that comes. Pure; memory is the primary's range and what is suspect.
//!
//! A suspect is not a difference yet: under live traffic it is looked at again.

use super::plan::Plan;
use super::value;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// The key of a row: how it is compared, and its values as they came, to ask for it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// The canonical form: two keys are the same where these bytes are.
    pub(super) canonical: Box<[u8]>,
    /// The values of the key's columns.
    pub(super) values: Vec<Box<[u8]>>,
}

/// A row as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its key; empty where the table has none.
    pub(super) key: Key,
    /// The digest of all its values.
    pub(super) digest: u128,
    /// Its length on the wire.
    pub(super) bytes: usize,
}

impl Row {
    /// Reads a row's cells, which are those of the plan's columns. `buffer` is scratch space.
    #[must_use]
    pub(super) fn read(plan: &Plan, cells: &[Option<&[u8]>], buffer: &mut Vec<u8>) -> Self {
        let seen = Seen::read(plan, cells, buffer);
        Self {
            key: seen.key(),
            digest: seen.digest,
            bytes: cells.iter().flatten().map(|cell| cell.len()).sum(),
        }
    }
}

/// A row that is looked at where it came: most of the shadow's rows are as the primary's, and nothing is kept of them.
pub(super) struct Seen<'a> {
    plan: &'a Plan,
    cells: &'a [Option<&'a [u8]>],
    /// The key's canonical form.
    canonical: &'a [u8],
    digest: u128,
}

impl<'a> Seen<'a> {
    /// Reads a row's cells, which are those of the plan's columns. `buffer` is scratch space.
    #[must_use]
    pub(super) fn read(
        plan: &'a Plan,
        cells: &'a [Option<&'a [u8]>],
        buffer: &'a mut Vec<u8>,
    ) -> Self {
        buffer.clear();
        for (at, column) in plan.columns.iter().enumerate() {
            value::write(buffer, column.form, cells.get(at).copied().flatten());
        }
        let digest = value::digest(buffer);
        buffer.clear();
        for at in &plan.key {
            if let Some(column) = plan.columns.get(*at) {
                value::write(buffer, column.form, cells.get(*at).copied().flatten());
            }
        }
        Self {
            plan,
            cells,
            canonical: buffer,
            digest,
        }
    }

    /// Its key, to be kept.
    fn key(&self) -> Key {
        let cell = |at: &usize| self.cells.get(*at).copied().flatten();
        let values = self.plan.key.iter();
        Key {
            canonical: self.canonical.into(),
            values: values
                .map(|at| cell(at).unwrap_or_default().into())
                .collect(),
        }
    }
}

/// The key of a row of which only the key's columns were asked for, in the key's order.
#[must_use]
pub(super) fn key_alone(plan: &Plan, cells: &[Option<&[u8]>]) -> Key {
    let mut canonical = Vec::new();
    let mut values = Vec::with_capacity(plan.key.len());
    for (nth, at) in plan.key.iter().enumerate() {
        let cell = cells.get(nth).copied().flatten();
        if let Some(column) = plan.columns.get(*at) {
            value::write(&mut canonical, column.form, cell);
        }
        values.push(cell.unwrap_or_default().into());
    }
    Key {
        canonical: canonical.into(),
        values,
    }
}

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum How {
    /// The shadow lacks it.
    Missing,
    /// The shadow alone has it.
    Extra,
    /// Its values differ.
    Changed,
    /// The shadow has it more than once: on two shards.
    Twice,
    /// The shadow has it where a lookup by its key does not find it: on the wrong shard.
    Misplaced,
    /// Moments alone differ, by no more than the mirror's own NOW() may.
    Clock,
}

impl How {
    /// The word for it.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Changed => "changed",
            Self::Twice => "twice",
            Self::Misplaced => "misplaced",
            Self::Clock => "clock",
        }
    }
}

/// A row that may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    /// Its key.
    pub(super) key: Key,
    /// How it looked.
    pub(super) how: How,
}

/// The primary's rows of a range, which the shadow's are held against.
#[derive(Debug, Default)]
pub(super) struct Range {
    /// As they came; of two with one key the first.
    rows: Vec<Held>,
    /// Where a row is, by its key's hash.
    places: HashMap<u64, usize, BuildHasherDefault<AsItIs>>,
    /// Rows whose hash another one has.
    others: Vec<usize>,
    hasher: RandomState,
    /// Behind the row that was met last: mostly the shadow tells them in the same order, and nothing is looked up.
    next: usize,
}

#[derive(Debug)]
struct Held {
    key: Key,
    digest: u128,
    met: bool,
}

/// What is hashed already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Range {
    /// The primary's rows.
    #[must_use]
    pub(super) fn of(rows: impl IntoIterator<Item = Row>) -> Self {
        let rows = rows.into_iter();
        let mut range = Self::default();
        let many = rows.size_hint().0;
        range.rows.reserve(many);
        range.places.reserve(many);
        for row in rows {
            range.hold(row);
        }
        range
    }

    fn hold(&mut self, row: Row) {
        if self.look_up(&row.key.canonical).is_some() {
            return;
        }
        let (at, hash) = (self.rows.len(), self.hasher.hash_one(&*row.key.canonical));
        match self.places.entry(hash) {
            Entry::Vacant(place) => {
                place.insert(at);
            }
            Entry::Occupied(_) => self.others.push(at),
        }
        self.rows.push(Held {
            key: row.key,
            digest: row.digest,
            met: false,
        });
    }

    fn is_at(&self, at: usize, canonical: &[u8]) -> bool {
        let held = self.rows.get(at);
        held.is_some_and(|held| *held.key.canonical == *canonical)
    }

    fn look_up(&self, canonical: &[u8]) -> Option<usize> {
        let place = self.places.get(&self.hasher.hash_one(canonical));
        let mut places = place.into_iter().chain(&self.others).copied();
        places.find(|at| self.is_at(*at, canonical))
    }

    /// The row with this key.
    fn find(&mut self, canonical: &[u8]) -> Option<&mut Held> {
        let at = if self.is_at(self.next, canonical) {
            self.next
        } else {
            self.look_up(canonical)?
        };
        self.next = at + 1;
        self.rows.get_mut(at)
    }

    /// How many rows it has: of two with one key it has one.
    #[must_use]
    pub(super) const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Its rows' keys, in the order of their canonical forms.
    #[must_use]
    pub(super) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.rows.iter().map(|held| held.key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// Takes one of the shadow's rows in the range; whether it is suspect.
    pub(super) fn meet(&mut self, row: &Seen<'_>) -> Option<Suspect> {
        let suspect = |how| {
            let key = row.key();
            Some(Suspect { key, how })
        };
        let Some(held) = self.find(row.canonical) else {
            return suspect(How::Extra);
        };
        if std::mem::replace(&mut held.met, true) {
            return suspect(How::Twice);
        }
        if held.digest == row.digest {
            None
        } else {
            suspect(How::Changed)
        }
    }

    /// The same where rows that are not of the range are no news: the shadow was asked for these keys, and
    /// its collation may find others.
    pub(super) fn meet_if_known(&mut self, row: &Seen<'_>) -> Option<Suspect> {
        if self.look_up(row.canonical).is_some() {
            self.meet(row)
        } else {
            None
        }
    }

    /// What the shadow has not shown, once all of it has come, in the order of the canonical keys.
    #[must_use]
    pub(super) fn missing(self) -> Vec<Suspect> {
        let unmet = self.rows.into_iter().filter(|held| !held.met);
        let mut missing: Vec<Suspect> = unmet
            .map(|held| Suspect {
                key: held.key,
                how: How::Missing,
            })
            .collect();
        missing.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Planned, Way};
    use super::super::types::Form;
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn plan() -> Plan {
        let column = |name: &str, form| Planned {
            name: name.into(),
            on_shadow: name.into(),
            form,
            generated: false,
            renews: false,
            binary: false,
            lossy: [None, None],
        };
        Plan {
            columns: vec![column("id", Form::Number), column("v", Form::Text)],
            key: vec![0],
            way: Way::Ranges,
            spread: None,
        }
    }

    fn row(id: &str, value: &str) -> Row {
        let cells = [Some(id.as_bytes()), Some(value.as_bytes())];
        Row::read(&plan(), &cells, &mut Vec::new())
    }

    fn judged(primary: &[(&str, &str)], shadow: &[(&str, &str)]) -> Vec<(How, String)> {
        let mut range = Range::of(primary.iter().map(|(id, value)| row(id, value)));
        let (plan, mut buffer) = (plan(), Vec::new());
        let met = shadow.iter().filter_map(|(id, value)| {
            let cells = [Some(id.as_bytes()), Some(value.as_bytes())];
            range.meet(&Seen::read(&plan, &cells, &mut buffer))
        });
        let mut found: Vec<Suspect> = met.collect();
        found.extend(range.missing());
        let told = found.into_iter().map(|one| {
            let id = String::from_utf8(one.key.values[0].to_vec()).unwrap();
            (one.how, id)
        });
        told.collect()
    }

    #[test]
    fn what_differs_is_suspect_in_whatever_order_it_comes() {
        let found = judged(
            &[("1", "a"), ("2", "b"), ("3", "c")],
            &[("4", "d"), ("3", "C"), ("01", "a")],
        );
        let expected = [(How::Extra, "4"), (How::Changed, "3"), (How::Missing, "2")];
        assert_eq!(found, expected.map(|(how, id)| (how, id.to_owned())));
    }

    #[test]
    fn two_keys_of_one_hash_are_two_rows() {
        let mut range = Range::of([row("1", "a")]);
        // As if both had the first one's hash.
        for id in ["2", "3"] {
            let row = row(id, "a");
            let hash = range.hasher.hash_one(&*row.key.canonical);
            range.places.insert(hash, 0);
            range.hold(row);
        }
        assert_eq!((range.len(), range.others.len()), (3, 2));
        range.hold(row("3", "a"));
        assert_eq!(range.len(), 3, "it is there already");
        let (plan, mut buffer) = (plan(), Vec::new());
        for id in ["3", "2", "1"] {
            let cells = [Some(id.as_bytes()), Some(&b"a"[..])];
            assert_eq!(range.meet(&Seen::read(&plan, &cells, &mut buffer)), None);
        }
        assert_eq!(range.missing(), []);
    }

    #[test]
    fn a_row_on_two_shards_is_there_twice() {
        let found = judged(&[("1", "a")], &[("1", "a"), ("1", "a")]);
        assert_eq!(found, [(How::Twice, "1".to_owned())]);
    }

    #[test]
    fn a_row_that_was_not_asked_for_is_no_news() {
        let mut range = Range::of([row("1", "a")]);
        let (plan, mut buffer) = (plan(), Vec::new());
        let cells = [Some(&b"2"[..]), Some(b"a")];
        let other = Seen::read(&plan, &cells, &mut buffer);
        assert_eq!(range.meet_if_known(&other), None);
        assert_eq!(range.missing().len(), 1);
    }

    #[test]
    fn a_key_alone_is_the_key_of_its_row() {
        assert_eq!(key_alone(&plan(), &[Some(b"7")]), row("7", "x").key);
    }

    proptest! {
        /// Held against the definition: sets of rows by key.
        #[test]
        fn a_range_is_judged_as_two_maps_would_be(
            primary in proptest::collection::btree_map(0_u8..20, 0_u8..3, 0..15),
            shadow in proptest::collection::btree_map(0_u8..20, 0_u8..3, 0..15),
        ) {
            let text = |map: &BTreeMap<u8, u8>| -> Vec<(String, String)> {
                map.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
            };
            let (one, other) = (text(&primary), text(&shadow));
            let one: Vec<(&str, &str)> = one.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let other: Vec<(&str, &str)> = other.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let found: BTreeSet<(How, String)> = judged(&one, &other).into_iter().collect();
            let mut expected = BTreeSet::new();
            for (key, value) in &primary {
                match shadow.get(key) {
                    None => { expected.insert((How::Missing, key.to_string())); }
                    Some(other) if other != value => { expected.insert((How::Changed, key.to_string())); }
                    Some(_) => {}
                }
            }
            for key in shadow.keys().filter(|key| !primary.contains_key(key)) {
                expected.insert((How::Extra, key.to_string()));
            }
            prop_assert_eq!(found, expected);
        }
    }
}
