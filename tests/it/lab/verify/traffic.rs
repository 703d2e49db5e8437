//! What runs beside a verification: sysbench through the proxy at a rate, and what its transactions take, window by
//! window, beside a run and without one.

use crate::lab::mirroring::connect;
use crate::lab::proxy::Proxy;
use crate::lab::{Lab, load};
use mysql_async::prelude::Queryable;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Seconds of load at most; it is ended when the runs are.
const LOAD_S: u32 = 6 * 3600;

/// Windows that may wait to be looked at.
const WINDOWS_MAX: usize = 1024;

/// Rows of one INSERT.
const BATCH: u32 = 1000;

/// The load, and how it is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) tables: u32,
    pub(super) rows: u32,
    /// Transactions a second.
    pub(super) rate: u32,
    pub(super) threads: u32,
    pub(super) window_s: u64,
}

/// What clients met in a span of time.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// The 99th percentile of the transactions' times, from when they were due.
    pub(super) p99_ms: f64,
    pub(super) tps: f64,
    /// The machine's load average at the end of it.
    pub(super) load: String,
}

/// sysbench, until it is dropped.
pub(super) struct Traffic {
    child: Child,
    windows: Receiver<Window>,
    window: Duration,
}

impl Traffic {
    pub(super) fn through(proxy: &Proxy, shape: Shape) -> Self {
        let mut child = load::command(proxy)
            .arg(format!("--tables={}", shape.tables))
            .arg(format!("--table-size={}", shape.rows))
            .arg(format!("--threads={}", shape.threads))
            .arg(format!("--rate={}", shape.rate))
            .arg(format!("--time={LOAD_S}"))
            .arg(format!("--report-interval={}", shape.window_s))
            .args(["--percentile=99", "--db-ps-mode=disable"])
            // A deadlock's victim is the primary's doing.
            .args(["--mysql-ignore-errors=1213,1205,1020", "run"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sysbench runs: lab/install sysbench");
        let out = BufReader::new(child.stdout.take().expect("its stdout"));
        let (sender, windows) = sync_channel(WINDOWS_MAX);
        std::thread::spawn(move || {
            let told = out.lines().map_while(Result::ok);
            for window in told.filter_map(|line| read(&line)) {
                if sender.send(window).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            windows,
            window: Duration::from_secs(shape.window_s),
        }
    }

    /// The window that ends next.
    pub(super) fn next(&self) -> Window {
        let patience = self.window * 3 + Duration::from_secs(60);
        let next = self.windows.recv_timeout(patience);
        next.expect("sysbench goes on, and tells of each window")
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `[ 10s ] thds: 4 tps: 20.00 qps: … lat (ms,99%): 12.30 err/s: …`
fn read(line: &str) -> Option<Window> {
    let figure = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Some(Window {
        p99_ms: figure("lat (ms,99%):")?,
        tps: figure("tps:")?,
        load: load.split_whitespace().next().unwrap_or("?").to_owned(),
    })
}

/// sysbench's tables, the same rows on both sides, not by the mirror.
pub(super) async fn filled(lab: &Lab, shape: Shape) {
    let fill = async |address: String| {
        let mut direct = connect(&address, "app").await;
        for table in 1..=shape.tables {
            let drop = format!("DROP TABLE IF EXISTS sbtest{table}");
            direct.query_drop(drop).await.expect("it goes");
            let make = format!(
                "CREATE TABLE sbtest{table} (id INTEGER NOT NULL, k INTEGER DEFAULT '0' NOT NULL, c CHAR(120) DEFAULT '' NOT NULL, pad CHAR(60) DEFAULT '' NOT NULL, PRIMARY KEY (id), KEY k_{table} (k)) DEFAULT CHARSET utf8"
            );
            direct.query_drop(make).await.expect("the table is made");
            let mut id = 0;
            while id < shape.rows {
                let to = (id + BATCH).min(shape.rows);
                let rows: Vec<String> = (id + 1..=to).map(|id| row(table, id)).collect();
                let insert = format!(
                    "INSERT INTO sbtest{table} (id, k, c, pad) VALUES {}",
                    rows.join(", ")
                );
                direct.query_drop(insert).await.expect("filled");
                id = to;
            }
        }
        direct.disconnect().await.expect("it closes");
    };
    tokio::join!(fill(lab.legacy()), fill(lab.shadow()));
}

fn row(table: u32, id: u32) -> String {
    let mix = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(13) ^ table;
    let word = |n: u32| format!("{:010}", mix(id.wrapping_add(n)));
    let c: Vec<String> = (0..10).map(word).collect();
    let pad: Vec<String> = (20..25).map(word).collect();
    let k = mix(id) % 250_000 + 1;
    format!("({id}, {k}, '{}', '{}')", c.join("-"), pad.join("-"))
}
