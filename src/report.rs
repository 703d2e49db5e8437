//! One document for a team: what was observed, compared and found, and how long it took. Pure: values in,
//! text out.
//!
//! `content` says what stands in it, as blocks; `html` and `markdown` write blocks, and escape every text
//! that comes from a statement or a server; `chart` draws. Nothing in the document asks for anything from
//! elsewhere, and nothing is in it that the ledger does not hold: literals are redacted where they are there.

pub mod chart;

mod content;
mod html;
mod markdown;

use crate::ledger::{Curve, Evidence, Pace, Taint};
use crate::readiness::Readiness;
use serde::Serialize;
use serde_json::Value;

/// All that a report tells.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When it was made.
    pub at: jiff::Timestamp,
    /// understudy's version.
    pub version: &'static str,
    /// Since when this process runs, in seconds.
    pub uptime_s: u64,
    /// Who answers.
    pub primary: Server,
    /// Who rehearses.
    pub shadow: Server,
    /// The server that the config names first, which has the first colour whoever is the primary.
    #[serde(skip)]
    pub first: String,
    /// What is mirrored, as in the status.
    pub mirror: Value,
    /// Whether literals are redacted in the ledger.
    pub redacted: bool,
    /// What was seen and compared.
    pub evidence: Evidence,
    /// The guards.
    pub readiness: Readiness,
    /// Findings by impact.
    pub findings: Vec<Found>,
    /// There are more.
    pub more_findings: bool,
    /// Tainted tables.
    pub taints: Vec<Taint>,
    /// Statements of which nothing was ever compared, as in the coverage.
    pub never_statements: Vec<Value>,
    /// Tables likewise.
    pub never_tables: Vec<Value>,
    /// Tables, the busiest.
    pub tables: Vec<Value>,
    /// Both servers' latency curves: all together first, then each class.
    pub curves: Vec<Curve>,
    /// Both servers' paces: classes, and statements.
    #[serde(skip)]
    pub paces: Vec<Pace>,
    /// Which of them are slower than allowed: their places in `paces`.
    #[serde(skip)]
    pub slower: Vec<usize>,
}

/// A server, as it was last seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its version, where it was seen.
    pub version: Option<String>,
}

/// A finding, and the newest divergence that it stands for.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// As in the list of findings.
    pub finding: Value,
    /// As in the list of divergences; null where it was let go.
    pub example: Option<Value>,
}

impl Report {
    /// The document as one HTML file.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(&content::title(self), &content::blocks(self))
    }

    /// The document as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::page(&content::title(self), &content::blocks(self))
    }
}

/// A piece of the document.
#[derive(Clone, Debug)]
enum Block<'a> {
    /// A section begins.
    Section(&'static str),
    /// A part of a section begins.
    Part(Vec<Text>),
    Paragraph(Vec<Text>),
    /// The verdict: whether it is good, and what it says.
    Verdict(bool, String),
    /// Names and what they are.
    Facts(Vec<(&'static str, Vec<Text>)>),
    Code(String),
    Table(Table),
    /// Shares of a whole: name, count, and how it looks.
    Bar(Vec<(&'static str, u64, Look)>),
    /// Both servers' curves.
    Curves(&'a [Curve], chart::Servers<'a>),
}

/// How a part of a bar looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Match,
    Tolerated,
    Diverged,
    NotCompared,
}

/// A run of text.
#[derive(Clone, Debug)]
enum Text {
    Plain(String),
    Code(String),
    /// What passed, or did not.
    Mark(bool, &'static str),
    Strong(String),
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

/// Rows below a head; numbers stand to the right.
#[derive(Clone, Debug, Default)]
struct Table {
    head: Vec<String>,
    /// Columns of numbers.
    right: Vec<usize>,
    rows: Vec<Vec<Text>>,
}

#[cfg(test)]
mod tests;
