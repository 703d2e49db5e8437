//! What operators may ask of whoever verifies, and what they are told.

use super::instants::HoldFigures;
use super::wish::Wish;
use crate::ledger::RunRecord;
use serde_json::{Value, json};

/// Why it is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The wish cannot be.
    #[error("{0}")]
    Wrong(String),
    /// Not in this state.
    #[error("{0}")]
    NotNow(String),
    /// Something is broken.
    #[error("{0}")]
    Unable(String),
}

/// How the run under way stands, or the last one of this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// `idle`, `running`, `paused`, `ended`.
    pub state: &'static str,
    /// It waits, or gives way.
    pub waits: bool,
    /// Rows of the primary's that were read.
    pub rows: u64,
    /// Rows that differ and were not repaired.
    pub different: u64,
    /// Tables by outcome; `pending` for those that have none yet.
    pub tables: [(&'static str, u64); 5],
    /// What sessions were held for, in all runs of this process.
    pub holds: HoldFigures,
}

impl Figures {
    /// There was no run.
    #[must_use]
    pub fn idle() -> Self {
        Self {
            state: "idle",
            waits: false,
            rows: 0,
            different: 0,
            tables: [
                ("pending", 0),
                ("equal", 0),
                ("equal_in_part", 0),
                ("different", 0),
                ("unfinished", 0),
            ],
            holds: HoldFigures::default(),
        }
    }
}

/// What the operators' door asks of whoever verifies. What blocks is not for a runtime's thread.
pub trait Inspector: Send + Sync + 'static {
    /// Begins a run; its number. Blocks on the disk.
    ///
    /// # Errors
    /// It does not begin, and why.
    fn start(&self, wish: &Wish, who: &str) -> Result<i64, Refused>;
    /// Pauses the run that is under way; its number. Blocks on the disk, as the next two do.
    ///
    /// # Errors
    /// There is none.
    fn pause(&self) -> Result<i64, Refused>;
    /// Lets it go on.
    ///
    /// # Errors
    /// There is none.
    fn resume(&self) -> Result<i64, Refused>;
    /// Ends it.
    ///
    /// # Errors
    /// There is none.
    fn abort(&self, who: &str) -> Result<i64, Refused>;
    /// How it stands: the run under way, or the last one of this process, without its history. Where it is not told
    /// whole, and the ledger keeps no literals, the statements of a plan are left out: they hold what rows hold.
    fn standing(&self, whole: bool) -> Value;
    /// The same in figures, for metrics.
    fn figures(&self) -> Figures;
    /// The newest runs, newest first. Reads the file.
    ///
    /// # Errors
    /// It cannot be read, and why.
    fn history(&self, limit: usize) -> Result<Vec<RunRecord>, String>;
}

/// Nobody verifies, for there is no ledger that could record it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Absent;

impl Absent {
    fn refused<T>() -> Result<T, Refused> {
        let why = "there is no ledger that could record a verification";
        Err(Refused::Unable(why.to_owned()))
    }
}

impl Inspector for Absent {
    fn start(&self, _wish: &Wish, _who: &str) -> Result<i64, Refused> {
        Self::refused()
    }

    fn pause(&self) -> Result<i64, Refused> {
        Self::refused()
    }

    fn resume(&self) -> Result<i64, Refused> {
        Self::refused()
    }

    fn abort(&self, _who: &str) -> Result<i64, Refused> {
        Self::refused()
    }

    fn standing(&self, _whole: bool) -> Value {
        json!({"state": "idle", "run": null})
    }

    fn figures(&self) -> Figures {
        Figures::idle()
    }

    fn history(&self, _limit: usize) -> Result<Vec<RunRecord>, String> {
        Ok(Vec::new())
    }
}
