//! Rows whose digests differ: in order alone, or in what they say.

use super::Context;
use super::align::{Alignment, Sides};
use super::cells::{Likeness, Ruler};
use super::example::Examples;
use super::findings::Findings;
use super::identity;
use super::metadata;
use super::order::{Keys, Sequence};
use super::sample::Sample;
use super::verdict::{Kind, Reason, Tolerance};
use crate::sql::Statement;
use crate::wire::column::Column;

/// Two results' rows, as far as the samples hold them.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    sides: Sides<'a>,
    columns: &'a [Column],
    statement: Option<&'a Statement>,
    /// Columns by which a row is known to be the same row; empty where there are none.
    identity: Vec<usize>,
    /// Whether both samples hold all rows.
    whole: bool,
}

/// The rulers for all columns of two samples.
pub(super) fn rulers(
    primary: &Sample<'_>,
    shadow: &Sample<'_>,
    statement: Option<&Statement>,
    context: &Context<'_>,
) -> Vec<Ruler> {
    let reads_clock = statement.is_some_and(|statement| statement.clock);
    let mut others = shadow.columns.iter();
    let columns = primary
        .columns
        .iter()
        .map_while(|one| Some((one, others.next()?)));
    columns
        .map(|(one, other)| metadata::ruler(one, other, reads_clock, context))
        .collect()
}

