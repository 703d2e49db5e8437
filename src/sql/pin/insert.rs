//! INSERT and REPLACE: the key that the primary generated, and the columns whose default is the
//! clock, named in the text.

use super::keys::{self, Keys, Written};
use super::update::{self, Assignments};
use super::{Column, Draft, Given, Literal, Piece, TableFacts, clock_value};
use crate::sql::names::{plain, quote};
use crate::sql::statements::Statement as Tokens;

/// How an INSERT is made up.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) ignores: bool,
    pub(super) replaces: bool,
    /// ON DUPLICATE KEY UPDATE.
    pub(super) updates: bool,
    pub(super) columns: Option<List>,
    pub(super) source: Source,
    /// `AS name (columns)`: no column can be added.
    renames: bool,
}

/// The names of the columns, in parentheses.
#[derive(Debug)]
pub(super) struct List {
    close: usize,
    pub(super) names: Vec<String>,
}

/// Where the rows come from.
#[derive(Debug)]
pub(super) enum Source {
    /// VALUES, whose word is the token at `word`.
    Rows { word: usize, rows: Vec<Row> },
    /// SET.
    Set(Assignments),
    /// SELECT, TABLE, VALUES ROW(…), from this token on.
    Query(usize),
}

/// One row: its closing parenthesis, and its values' tokens.
#[derive(Debug)]
pub(super) struct Row {
    close: usize,
    pub(super) values: Vec<(usize, usize)>,
}

/// Reads an INSERT or REPLACE; none where it is not made up as is known.
pub(super) fn read(tokens: Tokens<'_>) -> Option<Insert> {
    let mut at = 1;
    let mut ignores = false;
    let words = ["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"];
    while tokens.is_any(at, &words) {
        ignores |= tokens.is(at, "IGNORE");
        at += 1;
    }
    if !tokens.is_name(at) {
        return None;
    }
    at += 1;
    while tokens.op(at, b".") {
        at += 2;
    }
    if tokens.is(at, "PARTITION") && tokens.op(at + 1, b"(") {
        at = tokens.closing(at + 1) + 1;
    }
    let mut columns = None;
    let queries = ["SELECT", "WITH", "TABLE", "VALUES"];
    if tokens.op(at, b"(") && !tokens.is_any(at + 1, &queries) && !tokens.op(at + 1, b"(") {
        let close = tokens.closing(at);
        columns = Some(names(tokens, at, close)?);
        at = close + 1;
    }
    let (source, behind) = source(tokens, at)?;
    Some(Insert {
        ignores,
        replaces: tokens.is(0, "REPLACE"),
        updates: tokens
            .find(behind, |it| tokens.are(it, &["ON", "DUPLICATE"]))
            .is_some(),
        columns,
        source,
        renames: tokens.is(behind, "AS") && tokens.op(behind + 2, b"("),
    })
}

fn names(tokens: Tokens<'_>, open: usize, close: usize) -> Option<List> {
    let names = parts(tokens, open, close)
        .into_iter()
        .map(|(_, to)| Some(plain(tokens.bytes(to.checked_sub(1)?))))
        .collect::<Option<Vec<_>>>()?;
    Some(List { close, names })
}

/// Where the rows come from, and the token behind them.
fn source(tokens: Tokens<'_>, at: usize) -> Option<(Source, usize)> {
    if tokens.is(at, "SET") {
        let set = update::assignments(tokens, at + 1);
        let behind = set.last()? + 1;
        return Some((Source::Set(set), behind));
    }
    if !tokens.is_any(at, &["VALUES", "VALUE"]) || !tokens.op(at + 1, b"(") {
        return Some((Source::Query(at), at));
    }
    let mut rows = Vec::new();
    let mut open = at + 1;
    loop {
        if !tokens.op(open, b"(") {
            return None;
        }
        let close = tokens.closing(open);
        rows.push(Row {
            close,
            values: parts(tokens, open, close),
        });
        if !tokens.op(close + 1, b",") {
            return Some((Source::Rows { word: at, rows }, close + 1));
        }
        open = close + 2;
    }
}

/// The parts between commas within parentheses.
fn parts(tokens: Tokens<'_>, open: usize, close: usize) -> Vec<(usize, usize)> {
    let inner = tokens.slice(0, close);
    let mut parts = Vec::new();
    let mut at = open + 1;
    while at < close {
        let end = inner.find(at, |it| tokens.op(it, b",")).unwrap_or(close);
        parts.push((at, end));
        at = end + 1;
    }
    parts
}

