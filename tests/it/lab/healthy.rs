//! A healthy pair under load is quiet: sysbench as text and prepared, and the demo's shop, with dark
//! reads and writes. At the end nothing is open but what the shop says on purpose, nearly all was
//! compared, and the tables are equal row by row.
//!
//! `HEALTHY_S` seconds, 60 by default; `tests/bin/healthy` runs it for half an hour.

use super::{Lab, Proxy, client};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value as Cell};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use understudy::sql;

/// sysbench's tables, and their rows: so many that its transactions seldom deadlock between shards.
const TABLES: u32 = 4;
const ROWS: u32 = 20_000;

/// The shop's tables that only it writes, and by keys of its own.
const SHOP: [&str; 5] = ["customers", "products", "orders", "order_lines", "payments"];

/// Rows of one comparison: vtgate hands out 10,000 of a shard.
const PAGE: usize = 5_000;

fn seconds() -> u64 {
    let set = std::env::var("HEALTHY_S").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(60)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_pair_under_load_is_quiet() {
    let lab = Lab::get();
    empty(&lab).await;
    let proxy = Proxy::start(&lab);
    for command in ["cleanup", "prepare"] {
        // One table after the other: the shadow shall not lag before it begins.
        ended(sysbench(&proxy, command, &["--threads=1"]));
    }
    let before = proxy.settled();
    let loads = [
        sysbench(&proxy, "run", &[PACE[0], PACE[1], "--db-ps-mode=disable"]),
        sysbench(&proxy, "run", &[PACE[0], PACE[1], "--rand-seed=2"]),
        shop(&proxy),
    ];
    let said: Vec<String> = loads.into_iter().map(ended).collect();
    let after = proxy.settled();
    let figures = Figures::between(&before, &after);
    figures.print(&said);
    let findings = proxy.get("/api/v1/findings?limit=500");
    let taints = proxy.get("/api/v1/taints");
    let mut wrong = figures.wrong();
    wrong.extend(unseeded(&findings));
    wrong.extend(tainted(&taints));
    wrong.extend(unequal(&lab).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The shop makes its rows anew.
async fn empty(lab: &Lab) {
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address).await;
        for table in SHOP.iter().chain(&["events"]) {
            let emptied = direct.query_drop(format!("TRUNCATE TABLE {table}")).await;
            emptied.unwrap_or_else(|fault| panic!("{table} at {address}: {fault}"));
        }
    }
}

async fn connect(address: &str) -> Conn {
    Conn::new(client(address, "app")).await.expect("the login")
}

/// Of each of the two sysbenches: what vtgate bears on two cores beside the shop.
const PACE: [&str; 2] = ["--threads=4", "--rate=20"];

fn sysbench(proxy: &Proxy, command: &str, more: &[&str]) -> Child {
    let (host, port) = proxy.address.rsplit_once(':').expect("host:port");
    Command::new("sysbench")
        .args(["oltp_read_write", "--db-driver=mysql", "--auto_inc=off"])
        .args(["--mysql-user=app", "--mysql-password=app", "--mysql-db=app"])
        .arg(format!("--mysql-host={host}"))
        .arg(format!("--mysql-port={port}"))
        .arg(format!("--tables={TABLES}"))
        .arg(format!("--table-size={ROWS}"))
        .arg(format!("--time={}", seconds()))
        .args(more)
        .arg(command)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sysbench runs: lab/install sysbench")
}

/// The demo's application, the statements that are known to differ included.
fn shop(proxy: &Proxy) -> Child {
    let binary = concat!(env!("CARGO_TARGET_TMPDIR"), "/shop");
    let built = Command::new("go")
        .args(["build", "-o", binary, "."])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/shop"))
        .status();
    assert!(built.is_ok_and(|built| built.success()), "go builds it");
    Command::new(binary)
        .args(["-address", &proxy.address, "-workers", "8", "-known"])
        .args(["-seconds", &seconds().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the shop opens")
}

/// What a load said in the end.
fn ended(load: Child) -> String {
    let output = load.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    said
}

/// Counts of the time under load.
struct Figures {
    commands: u64,
    compared: u64,
    diverged: u64,
    reasons: Vec<(String, u64)>,
}

impl Figures {
    fn between(before: &Value, after: &Value) -> Self {
        let number = |coverage: &Value, name: &str| coverage[name].as_u64().unwrap_or(0);
        let grown = |name: &str| number(after, name) - number(before, name);
        let reasons = after["not_compared"].as_object().expect("reasons");
        let reason = |name: &String| {
            let count = |coverage: &Value| number(&coverage["not_compared"], name);
            (name.clone(), count(after) - count(before))
        };
        Self {
            commands: grown("commands"),
            compared: ["matched", "tolerated", "diverged"].map(grown).iter().sum(),
            diverged: grown("diverged"),
            reasons: reasons.keys().map(reason).collect(),
        }
    }

    fn of(&self, names: &[&str]) -> u64 {
        let of = |(name, _): &&(String, u64)| names.contains(&name.as_str());
        self.reasons.iter().filter(of).map(|(_, count)| count).sum()
    }

    fn print(&self, said: &[String]) {
        let share = |count: u64| {
            let parts = count * 10_000 / self.commands.max(1);
            format!("{count:>9}  {}.{:02} %", parts / 100, parts % 100)
        };
        println!("healthy, {} s", seconds());
        println!("  {:<24}{}", "commands", share(self.commands));
        println!("  {:<24}{}", "compared", share(self.compared));
        println!("  {:<24}{}", "diverged", share(self.diverged));
        for (name, count) in self.reasons.iter().filter(|(_, count)| *count > 0) {
            println!("  not compared: {name:<10}{}", share(*count));
        }
        let lines = said.iter().flat_map(|said| said.lines());
        let telling = ["transactions:", "ignored errors:", "95th", "shop:"];
        for line in lines.filter(|line| telling.iter().any(|word| line.contains(word))) {
            println!("  {}", line.trim());
        }
    }

    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.compared * 100 < self.commands * 99 {
            wrong.push(format!(
                "{} of {} commands compared is less than 99 %: {:?}",
                self.compared, self.commands, self.reasons
            ));
        }
        let waited = self.of(&["race", "order_wait"]);
        if waited * 100 >= self.commands {
            wrong.push(format!("race and order_wait together: {waited}"));
        }
        wrong
    }
}

/// Open findings that are none of the shop's known statements. How fast the shadow is on the
/// machine of a test says nothing of what it answers.
fn unseeded(findings: &Value) -> Vec<String> {
    let known: BTreeSet<String> = seeded();
    let items = findings["items"].as_array().expect("items");
    let is_open = |finding: &&Value| finding["state"] == "open" && finding["cause_id"].is_null();
    let unknown = |finding: &&Value| !known.contains(finding["fingerprint"].as_str().unwrap_or(""));
    let answered = items.iter().filter(|finding| finding["kind"] != "latency");
    let open = answered.filter(is_open).filter(unknown);
    open.map(|finding| format!("open: {finding}")).collect()
}

/// Shapes of the statements in the shop's list.
fn seeded() -> BTreeSet<String> {
    let list = include_str!("../../../demo/shop/known.go");
    let entries = list.lines().filter_map(|line| {
        let entry = line.trim().strip_prefix("{\"")?.strip_suffix("\"},")?;
        entry.split_once("\", \"").map(|(_, statement)| statement)
    });
    let shape = |statement: &str| {
        let analysis = sql::analyze(statement.as_bytes(), sql::Dialect::default());
        analysis.fingerprint.to_string()
    };
    let shapes: BTreeSet<String> = entries.map(shape).collect();
    assert!(shapes.len() > 10, "{shapes:?}");
    shapes
}

/// Tainted tables but those that the known statements write: `events`, and a temporary table that
/// the shadow refuses.
fn tainted(taints: &Value) -> Vec<String> {
    let items = taints["items"].as_array().expect("items").iter();
    let seeded = ["events", "scratch_pad"];
    let others = items.filter(|taint| !seeded.contains(&taint["table"].as_str().unwrap_or("")));
    others.map(|taint| format!("tainted: {taint}")).collect()
}

/// Tables that are not equal row by row.
async fn unequal(lab: &Lab) -> Vec<String> {
    let tables = (1..=TABLES).map(|number| format!("sbtest{number}"));
    let tables: Vec<String> = tables.chain(SHOP.map(str::to_owned)).collect();
    let mut wrong = Vec::new();
    for table in &tables {
        let columns = columns(&lab.legacy(), table).await;
        let (ours, theirs) = (
            rows(&lab.legacy(), table, &columns).await,
            rows(&lab.shadow(), table, &columns).await,
        );
        println!(
            "  {table:<24}{:>9} rows, equal: {}",
            ours.len(),
            ours == theirs
        );
        if ours != theirs || ours.is_empty() {
            let only = ours.iter().filter(|row| !theirs.contains(*row)).count();
            wrong.push(format!(
                "{table}: {} rows against {}, {only} differ",
                ours.len(),
                theirs.len()
            ));
        }
    }
    wrong
}

/// The columns that no clock fills, by name: vtgate does not know those of every table.
async fn columns(address: &str, table: &str) -> String {
    type Described = (String, String, String, String, Option<String>, String);
    let mut direct = connect(address).await;
    let described: Vec<Described> = direct
        .query(format!("SHOW COLUMNS FROM {table}"))
        .await
        .expect("the columns");
    let clock = |text: &str| text.to_uppercase().contains("CURRENT_TIMESTAMP");
    let steady = described
        .into_iter()
        .filter(|(.., default, extra)| !clock(extra) && !default.as_deref().is_some_and(clock));
    let names: Vec<String> = steady.map(|(name, ..)| format!("`{name}`")).collect();
    names.join(", ")
}

async fn rows(address: &str, table: &str, columns: &str) -> BTreeSet<String> {
    let mut direct = connect(address).await;
    let mut all = BTreeSet::new();
    let mut last = i64::MIN;
    loop {
        let page: Vec<Row> = direct
            .query(format!(
                "SELECT {columns} FROM {table} WHERE id > {last} ORDER BY id LIMIT {PAGE}"
            ))
            .await
            .expect("the rows");
        let Some(end) = page.last().and_then(|row| row.get("id")) else {
            return all;
        };
        last = end;
        let text = |row: Row| {
            let cells: Vec<String> = row
                .unwrap()
                .iter()
                .map(|cell: &Cell| cell.as_sql(true))
                .collect();
            cells.join("\t")
        };
        all.extend(page.into_iter().map(text));
    }
}
