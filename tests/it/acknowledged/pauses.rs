//! How long clients waited: every command's time, and which of them met a hold.

use std::time::{Duration, SystemTime};

/// A command: when it was sent, and until its whole answer was there.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    pub began: SystemTime,
    pub took: Duration,
}

impl Timed {
    fn overlaps(&self, from: SystemTime, to: SystemTime) -> bool {
        self.began <= to && self.began + self.took >= from
    }
}

/// The longest command of each client that was under way at some moment of the time; clients that
/// had none are left out.
pub fn met<'a>(
    clients: impl Iterator<Item = &'a [Timed]>,
    from: SystemTime,
    to: SystemTime,
) -> Vec<Duration> {
    let longest = |commands: &[Timed]| {
        let met = commands.iter().filter(|command| command.overlaps(from, to));
        met.map(|command| command.took).max()
    };
    clients.filter_map(longest).collect()
}

/// The value that so many of a hundred do not pass; zero of nothing.
pub fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    fn command(began: u64, took: u64) -> Timed {
        Timed {
            began: at(began),
            took: Duration::from_millis(took),
        }
    }

    #[test]
    fn a_command_met_the_hold_where_it_was_under_way_in_it() {
        let busy = [command(0, 5), command(90, 40), command(200, 3)];
        let long = [command(50, 500)];
        let idle = [command(0, 5), command(300, 5)];
        let clients = [&busy[..], &long[..], &idle[..]];
        let met = met(clients.into_iter(), at(100), at(150));
        assert_eq!(met, [40, 500].map(Duration::from_millis));
    }

    #[test]
    fn quantiles_are_the_value_at_their_rank() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 99), Duration::from_millis(198));
        assert_eq!(quantile(&times, 50), Duration::from_millis(100));
        assert_eq!(quantile(&times, 100), Duration::from_millis(200));
        assert_eq!(quantile(&[], 99), Duration::ZERO);
    }
}