/// Names in one INSERT what the primary made up.
pub(super) fn pin(draft: &mut Draft<'_>, tokens: Tokens<'_>, given: &Given<'_>) {
    let insert = read(tokens);
    if draft.known.keys {
        match keys::generated(insert.as_ref(), tokens, given, draft) {
            Keys::None => {}
            Keys::Unknown(_) | Keys::Known(_) if draft.known.rehearsed => draft.pinned.key = true,
            Keys::Unknown(why) => draft.pinned.cannot = Some(why),
            Keys::Known(keys) => key(draft, tokens, insert.as_ref(), given, keys),
        }
    }
    if draft.known.moment.is_some()
        && let Some(insert) = &insert
    {
        written_clocks(draft, tokens, insert, given.facts);
        if let Some(facts) = given.facts {
            default_clocks(draft, tokens, insert, facts);
        }
    }
}

fn key(
    draft: &mut Draft<'_>,
    tokens: Tokens<'_>,
    insert: Option<&Insert>,
    given: &Given<'_>,
    keys: Vec<Written>,
) {
    let column = given
        .facts
        .and_then(|facts| facts.columns.iter().find(|column| column.auto_increment));
    let (Some(insert), Some(column)) = (insert, column) else {
        return;
    };
    if keys.iter().all(|key| matches!(key, Written::Added(_))) {
        let values = keys.iter().map(|key| Literal::Key(key.value())).collect();
        if !add(draft, tokens, insert, column, values) {
            draft.pinned.cannot = Some("no column can be added to it");
            return;
        }
    } else {
        for key in keys {
            if let Written::Over { from, to, value } = key {
                draft.replace(tokens, from, to, Literal::Key(value));
            }
        }
    }
    draft.pinned.key = true;
}

/// Adds a column with one value for each row; whether that can be done.
fn add(
    draft: &mut Draft<'_>,
    tokens: Tokens<'_>,
    insert: &Insert,
    column: &Column,
    values: Vec<Literal>,
) -> bool {
    let name = String::from_utf8_lossy(&quote(column.name.as_bytes())).into_owned();
    let mut values = values.into_iter();
    match &insert.source {
        Source::Set(set) => {
            let (Some(last), Some(value)) = (set.last(), values.next()) else {
                return false;
            };
            let pieces = vec![Piece::Text(format!(", {name} = ")), Piece::Value(value)];
            draft.behind(tokens, last, pieces);
        }
        Source::Rows { word, rows } => {
            let empty = rows.iter().all(|row| row.values.is_empty());
            match &insert.columns {
                _ if insert.renames => return false,
                Some(list) => {
                    let comma = if list.names.is_empty() { "" } else { ", " };
                    let pieces = vec![Piece::Text(format!("{comma}{name}"))];
                    draft.before(tokens, list.close, pieces);
                }
                None if empty => {
                    draft.before(tokens, *word, vec![Piece::Text(format!("({name}) "))]);
                }
                None => return false,
            }
            for row in rows {
                let Some(value) = values.next() else { break };
                let comma = if row.values.is_empty() { "" } else { ", " };
                let pieces = vec![Piece::Text(comma.to_owned()), Piece::Value(value)];
                draft.before(tokens, row.close, pieces);
            }
        }
        Source::Query(_) => return false,
    }
    true
}

/// Notes the columns that the statement itself fills with the clock.
fn written_clocks(
    draft: &mut Draft<'_>,
    tokens: Tokens<'_>,
    insert: &Insert,
    facts: Option<&TableFacts>,
) {
    match &insert.source {
        Source::Set(set) => {
            for one in &set.all {
                draft.clocked(tokens, (one.from, one.to), &one.column);
            }
        }
        Source::Rows { rows, .. } => {
            for row in rows {
                for (nth, value) in row.values.iter().enumerate() {
                    if let Some(name) = name_of(insert, facts, nth) {
                        draft.clocked(tokens, *value, &name);
                    }
                }
            }
        }
        Source::Query(from) => {
            for (nth, item) in select_list(tokens, *from).into_iter().enumerate() {
                if let Some(name) = name_of(insert, facts, nth) {
                    draft.clocked(tokens, item, &name);
                }
            }
        }
    }
    if insert.updates {
        let from = tokens.find(0, |it| {
            tokens.are(it, &["ON", "DUPLICATE", "KEY", "UPDATE"])
        });
        let Some(from) = from else { return };
        for one in update::assignments(tokens, from + 4).all {
            draft.clocked(tokens, (one.from, one.to), &one.column);
        }
    }
}

