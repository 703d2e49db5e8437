//! The table's rows: a file for each family of them, all measured in one interleaved run.

mod beside;
mod cost;
mod crowd;
mod isolation;
mod large;
mod memory;
mod replay;
mod resume;
mod statement;
mod sysbench;
mod syscalls;
mod verify;

use crate::arguments::{Form, Table};
use crate::process;
use crate::report::{self, Goal, Outcome};
use crate::rounds::Pace;
use crate::workplace::Workplace;
use anyhow::Result;
use std::time::Duration;
use tokio::time::Instant;

/// What a family is measured with.
pub struct Bench {
    pub workplace: Workplace,
    pub form: Form,
    rounds: Option<usize>,
    seconds: Option<f64>,
}

impl Bench {
    /// The usual rounds.
    pub fn pace(&self) -> Pace {
        let (rounds, seconds) = match self.form {
            Form::Short => (5, 0.5),
            Form::Long => (15, 1.0),
        };
        Pace {
            rounds: self.rounds.unwrap_or(rounds),
            seconds: self.seconds.unwrap_or(seconds),
            warm_up: 0.5,
        }
    }

    /// Fewer, for what is only to be known.
    pub fn glance(&self) -> Pace {
        let pace = self.pace();
        Pace {
            rounds: pace.rounds.min(7),
            ..pace
        }
    }

    pub fn is_long(&self) -> bool {
        self.form == Form::Long
    }
}

/// After this time no further family is begun: on a machine that is busy elsewhere there would be no end.
const LIMIT_SHORT: Duration = Duration::from_secs(8 * 60);
const LIMIT_LONG: Duration = Duration::from_secs(45 * 60);

type Family = fn(&Bench) -> Result<Outcome>;

/// In the table's order. What a name begins with chooses it.
const FAMILIES: [(&str, Family); 12] = [
    ("cost", cost::rows),
    ("beside", beside::rows),
    ("resume", resume::rows),
    ("large", large::rows),
    ("memory", memory::rows),
    ("crowd", crowd::rows),
    ("isolation", isolation::rows),
    ("replay", replay::rows),
    ("statement", statement::rows),
    ("syscalls", syscalls::rows),
    ("sysbench", sysbench::rows),
    ("verify", verify::rows),
];

pub fn run(table: &Table) -> Result<()> {
    let chosen = |name: &str| {
        table.only.is_empty()
            || table
                .only
                .iter()
                .any(|only| name.starts_with(only.as_str()))
    };
    if table.list {
        FAMILIES.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    anyhow::ensure!(
        FAMILIES.iter().any(|(name, _)| chosen(name)),
        "no such row: --list tells them"
    );
    process::raise_descriptors();
    let bench = Bench {
        workplace: Workplace::new(table)?,
        form: table.form,
        rounds: table.rounds,
        seconds: table.seconds,
    };
    let mut all = Outcome::default();
    let started = Instant::now();
    let limit = match table.form {
        Form::Short => LIMIT_SHORT,
        Form::Long => LIMIT_LONG,
    };
    for (name, family) in FAMILIES.iter().filter(|(name, _)| chosen(name)) {
        if started.elapsed() > limit {
            all.line(
                *name,
                Goal::Known,
                "",
                None,
                Some("no time was left".to_owned()),
            );
            continue;
        }
        let began = Instant::now();
        println!("\n{name} …");
        bench.workplace.set_apart(false);
        match family(&bench) {
            Ok(outcome) => {
                report::show(name, &outcome);
                all.add(outcome);
            }
            // The others can be measured all the same.
            Err(error) => {
                println!("{name} could not be measured: {error:#}");
                let why = format!("{error:#}").replace('\n', " ");
                all.line(*name, Goal::Known, "", None, Some(why));
            }
        }
        println!("({:.0} s)", began.elapsed().as_secs_f64());
    }
    report::show_missed(&all);
    if table.write || table.only.is_empty() {
        report::write(&all, &bench.workplace, bench.form)?;
    }
    Ok(())
}
