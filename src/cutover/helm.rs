//! What the operators' door asks of whoever runs the cutovers.

use super::fleet::Fleet;
use super::machine::{Outcome, Soak};
use super::{Judged, Progress, State};
use crate::ledger::{Record, Records};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// An answer that takes its time.
pub type Soon<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Steers the cutovers. Every method but those that read the file may be called on a runtime's thread. An answer
/// that is no longer waited for takes nothing back: what was asked is done all the same.
pub trait Helm: Send + Sync + 'static {
    /// Where the machine stands.
    fn state(&self) -> State;
    /// The number of the record that is told with the state: the one under way, the one that soaks, else
    /// the newest one that was not refused.
    fn record(&self) -> Option<i64>;
    /// How far it has come in that state, and what it waits for; none at rest, and where nobody says. Waits for
    /// nothing.
    fn progress(&self) -> Option<Progress> {
        None
    }
    /// The newest records, newest first. Reads the file: it blocks.
    ///
    /// # Errors
    /// The file cannot be read, and why.
    fn records(&self, limit: usize) -> Result<Vec<Record>, String>;
    /// One record, by its number, however old. As [`Helm::records`].
    ///
    /// # Errors
    /// Likewise.
    fn kept(&self, id: i64) -> Result<Option<Record>, String>;
    /// The newest record of a switch, however many were refused since. As [`Helm::records`].
    ///
    /// # Errors
    /// Likewise.
    fn last_switched(&self) -> Result<Option<Record>, String>;
    /// Asks for a cutover; its record's number once the guards have let it pass.
    fn order(&self, order: Order) -> Soon<'_, Result<i64, Refused>>;
    /// Asks for the end of the one under way; its record's number once that has ended.
    fn abort(&self, who: String) -> Soon<'_, Result<i64, Refused>>;
    /// An operator says that replication from the old primary to the new one has ended, so that dark
    /// writes may flow back.
    fn replication_stopped(&self, who: String) -> Soon<'_, Result<(), Refused>>;
    /// The other proxies that flip together with this one; none where it is alone.
    fn fleet(&self) -> Option<Arc<Fleet>>;
}

/// What an operator asks for. The names are those of servers and guards that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Who is to be the primary; another server than the one that is.
    pub to: String,
    /// It ends before the hold.
    pub dry_run: bool,
    /// The guards that it overrides.
    pub force: Vec<&'static str>,
    /// Who asks.
    pub who: String,
}

/// Why it is not done.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// Guards refuse; all of them, those that pass too.
    Guards(Vec<Judged>),
    /// It cannot be done in this state.
    NotNow(String),
    /// It cannot be done at all: something is broken or absent.
    Unable(String),
}

/// Where the machine stands at a start, by the last cutover that was neither refused nor a dry run, once
/// [`Records::take_over`] has closed what was left.
#[must_use]
pub fn restored(last: Option<&Record>) -> State {
    let Some(last) = last else {
        return State::Idle;
    };
    let soak = Soak {
        is_back: last.is_back,
    };
    match last.outcome.as_deref() {
        Some(outcome) if outcome == Outcome::Done.name() => State::Done,
        Some(_) => State::Aborted,
        None if last.switched.is_some() => State::Soaking(soak),
        // Nobody could close it, and its switch was not recorded.
        None => State::Aborted,
    }
}

/// Whether a cutover to this server undoes the last switch. What was a way back itself is not undone: after a rehearsal
/// the next switch is a cutover like the first one, with all its guards.
#[must_use]
pub fn is_way_back(last_switched: Option<&Record>, to: &str) -> bool {
    last_switched.is_some_and(|last| !last.is_back && last.from == to)
}

/// Nobody steers: there can be no cutover, and why. What was recorded earlier is told.
#[derive(Clone, Debug)]
pub struct Unmanned {
    why: String,
    records: Option<Arc<Records>>,
    state: State,
    record: Option<i64>,
    fleet: Option<Arc<Fleet>>,
}

