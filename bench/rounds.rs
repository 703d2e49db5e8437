//! Alternating runs, A B C A B C …, so that what else the machine does meets all of them alike: ratios are
//! of one round, and the median of the rounds counts.

use crate::scene::{Contender, Figures};
use anyhow::Result;
use std::collections::BTreeSet;

/// A median, and how far the rounds were apart.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// None of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let is_odd = values.len() % 2 == 1;
        let lower = if is_odd {
            upper
        } else {
            *values.get(middle - 1)?
        };
        Some(Self {
            median: f64::midpoint(lower, upper),
            low: *values.first()?,
            high: *values.last()?,
        })
    }
}

/// How often, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub rounds: usize,
    pub seconds: f64,
    /// Before the first round, each.
    pub warm_up: f64,
}

/// What all rounds came to.
pub struct Rounds {
    of: Vec<(String, Vec<Figures>)>,
}

/// Runs all contenders in turn, at a rate or as fast as they can: there and back, so that whatever a run leaves to the
/// one behind it, and whoever comes first has of it, falls to each alike.
pub fn alternate(contenders: &mut [Contender], pace: Pace, rate: Option<f64>) -> Result<Rounds> {
    for contender in contenders.iter_mut() {
        contender.measure(pace.warm_up, rate)?;
    }
    let names = contenders.iter().map(|contender| contender.name.clone());
    let mut of: Vec<(String, Vec<Figures>)> = names.map(|name| (name, Vec::new())).collect();
    for round in 0..pace.rounds {
        let mut order: Vec<_> = contenders.iter_mut().enumerate().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (at, contender) in order {
            let figures = contender.measure(pace.seconds, rate)?;
            if let Some((_, all)) = of.get_mut(at) {
                all.push(figures);
            }
        }
    }
    Ok(Rounds { of })
}

impl Rounds {
    /// Of these contenders, who are run by the caller.
    pub fn new<const N: usize>(names: [&str; N]) -> Self {
        Self {
            of: names.map(|name| (name.to_owned(), Vec::new())).to_vec(),
        }
    }

    /// One more run of one of them.
    pub fn take(&mut self, name: &str, figures: Figures) {
        if let Some((_, all)) = self.of.iter_mut().find(|(one, _)| one == name) {
            all.push(figures);
        }
    }

    /// None where there is no such contender.
    pub fn of(&self, name: &str) -> Option<&[Figures]> {
        let (_, figures) = self.of.iter().find(|(one, _)| one == name)?;
        Some(figures)
    }

    pub fn spread(&self, name: &str, figure: impl Fn(&Figures) -> f64) -> Option<Spread> {
        Spread::of(self.of(name)?.iter().map(figure).collect())
    }

    /// What each round gives of several contenders' figures.
    pub fn each<const N: usize>(
        &self,
        names: [&str; N],
        of_round: impl Fn([&Figures; N]) -> f64,
    ) -> Option<Spread> {
        let all = names.map(|name| self.of(name).unwrap_or_default());
        let rounds = all.iter().map(|figures| figures.len()).min().unwrap_or(0);
        let of_rounds = (0..rounds).filter_map(|round| {
            let figures = all.map(|figures| figures.get(round));
            figures
                .iter()
                .all(Option::is_some)
                .then(|| of_round(figures.map(|figures| figures.expect("each was looked at"))))
        });
        Spread::of(of_rounds.collect())
    }

    /// One contender's figure in parts of another's.
    pub fn ratio(
        &self,
        one: &str,
        other: &str,
        figure: impl Fn(&Figures) -> f64,
    ) -> Option<Spread> {
        self.each([one, other], |[one, other]| figure(one) / figure(other))
    }

    /// What was wrong with these contenders' runs, each once.
    pub fn faults(&self, names: &[&str]) -> Option<String> {
        let mut faults = BTreeSet::new();
        for name in names {
            let figures = self.of(name).unwrap_or_default();
            let of_rounds = figures.iter().filter_map(Figures::fault);
            faults.extend(of_rounds.take(1).map(|fault| format!("{name}: {fault}")));
        }
        let faults: Vec<String> = faults.into_iter().collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// A line for each contender: CPU a request, throughput, latency.
    pub fn table(&self) -> Vec<Vec<String>> {
        let line = |(name, figures): &(String, Vec<Figures>)| {
            let figure = |of: &dyn Fn(&Figures) -> f64, digits: usize| {
                let values = figures.iter().map(of).collect();
                Spread::of(values).map_or_else(String::new, |spread| {
                    let Spread { median, low, high } = spread;
                    format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
                })
            };
            vec![
                name.clone(),
                figure(&Figures::cpu_us, 1),
                figure(&Figures::relay_us, 1),
                figure(&Figures::shadow_us, 1),
                figure(&Figures::throughput, 0),
                figure(&|figures| figures.came.p50, 0),
                figure(&|figures| figures.came.p99, 0),
                figure(&|figures| figures.came.p999, 0),
                figure(&|figures| figures.came.max, 0),
                figure(&Figures::switches, 2),
            ]
        };
        self.of.iter().map(line).collect()
    }
}

/// What [`Rounds::table`] has in its columns.
pub const COLUMNS: [&str; 10] = [
    "through",
    "CPU µs/request",
    "serving clients",
    "the rest",
    "requests/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "longest µs",
    "switches/request",
];
