//! The rungs, in order: how each result ended, then what it said.

use super::Context;
use super::cells::Family;
use super::errors;
use super::findings::Findings;
use super::key;
use super::metadata;
use super::rows::{self, Judge};
use super::sample::Sample;
use super::verdict::{Kind, Reason, Tolerance, Verdict};
use crate::sql::Statement;
use crate::wire::answer::{Answer, Done, Failure, Outcome, Rows};
use crate::wire::command::Command;
use crate::wire::sample;
use crate::wire::status::Status;

/// Climbs as far as it must.
pub(super) fn climb(primary: &Answer, shadow: &Answer, context: &Context<'_>) -> Verdict {
    let mut found = Findings::new(context.rules);
    let mut shadows = shadow.results.iter();
    for (index, one) in primary.results.iter().enumerate() {
        let Some(other) = shadows.next() else { break };
        let pair = Pair {
            primary,
            shadow,
            context,
            statement: context.statements.get(index),
        };
        pair.outcome(one, other, &mut found);
        match (failure(one), failure(other)) {
            (None, None) => {}
            // It stands behind the results that are kept, however many there were.
            (Some(_), Some(_)) => break,
            // An error is where an answer stops: what the other side had to say after it follows.
            _ => return found.verdict(),
        }
    }
    stopping_point(primary, shadow, &mut found);
    found.verdict()
}

/// Both must have given the same number of results, and failed or not at their end; more than were
/// kept cannot be called equal.
fn stopping_point(primary: &Answer, shadow: &Answer, found: &mut Findings<'_>) {
    match (primary.error(), shadow.error()) {
        (Some(one), None) => return errors::only_primary(one, found),
        (None, Some(other)) => return errors::only_shadow(other, found),
        (None, None) | (Some(_), Some(_)) => {}
    }
    let count = |answer: &Answer| {
        answer
            .results_more
            .saturating_add(answer.results.len() as u64)
    };
    let (ours, theirs) = (count(primary), count(shadow));
    if ours != theirs {
        found.diverge(Kind::Error, || format!("{ours} results against {theirs}"));
    } else if primary.results_more > 0 {
        found.doubt(Reason::BeyondSample);
    }
}

/// One result of each side, and all that is known about it.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) primary: &'a Answer,
    pub(super) shadow: &'a Answer,
    pub(super) context: &'a Context<'a>,
    pub(super) statement: Option<&'a Statement>,
}

