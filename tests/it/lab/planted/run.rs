//! Planting, and the traffic.

use super::faults::{Fault, Said, Whom};
use super::healthy::Healthy;
use crate::lab::mirroring::connect;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Params};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How much later a late row comes.
const LATE: Duration = Duration::from_millis(500);

/// vtgate's store, as root, by its socket.
pub async fn store(lab: &Lab, database: &str) -> Conn {
    let root = OptsBuilder::default()
        .user(Some("root"))
        .socket(Some(lab.value("SHADOW_STORE_ROOT_SOCKET")))
        .db_name(Some(database));
    Conn::new(root).await.expect("root's login at the store")
}

/// The databases below a keyspace.
pub const fn shards(sharded: bool) -> &'static [&'static str] {
    if sharded {
        &["vt_app_-80", "vt_app_80-"]
    } else {
        &["vt_scratch_0"]
    }
}

pub const fn keyspace(sharded: bool) -> &'static str {
    if sharded { "app" } else { "scratch" }
}

/// The doors to the servers that set-ups go through.
pub struct Doors {
    pub legacy: Conn,
    pub vtgate: Conn,
}

impl Doors {
    pub async fn open(lab: &Lab, sharded: bool) -> Self {
        let database = keyspace(sharded);
        Self {
            legacy: connect(&lab.legacy(), database).await,
            vtgate: connect(&lab.shadow(), database).await,
        }
    }
}

/// Makes the tables of all faults, and plants.
pub async fn plant(lab: &Lab, faults: &[Fault]) {
    for sharded in [false, true] {
        let mut doors = Doors::open(lab, sharded).await;
        let mut stores = Vec::new();
        for shard in shards(sharded) {
            stores.push((*shard, store(lab, shard).await));
        }
        for fault in faults.iter().filter(|fault| fault.sharded == sharded) {
            clear(fault, &mut doors.legacy).await;
            for (_, shard) in &mut stores {
                clear(fault, shard).await;
            }
            for (whom, statement) in &fault.set_up {
                let statement = &statement.replace("{digits}", DIGITS);
                if matches!(whom, Whom::Both | Whom::Legacy) {
                    say(&mut doors.legacy, statement).await;
                }
                if matches!(whom, Whom::Both | Whom::Vtgate) {
                    made_known(&mut doors.vtgate, fault, statement).await;
                }
                for (shard, door) in &mut stores {
                    let meant = matches!(whom, Whom::Store(None))
                        || matches!(whom, Whom::Store(Some(name)) if shard.ends_with(name));
                    if meant {
                        say(door, statement).await;
                    }
                }
            }
        }
    }
}

const DIGITS: &str = "(select 0 n union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 \
     union all select 6 union all select 7 union all select 8 union all select 9)";

async fn clear(fault: &Fault, door: &mut Conn) {
    let name = &fault.name;
    for statement in [
        format!("drop view if exists {name}"),
        format!("drop table if exists {name}, {name}_b"),
    ] {
        let _a_table_is_no_view = door.query_drop(statement).await;
    }
}

async fn say(door: &mut Conn, statement: &str) {
    let said = door.query_drop(statement).await;
    said.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
}

/// Says it to vtgate; a table that it makes is then routed, and seen.
async fn made_known(vtgate: &mut Conn, fault: &Fault, statement: &str) {
    persist(vtgate, statement).await;
    let Some(rest) = statement.strip_prefix("create table ") else {
        return;
    };
    let table = rest.split(' ').next().unwrap_or_default();
    if fault.sharded {
        route(vtgate, table, !fault.unrouted).await;
    }
    if !fault.unrouted {
        persist(vtgate, &format!("select * from {table}")).await;
    }
}

/// Puts a table into the vschema, by `id`, or takes it out.
pub async fn route(vtgate: &mut Conn, table: &str, routed: bool) {
    let vschema = format!("alter vschema on app.{table}");
    let _was_not_there = vtgate
        .query_drop(format!("{vschema} drop vindex xxhash"))
        .await;
    let _was_not_there = vtgate
        .query_drop(format!("alter vschema drop table app.{table}"))
        .await;
    if routed {
        persist(vtgate, &format!("{vschema} add vindex xxhash(id)")).await;
    }
}

