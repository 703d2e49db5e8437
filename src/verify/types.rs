//! A column's type as `SHOW COLUMNS` says it, and in which form the values of two columns are compared. Pure.

/// A type, with what is only for the eye taken off: `int(11)` is `int`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SqlType {
    /// The type's word, in one spelling.
    pub(super) name: String,
    /// What stands in its brackets; empty where that says nothing of its values.
    pub(super) arguments: String,
    /// It has no sign.
    pub(super) unsigned: bool,
}

/// In which form a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Integers, decimals, years: by value.
    Number,
    /// FLOAT on both sides: exactly, as the DOUBLE that it is asked for as.
    Float,
    /// FLOAT against another number: by the six digits that are printed.
    Digits,
    /// DOUBLE: exactly.
    Double,
    /// BIT: as a number.
    Bits,
    /// DATE, DATETIME, TIMESTAMP: a moment, in UTC.
    Moment,
    /// TIME.
    Time,
    /// Texts, in UTF-8, each character of them; ENUM by its word.
    Text,
    /// SET: its words, whatever their order.
    Words,
    /// Bytes; spatial values, which every server stores in one form.
    Bytes,
    /// JSON: by content.
    Json,
}

impl SqlType {
    /// Reads `decimal(10,2) unsigned zerofill` and the like.
    #[must_use]
    pub(super) fn parse(text: &str) -> Self {
        let (head, rest) = match text.split_once('(') {
            Some((head, rest)) => (head, rest),
            None => (text.split(' ').next().unwrap_or_default(), text),
        };
        // A word of an ENUM may hold a bracket.
        let (inside, behind) = match (text.contains('('), rest.rsplit_once(')')) {
            (true, Some((inside, behind))) => (inside, behind),
            _ => ("", rest),
        };
        let name = spelling(&head.trim().to_ascii_lowercase());
        let behind = behind.to_ascii_lowercase();
        Self {
            arguments: arguments(&name, inside),
            unsigned: behind.contains("unsigned") || behind.contains("zerofill"),
            name,
        }
    }

    fn form(&self) -> Form {
        match self.name.as_str() {
            "float" => Form::Float,
            "double" => Form::Double,
            "bit" => Form::Bits,
            "date" | "datetime" | "timestamp" => Form::Moment,
            "time" => Form::Time,
            "set" => Form::Words,
            "json" => Form::Json,
            name if is_number(name) => Form::Number,
            name if is_text(name) => Form::Text,
            _ => Form::Bytes,
        }
    }

    /// Whether it is a spatial type.
    #[must_use]
    pub(super) fn is_spatial(&self) -> bool {
        SPATIAL.contains(&self.name.as_str())
    }

    /// As a person reads it.
    #[must_use]
    pub(super) fn told(&self) -> String {
        let brackets = match self.arguments.as_str() {
            "" => String::new(),
            inside => format!("({inside})"),
        };
        let sign = if self.unsigned { " unsigned" } else { "" };
        format!("{}{brackets}{sign}", self.name)
    }
}

const SPATIAL: [&str; 8] = [
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geomcollection",
];

/// Servers spell some types in several ways.
fn spelling(name: &str) -> String {
    match name {
        "integer" => "int",
        "numeric" | "dec" | "fixed" => "decimal",
        "real" | "double precision" => "double",
        "bool" | "boolean" => "tinyint",
        "geometrycollection" => "geomcollection",
        other => other,
    }
    .to_owned()
}

/// A display width says nothing of the values.
fn arguments(name: &str, inside: &str) -> String {
    match name {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => String::new(),
        // Without brackets it is one bit, or whole seconds.
        "bit" if inside.is_empty() => "1".to_owned(),
        "datetime" | "timestamp" | "time" if inside == "0" => String::new(),
        "enum" | "set" => inside.to_owned(),
        _ => inside.replace(' ', ""),
    }
}

fn is_number(name: &str) -> bool {
    matches!(
        name,
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year"
    )
}

fn is_text(name: &str) -> bool {
    matches!(
        name,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum"
    )
}

/// The form in which values of these two types are compared: where the types differ, which is told apart
/// from the values, the weaker one of both.
#[must_use]
pub(super) fn form(one: &SqlType, other: &SqlType) -> Form {
    let (one, other) = (one.form(), other.form());
    if one == other {
        return one;
    }
    let is = |form: Form| one == form || other == form;
    let both = |among: &[Form]| among.contains(&one) && among.contains(&other);
    if both(&[Form::Number, Form::Float, Form::Double]) {
        return if is(Form::Float) {
            Form::Digits
        } else {
            Form::Double
        };
    }
    // MariaDB keeps JSON as a text.
    if both(&[Form::Json, Form::Text]) {
        return Form::Json;
    }
    if both(&[Form::Text, Form::Words]) {
        return Form::Words;
    }
    Form::Bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_the_eye_is_no_difference() {
        for (one, other) in [
            ("int(11)", "int"),
            ("int(10) unsigned", "int unsigned"),
            ("bigint(20) unsigned zerofill", "bigint unsigned"),
            ("decimal(10, 2)", "decimal(10,2)"),
            ("datetime(0)", "datetime"),
            ("bit", "bit(1)"),
            ("geometrycollection", "geomcollection"),
            ("year(4)", "year"),
            ("tinyint(1)", "tinyint"),
        ] {
            assert_eq!(SqlType::parse(one), SqlType::parse(other), "{one}");
        }
    }

    #[test]
    fn what_holds_other_values_is_one() {
        for (one, other) in [
            ("int", "int unsigned"),
            ("int", "bigint"),
            ("varchar(10)", "varchar(20)"),
            ("decimal(10,2)", "decimal(10,3)"),
            ("datetime", "datetime(6)"),
            ("enum('a','b')", "enum('b','a')"),
        ] {
            assert_ne!(SqlType::parse(one), SqlType::parse(other), "{one}");
        }
    }

    #[test]
    fn a_bracket_in_a_word_of_an_enum_is_of_the_word() {
        let odd = SqlType::parse("enum('a)','(b')");
        assert_eq!(
            (odd.name.as_str(), odd.arguments.as_str()),
            ("enum", "'a)','(b'")
        );
    }

    #[test]
    fn values_of_two_types_are_compared_in_the_weaker_form() {
        let of = |one: &str, other: &str| form(&SqlType::parse(one), &SqlType::parse(other));
        assert_eq!(of("int", "bigint unsigned"), Form::Number);
        assert_eq!(of("int", "float"), Form::Digits);
        assert_eq!(of("float(7,3)", "float"), Form::Float);
        assert_eq!(of("decimal(5,2)", "double"), Form::Double);
        assert_eq!(of("longtext", "json"), Form::Json);
        assert_eq!(of("enum('a')", "varchar(5)"), Form::Text);
        assert_eq!(of("date", "timestamp(6)"), Form::Moment);
        assert_eq!(of("point", "point"), Form::Bytes);
        assert_eq!(of("int", "varchar(5)"), Form::Bytes);
        assert_eq!(of("bit(3)", "bit(8)"), Form::Bits);
    }
}