impl Pair<'_> {
    fn outcome(&self, primary: &Outcome, shadow: &Outcome, found: &mut Findings<'_>) {
        match (failure(primary), failure(shadow)) {
            (Some(one), Some(other)) => {
                errors::both(one, other, found);
                if one.code == other.code && broken_off(primary) != broken_off(shadow) {
                    // Where in its rows a statement fails is chance.
                    found.doubt(Reason::PrimaryError);
                }
                return;
            }
            (Some(one), None) => return errors::only_primary(one, found),
            (None, Some(other)) => return errors::only_shadow(other, found),
            (None, None) => {}
        }
        match (primary, shadow) {
            (Outcome::Ok(one), Outcome::Ok(other)) => self.done(one, other, found),
            (Outcome::Rows(one), Outcome::Rows(other)) => self.rows(one, other, found),
            (
                Outcome::Prepared {
                    columns,
                    parameters,
                    definitions,
                    ..
                },
                Outcome::Prepared {
                    columns: other_columns,
                    parameters: other_parameters,
                    definitions: other_definitions,
                    ..
                },
            ) => {
                if parameters != other_parameters {
                    found.diverge(Kind::Columns, || {
                        format!("{parameters} parameters against {other_parameters}")
                    });
                } else if columns != other_columns {
                    found.diverge(Kind::Columns, || {
                        format!("{columns} columns against {other_columns}")
                    });
                } else if definitions != other_definitions {
                    self.prepared(*parameters, *columns, found);
                }
            }
            (Outcome::LocalInfile, Outcome::LocalInfile) => {}
            (Outcome::Other, Outcome::Other) => {
                if self.primary.sample != self.shadow.sample || !self.primary.sample_whole {
                    found.doubt(Reason::Nondeterministic);
                }
            }
            _ => found.diverge(Kind::Columns, || {
                format!("{} against {}", shape(primary), shape(shadow))
            }),
        }
    }

    fn done(&self, primary: &Done, shadow: &Done, found: &mut Findings<'_>) {
        if primary.affected_rows != shadow.affected_rows {
            found.diverge(Kind::AffectedRows, || {
                format!(
                    "{} rows affected against {}",
                    primary.affected_rows, shadow.affected_rows
                )
            });
        }
        if !self.context.key_pinned
            && key::differs(primary, shadow, self.statement, self.context.command)
        {
            found.diverge(Kind::LastInsertId, || "another generated key".to_owned());
        }
        if primary.info != shadow.info {
            found.tolerate(Tolerance::Info, || "another info text".to_owned());
        }
        self.end(primary.status, shadow.status, found);
        warnings(primary.warnings, shadow.warnings, found);
    }

    /// The status flags of the packet that ended a result.
    fn end(&self, primary: Status, shadow: Status, found: &mut Findings<'_>) {
        let differ = primary.0 ^ shadow.0;
        let mut transaction = if self.runs_statements() {
            Status::AUTOCOMMIT
        } else {
            0
        };
        // Without autocommit the first statement opens a transaction, and servers disagree on
        // which statement is one that does; the application cannot tell.
        let mirrored = self.context.transactions_mirrored && self.runs_statements();
        if mirrored && primary.has(Status::AUTOCOMMIT) {
            transaction |= Status::IN_TRANS;
        }
        if differ & transaction != 0 {
            found.diverge(Kind::AffectedRows, || {
                format!(
                    "transaction open {} against {}, autocommit {} against {}",
                    primary.in_transaction(),
                    shadow.in_transaction(),
                    primary.has(Status::AUTOCOMMIT),
                    shadow.has(Status::AUTOCOMMIT),
                )
            });
        }
        if differ & !transaction & !Status::MORE_RESULTS & !self.ignored_flags() != 0 {
            found.tolerate(Tolerance::StatusFlags, || {
                format!("status flags differ by {differ:#06x}")
            });
        }
    }

    /// Whether the command runs statements. To others vtgate answers with flags that say nothing of
    /// the session (RESET_CONNECTION: none at all).
    fn runs_statements(&self) -> bool {
        let kind = self.context.command.first().copied().map(Command);
        !matches!(
            kind,
            Some(
                Command::PING
                    | Command::INIT_DB
                    | Command::RESET_CONNECTION
                    | Command::SET_OPTION
                    | Command::STMT_RESET
                    | Command::DEBUG
            )
        )
    }

    /// Flags that are the mirror's own doing.
    const fn ignored_flags(&self) -> u16 {
        if self.context.transactions_mirrored {
            0
        } else {
            Status::IN_TRANS | Status::IN_TRANS_READONLY
        }
    }

    fn rows(&self, primary: &Rows, shadow: &Rows, found: &mut Findings<'_>) {
        self.end(primary.status, shadow.status, found);
        warnings(primary.warnings, shadow.warnings, found);
        if primary.cursor || shadow.cursor {
            found.doubt(Reason::Cursor);
            return;
        }
        if primary.columns != shadow.columns {
            found.diverge(Kind::Columns, || {
                format!("{} columns against {}", primary.columns, shadow.columns)
            });
            return;
        }
        let equal = primary.rows == shadow.rows && primary.ordered == shadow.ordered;
        if equal && primary.columns_digest == shadow.columns_digest {
            return;
        }
        self.sampled(primary, shadow, found);
    }

    /// Definitions of a statement that was prepared and not run. Those of its parameters are what a
    /// server makes of a `?` before it has a value: they bind nobody.
    fn prepared(&self, parameters: u16, columns: u16, found: &mut Findings<'_>) {
        let read = |answer| sample::prepared(answer, parameters, columns);
        let (Some(one), Some(other)) = (read(self.primary), read(self.shadow)) else {
            found.doubt(Reason::BeyondSample);
            return;
        };
        let mut others = other.parameters.iter();
        for (at, one) in one.parameters.iter().enumerate() {
            let Some(other) = others.next() else { break };
            metadata::details(format_args!("parameter {}", at + 1), one, other, found);
        }
        let mut others = other.columns.iter();
        for (at, one) in one.columns.iter().enumerate() {
            let Some(other) = others.next() else { break };
            metadata::prepared(at + 1, one, other, parameters > 0, found);
        }
    }

    /// The rungs that need the samples: first of the definitions alone, which differ on every
    /// healthy pair, and of the rows only where their digests do.
    fn sampled(&self, primary: &Rows, shadow: &Rows, found: &mut Findings<'_>) {
        let mut one = Sample::definitions(self.primary, primary);
        let mut other = Sample::definitions(self.shadow, shadow);
        let types = if primary.columns_digest == shadow.columns_digest {
            Types::Alike
        } else {
            definitions(&one, &other, primary.columns, found)
        };
        let Some(differ) = Differ::of(primary, shadow, types) else {
            return;
        };
        if differ == Differ::Order && rows::unordered(self.statement, found) {
            return;
        }
        one.decode();
        other.decode();
        let rulers = rows::rulers(&one, &other, self.statement, self.context);
        let judge = Judge::new(&one, &other, &rulers, self.statement);
        match differ {
            Differ::Number => judge.counted(
                || format!("{} rows against {}", primary.rows, shadow.rows),
                found,
            ),
            Differ::Order => judge.reordered(found),
            Differ::Bytes => judge.differ(found),
        }
    }
}

