//! `[[compare.rules]]`: divergences that an operator has judged beforehand. The admin's API takes
//! the same rules, and both are read here.

use crate::compare::verdict::Kind;
use jiff::Timestamp;
use serde::Deserialize;

/// Rules at most, those of the config and of the API together.
pub const RULES_MAX: usize = 1_000;

/// The longest text that a rule may be told, in bytes.
const TEXT_BYTES_MAX: usize = 4_096;

/// What becomes of the divergences that a rule takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleState {
    /// They say nothing.
    Noise,
    /// They are known and lived with, until a time.
    Accepted,
}

impl RuleState {
    /// The word for it, in config, API and ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Accepted => "accepted",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Noise, Self::Accepted]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

/// A rule. It takes a divergence where all that it names hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name: no two rules have the same.
    pub name: String,
    /// The statement's shape, its digest (16 hexadecimal digits), or a text with `*` for anything.
    pub fingerprint: Option<String>,
    /// A table that the statement names: `table` or `database.table`, with `*` for anything.
    pub table: Option<String>,
    /// The kind.
    pub kind: Option<Kind>,
    /// The only column that differs, by its own name, with `*` for anything.
    pub column: Option<String>,
    /// What becomes of what it takes.
    pub state: RuleState,
    /// Who says so.
    pub who: String,
    /// Why; empty where nobody said.
    pub why: String,
    /// It takes nothing after this time.
    pub until: Option<Timestamp>,
}

/// A rule as it is written, in the config or in a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// See [`Rule::name`].
    pub name: Option<String>,
    /// See [`Rule::fingerprint`].
    pub fingerprint: Option<String>,
    /// See [`Rule::table`].
    pub table: Option<String>,
    /// See [`Rule::kind`].
    pub kind: Option<String>,
    /// See [`Rule::column`].
    pub column: Option<String>,
    /// See [`Rule::state`].
    pub state: Option<String>,
    /// See [`Rule::who`].
    pub who: Option<String>,
    /// See [`Rule::why`].
    pub why: Option<String>,
    /// See [`Rule::until`].
    pub until: Option<String>,
}

/// Whoever did what no person did.
pub const OURSELVES: &str = "understudy";

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The key.
    pub key: &'static str,
    /// What was found.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.wrong, self.right)
    }
}

impl Wrong {
    fn new(key: &'static str, wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self {
            key,
            wrong: wrong.into(),
            right: right.into(),
        }
    }
}

impl Written {
    /// As meant.
    ///
    /// # Errors
    /// The first key that is wrong, and what would be right.
    pub fn meant(self) -> Result<Rule, Wrong> {
        let name = named(self.name)?;
        let state = state(self.state.as_deref())?;
        let rule = Rule {
            name,
            fingerprint: told("fingerprint", self.fingerprint)?,
            table: told("table", self.table)?,
            kind: kind(self.kind.as_deref())?,
            column: told("column", self.column)?,
            state,
            who: told("who", self.who)?
                .ok_or_else(|| Wrong::new("who", "nobody", "write who says so"))?,
            why: told("why", self.why)?.unwrap_or_default(),
            until: until(self.until.as_deref())?,
        };
        rule.sound()
    }
}

impl Rule {
    fn sound(self) -> Result<Self, Wrong> {
        let narrow = [&self.fingerprint, &self.table, &self.column];
        if narrow.into_iter().all(Option::is_none) && self.kind.is_none() {
            let right = "name at least one of fingerprint, table, kind, column";
            return Err(Wrong::new("name", "this rule takes everything", right));
        }
        let cells = |kind| matches!(kind, Kind::Value | Kind::Null);
        if self.column.is_some() && !self.kind.is_none_or(cells) {
            let right = "take one of them out: columns are known of the kinds value and null";
            return Err(Wrong::new(
                "column",
                "a column and a kind that has none",
                right,
            ));
        }
        if self.state == RuleState::Accepted {
            let right = "write why it is lived with";
            if self.why.is_empty() {
                return Err(Wrong::new("why", "nothing", right));
            }
            if self.until.is_none() {
                let right = "write until when, such as 2030-01-31T00:00:00Z";
                return Err(Wrong::new("until", "accepted for ever", right));
            }
        }
        Ok(self)
    }
}

