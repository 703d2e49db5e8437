//! What the order across sessions costs, alone on the machine: sysbench runs as fast as the primary
//! lets it, so that the shadow is what holds everything up, and its commands are counted.

use super::load::{prepare, sysbench};
use super::mirroring::reason;
use super::proxy::Setup;
use super::{Lab, Proxy};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Runs with the order, and as many without.
const RUNS: usize = 3;

/// The share of the unordered replay's throughput that the ordered one reaches at least, in percent.
const LEAST_PERCENT: u64 = 80;

/// Commands that wait at least while the shadow is what holds everything up.
const SATURATED: u64 = 1_000;

/// Within which all that waits is settled.
const SETTLES: Duration = Duration::from_secs(600);

/// Seconds of each run's load: `THROUGHPUT_S`, 15 by default.
fn seconds() -> u64 {
    let set = std::env::var("THROUGHPUT_S").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(15)
}

fn setup(measures: &'static str) -> Setup {
    Setup {
        // Nothing is let go and nobody is too late, however far the shadow is behind. A second look at
        // reads is no part of the replay.
        mirror: "writes = \"apply\"\nqueue_bytes = \"2GiB\"\nsession_queue_bytes = \"256MiB\"\n\
                 order_wait_ms = 600000\nbreaker_lag_ms = 600000",
        more: "[compare]\nrecheck = \"off\"".to_owned(),
        measures,
        ..Setup::default()
    }
}

/// What one run came to.
struct Run {
    /// Commands that the shadow ran in a second while so many waited that the shadow was never idle.
    rate: u64,
    coverage: Value,
    /// Transactions that were run again on the shadow, and those that were given up.
    again: [u64; 2],
}

/// A moment of a run.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    /// Commands that the shadow has run.
    ran: u64,
    pending: u64,
}

impl Moment {
    fn now(proxy: &Proxy) -> Self {
        let coverage = proxy.get("/api/v1/status")["coverage"].clone();
        let number = |name: &str| coverage[name].as_u64().expect("a count");
        Self {
            at: Instant::now(),
            // The rest of a transaction that could not be carried to its end is not run.
            ran: number("commands") - number("pending") - reason(&coverage, "race"),
            pending: number("pending"),
        }
    }
}

fn run(lab: &Lab, measures: &'static str) -> Run {
    let proxy = Proxy::start_with(lab, &setup(measures));
    prepare(&proxy);
    let load = [
        "--threads=16".to_owned(),
        format!("--time={}", seconds()),
        "--db-ps-mode=disable".to_owned(),
    ];
    let moments = std::thread::scope(|scope| {
        let loads = scope.spawn(|| sysbench(&proxy, "run", &load));
        let mut moments = vec![Moment::now(&proxy)];
        let end = Instant::now() + SETTLES;
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let moment = Moment::now(&proxy);
            moments.push(moment);
            if loads.is_finished() && moment.pending == 0 {
                break;
            }
            assert!(
                Instant::now() < end,
                "{} commands still wait",
                moment.pending
            );
        }
        loads.join().expect("sysbench ends well");
        moments
    });
    let is_saturated = |moment: &&Moment| moment.pending >= SATURATED;
    let first = moments.iter().find(is_saturated);
    let last = moments.iter().rfind(is_saturated);
    let (Some(first), Some(last)) = (first, last) else {
        panic!("the shadow kept up: nothing is measured");
    };
    let took = last.at.duration_since(first.at);
    assert!(
        took > Duration::from_secs(seconds()) / 2,
        "that much waited for {took:?} only"
    );
    let millis = u64::try_from(took.as_millis()).expect("a short time");
    Run {
        rate: (last.ran - first.ran) * 1_000 / millis,
        coverage: proxy.settled(),
        again: ["retries", "broken"]
            .map(|name| proxy.metric(&format!("understudy_mirror_{name}_total"))),
    }
}

fn median(mut rates: Vec<u64>) -> u64 {
    rates.sort_unstable();
    rates[rates.len() / 2]
}

#[test]
fn the_order_across_sessions_costs_a_fifth_of_the_throughput_at_most() {
    let lab = Lab::get();
    let (mut ordered, mut unordered) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        for (name, rates) in [("ordered", &mut ordered), ("unordered", &mut unordered)] {
            let run = run(&lab, name);
            let [retries, broken] = run.again;
            println!(
                "{name:<10} {:>6} commands/s, {retries} retries, {broken} given up; {}",
                run.rate, run.coverage
            );
            // What is not run on the shadow is settled fast, and says nothing.
            let skipped = ["dropped", "suspended", "too_large"];
            let skipped = skipped.map(|why| run.coverage["not_compared"][why].as_u64());
            assert_eq!(skipped.into_iter().flatten().sum::<u64>(), 0, "{name}");
            rates.push(run.rate);
        }
    }
    let (ordered, unordered) = (median(ordered), median(unordered));
    let percent = ordered * 100 / unordered;
    println!("ordered {ordered}, unordered {unordered} commands/s (medians): {percent} %");
    assert!(percent >= LEAST_PERCENT, "{percent} %");
}
