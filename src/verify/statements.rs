//! The statements that are asked. Pure; those that repair are worded by `repair`.
//!
//! Every name is quoted and every value is a literal of its own type, so that nothing that stands in a row
//! can be more than a value. A key of several columns is spelled out (`a > 1 OR (a = 1 AND b > 2)`): MySQL 5.6
//! takes no index for `(a, b) > (1, 2)`.

use super::plan::{Plan, Planned};
use super::rows::Key;
use super::types::Form;
use std::collections::BTreeSet;

/// Which of the two servers a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The primary.
    Primary,
    /// The shadow.
    Shadow,
}

impl Side {
    /// Whose name a column has there.
    pub(super) fn name(self, column: &Planned) -> String {
        quoted(match self {
            Self::Primary => &column.name,
            Self::Shadow => &column.on_shadow,
        })
    }
}

/// A table on one side.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    /// How it is compared.
    pub(super) plan: &'a Plan,
    /// Where it is.
    pub(super) side: Side,
    /// Its database there.
    pub(super) database: &'a str,
    /// Its name.
    pub(super) table: &'a str,
    /// An operator's condition, if there is one.
    pub(super) condition: Option<&'a str>,
}

/// A name in backticks.
#[must_use]
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A value as a literal.
#[must_use]
pub(super) fn literal(column: &Planned, value: &[u8]) -> String {
    match column.form {
        // MySQL 5.6 does not find `b'1000…'` of 64 bits, and finds its number.
        Form::Bits => match super::number::whole(value) {
            Some(number) => number.to_string(),
            None => hex(value),
        },
        Form::Number | Form::Float | Form::Digits | Form::Double
            if super::number::decimal(value).is_some() =>
        {
            String::from_utf8_lossy(value).into_owned()
        }
        Form::Bytes if column.binary => hex(value),
        _ => match std::str::from_utf8(value) {
            Ok(text) => text_literal(text),
            Err(_) => hex(value),
        },
    }
}

/// Bytes and characters of a value that are told of it.
const TOLD_BYTES: usize = 160;
const TOLD_CHARS: usize = 40;

/// A value for people: the beginning of a long one.
#[must_use]
pub(super) fn told(column: &Planned, value: Option<&[u8]>) -> String {
    let Some(value) = value else {
        return "NULL".to_owned();
    };
    let some = value.get(..TOLD_BYTES).unwrap_or(value);
    let words = match column.form {
        Form::Bits => literal(column, value),
        Form::Bytes if column.binary => hex(some),
        // A NULL is told apart from what only says so.
        Form::Text | Form::Words | Form::Json | Form::Bytes => {
            text_literal(&String::from_utf8_lossy(some))
        }
        Form::Number | Form::Float | Form::Digits | Form::Double | Form::Moment | Form::Time => {
            String::from_utf8_lossy(some).into_owned()
        }
    };
    match words.char_indices().nth(TOLD_CHARS) {
        Some((end, _)) => format!("{}…", words.get(..end).unwrap_or_default()),
        None => words,
    }
}

/// The same value in other words: what the one does not find, the other may.
fn in_other_words(column: &Planned, value: &[u8]) -> String {
    match column.form {
        Form::Number | Form::Float | Form::Digits | Form::Double
            if super::number::decimal(value).is_some() =>
        {
            format!("'{}'", String::from_utf8_lossy(value))
        }
        Form::Bits => format!("{} + 0", hex(value)),
        Form::Bytes if column.binary => format!("UNHEX('{}')", digits(value)),
        Form::Text => format!("_utf8mb4 {}", hex(value)),
        _ => literal(column, value),
    }
}

pub(super) fn hex(value: &[u8]) -> String {
    format!("x'{}'", digits(value))
}