/// How two results' rows differ by what is known without decoding them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differ {
    Number,
    Order,
    /// In what they say, or only in how they say it.
    Bytes,
}

impl Differ {
    fn of(primary: &Rows, shadow: &Rows, types: Types) -> Option<Self> {
        if primary.rows != shadow.rows {
            return Some(Self::Number);
        }
        match types {
            // Columns that are of different families diverge already; their values need not.
            Types::Apart => None,
            Types::Decoded if primary.binary => Some(Self::Bytes),
            Types::Alike | Types::Decoded if primary.ordered == shadow.ordered => None,
            Types::Alike | Types::Decoded if primary.unordered == shadow.unordered => {
                Some(Self::Order)
            }
            Types::Alike | Types::Decoded => Some(Self::Bytes),
        }
    }
}

/// How the columns' types go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Types {
    /// Equal bytes of a row are equal values.
    Alike,
    /// Values compare, but not by the bytes of binary rows.
    Decoded,
    /// Not values of one family.
    Apart,
}

fn definitions(
    primary: &Sample<'_>,
    shadow: &Sample<'_>,
    count: u64,
    found: &mut Findings<'_>,
) -> Types {
    if primary.columns.len() as u64 != count || shadow.columns.len() as u64 != count {
        found.doubt(Reason::BeyondSample);
        return Types::Alike;
    }
    let mut types = Types::Alike;
    let mut others = shadow.columns.iter();
    for (at, one) in primary.columns.iter().enumerate() {
        let Some(other) = others.next() else { break };
        metadata::compare(at + 1, one, other, found);
        let (family, other_family) = (Family::of(one.kind), Family::of(other.kind));
        if !metadata::go_together(family, other_family) {
            types = Types::Apart;
        } else if types == Types::Alike && metadata::encoding(one) != metadata::encoding(other) {
            types = Types::Decoded;
        }
    }
    types
}

fn warnings(primary: u16, shadow: u16, found: &mut Findings<'_>) {
    if primary != shadow {
        found.tolerate(Tolerance::Warnings, || {
            format!("{primary} warnings against {shadow}")
        });
    }
}

const fn failure(outcome: &Outcome) -> Option<&Failure> {
    match outcome {
        Outcome::Error(failure) | Outcome::RowsThenError(_, failure) => Some(failure),
        Outcome::Ok(_)
        | Outcome::Rows(_)
        | Outcome::Prepared { .. }
        | Outcome::LocalInfile
        | Outcome::Other => None,
    }
}

/// The rows that came before an error, by number and digest.
const fn broken_off(outcome: &Outcome) -> (u64, u128) {
    match outcome {
        Outcome::RowsThenError(rows, _) => (rows.rows, rows.ordered),
        Outcome::Ok(_)
        | Outcome::Error(_)
        | Outcome::Rows(_)
        | Outcome::Prepared { .. }
        | Outcome::LocalInfile
        | Outcome::Other => (0, 0),
    }
}

const fn shape(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok(_) => "OK",
        Outcome::Error(_) | Outcome::RowsThenError(..) => "an error",
        Outcome::Rows(_) => "rows",
        Outcome::Prepared { .. } => "a prepared statement",
        Outcome::LocalInfile => "a request for a file",
        Outcome::Other => "something else",
    }
}
