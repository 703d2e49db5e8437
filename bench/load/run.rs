//! One run: so many workers, for so long.

use super::Came;
use super::connection::Connection;
use super::statements::Script;
use crate::arguments;
use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The connections; one that a worker uses is away.
pub type Pool = Vec<RefCell<Option<Connection>>>;

/// Read at once: so much that a long answer does not cost the load a system call for each row.
const BUFFER_BYTES: usize = 64 << 10;

/// The longest time that is told apart, in ns.
const LONGEST_NS: u64 = 600_000_000_000;

/// What the workers count together.
struct Tally {
    times: Histogram<u64>,
    came: Came,
}

struct Worker {
    number: usize,
    pool: Rc<Pool>,
    tally: Rc<RefCell<Tally>>,
    script: Script,
    roam: bool,
    end: Instant,
    /// From one request to the next, at a rate.
    pace: Option<Duration>,
    next: Instant,
}

pub async fn run_once(
    arguments: &arguments::Load,
    pool: &Rc<Pool>,
    length: Duration,
    rate: Option<f64>,
) -> Result<Came> {
    let workers = arguments.workers.unwrap_or(arguments.connections);
    let tally = Rc::new(RefCell::new(Tally {
        times: Histogram::new_with_max(LONGEST_NS, 3)?,
        came: Came::default(),
    }));
    let began = Instant::now();
    let pace = rate.map(|rate| Duration::from_secs_f64(workers as f64 / rate));
    let mut running = JoinSet::new();
    for number in 0..workers {
        let share = number as f64 / workers as f64;
        let worker = Worker {
            number,
            pool: Rc::clone(pool),
            tally: Rc::clone(&tally),
            script: Script::new(arguments.ask, arguments.prepared, number),
            roam: arguments.roam,
            end: began + length,
            pace,
            next: began + pace.unwrap_or_default().mul_f64(share),
        };
        running.spawn_local(worker.work());
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let tally = tally.borrow();
    let of = |quantile| tally.times.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Came {
        seconds: began.elapsed().as_secs_f64(),
        p50: of(0.5),
        p99: of(0.99),
        p999: of(0.999),
        max: tally.times.max() as f64 / 1000.0,
        ..tally.came.clone()
    })
}

impl Worker {
    async fn work(mut self) -> Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut at = self.number;
        loop {
            // A transaction is ended before the run is, and on the connection that it began on.
            if self.script.is_at_start() {
                self.wait().await;
                if Instant::now() >= self.end {
                    return Ok(());
                }
                if self.roam {
                    at = self.free_one();
                }
            }
            if !self.request(at, &mut buffer).await? {
                return Ok(());
            }
        }
    }

    /// Until the next request is due.
    async fn wait(&mut self) {
        let Some(pace) = self.pace else { return };
        tokio::time::sleep_until(self.next.min(self.end)).await;
        // What could not be sent in time is caught up with, a little.
        let late = Instant::now().saturating_duration_since(self.next);
        self.next += pace.max(late.saturating_sub(Duration::from_millis(10)));
    }

    fn free_one(&mut self) -> usize {
        loop {
            let at = (self.script.random() % self.pool.len() as u64) as usize;
            if self.pool.get(at).is_some_and(|one| one.borrow().is_some()) {
                return at;
            }
        }
    }

    /// One request; whether the connection is still good.
    async fn request(&mut self, at: usize, buffer: &mut [u8]) -> Result<bool> {
        let place = self.pool.get(at);
        let Some(mut connection) = place.and_then(|place| place.borrow_mut().take()) else {
            bail!("connection {at} is gone");
        };
        let command = self.script.next(connection.ids());
        let began = Instant::now();
        let answered = connection.request(command, buffer).await;
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(LONGEST_NS);
        let mut tally = self.tally.borrow_mut();
        let Ok(answered) = answered else {
            tally.came.broken += 1;
            return Ok(false);
        };
        tally.times.saturating_record(took);
        tally.came.requests += 1;
        tally.came.bytes += answered.bytes;
        tally.came.errors += u64::from(answered.is_error);
        if let Some(place) = place {
            place.borrow_mut().replace(connection);
        }
        Ok(true)
    }
}