fn digits(value: &[u8]) -> String {
    value.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Whether characters, told in UTF-8, are all that they are.
pub(super) fn survives(name: &str, charset: &str) -> String {
    format!(
        "CAST(CONVERT(CONVERT({name} USING utf8mb4) USING {charset}) AS BINARY) = CAST({name} AS BINARY)"
    )
}

/// The session's sql_mode is empty, so a backslash escapes.
fn text_literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{1a}' => out.push_str("\\Z"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

impl Place<'_> {
    /// The table's qualified name.
    #[must_use]
    pub(super) fn name(&self) -> String {
        format!("{}.{}", quoted(self.database), quoted(self.table))
    }

    fn column(&self, at: usize) -> Option<&Planned> {
        self.plan.columns.get(at)
    }

    pub(super) fn all_columns(&self) -> String {
        let columns = self.plan.columns.iter();
        let asked: Vec<String> = columns.map(|column| self.asked(column)).collect();
        asked.join(", ")
    }

    /// A column as it is asked for: a FLOAT exactly, for as itself a server prints six digits of it; characters that
    /// have no UTF-8 by their bytes, for as themselves a server says `?` for any of them.
    fn asked(&self, column: &Planned) -> String {
        let name = self.side.name(column);
        let [here, there] = &column.lossy;
        let charset = match self.side {
            Side::Primary => here,
            Side::Shadow => there,
        };
        match charset {
            Some(charset) => format!(
                "IF({}, CONVERT({name} USING utf8mb4), CONCAT('? {charset} ', HEX({name})))",
                survives(&name, charset)
            ),
            None if column.form == Form::Float => format!("{name} + 0e0"),
            None => name,
        }
    }

    fn key_names(&self) -> Vec<String> {
        let key = self.plan.key.iter().filter_map(|at| self.column(*at));
        key.map(|column| self.side.name(column)).collect()
    }

    /// The key's column `nth`, and its value as a literal.
    fn part(&self, key: &Key, nth: usize) -> Option<(String, String)> {
        let column = self.column(*self.plan.key.get(nth)?)?;
        Some((
            self.side.name(column),
            literal(column, key.values.get(nth)?),
        ))
    }

    pub(super) fn parts(&self, key: &Key) -> Vec<(String, String)> {
        (0..self.plan.key.len())
            .filter_map(|nth| self.part(key, nth))
            .collect()
    }

    /// `k = 1`, or `(a = 1 AND b = 2)`.
    #[must_use]
    pub(super) fn is(&self, key: &Key) -> String {
        let parts = self.parts(key).into_iter();
        let parts: Vec<String> = parts
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        match parts.as_slice() {
            [one] => one.clone(),
            many => format!("({})", many.join(" AND ")),
        }
    }

    /// Behind (or before) this key: the first column by itself as well, so that an index is taken.
    fn beyond(&self, key: &Key, sign: &str, or_equal: bool) -> String {
        let parts = self.parts(key);
        let mut arms = Vec::new();
        for (nth, (name, value)) in parts.iter().enumerate() {
            let is_last = nth + 1 == parts.len();
            let equal = parts
                .iter()
                .take(nth)
                .map(|(name, value)| format!("{name} = {value}"));
            let sign = if is_last && or_equal {
                format!("{sign}=")
            } else {
                sign.to_owned()
            };
            let arm: Vec<String> = equal.chain([format!("{name} {sign} {value}")]).collect();
            arms.push(arm.join(" AND "));
        }
        match (arms.as_slice(), parts.first()) {
            ([one], _) => one.clone(),
            (many, Some((name, value))) => {
                let many: Vec<String> = many.iter().map(|arm| format!("({arm})")).collect();
                format!("{name} {sign}= {value} AND ({})", many.join(" OR "))
            }
            (_, None) => "TRUE".to_owned(),
        }
    }

    /// Behind `from`, up to `to` and with it, and what the operator asks for.
    fn within(&self, from: Option<&Key>, to: Option<&Key>) -> String {
        let mut conditions = Vec::new();
        conditions.extend(from.map(|key| self.beyond(key, ">", false)));
        conditions.extend(to.map(|key| self.beyond(key, "<", true)));
        conditions.extend(self.condition.map(str::to_owned));
        if conditions.is_empty() {
            return String::new();
        }
        let all: Vec<String> = conditions.iter().map(|one| format!("({one})")).collect();
        format!(" WHERE {}", all.join(" AND "))
    }

    /// The next rows behind this key, in this side's order.
    #[must_use]
    pub(super) fn next(&self, from: Option<&Key>, rows: u64) -> String {
        format!(
            "SELECT {} FROM {}{} ORDER BY {} LIMIT {rows}",
            self.all_columns(),
            self.name(),
            self.within(from, None),
            self.key_names().join(", ")
        )
    }

    /// The same of their keys alone.
    #[must_use]
    pub(super) fn next_keys(&self, from: Option<&Key>, rows: u64) -> String {
        format!(
            "SELECT {keys} FROM {}{} ORDER BY {keys} LIMIT {rows}",
            self.name(),
            self.within(from, None),
            keys = self.key_names().join(", "),
        )
    }

    /// The key so many rows behind this one, less one: where the next range would end.
    #[must_use]
    pub(super) fn end_of_next(&self, from: Option<&Key>, rows: u64) -> String {
        format!(
            "SELECT {keys} FROM {}{} ORDER BY {keys} LIMIT 1 OFFSET {}",
            self.name(),
            self.within(from, None),
            rows.saturating_sub(1),
            keys = self.key_names().join(", "),
        )
    }

    /// All rows of a range, in no order; all of the table without one.
    #[must_use]
    pub(super) fn range(&self, from: Option<&Key>, to: Option<&Key>) -> String {
        let (columns, name) = (self.all_columns(), self.name());
        format!("SELECT {columns} FROM {name}{}", self.within(from, to))
    }

    /// The rows with these keys, and with others that the server takes for the same.
    #[must_use]
    pub(super) fn lookup(&self, keys: &[Key]) -> String {
        let (columns, name) = (self.all_columns(), self.name());
        format!(
            "SELECT {columns} FROM {name} WHERE {}",
            self.is_one_of(keys)
        )
    }

    /// The keys alone of those rows.
    #[must_use]
    pub(super) fn lookup_keys(&self, keys: &[Key]) -> String {
        let (columns, name) = (self.key_names().join(", "), self.name());
        format!(
            "SELECT {columns} FROM {name} WHERE {}",
            self.is_one_of(keys)
        )
    }

    /// The rows with these keys on any shard: a range of one key, which no vtgate sends to one shard alone.
    #[must_use]
    pub(super) fn spots(&self, keys: &[Key]) -> String {
        let (columns, name) = (self.all_columns(), self.name());
        let spots = keys.iter().map(|key| {
            let parts = self.parts(key).into_iter();
            let parts: Vec<String> = parts
                .map(|(name, value)| format!("{name} >= {value} AND {name} <= {value}"))
                .collect();
            format!("({})", parts.join(" AND "))
        });
        let spots: Vec<String> = spots.collect();
        format!("SELECT {columns} FROM {name} WHERE {}", spots.join(" OR "))
    }

    /// The rows with these keys, asked for by other literals and signs than everywhere else: whoever takes a row away
    /// because a lookup did not find it on the other side asks once more by these.
    #[must_use]
    pub(super) fn in_other_words(&self, keys: &[Key]) -> String {
        let (columns, name) = (self.all_columns(), self.name());
        let of = |key: &Key, nth: usize| {
            let column = self.column(*self.plan.key.get(nth)?)?;
            let (name, value) = (self.side.name(column), key.values.get(nth)?);
            let value = in_other_words(column, value);
            Some(format!("{name} >= {value} AND {name} <= {value}"))
        };
        let arms = keys.iter().map(|key| {
            let parts = (0..self.plan.key.len()).filter_map(|nth| of(key, nth));
            format!("({})", parts.collect::<Vec<_>>().join(" AND "))
        });
        let arms: Vec<String> = arms.collect();
        format!("SELECT {columns} FROM {name} WHERE {}", arms.join(" OR "))
    }

    pub(super) fn is_one_of(&self, keys: &[Key]) -> String {
        if self.plan.key.len() == 1 {
            let values: Vec<String> = keys
                .iter()
                .filter_map(|key| self.part(key, 0))
                .map(|(_, value)| value)
                .collect();
            return format!("{} IN ({})", self.key_names().join(""), values.join(", "));
        }
        let each: Vec<String> = keys.iter().map(|key| self.is(key)).collect();
        let each = each.join(" OR ");
        match self.spread_values(keys) {
            Some((name, values)) => format!("{name} IN ({values}) AND ({each})"),
            None => each,
        }
    }

    /// The column that says on which shard a row is, and its values: a vtgate would ask every shard for every key
    /// of several columns, and find it wherever it is.
    fn spread_values(&self, keys: &[Key]) -> Option<(String, String)> {
        let spread = self.plan.spread.filter(|_| self.side == Side::Shadow)?;
        let nth = self.plan.key.iter().position(|at| *at == spread)?;
        let parts = keys.iter().filter_map(|key| self.part(key, nth));
        let values: BTreeSet<String> = parts.map(|(_, value)| value).collect();
        let values: Vec<String> = values.into_iter().collect();
        Some((self.side.name(self.column(spread)?), values.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Way;
    use super::super::rows::key_alone;
    use super::*;

    fn column(name: &str, form: Form, binary: bool) -> Planned {
        Planned {
            name: name.into(),
            on_shadow: name.to_uppercase(),
            form,
            generated: false,
            renews: false,
            binary,
            lossy: [None, None],
        }
    }

    fn plan(key: &[usize]) -> Plan {
        Plan {
            columns: vec![
                column("a", Form::Number, false),
                column("b", Form::Text, false),
                column("c", Form::Bytes, true),
            ],
            key: key.to_vec(),
            way: Way::Ranges,
            spread: None,
        }
    }

    fn place<'a>(plan: &'a Plan, condition: Option<&'a str>) -> Place<'a> {
        Place {
            plan,
            side: Side::Primary,
            database: "app",
            table: "t",
            condition,
        }
    }

    #[test]
    fn a_range_of_one_column() {
        let plan = plan(&[0]);
        let (from, to) = (
            key_alone(&plan, &[Some(b"1")]),
            key_alone(&plan, &[Some(b"9")]),
        );
        let at = place(&plan, None);
        assert_eq!(
            at.range(Some(&from), Some(&to)),
            "SELECT `a`, `b`, `c` FROM `app`.`t` WHERE (`a` > 1) AND (`a` <= 9)"
        );
        assert_eq!(at.range(None, None), "SELECT `a`, `b`, `c` FROM `app`.`t`");
        assert_eq!(
            at.next(Some(&from), 10),
            "SELECT `a`, `b`, `c` FROM `app`.`t` WHERE (`a` > 1) ORDER BY `a` LIMIT 10"
        );
        assert_eq!(
            at.lookup(&[from, to]),
            "SELECT `a`, `b`, `c` FROM `app`.`t` WHERE `a` IN (1, 9)"
        );
    }

    #[test]
    fn a_range_of_several_columns_is_spelled_out() {
        let plan = plan(&[0, 1]);
        let from = key_alone(&plan, &[Some(b"1"), Some(b"x")]);
        let at = Place {
            side: Side::Shadow,
            ..place(&plan, Some("a < 5 OR b = 'y'"))
        };
        assert_eq!(
            at.next_keys(Some(&from), 2),
            "SELECT `A`, `B` FROM `app`.`t` WHERE (`A` >= 1 AND ((`A` > 1) OR (`A` = 1 AND `B` > 'x'))) AND (a < 5 OR b = 'y') ORDER BY `A`, `B` LIMIT 2"
        );
        assert!(
            at.range(None, Some(&from))
                .contains("(`A` = 1 AND `B` <= 'x')")
        );
        assert_eq!(
            at.lookup_keys(std::slice::from_ref(&from)),
            "SELECT `A`, `B` FROM `app`.`t` WHERE (`A` = 1 AND `B` = 'x')"
        );
    }

    /// Without the list a vtgate finds a row on whatever shard it is, and one on the wrong shard looks right.
    #[test]
    fn several_keys_of_several_columns_are_asked_of_their_shards_alone() {
        let mut plan = plan(&[0, 1]);
        plan.spread = Some(1);
        let keys = [["1", "x"], ["2", "y"], ["3", "x"]]
            .map(|[a, b]| key_alone(&plan, &[Some(a.as_bytes()), Some(b.as_bytes())]));
        let on = |side| Place {
            side,
            ..place(&plan, None)
        };
        assert_eq!(
            on(Side::Shadow).lookup_keys(&keys),
            "SELECT `A`, `B` FROM `app`.`t` WHERE `B` IN ('x', 'y') AND ((`A` = 1 AND `B` = 'x') OR (`A` = 2 AND `B` = 'y') OR (`A` = 3 AND `B` = 'x'))"
        );
        assert!(!on(Side::Primary).lookup_keys(&keys).contains(" IN "));
    }

    #[test]
    fn what_is_not_found_is_asked_for_in_other_words() {
        let mut plan = plan(&[0, 1, 2]);
        let cells = [Some(&b"1"[..]), Some(b"x'"), Some(b"\x00")];
        let key = key_alone(&plan, &cells);
        assert_eq!(
            place(&plan, None).in_other_words(std::slice::from_ref(&key)),
            "SELECT `a`, `b`, `c` FROM `app`.`t` WHERE (`a` >= '1' AND `a` <= '1' AND `b` >= _utf8mb4 x'7827' AND `b` <= _utf8mb4 x'7827' AND `c` >= UNHEX('00') AND `c` <= UNHEX('00'))"
        );
        plan.columns = vec![column("a", Form::Bits, false)];
        plan.key = vec![0];
        let key = key_alone(&plan, &[Some(&[0x80, 0])]);
        let ask = place(&plan, None).in_other_words(&[key]);
        assert!(
            ask.ends_with("(`a` >= x'8000' + 0 AND `a` <= x'8000' + 0)"),
            "{ask}"
        );
    }

    #[test]
    fn what_a_server_would_print_for_several_values_is_asked_for_otherwise() {
        let mut plan = plan(&[0]);
        plan.columns = vec![
            column("a", Form::Number, false),
            column("f", Form::Float, false),
        ];
        plan.columns.push(Planned {
            lossy: [Some("gbk".to_owned()), None],
            ..column("t", Form::Text, false)
        });
        let ask = |side| {
            Place {
                side,
                ..place(&plan, None)
            }
            .all_columns()
        };
        assert_eq!(
            ask(Side::Primary),
            "`a`, `f` + 0e0, IF(CAST(CONVERT(CONVERT(`t` USING utf8mb4) USING gbk) AS BINARY) = CAST(`t` AS BINARY), CONVERT(`t` USING utf8mb4), CONCAT('? gbk ', HEX(`t`)))"
        );
        assert_eq!(ask(Side::Shadow), "`A`, `F` + 0e0, `T`");
    }

    #[test]
    fn a_value_is_told_in_brief_and_null_is_no_text() {
        let of = |form, value| told(&column("a", form, form == Form::Bytes), value);
        assert_eq!(of(Form::Text, None), "NULL");
        assert_eq!(of(Form::Text, Some(b"NULL")), "'NULL'");
        assert_eq!(of(Form::Text, Some(b"a  b\nc")), "'a  b\\nc'");
        assert_eq!(of(Form::Bytes, Some(b"\x00")), "x'00'");
        assert_eq!(of(Form::Bits, Some(&[1, 5])), "261");
        let at = &b"2024-02-29 12:30:01"[..];
        assert_eq!(of(Form::Moment, Some(at)), "2024-02-29 12:30:01");
        let long = of(Form::Text, Some(&[b'x'; 1 << 20]));
        assert_eq!(long.chars().count(), 41);
        assert!(long.ends_with("x…"), "{long}");
    }

    #[test]
    fn nothing_in_a_row_is_more_than_a_value() {
        let of = |form, binary, value: &[u8]| literal(&column("a", form, binary), value);
        assert_eq!(
            of(Form::Text, false, b"a'; DROP TABLE t; -- \\"),
            "'a''; DROP TABLE t; -- \\\\'"
        );
        assert_eq!(of(Form::Number, false, b"1 OR 1=1"), "'1 OR 1=1'");
        assert_eq!(of(Form::Number, false, b"-1.50"), "-1.50");
        assert_eq!(of(Form::Bytes, true, b"\x00'"), "x'0027'");
        assert_eq!(of(Form::Bits, false, &[1, 5]), "261");
        assert_eq!(
            of(Form::Bits, false, &[0x80, 0, 0, 0, 0, 0, 0, 0]),
            "9223372036854775808"
        );
        assert_eq!(of(Form::Text, false, &[0xFF]), "x'FF'");
        assert_eq!(quoted("a`b"), "`a``b`");
    }
}