fn named(name: Option<String>) -> Result<String, Wrong> {
    let right = "write 1 to 100 letters, digits, blanks, dots, dashes or underscores";
    let name = name.ok_or_else(|| Wrong::new("name", "a rule without a name", right))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.');
    if name.trim().is_empty() || name.len() > 100 || !name.chars().all(plain) {
        return Err(Wrong::new("name", format!("found {name:?}"), right));
    }
    Ok(name)
}

fn state(state: Option<&str>) -> Result<RuleState, Wrong> {
    let right = "write \"noise\" or \"accepted\"";
    let state = state.ok_or_else(|| Wrong::new("state", "a rule without a state", right))?;
    RuleState::named(state).ok_or_else(|| Wrong::new("state", format!("found {state:?}"), right))
}

fn kind(kind: Option<&str>) -> Result<Option<Kind>, Wrong> {
    let Some(kind) = kind else { return Ok(None) };
    let known = Kind::named(kind).ok_or_else(|| {
        let kinds = Kind::ALL.map(Kind::name).join(", ");
        let wrong = format!("found {kind:?}");
        Wrong::new("kind", wrong, format!("write one of {kinds}"))
    })?;
    Ok(Some(known))
}

fn told(key: &'static str, text: Option<String>) -> Result<Option<String>, Wrong> {
    if let Some(text) = &text {
        said(key, text)?;
    }
    Ok(text)
}

/// Whether a text will do for what a person says of a rule, a finding or a taint, wherever it is
/// said: `who` and `why` above all.
///
/// # Errors
/// It is empty, longer than 1000 bytes, or a `who` that stands for what nobody did.
pub fn said(key: &'static str, text: &str) -> Result<(), Wrong> {
    if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
        let wrong = format!("found {} bytes", text.len());
        let right = format!("write 1 to {TEXT_BYTES_MAX} bytes");
        return Err(Wrong::new(key, wrong, right));
    }
    if key == "who" && text.trim().eq_ignore_ascii_case(OURSELVES) {
        let right = "write who says so: this name is kept for what happens by itself";
        return Err(Wrong::new(key, format!("found {text:?}"), right));
    }
    Ok(())
}

fn until(until: Option<&str>) -> Result<Option<Timestamp>, Wrong> {
    let Some(until) = until else { return Ok(None) };
    let at = until.parse().map_err(|_| {
        let right = "write a time such as 2030-01-31T00:00:00Z";
        Wrong::new("until", format!("found {until:?}"), right)
    })?;
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Rule, Wrong> {
        serde_json::from_str::<Written>(text).expect("JSON").meant()
    }

    #[test]
    fn a_rule_is_refused_by_the_key_that_is_wrong() {
        for (text, key) in [
            (r#"{"state": "noise", "who": "a", "table": "t"}"#, "name"),
            (
                r#"{"name": "a;b", "state": "noise", "who": "a", "table": "t"}"#,
                "name",
            ),
            (r#"{"name": "n", "state": "noise", "who": "a"}"#, "name"),
            (
                r#"{"name": "n", "state": "open", "who": "a", "table": "t"}"#,
                "state",
            ),
            (r#"{"name": "n", "who": "a", "table": "t"}"#, "state"),
            (r#"{"name": "n", "state": "noise", "table": "t"}"#, "who"),
            (
                r#"{"name": "n", "state": "noise", "who": "a", "kind": "odd"}"#,
                "kind",
            ),
            (
                r#"{"name": "n", "state": "noise", "who": "a", "table": " "}"#,
                "table",
            ),
            (
                r#"{"name": "n", "state": "noise", "who": "a", "kind": "rows", "column": "c"}"#,
                "column",
            ),
            (
                r#"{"name": "n", "state": "accepted", "who": "a", "table": "t", "until": "2030-01-01T00:00:00Z"}"#,
                "why",
            ),
            (
                r#"{"name": "n", "state": "accepted", "who": "a", "table": "t", "why": "b"}"#,
                "until",
            ),
            (
                r#"{"name": "n", "state": "noise", "who": "a", "table": "t", "until": "soon"}"#,
                "until",
            ),
        ] {
            assert_eq!(written(text).expect_err(text).key, key, "{text}");
        }
    }

    #[test]
    fn a_sound_rule_means_what_it_says() {
        let rule = written(
            r#"{"name": "n", "state": "accepted", "who": "a", "why": "b", "kind": "null", "column": "c", "until": "2030-01-01T00:00:00Z"}"#,
        )
        .expect("sound");
        assert_eq!(
            (rule.kind, rule.state),
            (Some(Kind::Null), RuleState::Accepted)
        );
        assert!(rule.until.is_some());
    }
}
