//! What has been found so far while two answers are compared, and the verdict it adds up to.

use super::verdict::{Divergence, Example, Kind, Reason, Tolerance, Tolerances, Verdict};
use crate::config;

/// Differences, tolerances and doubts of one comparison.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    rules: &'a config::Compare,
    /// Each kind once, with the detail of its first difference.
    kinds: Vec<(Kind, String)>,
    examples: Vec<Example>,
    tolerated: Tolerances,
    doubt: Option<Reason>,
}

impl<'a> Findings<'a> {
    pub(super) const fn new(rules: &'a config::Compare) -> Self {
        Self {
            rules,
            kinds: Vec::new(),
            examples: Vec::new(),
            tolerated: Tolerances::NONE,
            doubt: None,
        }
    }

    /// The rules to compare by.
    pub(super) const fn rules(&self) -> &'a config::Compare {
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
            self.diverge(kind_without(one), detail);
        }
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
            let also = kinds.map(|(kind, _)| kind).collect();
            return Verdict::Diverged(Divergence {
                kind,
                also,
                detail,
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
