//! What has been found so far while two answers are compared, and the verdict it adds up to.

use super::verdict::{Divergence, Example, Kind, Reason, Tolerance, Tolerances, Verdict};
use crate::config;
use std::collections::BTreeSet;

/// Columns of one divergence that are named at most.
const COLUMNS_MAX: usize = 32;

/// In which columns two answers differ, as far as that is known.
#[derive(Debug, Default)]
struct Columns {
    names: BTreeSet<String>,
    /// There may be others.
    others: bool,
}

/// Differences, tolerances and doubts of one comparison.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    rules: &'a config::Measure,
    /// Each kind once, with the detail of its first difference.
    kinds: Vec<(Kind, String)>,
    columns: Columns,
    examples: Vec<Example>,
    tolerated: Tolerances,
    doubt: Option<Reason>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(rules: &'a config::Measure) -> Self {
        Self {
            rules,
            kinds: Vec::new(),
            columns: Columns::default(),
            examples: Vec::new(),
            tolerated: Tolerances::NONE,
            doubt: None,
        }
    }

    /// The rules to compare by.
    pub(super) const fn rules(&self) -> &'a config::Measure {
        self.rules
    }

    /// Notes a difference of this kind. `detail` holds no literals.
    pub(super) fn diverge(&mut self, kind: Kind, detail: impl FnOnce() -> String) {
        if !self.kinds.iter().any(|(known, _)| *known == kind) {
            self.kinds.push((kind, detail()));
        }
    }

    /// Notes a difference that is tolerated, or a divergence where the config says it is not.
    pub(super) fn tolerate(&mut self, one: Tolerance, detail: impl FnOnce() -> String) {
        if self.rules.tolerate.has(one) {
            self.tolerated = self.tolerated.with(one);
        } else {
            self.in_other_columns();
            self.diverge(kind_without(one), detail);
        }
    }

    /// Notes that cells of this column differ; an expression has no name to know it by.
    pub(super) fn in_column(&mut self, name: Option<&str>) {
        match name {
            Some(name) if self.columns.names.contains(name) => {}
            Some(name) if self.columns.names.len() < COLUMNS_MAX => {
                self.columns.names.insert(name.to_owned());
            }
            Some(_) | None => self.columns.others = true,
        }
    }

    /// Notes that there may be differences in columns that are not known.
    pub(super) const fn in_other_columns(&mut self) {
        self.columns.others = true;
    }

    /// Notes that something could not be compared; the first reason stands.
    pub(super) fn doubt(&mut self, reason: Reason) {
        self.doubt.get_or_insert(reason);
    }

    /// Keeps a differing row, while there is room.
    pub(super) fn example(&mut self, example: impl FnOnce() -> Example) {
        if self.has_room() {
            self.examples.push(example());
        }
    }

    /// Whether another example would be kept.
    pub(super) fn has_room(&self) -> bool {
        self.examples.len() < self.rules.examples
    }

    /// Whether anything but equality was found so far.
    pub(super) const fn says_something(&self) -> bool {
        !self.tolerated.is_empty() || self.doubt.is_some() || !self.kinds.is_empty()
    }

    /// A divergence beats a doubt, a doubt beats a tolerance: what was not compared is never
    /// counted as equal.
    pub(super) fn verdict(mut self) -> Verdict {
        self.kinds.sort_by_key(|(kind, _)| *kind);
        let mut kinds = self.kinds.into_iter();
        if let Some((kind, detail)) = kinds.next() {
            let also: Vec<Kind> = kinds.map(|(kind, _)| kind).collect();
            let cells = |kind: &Kind| matches!(kind, Kind::Value | Kind::Null);
            let cells_alone = cells(&kind) && also.iter().all(cells);
            let known = cells_alone && !self.columns.others && self.doubt.is_none();
            return Verdict::Diverged(Divergence {
                kind,
                also,
                detail,
                columns: known.then(|| self.columns.names.into_iter().collect()),
                examples: self.examples,
            });
        }
        match self.doubt {
            Some(reason) => Verdict::NotCompared(reason),
            None if self.tolerated.is_empty() => Verdict::Match,
            None => Verdict::Tolerated(self.tolerated),
        }
    }
}

/// What a difference is where its tolerance is switched off.
///
/// OK's side effects have no kind of their own and go with `affected_rows`, which is what an OK
/// packet is read for.
const fn kind_without(one: Tolerance) -> Kind {
    match one {
        Tolerance::Info | Tolerance::Warnings | Tolerance::StatusFlags => Kind::AffectedRows,
        Tolerance::ColumnLength
        | Tolerance::Decimals
        | Tolerance::ColumnFlags
        | Tolerance::Charset
        | Tolerance::TypeCode
        | Tolerance::ExpressionName => Kind::Columns,
        Tolerance::Unordered | Tolerance::Ties => Kind::Order,
        Tolerance::FloatText
        | Tolerance::DecimalScale
        | Tolerance::TemporalFraction
        | Tolerance::Padding
        | Tolerance::Clock => Kind::Value,
    }
}
