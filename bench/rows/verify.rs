//! Two servers with the same 5,000,000 rows: `understudy verify` beside what one would take instead, a dump of each
//! and a diff, and pt-table-sync.
//!
//! Between MySQL 5.6 and MySQL 9.7, for neither of the others knows a vtgate of two shards; understudy is measured
//! there, too. Each is run in turn over a tenth of the rows and over all of them. The second server lacks a row, has one
//! more, and has another value in one: whoever does not say so is told.

mod contenders;
mod fill;
mod spent;

use self::contenders::{Contender, Pair};
use self::fill::Table;
use self::spent::Spent;
use super::Bench;
use crate::lab::Lab;
use crate::report::{Details, Goal, Outcome, short};
use crate::rounds::Spread;
use anyhow::Result;

/// Rows of the large table, by the bench's form.
const ROWS_LONG: u32 = 5_000_000;
const ROWS_SHORT: u32 = 400_000;

const ROUNDS: usize = 3;

const PAUSES: &str = "understudy takes a second and a half at least, however few rows there are: what differs counts only where both servers were seen to stand still for so long, from before the first row was read on";

/// What a contender came to, over all rounds.
struct Measured {
    pair: &'static str,
    contender: Contender,
    rows: u32,
    rounds: Vec<Spent>,
}

impl Measured {
    fn median(&self, figure: impl Fn(&Spent) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(figure).collect())
    }

    fn rows_a_second(&self) -> Option<Spread> {
        self.median(|spent| f64::from(self.rows) / spent.wall_s)
    }

    fn cells(&self) -> Vec<String> {
        let told = |figure: fn(&Spent) -> f64| {
            let spread = self.median(figure);
            spread.map_or_else(String::new, |spread| short(spread.median))
        };
        let missed = self.missed();
        vec![
            self.pair.to_owned(),
            self.contender.name().to_owned(),
            self.rows.to_string(),
            told(|spent| spent.wall_s),
            self.rows_a_second()
                .map_or_else(String::new, |spread| format!("{:.0}", spread.median)),
            told(|spent| spent.cpu_s),
            told(|spent| spent.peak_mib),
            told(|spent| spent.servers_s.0),
            told(|spent| spent.servers_s.1),
            if missed.is_empty() {
                "all".to_owned()
            } else {
                format!("missed: {}", missed.join(", "))
            },
        ]
    }

    /// The planted differences that it did not tell, in any round.
    fn missed(&self) -> Vec<&'static str> {
        let all = self.rounds.iter().flat_map(|spent| spent.missed.iter());
        let mut missed: Vec<&str> = all.copied().collect();
        missed.sort_unstable();
        missed.dedup();
        missed
    }
}

pub fn rows(bench: &Bench) -> Result<Outcome> {
    let all = if bench.is_long() {
        ROWS_LONG
    } else {
        ROWS_SHORT
    };
    let tables = [Table::new(2, all / 10), Table::new(1, all)];
    let (lab, modern) = (Lab::start()?, Lab::modern()?);
    println!("  filling three servers with {all} rows …");
    fill::all(&lab, &modern, &tables)?;
    let plain = Pair::plain(bench, &lab, &modern)?;
    let sharded = Pair::sharded(bench, &lab)?;
    let mut measured = Vec::new();
    for table in &tables {
        for (pair, contenders) in [(&plain, &Contender::ALL[..]), (&sharded, &Contender::OURS)] {
            for contender in contenders {
                measured.push(Measured {
                    pair: pair.name,
                    contender: *contender,
                    rows: table.rows,
                    rounds: Vec::new(),
                });
            }
        }
    }
    for _ in 0..bench.pace().rounds.min(ROUNDS) {
        for one in &mut measured {
            let pair = if one.pair == plain.name {
                &plain
            } else {
                &sharded
            };
            let table = tables.iter().find(|table| table.rows == one.rows);
            let Some(table) = table else { continue };
            one.rounds.push(pair.run(one.contender, table)?);
        }
    }
    Ok(told(&measured, all, (plain.name, sharded.name)))
}

fn told(measured: &[Measured], all: u32, (plain, sharded): (&str, &str)) -> Outcome {
    let mut outcome = Outcome::default();
    let of = |pair: &str, contender: Contender, rows: u32| {
        let mut all = measured.iter();
        all.find(|one| one.pair == pair && one.contender == contender && one.rows == rows)
    };
    let ours = of(plain, Contender::Understudy, all);
    for other in [Contender::Dumps, Contender::Percona] {
        let ratios = ours.map_or_else(Vec::new, |ours| {
            let theirs = of(plain, other, all).map_or(&[][..], |one| &one.rounds);
            let pairs = ours.rounds.iter().enumerate();
            pairs
                .filter_map(|(at, one)| Some(theirs.get(at)?.wall_s / one.wall_s))
                .collect()
        });
        outcome.line(
            format!(
                "rows a second, understudy verify against {}; {all} rows, {plain}",
                other.name()
            ),
            Goal::AtLeast(1.0),
            "×",
            Spread::of(ratios),
            Some(PAUSES.to_owned()),
        );
    }
    for pair in [plain, sharded] {
        let peak = |rows| of(pair, Contender::Understudy, rows);
        let ratios = peak(all).map_or_else(Vec::new, |many| {
            let few = peak(all / 10).map_or(&[][..], |one| &one.rounds);
            let pairs = many.rounds.iter().enumerate();
            pairs
                .filter_map(|(at, one)| Some(one.peak_mib / few.get(at)?.peak_mib))
                .collect()
        });
        outcome.line(
            format!("peak memory, understudy verify of {all} rows against a tenth of them; {pair}"),
            Goal::AtMost(1.1),
            "×",
            Spread::of(ratios),
            None,
        );
        let ours = of(pair, Contender::Understudy, all);
        outcome.line(
            format!("rows a second, understudy verify; {all} rows, {pair}"),
            Goal::Known,
            "rows/s",
            ours.and_then(Measured::rows_a_second),
            ours.map(Measured::missed)
                .filter(|missed| !missed.is_empty())
                .map(|missed| format!("it missed what was planted: {}", missed.join(", "))),
        );
    }
    outcome.details.push(Details {
        title: "data at rest: sysbench's table, all rows equal but three".to_owned(),
        columns: vec![
            "between",
            "by",
            "rows",
            "s",
            "rows/s",
            "CPU s, client",
            "MiB at most, client",
            "CPU s, first server",
            "CPU s, second server",
            "planted differences told",
        ],
        rows: measured.iter().map(Measured::cells).collect(),
    });
    outcome
}
