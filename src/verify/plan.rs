//! How a table is compared: which columns, in which form, and by which key. Pure.
//!
//! The key is the primary key, else the best unique key whose columns are all NOT NULL. Where both servers
//! order it alike, a range of the one is the same range of the other. Characters are ordered by collations,
//! which two servers need not share: such a table is walked on both sides, each in its own order, and each row
//! is looked up on the other side by its exact key. A table without a key is compared as a multiset.

use super::shape::{Column, Index, Shape};
use super::types::{Form, form};

/// A column that both sides have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// Its name on the primary.
    pub(super) name: String,
    /// Its name on the shadow: the case may differ.
    pub(super) on_shadow: String,
    /// In which form its values are compared.
    pub(super) form: Form,
    /// A server computes it, so nobody writes it.
    pub(super) generated: bool,
    /// The shadow sets it to the time of an UPDATE that does not name it.
    pub(super) renews: bool,
    /// It is written as bytes, not as characters.
    pub(super) binary: bool,
    /// On the primary and on the shadow: its character set, where that has characters without UTF-8.
    pub(super) lossy: [Option<String>; 2],
}

/// How the rows are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By ranges of a key that both sides order alike.
    Ranges,
    /// Each side in its own order, each row looked up on the other.
    Lookups,
    /// As multisets.
    Buckets,
}

impl Way {
    /// The word for it.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ranges => "ranges",
            Self::Lookups => "lookups",
            Self::Buckets => "buckets",
        }
    }

    /// The one with this name.
    #[must_use]
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Ranges, Self::Lookups, Self::Buckets]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The columns that both sides have, in the primary's order.
    pub(super) columns: Vec<Planned>,
    /// The key's columns, as places in `columns`; none where there is no key.
    pub(super) key: Vec<usize>,
    /// How the rows are gone through.
    pub(super) way: Way,
    /// The key's column that says on which of the shadow's shards a row is, as a place in `columns`.
    pub(super) spread: Option<usize>,
}

/// Makes the plan; `None` where the two sides have no column in common.
#[must_use]
pub(super) fn plan(primary: &Shape, shadow: &Shape) -> Option<Plan> {
    let mut columns = Vec::new();
    for one in &primary.columns {
        let Some(other) = shadow.column(&one.name) else {
            continue;
        };
        columns.push(Planned {
            name: one.name.clone(),
            on_shadow: other.name.clone(),
            form: form(&one.kind, &other.kind),
            generated: one.is_generated() || other.is_generated(),
            renews: other.extra.contains("on update"),
            binary: is_binary(one),
            lossy: [lossy(one), lossy(other)],
        });
    }
    if columns.is_empty() {
        return None;
    }
    let place = |name: &str| {
        columns
            .iter()
            .position(|column| column.name.eq_ignore_ascii_case(name))
    };
    let mut best: Option<(Rank, Vec<usize>)> = None;
    for index in &primary.indexes {
        let Some(rank) = rank(index, primary, shadow) else {
            continue;
        };
        let places: Option<Vec<usize>> =
            index.columns.iter().map(|(name, _)| place(name)).collect();
        let Some(places) = places else { continue };
        if best.as_ref().is_none_or(|(known, _)| rank < *known) {
            best = Some((rank, places));
        }
    }
    let (key, way) = match best {
        Some((rank, key)) => (
            key,
            if rank.unordered {
                Way::Lookups
            } else {
                Way::Ranges
            },
        ),
        None => (Vec::new(), Way::Buckets),
    };
    Some(Plan {
        columns,
        key,
        way,
        spread: None,
    })
}

/// The smaller the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    not_on_shadow: bool,
    not_primary: bool,
    unordered: bool,
    columns: usize,
}

/// How good an index is as the key; `None` where it is none.
fn rank(index: &Index, primary: &Shape, shadow: &Shape) -> Option<Rank> {
    index.unique.then_some(())?;
    let mut unordered = false;
    for (name, cut) in &index.columns {
        let (one, other) = (primary.column(name)?, shadow.column(name)?);
        let form = form(&one.kind, &other.kind);
        let can = can_be_looked_up(form, one) && can_be_looked_up(form, other);
        (cut.is_none() && !one.nullable && can).then_some(())?;
        unordered |= !is_ordered_alike(form, one, other);
    }
    let is_there = |other: &&Index| {
        let names = |index: &Index| -> Vec<String> {
            let names = index.columns.iter();
            names.map(|(name, _)| name.to_ascii_lowercase()).collect()
        };
        other.unique && names(other) == names(index)
    };
    Some(Rank {
        not_on_shadow: !shadow.indexes.iter().any(|other| is_there(&other)),
        not_primary: index.name != "PRIMARY",
        unordered,
        columns: index.columns.len(),
    })
}

/// Whether a value that was read, written as a literal, finds its own row, and the rows behind it. Not so for an ENUM:
/// it is ordered by numbers and compared by words. Nor for characters without UTF-8: several are told as `?`.
fn can_be_looked_up(form: Form, column: &Column) -> bool {
    match form {
        Form::Number | Form::Bits | Form::Moment | Form::Time => true,
        Form::Text => column.kind.name != "enum" && lossy(column).is_none(),
        Form::Bytes => is_binary(column) && !column.kind.is_spatial(),
        Form::Float | Form::Digits | Form::Double | Form::Words | Form::Json => false,
    }
}

/// Character sets of which every character has its own in UTF-8.
const WHOLE: [&str; 9] = [
    "utf8", "utf8mb3", "utf8mb4", "ascii", "latin1", "ucs2", "utf16", "utf16le", "utf32",
];