/// The items of a query's outermost select list up to its first `*`, behind which they are no
/// longer numbered as the columns are, each without its alias.
fn select_list(tokens: Tokens<'_>, from: usize) -> Vec<(usize, usize)> {
    let Some(select) = tokens.find(from, |at| tokens.is(at, "SELECT")) else {
        return Vec::new();
    };
    let modifiers = ["ALL", "DISTINCT", "HIGH_PRIORITY", "STRAIGHT_JOIN"];
    let mut at = select + 1;
    while tokens.is_any(at, &modifiers) {
        at += 1;
    }
    let ends = ["FROM", "WHERE", "UNION", "ORDER", "LIMIT", "HAVING", "ON"];
    let end = tokens.find(at, |it| tokens.is_any(it, &ends));
    let end = end.unwrap_or(tokens.len());
    let list = tokens.slice(0, end);
    let mut items = Vec::new();
    while at < end {
        let stop = list.find(at, |it| list.op(it, b",")).unwrap_or(end);
        let last = stop.saturating_sub(1);
        if tokens.op(last, b"*") {
            break;
        }
        let named = last > at + 1 && tokens.is(last - 1, "AS");
        let named_bare = last > at && tokens.is_name(last) && tokens.op(last - 1, b")");
        let whole = if named {
            last - 1
        } else if named_bare {
            last
        } else {
            stop
        };
        items.push((at, whole));
        at = stop + 1;
    }
    items
}

/// The column of a row's value.
fn name_of(insert: &Insert, facts: Option<&TableFacts>, nth: usize) -> Option<String> {
    match &insert.columns {
        Some(list) => list.names.get(nth).cloned(),
        None => visible(facts?).nth(nth).map(|column| column.name.clone()),
    }
}

/// The columns of a list of values without names.
pub(super) fn visible(facts: &TableFacts) -> impl Iterator<Item = &Column> {
    facts.columns.iter().filter(|column| !column.invisible)
}

/// Names the columns that the clock fills by default.
fn default_clocks(draft: &mut Draft<'_>, tokens: Tokens<'_>, insert: &Insert, facts: &TableFacts) {
    for column in &facts.columns {
        let Some(digits) = column.default_clock else {
            continue;
        };
        let Some(value) = clock_value(draft, digits) else {
            return;
        };
        match place(insert, facts, column) {
            Place::At(nth) => over_default(draft, tokens, insert, nth, &value),
            Place::Set | Place::Unknown => {}
            Place::Absent => {
                let count = match &insert.source {
                    Source::Rows { rows, .. } => rows.len(),
                    Source::Set(_) | Source::Query(_) => 1,
                };
                // A list that is empty takes one column here: the key, or else this one.
                let is_empty = insert
                    .columns
                    .as_ref()
                    .is_none_or(|list| list.names.is_empty());
                let in_rows = matches!(insert.source, Source::Rows { .. });
                if !(in_rows && is_empty) {
                    add(draft, tokens, insert, column, vec![value; count]);
                }
            }
        }
    }
}

/// DEFAULT in the place of a value.
fn over_default(
    draft: &mut Draft<'_>,
    tokens: Tokens<'_>,
    insert: &Insert,
    nth: usize,
    value: &Literal,
) {
    let Source::Rows { rows, .. } = &insert.source else {
        return;
    };
    for row in rows {
        if let Some((from, to)) = row.values.get(nth)
            && to - from == 1
            && tokens.is(*from, "DEFAULT")
        {
            draft.replace(tokens, *from, *to, value.clone());
        }
    }
}

/// Where an INSERT has a value for a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In each row at this place.
    At(usize),
    /// In its SET.
    Set,
    /// Nowhere.
    Absent,
    /// That cannot be told.
    Unknown,
}

/// Finds a column's value.
pub(super) fn place(insert: &Insert, facts: &TableFacts, column: &Column) -> Place {
    if let Source::Set(set) = &insert.source {
        let set = set.all.iter().any(|one| column.is(&one.column));
        return if set { Place::Set } else { Place::Absent };
    }
    if let Some(list) = &insert.columns {
        let at = list.names.iter().position(|name| column.is(name));
        return at.map_or(Place::Absent, Place::At);
    }
    let at = visible(facts).position(|other| other.name == column.name);
    let count = visible(facts).count();
    match &insert.source {
        Source::Rows { rows, .. } if rows.iter().all(|row| row.values.is_empty()) => Place::Absent,
        Source::Rows { rows, .. } if rows.iter().any(|row| row.values.len() != count) => {
            Place::Unknown
        }
        // What is not visible is in no row without names, and cannot be added to it.
        _ => at.map_or(Place::Unknown, Place::At),
    }
}
