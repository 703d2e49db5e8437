//! The checker's tables on a real server. No key keeps a second row out where the checker must see one.

use super::super::{Lab, client};
use crate::acknowledged::{BALANCE, Held, Move};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Name and columns; `app.checker_rows` is sharded by its id.
const TABLES: [(&str, &str); 6] = [
    (
        "scratch.checker_marks",
        "client BIGINT NOT NULL, n BIGINT NOT NULL, KEY mark (client, n)",
    ),
    (
        "app.checker_rows",
        "id BIGINT NOT NULL, client BIGINT NOT NULL, n BIGINT NOT NULL, KEY id (id), KEY client (client)",
    ),
    (
        "scratch.checker_keys",
        "id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, client BIGINT NOT NULL, n BIGINT NOT NULL, KEY client (client)",
    ),
    (
        "scratch.checker_counters",
        "client BIGINT NOT NULL PRIMARY KEY, n BIGINT NOT NULL",
    ),
    (
        "scratch.checker_accounts",
        "id BIGINT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL",
    ),
    (
        "scratch.checker_moves",
        "id BIGINT NOT NULL, source BIGINT NOT NULL, target BIGINT NOT NULL, amount BIGINT NOT NULL, KEY id (id)",
    ),
];

/// A row's id in the sharded table, and a transfer's number: no two clients' are the same.
pub fn id(client: i64, n: i64) -> i64 {
    client * 10_000_000 + n
}

/// Makes the tables anew on both servers, with the first rows.
pub async fn set_up(lab: &Lab, load: super::Load) {
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address).await;
        make(&mut direct).await;
        first_rows(&mut direct, load).await;
        direct.disconnect().await.expect("the end");
    }
}

/// The first rows alone again, on both servers, for clients that remember nothing.
pub async fn begin_anew(lab: &Lab, load: super::Load) {
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address).await;
        empty(&mut direct).await;
        first_rows(&mut direct, load).await;
        direct.disconnect().await.expect("the end");
    }
}

async fn first_rows(direct: &mut Conn, load: super::Load) {
    let counters = (0..load.all()).map(|client| (client, 0));
    fill(direct, "scratch.checker_counters (client, n)", counters).await;
    let accounts = (0..load.accounts()).map(|id| (id, BALANCE));
    fill(direct, "scratch.checker_accounts (id, balance)", accounts).await;
}

async fn empty(direct: &mut Conn) {
    for (name, _) in TABLES {
        let emptied = direct.query_drop(format!("DELETE FROM {name}")).await;
        emptied.unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }
}

async fn connect(address: &str) -> Conn {
    Conn::new(client(address, "scratch"))
        .await
        .expect("the login")
}