impl Unmanned {
    /// With the reason, in words that end a sentence which begins with `there can be no cutover:`.
    /// Reads the records.
    #[must_use]
    pub fn new(why: &str, records: Option<Arc<Records>>, fleet: Option<Arc<Fleet>>) -> Self {
        let last = records
            .as_ref()
            .and_then(|records| records.last_acted().ok().flatten());
        Self {
            why: why.to_owned(),
            records,
            state: restored(last.as_ref()),
            record: last.map(|last| last.id),
            fleet,
        }
    }

    fn refused<T: Send + 'static>(&self) -> Soon<'_, Result<T, Refused>> {
        let refused = Refused::Unable(format!("there can be no cutover: {}", self.why));
        Box::pin(std::future::ready(Err(refused)))
    }
}

impl Helm for Unmanned {
    fn state(&self) -> State {
        self.state
    }

    fn record(&self) -> Option<i64> {
        self.record
    }

    fn records(&self, limit: usize) -> Result<Vec<Record>, String> {
        match &self.records {
            Some(records) => records.cutovers(limit).map_err(|fault| fault.to_string()),
            None => Ok(Vec::new()),
        }
    }

    fn kept(&self, id: i64) -> Result<Option<Record>, String> {
        let records = self.records.as_ref();
        let kept = records.map(|records| records.cutover(id)).transpose();
        kept.map(Option::flatten).map_err(|fault| fault.to_string())
    }

    fn last_switched(&self) -> Result<Option<Record>, String> {
        let records = self.records.as_ref();
        let last = records.map(|records| records.last_switched()).transpose();
        last.map(Option::flatten).map_err(|fault| fault.to_string())
    }

    fn order(&self, _order: Order) -> Soon<'_, Result<i64, Refused>> {
        self.refused()
    }

    fn abort(&self, _who: String) -> Soon<'_, Result<i64, Refused>> {
        self.refused()
    }

    fn replication_stopped(&self, _who: String) -> Soon<'_, Result<(), Refused>> {
        self.refused()
    }

    fn fleet(&self) -> Option<Arc<Fleet>> {
        self.fleet.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Begun;

    #[test]
    fn a_restart_stands_where_the_records_say() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::at(&dir.path().join("ledger.db"));
        let state = || restored(records.last_acted().unwrap().as_ref());
        let back = || {
            let last = records.last_switched().unwrap();
            ["legacy", "vitess"].map(|to| is_way_back(last.as_ref(), to))
        };
        let begin = |dry_run, is_back| {
            let begun = Begun {
                from: "legacy".into(),
                to: "vitess".into(),
                dry_run,
                is_back,
                forced: Vec::new(),
                who: "dba".into(),
            };
            records.begin(&begun).unwrap()
        };
        assert_eq!((state(), back()), (State::Idle, [false; 2]));
        begin(true, false);
        assert_eq!(state(), State::Idle, "a dry run does nothing");
        let first = begin(false, false);
        records.switch(first).unwrap();
        let soak = Soak { is_back: false };
        assert_eq!(state(), State::Soaking(soak));
        assert_eq!(back(), [true, false]);
        records.end(first, Outcome::Done.name(), "").unwrap();
        assert_eq!(state(), State::Done);
        begin(false, true);
        records.take_over().unwrap();
        assert_eq!(state(), State::Aborted);
        assert_eq!(back(), [true, false]);
        let back_again = begin(false, true);
        records.switch(back_again).unwrap();
        records.end(back_again, Outcome::Done.name(), "").unwrap();
        assert_eq!(back(), [false; 2], "a way back is not undone");
        let second = begin(false, false);
        records.take_over().unwrap();
        let unmanned = Unmanned::new("nobody is here", Some(Arc::new(records)), None);
        assert_eq!(unmanned.state(), State::Aborted);
        assert_eq!(unmanned.record(), Some(second));
        assert_eq!(unmanned.records(9).unwrap().len(), 5);
        let last = unmanned.last_switched().unwrap().unwrap();
        assert_eq!(last.id, back_again, "whatever came after it");
        assert_eq!(unmanned.kept(back_again).unwrap().unwrap(), last);
    }
}
