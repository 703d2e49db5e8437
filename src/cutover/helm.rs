//! What the operators' door asks of whoever runs the cutovers.

use super::{Judged, State};
use crate::ledger::{Record, Records};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// An answer that takes its time.
pub type Soon<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Steers the cutovers. Every method but [`Helm::records`] may be called on a runtime's thread.
pub trait Helm: Send + Sync + 'static {
    /// Where the machine stands.
    fn state(&self) -> State;
    /// The number of the record that the state is of: the one under way, else the last one that was
    /// not refused.
    fn record(&self) -> Option<i64>;
    /// The newest records, newest first. Reads the file: it blocks.
    ///
    /// # Errors
    /// The file cannot be read, and why.
    fn records(&self, limit: usize) -> Result<Vec<Record>, String>;
    /// Asks for a cutover; its record's number once the guards have let it pass.
    fn order(&self, order: Order) -> Soon<'_, Result<i64, Refused>>;
    /// Asks for the end of the one under way; its record's number once that has ended.
    fn abort(&self, who: String) -> Soon<'_, Result<i64, Refused>>;
    /// An operator says that replication from the old primary to the new one has ended, so that dark
    /// writes may flow back.
    fn replication_stopped(&self, who: String) -> Soon<'_, Result<(), Refused>>;
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

/// Nobody steers: there can be no cutover, and why. What was recorded earlier is told.
#[derive(Clone, Debug)]
pub struct Unmanned {
    why: String,
    records: Option<Arc<Records>>,
}

impl Unmanned {
    /// With the reason, in words that end a sentence which begins with `there can be no cutover:`.
    #[must_use]
    pub fn new(why: &str, records: Option<Arc<Records>>) -> Self {
        Self {
            why: why.to_owned(),
            records,
        }
    }

    fn refused<T: Send + 'static>(&self) -> Soon<'_, Result<T, Refused>> {
        let refused = Refused::Unable(format!("there can be no cutover: {}", self.why));
        Box::pin(std::future::ready(Err(refused)))
    }
}

impl Helm for Unmanned {
    fn state(&self) -> State {
        State::Idle
    }

    fn record(&self) -> Option<i64> {
        None
    }

    fn records(&self, limit: usize) -> Result<Vec<Record>, String> {
        match &self.records {
            Some(records) => records.cutovers(limit).map_err(|fault| fault.to_string()),
            None => Ok(Vec::new()),
        }
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
}