async fn make(direct: &mut Conn) {
    for (name, columns) in TABLES {
        let (database, _) = name.split_once('.').expect("database and table");
        for statement in [
            format!("USE {database}"),
            format!("DROP TABLE IF EXISTS {name}"),
            format!("CREATE TABLE {name} ({columns}) DEFAULT CHARSET utf8"),
        ] {
            let done = direct.query_drop(&statement).await;
            done.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
        }
    }
    // vtgate learns of a new table a moment later.
    for (name, _) in TABLES {
        let mut tries = 0;
        while direct
            .query_drop(format!("SELECT * FROM {name} LIMIT 1"))
            .await
            .is_err()
        {
            tries += 1;
            assert!(tries < 300, "vtgate does not see {name}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    direct
        .query_drop("USE scratch")
        .await
        .expect("the database");
}

async fn fill(direct: &mut Conn, into: &str, rows: impl Iterator<Item = (i64, i64)>) {
    let mut insert = format!("INSERT INTO {into} VALUES ");
    for (at, (one, other)) in rows.enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(insert, "{comma}({one}, {other})").expect("a string takes it");
    }
    let done = direct.query_drop(insert).await;
    done.unwrap_or_else(|fault| panic!("rows into {into}: {fault}"));
}

/// All that a server holds. Read client by client: vtgate hands out 10,000 rows at most.
pub async fn held(address: &str, clients: i64) -> Held {
    let mut direct = connect(address).await;
    let mut held = Held::default();
    for client in 0..clients {
        let own = format!("WHERE client = {client} ORDER BY n");
        let marks = format!("SELECT client, n FROM scratch.checker_marks {own}");
        held.marks.append(&mut all(&mut direct, marks).await);
        let rows = format!("SELECT client, n FROM app.checker_rows {own}");
        held.rows.append(&mut all(&mut direct, rows).await);
        let keys = format!("SELECT id, client, n FROM scratch.checker_keys {own}");
        held.keys.append(&mut all(&mut direct, keys).await);
        let (first, last) = (id(client, 0), id(client + 1, 0));
        let moves: Vec<(i64, i64, i64, i64)> = all(
            &mut direct,
            format!("SELECT id, source, target, amount FROM scratch.checker_moves WHERE id >= {first} AND id < {last} ORDER BY id"),
        )
        .await;
        let moved = |(id, source, target, amount)| Move {
            id,
            source,
            target,
            amount,
        };
        held.moves.extend(moves.into_iter().map(moved));
    }
    held.counters = pairs(
        &mut direct,
        "SELECT client, n FROM scratch.checker_counters",
    )
    .await;
    held.accounts = pairs(
        &mut direct,
        "SELECT id, balance FROM scratch.checker_accounts",
    )
    .await;
    for (name, count) in [
        ("scratch.checker_marks", held.marks.len()),
        ("app.checker_rows", held.rows.len()),
        ("scratch.checker_keys", held.keys.len()),
        ("scratch.checker_moves", held.moves.len()),
    ] {
        let all: Vec<usize> = all(&mut direct, format!("SELECT COUNT(*) FROM {name}")).await;
        assert_eq!(all, [count], "{name} on {address} has rows of no client");
    }
    direct.disconnect().await.expect("the end");
    held
}

async fn all<T>(direct: &mut Conn, read: String) -> Vec<T>
where
    T: mysql_async::prelude::FromRow + Send + 'static,
{
    let rows = direct.query(&read).await;
    rows.unwrap_or_else(|fault| panic!("{read}: {fault}"))
}

async fn pairs(direct: &mut Conn, read: &str) -> BTreeMap<i64, i64> {
    let rows: Vec<(i64, i64)> = all(direct, read.to_owned()).await;
    rows.into_iter().collect()
}

/// Puts the rows of one server into the tables of the other, as an operator would after a crash of
/// the proxy: nobody may write meanwhile.
pub async fn copy(from: &str, to: &str, clients: i64) {
    let held = held(from, clients).await;
    let mut direct = connect(to).await;
    empty(&mut direct).await;
    let marks = held
        .marks
        .iter()
        .map(|(client, n)| format!("({client}, {n})"));
    let rows = held.rows.iter();
    let rows = rows.map(|(client, n)| format!("({}, {client}, {n})", id(*client, *n)));
    let keys = held
        .keys
        .iter()
        .map(|(id, client, n)| format!("({id}, {client}, {n})"));
    let moves = held.moves.iter();
    let moves = moves.map(|m| format!("({}, {}, {}, {})", m.id, m.source, m.target, m.amount));
    let pair = |(one, other): (&i64, &i64)| format!("({one}, {other})");
    for (into, rows) in [
        (
            "scratch.checker_marks (client, n)",
            marks.collect::<Vec<_>>(),
        ),
        ("app.checker_rows (id, client, n)", rows.collect()),
        ("scratch.checker_keys (id, client, n)", keys.collect()),
        (
            "scratch.checker_moves (id, source, target, amount)",
            moves.collect(),
        ),
        (
            "scratch.checker_counters (client, n)",
            held.counters.iter().map(pair).collect(),
        ),
        (
            "scratch.checker_accounts (id, balance)",
            held.accounts.iter().map(pair).collect(),
        ),
    ] {
        for some in rows.chunks(500) {
            let insert = format!("INSERT INTO {into} VALUES {}", some.join(", "));
            direct
                .query_drop(insert)
                .await
                .expect("the rows are copied");
        }
    }
    direct.disconnect().await.expect("the end");
}
