//! Rules: which divergences an operator has judged beforehand. Pure; [`super::rulebook`] keeps them.

use super::redact::Entry;
use crate::compare::verdict::Kind;
use crate::config::Rule;
use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

/// Of a fingerprint with `*` in it, so many bytes are looked at.
const LOOKED_AT_BYTES: usize = 4 << 10;

/// A rule that is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) id: i64,
    pub(super) rule: Rule,
    shape: Option<Shape>,
    /// In lower case: names are one table's where only their case differs, as [`crate::sql::Table`] has it.
    table: Option<String>,
}

/// What a rule says of the fingerprint.
#[derive(Clone, Debug)]
enum Shape {
    Digest(u64),
    /// A whole text: known by its digest, however long it is.
    Text(u64, String),
    Pattern(String),
}

impl Shape {
    fn of(text: &str) -> Self {
        let digits = text.len() == 16 && text.chars().all(|c| c.is_ascii_hexdigit());
        match u64::from_str_radix(text, 16) {
            Ok(digest) if digits => Self::Digest(digest),
            _ if text.contains('*') => Self::Pattern(text.to_owned()),
            _ => Self::Text(xxh3_64(text.as_bytes()), text.to_owned()),
        }
    }

    fn is(&self, entry: &Entry) -> bool {
        match self {
            Self::Digest(digest) => entry.digest == *digest,
            Self::Text(digest, text) => entry.digest == *digest || entry.fingerprint == *text,
            Self::Pattern(pattern) => {
                // The text itself may have stars: `SELECT *` is a pattern that it fits.
                let end = entry.fingerprint.floor_char_boundary(LOOKED_AT_BYTES);
                let seen = entry.fingerprint.get(..end).unwrap_or_default();
                fits(pattern, seen)
            }
        }
    }
}

impl Kept {
    pub(super) fn new(id: i64, rule: Rule) -> Self {
        let shape = rule.fingerprint.as_deref().map(Shape::of);
        let table = rule.table.as_deref().map(str::to_ascii_lowercase);
        Self {
            id,
            rule,
            shape,
            table,
        }
    }

    fn takes(&self, entry: &Entry, now: Timestamp) -> bool {
        let rule = &self.rule;
        let table = |pattern: &String| {
            let bare = |table: &str| {
                table
                    .split_once('.')
                    .is_some_and(|(_, name)| fits(pattern, name))
            };
            let mut tables = entry.tables.iter().map(|table| table.to_ascii_lowercase());
            tables.any(|table| fits(pattern, &table) || bare(&table))
        };
        rule.until.is_none_or(|until| now < until)
            && rule.kind.is_none_or(|kind| entry.kind == kind.name())
            && self.shape.as_ref().is_none_or(|shape| shape.is(entry))
            && self.table.as_ref().is_none_or(table)
            && rule
                .column
                .as_ref()
                .is_none_or(|column| only(column, entry))
    }
}

/// Whether it is known that nothing but cells of this column differ.
fn only(column: &str, entry: &Entry) -> bool {
    let cells = [Kind::Value.name(), Kind::Null.name()];
    let Some(columns) = entry.columns.as_ref().filter(|columns| !columns.is_empty()) else {
        return false;
    };
    cells.contains(&entry.kind)
        && columns
            .iter()
            .all(|one| fits(&column.to_ascii_lowercase(), &one.to_ascii_lowercase()))
}

/// The rules in order: those of the config as written, then those of the API, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(pub(super) Vec<Kept>);

impl Rules {
    /// The first rule that takes this divergence.
    pub(super) fn take(&self, entry: &Entry, now: Timestamp) -> Option<&Kept> {
        self.0.iter().find(|kept| kept.takes(entry, now))
    }
}

/// Whether a text fits a pattern, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, after)) if !piece.is_empty() => rest = after,
            Some(_) => {}
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::super::redact::entry;
    use super::super::tests::diverged;
    use super::*;
    use crate::compare::verdict::Verdict;
    use crate::config::{Literals, RuleState};

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.into(),
            fingerprint: None,
            table: None,
            kind: None,
            column: None,
            state: RuleState::Noise,
            who: "dba".into(),
            why: String::new(),
            until: None,
        }
    }

    fn takes(rule: Rule, entry: &Entry) -> bool {
        Kept::new(1, rule).takes(entry, Timestamp::now())
    }

    /// Of kind value, on `app.t`, in column `name` alone.
    fn example() -> Entry {
        entry(&diverged("SELECT * FROM t WHERE a = ?"), Literals::Redact).unwrap()
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, does) in [
            ("", "", true),
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "ac", true),
            ("a*c", "a", false),
            ("a*a", "a", false),
            ("*b*", "abc", true),
            ("a*b*c", "axbxbyc", true),
            ("a**c", "abc", true),
            ("abc", "abcd", false),
            ("a*bc*bc", "abc", false),
        ] {
            assert_eq!(fits(pattern, text), does, "{pattern} {text}");
        }
    }

    #[test]
    fn a_rule_takes_what_has_all_that_it_names() {
        let entry = example();
        let digest = format!("{:016x}", entry.digest);
        for (fingerprint, table, kind, does) in [
            (Some(digest.as_str()), None, None, true),
            (Some("0123456789abcdef"), None, None, false),
            (Some("SELECT * FROM t WHERE a = ?"), None, None, true),
            (Some("SELECT * FROM t *"), Some("t"), None, true),
            (Some("SELECT * FROM u *"), Some("t"), None, false),
            (None, Some("app.t"), Some(Kind::Value), true),
            (None, Some("app.*"), None, true),
            (None, Some("App.T"), None, true),
            (None, Some("T*"), None, true),
            (None, Some("other"), None, false),
            (None, Some("t"), Some(Kind::Rows), false),
        ] {
            let rule = Rule {
                fingerprint: fingerprint.map(str::to_owned),
                table: table.map(str::to_owned),
                kind,
                ..rule("a")
            };
            assert_eq!(takes(rule.clone(), &entry), does, "{rule:?}");
        }
    }

    #[test]
    fn a_column_rule_takes_only_what_differs_in_that_column_for_certain() {
        let column = |column: &str| Rule {
            column: Some(column.into()),
            ..rule("a")
        };
        let mut entry = example();
        assert!(takes(column("name"), &entry));
        assert!(takes(column("NAME"), &entry));
        assert!(!takes(column("other"), &entry));
        entry.columns = Some(vec!["name".into(), "other".into()]);
        assert!(!takes(column("name"), &entry));
        assert!(takes(column("*"), &entry));
        entry.columns = None;
        assert!(!takes(column("*"), &entry), "not all columns are known");
        entry.columns = Some(Vec::new());
        assert!(!takes(column("*"), &entry));
        let mut rows = diverged("a");
        if let Verdict::Diverged(divergence) = &mut rows.verdict {
            divergence.kind = Kind::Rows;
        }
        let rows = super::super::redact::entry(&rows, Literals::Redact).unwrap();
        assert!(!takes(column("name"), &rows));
    }

    #[test]
    fn the_first_rule_takes_it_and_none_after_its_time() {
        let now = Timestamp::now();
        let table = |name: &str| Rule {
            table: Some("t".into()),
            ..rule(name)
        };
        let over = Rule {
            until: Some(now),
            ..table("over")
        };
        let rules = [over, table("first"), table("second")];
        let rules = Rules(rules.map(|rule| Kept::new(1, rule)).into());
        let taken = rules.take(&example(), now).unwrap();
        assert_eq!(taken.rule.name, "first");
    }
}