/// A column's character set, where it may hold characters that have no UTF-8.
fn lossy(column: &Column) -> Option<String> {
    let collation = column.collation.as_deref()?;
    let charset = collation.split('_').next().unwrap_or_default();
    let is_name = !charset.is_empty() && charset.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_whole = charset == "binary" || WHOLE.contains(&charset);
    (is_name && !is_whole).then(|| charset.to_owned())
}

/// Whether both servers order the values alike: not where a collation says how.
fn is_ordered_alike(form: Form, one: &Column, other: &Column) -> bool {
    match form {
        Form::Number | Form::Bits | Form::Moment | Form::Time => true,
        Form::Bytes => is_binary(one) && is_binary(other),
        Form::Text | Form::Float | Form::Digits | Form::Double | Form::Words | Form::Json => false,
    }
}

fn is_binary(column: &Column) -> bool {
    let name = column.kind.name.as_str();
    name.contains("binary") || name.contains("blob") || column.kind.is_spatial()
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::{column, index};
    use super::*;

    fn shape(columns: &[(&str, &str)], indexes: Vec<Index>) -> Shape {
        Shape {
            columns: columns
                .iter()
                .map(|(name, kind)| column(name, kind))
                .collect(),
            indexes,
        }
    }

    fn planned(shape: &Shape) -> (Way, Vec<usize>) {
        let plan = plan(shape, shape).unwrap();
        (plan.way, plan.key)
    }

    #[test]
    fn the_primary_key_is_the_key() {
        let table = shape(
            &[("a", "int"), ("id", "bigint")],
            vec![index("u", true, &["a"]), index("PRIMARY", true, &["id"])],
        );
        assert_eq!(planned(&table), (Way::Ranges, vec![1]));
    }

    #[test]
    fn without_one_it_is_the_best_unique_key_whose_columns_are_not_null() {
        let mut table = shape(
            &[
                ("a", "int"),
                ("b", "varchar(5)"),
                ("c", "int"),
                ("d", "int"),
            ],
            vec![
                index("of_a", true, &["a"]),
                index("of_b", true, &["b"]),
                index("of_c_d", true, &["c", "d"]),
                index("of_d", false, &["d"]),
            ],
        );
        table.columns[0].nullable = true;
        assert_eq!(planned(&table), (Way::Ranges, vec![2, 3]));
        table.indexes.remove(2);
        assert_eq!(planned(&table), (Way::Lookups, vec![1]));
        table.indexes.remove(1);
        assert_eq!(planned(&table), (Way::Buckets, vec![]));
    }

    #[test]
    fn neither_sides_order_of_characters_is_trusted() {
        for (kind, way) in [
            ("varchar(10)", Way::Lookups),
            // Ordered by its numbers, compared by its words.
            ("enum('a','b')", Way::Buckets),
            ("bit(64)", Way::Ranges),
            ("varbinary(10)", Way::Ranges),
            ("datetime(6)", Way::Ranges),
            ("decimal(20,3)", Way::Ranges),
            ("double", Way::Buckets),
            ("json", Way::Buckets),
        ] {
            let table = shape(&[("k", kind)], vec![index("PRIMARY", true, &["k"])]);
            assert_eq!(planned(&table).0, way, "{kind}");
        }
    }

    #[test]
    fn characters_without_utf8_make_no_key_and_are_asked_for_by_their_bytes() {
        for (collation, way, lossy) in [
            ("gbk_chinese_ci", Way::Buckets, Some("gbk")),
            ("cp1251_general_ci", Way::Buckets, Some("cp1251")),
            ("latin1_swedish_ci", Way::Lookups, None),
            ("utf8mb4_0900_ai_ci", Way::Lookups, None),
        ] {
            let mut table = shape(
                &[("k", "varchar(10)")],
                vec![index("PRIMARY", true, &["k"])],
            );
            let plain = table.clone();
            table.columns[0].collation = Some(collation.to_owned());
            // On whichever side.
            assert_eq!(planned(&table).0, way, "{collation}");
            let plan = plan(&plain, &table).unwrap();
            assert_eq!(plan.way, way, "{collation}");
            assert_eq!(plan.columns[0].lossy, [None, lossy.map(str::to_owned)]);
        }
    }

    #[test]
    fn an_enum_of_either_side_makes_no_key() {
        let of = |kind: &str| {
            let columns = [("s", kind), ("id", "int")];
            shape(&columns, vec![index("PRIMARY", true, &["s", "id"])])
        };
        let (one, other) = (of("enum('new','open')"), of("varchar(9)"));
        assert_eq!(plan(&one, &other).unwrap().way, Way::Buckets);
        assert_eq!(plan(&other, &one).unwrap().way, Way::Buckets);
        let mut both = one.clone();
        both.indexes.push(index("of_id", true, &["id"]));
        assert_eq!(planned(&both), (Way::Ranges, vec![1]));
    }

    #[test]
    fn an_index_of_a_columns_beginning_is_no_key() {
        let mut table = shape(
            &[("k", "varchar(10)")],
            vec![index("PRIMARY", true, &["k"])],
        );
        table.indexes[0].columns[0].1 = Some(3);
        assert_eq!(planned(&table), (Way::Buckets, vec![]));
    }

    #[test]
    fn a_column_that_one_side_lacks_is_left_out() {
        let one = shape(
            &[("id", "int"), ("more", "int")],
            vec![index("PRIMARY", true, &["id"])],
        );
        let other = shape(&[("ID", "int")], vec![index("PRIMARY", true, &["ID"])]);
        let plan = plan(&one, &other).unwrap();
        let names = |plan: &Plan| {
            (
                plan.columns[0].name.clone(),
                plan.columns[0].on_shadow.clone(),
            )
        };
        assert_eq!(
            (plan.columns.len(), names(&plan)),
            (1, ("id".into(), "ID".into()))
        );
        assert!(super::plan(&one, &shape(&[("x", "int")], vec![])).is_none());
    }
}
