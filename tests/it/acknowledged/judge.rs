//! Memories against rows → what is wrong, in words. Empty is right.

use super::BALANCE;
use super::held::{Held, Table};
use super::memory::{Memory, Move, Outcome, Write};
use std::collections::BTreeMap;

/// What the server holds that it must not, and lacks that it must have. Accounts are numbered from 0.
pub fn judge(memories: &[Memory], number_of_accounts: i64, held: &Held) -> Vec<String> {
    let mut wrong = Vec::new();
    for table in [Table::Marks, Table::Rows] {
        wrong.extend(rows(memories, table, held.table(table)));
    }
    wrong.extend(keys(memories, &held.keys));
    wrong.extend(counters(memories, &held.counters));
    wrong.extend(transfers(memories, &held.moves));
    wrong.extend(accounts(number_of_accounts, held));
    wrong
}

/// Whether something may be there so many times.
fn said(what: &str, outcome: Outcome, times: usize) -> Option<String> {
    match (outcome, times) {
        (Outcome::Acknowledged, 1) | (Outcome::Unknown, 0 | 1) | (Outcome::Refused, 0) => None,
        (Outcome::Acknowledged, 0) => Some(format!("lost: {what}, which was acknowledged")),
        (Outcome::Refused, _) => Some(format!("there {times} times: {what}, which was refused")),
        (Outcome::Acknowledged | Outcome::Unknown, _) => {
            Some(format!("doubled: {what} is there {times} times"))
        }
    }
}

/// How often each is there.
fn times<T: Ord>(rows: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut times = BTreeMap::new();
    for row in rows {
        *times.entry(row).or_default() += 1;
    }
    times
}

fn rows(memories: &[Memory], table: Table, rows: &[(i64, i64)]) -> Vec<String> {
    let mut there = times(rows.iter().copied());
    let mut wrong = Vec::new();
    for memory in memories {
        for (write, outcome) in &memory.writes {
            let n = match (write, table) {
                (Write::Mark(n), Table::Marks) | (Write::Row(n), Table::Rows) => *n,
                _ => continue,
            };
            let row = (memory.client, n);
            let times = there.remove(&row).unwrap_or(0);
            wrong.extend(said(&format!("{table:?} {row:?}"), *outcome, times));
        }
    }
    wrong.extend(strange(&format!("{table:?}"), &there));
    wrong
}

/// Rows that nobody wrote.
fn strange<T: std::fmt::Debug>(what: &str, left: &BTreeMap<T, usize>) -> Vec<String> {
    let line = |row| format!("nobody wrote {what} {row:?}");
    left.keys().map(line).collect()
}

fn keys(memories: &[Memory], rows: &[(i64, i64, i64)]) -> Vec<String> {
    let mut there = times(rows.iter().map(|(_, client, n)| (*client, *n)));
    let ids: BTreeMap<(i64, i64), i64> = rows.iter().map(|(id, c, n)| ((*c, *n), *id)).collect();
    let mut wrong = Vec::new();
    for memory in memories {
        for (write, outcome) in &memory.writes {
            let Write::Key(n, id) = write else { continue };
            let row = (memory.client, *n);
            let times = there.remove(&row).unwrap_or(0);
            wrong.extend(said(&format!("key {row:?}"), *outcome, times));
            let here = ids.get(&row).copied();
            if *outcome == Outcome::Acknowledged && times == 1 && here != *id {
                wrong.push(format!("key {row:?} was said to be {id:?} and is {here:?}"));
            }
        }
    }
    wrong.extend(strange("key", &there));
    wrong
}

fn counters(memories: &[Memory], counters: &BTreeMap<i64, i64>) -> Vec<String> {
    let judged = memories.iter().filter_map(|memory| {
        let (least, most) = memory.counted();
        let client = memory.client;
        match counters.get(&client) {
            None => Some(format!("lost: the counter of client {client}")),
            Some(n) if *n < least => Some(format!(
                "lost: counter {client} says {n}, and {least} were acknowledged"
            )),
            Some(n) if *n > most => Some(format!(
                "doubled: counter {client} says {n}, and {most} is the most"
            )),
            Some(_) => None,
        }
    });
    judged.collect()
}

fn transfers(memories: &[Memory], moves: &[Move]) -> Vec<String> {
    let mut there = times(moves.iter().copied());
    let mut wrong = Vec::new();
    for memory in memories {
        for (write, outcome) in &memory.writes {
            if let Write::Transfer(transfer) = write {
                let times = there.remove(transfer).unwrap_or(0);
                wrong.extend(said(&format!("{transfer:?}"), *outcome, times));
            }
        }
    }
    wrong.extend(strange("transfer", &there));
    wrong
}

/// Each account holds what the moves say, so that no transfer is there by half.
fn accounts(number: i64, held: &Held) -> Vec<String> {
    let mut due: BTreeMap<i64, i64> = (0..number).map(|id| (id, BALANCE)).collect();
    for one in &held.moves {
        *due.entry(one.source).or_insert(BALANCE) -= one.amount;
        *due.entry(one.target).or_insert(BALANCE) += one.amount;
    }
    let mut wrong = Vec::new();
    for (id, due) in &due {
        let balance = held.accounts.get(id);
        if balance != Some(due) {
            wrong.push(format!(
                "half done: account {id} holds {balance:?}, and its moves say {due}"
            ));
        }
    }
    let sum = held.accounts.values().sum::<i64>();
    let started = BALANCE * number;
    if sum != started {
        wrong.push(format!("the accounts hold {sum}, and began with {started}"));
    }
    wrong
}