/// Settles another order of rows where the statement alone can: it asked for none, or it is not
/// known what it asked for.
pub(super) fn unordered(statement: Option<&Statement>, found: &mut Findings<'_>) -> bool {
    match statement {
        None => found.doubt(Reason::OrderNotJudged),
        Some(statement) if statement.order_by.is_some() => return false,
        Some(_) => found.tolerate(Tolerance::Unordered, || {
            "rows in another order, and none was asked for".to_owned()
        }),
    }
    true
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        primary: &'a Sample<'a>,
        shadow: &'a Sample<'a>,
        rulers: &'a [Ruler],
        statement: Option<&'a Statement>,
    ) -> Self {
        let sides = Sides {
            primary: &primary.rows,
            shadow: &shadow.rows,
            rulers,
        };
        let identity = identity::columns(&primary.columns, &shadow.columns);
        Self {
            sides,
            columns: &primary.columns,
            statement,
            identity,
            whole: primary.whole && shadow.whole,
        }
    }

    /// The same rows by digest, in another order.
    pub(super) fn reordered(&self, found: &mut Findings<'_>) {
        if unordered(self.statement, found) {
            return;
        }
        let Some((statement, order)) = self
            .statement
            .and_then(|it| Some((it, it.order_by.as_ref()?)))
        else {
            return;
        };
        if !statement.nondeterministic.is_empty() {
            found.doubt(Reason::Nondeterministic);
            return;
        }
        match Keys::find(order, self.columns).sequence(&self.sides) {
            _ if !self.whole => found.doubt(Reason::OrderNotJudged),
            Sequence::Same => found.tolerate(Tolerance::Ties, || {
                "rows with equal sort keys in another order".to_owned()
            }),
            Sequence::Unknown => found.doubt(Reason::OrderNotJudged),
            Sequence::Differs(row) => self.out_of_order(row, found),
        }
    }

    fn out_of_order(&self, row: usize, found: &mut Findings<'_>) {
        found.diverge(Kind::Order, || {
            format!("the sort keys differ first in row {}", row + 1)
        });
        let examples = self.examples(found);
        found.example(|| examples.pair(row, row));
    }

    /// Another number of rows. Which ones is only known where all are in the samples.
    pub(super) fn counted(&self, detail: impl FnOnce() -> String, found: &mut Findings<'_>) {
        if self.differs_by_nature() {
            found.doubt(Reason::Nondeterministic);
            return;
        }
        if self.limited_inside() {
            return self.chosen_inside(found);
        }
        found.diverge(Kind::Rows, detail);
        if self.whole {
            self.differing(&self.sides.align().alone, found);
        }
    }

    /// As many rows, which are not the same by digest.
    pub(super) fn differ(&self, found: &mut Findings<'_>) {
        if self.differs_by_nature() {
            found.doubt(Reason::Nondeterministic);
            return;
        }
        let aligned = self.sides.align();
        let limited = self.cut_by_limit(&aligned);
        if self.whole && aligned.is_complete() {
            self.tolerated(&aligned, found);
        } else if self.whole && !limited {
            self.differing(&aligned.alone, found);
        } else {
            match self.certain(&aligned, limited) {
                pairs if !pairs.is_empty() => {
                    found.in_other_columns();
                    self.report(&pairs, pairs.len(), found);
                }
                _ if limited => found.doubt(Reason::UnstableLimit),
                _ => found.doubt(Reason::BeyondSample),
            }
        }
    }

    /// A LIMIT inside chose the rows that the rest of the statement worked on, perhaps others on
    /// each side: only what differs in a row that both show is certain.
    fn chosen_inside(&self, found: &mut Findings<'_>) {
        let aligned = self.sides.align();
        match self.certain(&aligned, true) {
            pairs if pairs.is_empty() => found.doubt(Reason::UnstableLimit),
            pairs => self.report(&pairs, pairs.len(), found),
        }
    }

    fn limited_inside(&self) -> bool {
        self.statement
            .is_some_and(|statement| statement.limit_inside)
    }

    fn differs_by_nature(&self) -> bool {
        self.statement
            .is_some_and(|statement| !statement.nondeterministic.is_empty())
    }

    /// Each row has its equal on the other side.
    fn tolerated(&self, aligned: &Alignment, found: &mut Findings<'_>) {
        for (one, other) in &aligned.like {
            for (column, cell) in self.sides.cells(*one, *other).enumerate() {
                if let Likeness::Like(tolerance) = cell {
                    found.tolerate(tolerance, || {
                        format!("column {}: {}", column + 1, tolerance.name())
                    });
                }
            }
        }
        if aligned.permuted {
            self.reordered(found);
        } else if !found.says_something() {
            // The digests differ and nothing in the rows does: do not call that equal.
            found.doubt(Reason::Internal);
        }
    }

    /// Whether a LIMIT may have chosen other rows: without ORDER BY any rows, with it any of those
    /// that are equal to the last by its keys.
    fn cut_by_limit(&self, aligned: &Alignment) -> bool {
        let Some(statement) = self.statement.filter(|statement| statement.limit) else {
            return false;
        };
        if statement.limit_inside {
            return true;
        }
        let Some(order) = &statement.order_by else {
            return true;
        };
        let keys = Keys::find(order, self.columns);
        let edge = |rows, alone: &[usize]| {
            alone
                .iter()
                .all(|row| keys.at_the_edge(rows, *row, &self.sides))
        };
        match keys.sequence(&self.sides) {
            Sequence::Differs(_) => false,
            Sequence::Unknown => true,
            Sequence::Same => {
                edge(self.sides.primary, &aligned.alone.0)
                    && edge(self.sides.shadow, &aligned.alone.1)
            }
        }
    }

    /// Pairs of differing rows that are certainly the same row, though other rows are not seen or
    /// not chosen: they have one key, or stand at one place.
    fn certain(&self, aligned: &Alignment, limited: bool) -> Vec<(usize, usize)> {
        let mut pairs = identity::pairs(&self.identity, &self.sides, &aligned.alone);
        if !limited {
            let places = self.places(aligned).into_iter();
            let known = |row: &usize| !pairs.iter().any(|(one, other)| one == row || other == row);
            let places: Vec<usize> = places.filter(known).collect();
            pairs.extend(places.into_iter().map(|row| (row, row)));
        }
        pairs
    }

    /// Places at which both samples have a row without an equal, and which are one place: by
    /// unique sort keys, or, where the statement does not order, because at least half of the rows
    /// stand at the same place on both sides.
    fn places(&self, aligned: &Alignment) -> Vec<usize> {
        let both = aligned
            .alone
            .0
            .iter()
            .copied()
            .filter(|row| aligned.alone.1.binary_search(row).is_ok());
        if let Some(order) = self
            .statement
            .and_then(|statement| statement.order_by.as_ref())
        {
            let keys = Keys::find(order, self.columns);
            let until = match keys.sequence(&self.sides) {
                Sequence::Differs(row) => row,
                Sequence::Same | Sequence::Unknown => usize::MAX,
            };
            let unique =
                |row: &usize| keys.complete() && *row < until && keys.unique(&self.sides, *row);
            return both.filter(|row| unique(row) || *row == until).collect();
        }
        let rows = self.sides.primary.len().min(self.sides.shadow.len());
        if aligned.in_place * 2 >= rows {
            both.collect()
        } else {
            Vec::new()
        }
    }

    /// Rows without an equal, paired as well as can be.
    fn differing(&self, alone: &(Vec<usize>, Vec<usize>), found: &mut Findings<'_>) {
        let pairs = self.sides.closest(alone);
        let rows = alone.0.len().max(alone.1.len());
        self.report(&pairs, rows, found);
        if pairs.len() < rows {
            found.in_other_columns();
        }
        let examples = self.examples(found);
        for row in alone
            .0
            .iter()
            .filter(|row| !pairs.iter().any(|(one, _)| one == *row))
        {
            found.example(|| examples.primary_alone(*row));
        }
        for row in alone
            .1
            .iter()
            .filter(|row| !pairs.iter().any(|(_, other)| other == *row))
        {
            found.example(|| examples.shadow_alone(*row));
        }
    }

    /// Pairs of rows that differ.
    fn report(&self, pairs: &[(usize, usize)], rows: usize, found: &mut Findings<'_>) {
        let examples = self.examples(found);
        for (one, other) in pairs {
            for (column, cell) in self.sides.cells(*one, *other).enumerate() {
                let detail = || {
                    format!(
                        "{rows} rows differ, row {} in column {}",
                        one + 1,
                        column + 1
                    )
                };
                match cell {
                    Likeness::Null => found.diverge(Kind::Null, detail),
                    Likeness::Unlike => found.diverge(Kind::Value, detail),
                    Likeness::Equal | Likeness::Like(_) => continue,
                }
                let named = self.columns.get(column).filter(|one| one.is_a_tables());
                found.in_column(named.map(|one| one.org_name.as_str()));
            }
            found.example(|| examples.pair(*one, *other));
        }
    }

    const fn examples(&self, found: &Findings<'_>) -> Examples<'a> {
        Examples {
            sides: self.sides,
            columns: self.columns,
            cell_bytes: found.rules().example_cell_bytes,
        }
    }
}
