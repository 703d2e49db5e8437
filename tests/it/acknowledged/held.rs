//! What a server holds of the checker's tables.

use super::memory::Move;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// The tables of (client, number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Marks,
    Rows,
}

/// See the module. Rows stand sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// (client, number), as often as it is there.
    pub marks: Vec<(i64, i64)>,
    /// The same of the sharded table.
    pub rows: Vec<(i64, i64)>,
    /// (generated key, client, number).
    pub keys: Vec<(i64, i64, i64)>,
    /// A client's counter.
    pub counters: BTreeMap<i64, i64>,
    /// An account's balance.
    pub accounts: BTreeMap<i64, i64>,
    /// The rows that tell of transfers.
    pub moves: Vec<Move>,
}

impl Held {
    pub fn table(&self, table: Table) -> &[(i64, i64)] {
        match table {
            Table::Marks => &self.marks,
            Table::Rows => &self.rows,
        }
    }

    fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        sorted.marks.sort_unstable();
        sorted.rows.sort_unstable();
        sorted.keys.sort_unstable();
        sorted.moves.sort_unstable();
        sorted
    }
}

/// Where two servers hold different rows, in words: a line for each table.
pub fn differences(one: &Held, other: &Held) -> Vec<String> {
    let (one, other) = (one.sorted(), other.sorted());
    let counters = |held: &Held| held.counters.clone().into_iter().collect::<Vec<_>>();
    let accounts = |held: &Held| held.accounts.clone().into_iter().collect::<Vec<_>>();
    [
        differing("marks", &one.marks, &other.marks),
        differing("rows", &one.rows, &other.rows),
        differing("keys", &one.keys, &other.keys),
        differing("counters", &counters(&one), &counters(&other)),
        differing("accounts", &accounts(&one), &accounts(&other)),
        differing("moves", &one.moves, &other.moves),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How many are named in a line.
const NAMED: usize = 5;

fn differing<T: Debug + Ord>(name: &str, one: &[T], other: &[T]) -> Option<String> {
    if one == other {
        return None;
    }
    let (only, also) = (less(one, other), less(other, one));
    let first = |rows: &[&T]| format!("{:?}", &rows[..rows.len().min(NAMED)]);
    Some(format!(
        "{name}: {} and {} rows; {} only on the first, as {}; {} only on the second, as {}",
        one.len(),
        other.len(),
        only.len(),
        first(&only),
        also.len(),
        first(&also)
    ))
}

/// The rows that one has more often than the other. Both are sorted.
fn less<'a, T: Ord>(one: &'a [T], other: &[T]) -> Vec<&'a T> {
    let mut others = other.iter().peekable();
    let mut more = Vec::new();
    for row in one {
        while others.next_if(|next| *next < row).is_some() {}
        if others.next_if(|next| *next == row).is_none() {
            more.push(row);
        }
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_one_has_more_often_are_told() {
        assert_eq!(less(&[1, 2, 2, 3], &[2, 3, 4]), [&1, &2]);
        assert_eq!(less(&[2, 3, 4], &[1, 2, 2, 3]), [&4]);
        assert_eq!(less::<i64>(&[], &[1]), Vec::<&i64>::new());
    }

    #[test]
    fn equal_is_equal_in_any_order_and_a_row_twice_is_not() {
        let one = Held {
            marks: vec![(1, 2), (1, 1)],
            ..Held::default()
        };
        let mut other = Held {
            marks: vec![(1, 1), (1, 2)],
            ..Held::default()
        };
        assert_eq!(differences(&one, &other), Vec::<String>::new());
        other.marks.push((1, 2));
        let said = differences(&one, &other);
        assert!(
            said.len() == 1 && said[0].contains("1 only on the second"),
            "{said:?}"
        );
        other.marks.pop();
        other.accounts.insert(1, 5);
        assert_eq!(differences(&one, &other).len(), 1);
    }
}