/// vtgate learns of a table a moment after it is made.
pub async fn persist(vtgate: &mut Conn, statement: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    while let Err(fault) = vtgate.query_drop(statement).await {
        assert!(Instant::now() < end, "{statement}: {fault}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The faults among the healthy statements, over so many sessions. How many healthy commands that
/// were.
pub async fn all(
    lab: &Lab,
    proxy: &Proxy,
    faults: &[Fault],
    healthy: &Healthy,
    sessions: usize,
) -> u64 {
    let mut running = tokio::task::JoinSet::new();
    for number in 0..sessions {
        let mine: Vec<Fault> = faults
            .iter()
            .skip(number)
            .step_by(sessions)
            .cloned()
            .collect();
        let session = Session {
            lab: lab.clone(),
            address: proxy.address.clone(),
            healthy: healthy.of(number),
        };
        running.spawn(async move { session.run(mine).await });
    }
    running.join_all().await.into_iter().sum()
}

/// One session of the healthy traffic, and who provokes its share of the faults.
struct Session {
    lab: Lab,
    address: String,
    healthy: Vec<Said>,
}

impl Session {
    async fn run(&self, faults: Vec<Fault>) -> u64 {
        let mut app = connect(&self.address, "scratch").await;
        let between = (self.healthy.len() / faults.len().max(1)).max(1);
        let mut faults = faults.iter();
        for (at, statement) in self.healthy.iter().enumerate() {
            if at % between == 0
                && let Some(fault) = faults.next()
            {
                provoke(&self.lab, &self.address, fault).await;
            }
            tell(&mut app, statement).await;
        }
        for fault in faults {
            provoke(&self.lab, &self.address, fault).await;
        }
        app.disconnect().await.expect("it closes");
        self.healthy.len() as u64
    }
}

/// A fault's statements, in a session of its own through the understudy at `address`.
pub async fn provoke(lab: &Lab, address: &str, fault: &Fault) {
    let mut app = connect(address, keyspace(fault.sharded)).await;
    let mut late = tokio::task::JoinSet::new();
    for said in &fault.said {
        match said.clone() {
            Said::Later(statement) => {
                let mut door = store(lab, shards(fault.sharded)[0]).await;
                late.spawn(async move {
                    tokio::time::sleep(LATE).await;
                    say(&mut door, &statement).await;
                });
            }
            said => drop(try_to_tell(&mut app, &said).await),
        }
    }
    late.join_all().await;
    app.disconnect().await.expect("it closes");
}

/// Through understudy, and it must succeed.
async fn tell(app: &mut Conn, said: &Said) {
    let told = try_to_tell(app, said).await;
    told.unwrap_or_else(|fault| panic!("{said:?}: {fault}"));
}

async fn try_to_tell(app: &mut Conn, said: &Said) -> mysql_async::Result<()> {
    match said {
        Said::Text(statement) => app.query_drop(statement).await,
        Said::Prepared(statement, parameters) => {
            let values = parameters.iter().map(|text| value(text)).collect();
            let parameters = if parameters.is_empty() {
                Params::Empty
            } else {
                Params::Positional(values)
            };
            app.exec_drop(statement, parameters).await
        }
        Said::Later(_) => Ok(()),
    }
}

/// A number where it is one, NULL, or a string.
fn value(text: &str) -> mysql_async::Value {
    match (text, text.parse::<i64>()) {
        ("null", _) => mysql_async::Value::NULL,
        (_, Ok(number)) => number.into(),
        (text, Err(_)) => text.into(),
    }
}

/// All findings of answers, each with its newest divergence's cause, once the ledger's writer has
/// written what it was told. How fast the servers are is not planted.
pub fn findings(proxy: &Proxy) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(60);
    while proxy.get("/api/v1/status")["ledger"]["queued"] != 0 {
        assert!(Instant::now() < end, "the ledger's writer is behind");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(500));
    let divergences = proxy.get("/api/v1/divergences?limit=500")["items"].take();
    let divergences = divergences.as_array().expect("items");
    let page = proxy.get("/api/v1/findings?limit=500");
    let mut findings = page["items"].as_array().expect("items").clone();
    findings.retain(|finding| finding["kind"] != "latency");
    for finding in &mut findings {
        let of = |one: &&Value| one["finding_id"] == finding["id"];
        let cause = divergences.iter().find(of).map(|one| &one["cause"]["code"]);
        finding["cause_code"] = cause.cloned().unwrap_or_default();
    }
    findings
}
