//! The outermost ORDER BY, and where its keys stand in the answer.
//!
//! A key is found by ordinal, by alias, or by being written like a column of the select list. It
//! is never guessed: what cannot be placed is named, where a name is left, or hidden.

use super::lexer::Kind;
use super::names::plain;
use super::statements::Statement;
use super::{OrderBy, SortKey};

/// The sort keys of a query. `None` without an ORDER BY at the outermost level, or with one of
/// constants alone.
pub(crate) fn order_by(statement: Statement<'_>) -> Option<OrderBy> {
    let statement = bare(statement);
    let order = last(statement, |at| {
        let hint = at > 0 && statement.is(at - 1, "FOR"); // USE INDEX FOR ORDER BY
        statement.are(at, &["ORDER", "BY"]) && !hint
    })?;
    let end = statement
        .find(order + 2, |at| ends_keys(statement, at))
        .unwrap_or(statement.len());
    let list = SelectList::of(statement);
    let keys: Vec<SortKey> = elements(statement, order + 2, end)
        .into_iter()
        .filter_map(|(from, to)| key(statement.slice(from, to), &list))
        .collect();
    (!keys.is_empty()).then_some(OrderBy { keys })
}

/// Whether a LIMIT cuts what the answer shows.
pub(crate) fn has_limit(statement: Statement<'_>) -> bool {
    let inner = bare(statement);
    limits(inner).any(|at| {
        let (level, limit) = level(inner, at);
        let is_outermost = level.len() == inner.len();
        !counts_all(level, limit) && (is_outermost || chooses(inner, at))
    })
}

/// Whether a LIMIT stands inside: in parentheses, which a subquery, a derived table and the arm of
/// a UNION need for it, and may choose other rows on another server.
pub(crate) fn has_limit_inside(statement: Statement<'_>) -> bool {
    let inner = bare(statement);
    let outermost = inner.find(0, |at| is_limit(inner, at));
    limits(inner).any(|at| Some(at) != outermost && chooses(inner, at))
}

/// Whether the LIMIT at `limit`, inside, may choose other rows than another server: not where only
/// it matters whether there is one, where there is but one, or where a unique column orders them.
fn chooses(statement: Statement<'_>, limit: usize) -> bool {
    let (query, at) = level(statement, limit);
    let open = limit - at;
    let exists = open >= 2 && statement.is(open - 2, "EXISTS");
    !exists && !counts_all(query, at) && !is_ordered(query, at)
}

/// The query of a token, without the parentheses around it, and the token's number in it.
fn level(statement: Statement<'_>, token: usize) -> (Statement<'_>, usize) {
    let mut open = Vec::new();
    for at in 0..token {
        if statement.op(at, b"(") {
            open.push(at);
        } else if statement.op(at, b")") {
            open.pop();
        }
    }
    match open.last() {
        Some(open) => {
            let query = statement.slice(open + 1, statement.closing(*open));
            (query, token - open - 1)
        }
        None => (statement, token),
    }
}

/// Whether the rows that the LIMIT at `limit` of this query cuts are in an order without equals: a
/// column called `id` is among its keys. Of several tables, an `id` comes more than once.
fn is_ordered(query: Statement<'_>, limit: usize) -> bool {
    let within = query.slice(0, limit);
    let Some(order) = last(within, |at| within.are(at, &["ORDER", "BY"])) else {
        return false;
    };
    let several = within
        .find(0, |at| within.is_any(at, &["JOIN", "STRAIGHT_JOIN"]))
        .is_some();
    let is_id = |(from, to): (usize, usize)| {
        let key = within.slice(from, to);
        let end = key.len().saturating_sub(1);
        let directed = key.is_any(end, &["ASC", "DESC"]);
        let key = key.slice(0, key.len() - usize::from(directed));
        name(key).is_some_and(|(_, column)| column.eq_ignore_ascii_case("id"))
    };
    !several && elements(within, order + 2, limit).into_iter().any(is_id)
}

/// Whether a write takes whichever rows the server comes to first: by a LIMIT in a query whose
/// ORDER BY, if it has one, leaves rows equal. A row that is looked for by a column called `id` is
/// the only one of its kind.
pub(crate) fn takes_any_rows(write: Statement<'_>) -> bool {
    limits(write).any(|at| {
        let (query, limit) = level(write, at);
        chooses(write, at) && !by_id(query, limit)
    })
}

/// Whether the query that ends with the LIMIT at `limit` asks for an `id`, and for no other row
/// with an OR.
fn by_id(write: Statement<'_>, limit: usize) -> bool {
    let within = write.slice(0, limit);
    let Some(filter) = last(within, |at| within.is(at, "WHERE")) else {
        return false;
    };
    let equates = |at: usize| {
        let joins = within.is_name(at + 2) && !within.op(at + 3, b"("); // another column
        plain(within.bytes(at)).eq_ignore_ascii_case("id")
            && within.is_name(at)
            && within.op(at + 1, b"=")
            && !joins
    };
    within.find(filter, equates).is_some()
        && within
            .find(filter, |at| {
                within.is_any(at, &["OR", "XOR"]) || within.op(at, b"||")
            })
            .is_none()
}

fn limits(statement: Statement<'_>) -> impl Iterator<Item = usize> {
    (0..statement.len()).filter(move |at| is_limit(statement, *at))
}

fn is_limit(statement: Statement<'_>, at: usize) -> bool {
    let fetch = statement.is(at, "FETCH") && statement.is_any(at + 1, &["FIRST", "NEXT"]);
    (statement.is(at, "LIMIT") || fetch) && !statement.op(at.wrapping_sub(1), b".")
}

/// Whether the LIMIT at `limit` is the outermost one of a query that has one row at most, as its
/// select list begins with an aggregate and nothing groups: it chooses nothing.
fn counts_all(query: Statement<'_>, limit: usize) -> bool {
    let aggregate = query.is_any(1, &["COUNT", "SUM", "MIN", "MAX", "AVG"]) && query.op(2, b"(");
    let groups = query
        .find(0, |at| {
            query.is_any(at, &["GROUP", "UNION", "EXCEPT", "INTERSECT", "OVER"])
        })
        .is_some();
    let outermost = query.find(0, |at| at == limit).is_some();
    query.is(0, "SELECT") && aggregate && !groups && outermost
}

/// Without parentheses around the whole.
fn bare(statement: Statement<'_>) -> Statement<'_> {
    let mut inner = statement;
    while inner.op(0, b"(") && inner.closing(0) + 1 == inner.len() {
        inner = inner.slice(1, inner.len() - 1);
    }
    inner
}

/// The last token outside parentheses that `found` likes.
fn last(statement: Statement<'_>, found: impl Fn(usize) -> bool) -> Option<usize> {
    let mut at = statement.find(0, &found)?;
    while let Some(next) = statement.find(at + 1, &found) {
        at = next;
    }
    Some(at)
}

fn ends_keys(statement: Statement<'_>, at: usize) -> bool {
    statement.is_any(
        at,
        &[
            "LIMIT",
            "FOR",
            "LOCK",
            "INTO",
            "PROCEDURE",
            "OFFSET",
            "FETCH",
            "UNION",
            "WITH",
        ],
    ) && !statement.op(at.wrapping_sub(1), b".")
}

/// From and to of the elements between commas.
fn elements(statement: Statement<'_>, from: usize, to: usize) -> Vec<(usize, usize)> {
    let part = statement.slice(0, to);
    let mut found = Vec::new();
    let mut at = from;
    while at < to {
        let end = part.find(at, |n| part.op(n, b",")).unwrap_or(to);
        found.push((at, end));
        at = end + 1;
    }
    found
}

/// What the columns of the answer are called and made of, as far as the text tells.
struct SelectList<'a> {
    columns: Vec<Column<'a>>,
    /// The first `*`: columns behind it have no known number.
    star: Option<usize>,
    /// An alias is a literal, which is not known here.
    hidden_alias: bool,
    tables: usize,
}

struct Column<'a> {
    expression: Statement<'a>,
    alias: Option<String>,
}

impl<'a> SelectList<'a> {
    /// Of the first SELECT that the answer comes from.
    fn of(statement: Statement<'a>) -> Self {
        let mut list = Self {
            columns: Vec::new(),
            star: None,
            hidden_alias: false,
            tables: 0,
        };
        let mut query = statement;
        while query.op(0, b"(") {
            query = query.slice(1, query.closing(0));
        }
        let Some(select) = query.find(0, |at| query.is(at, "SELECT")) else {
            list.star = Some(0); // TABLE t, VALUES ROW(…)
            return list;
        };
        let from = select
            + 1
            + (select + 1..query.len())
                .take_while(|at| is_modifier(query, *at))
                .count();
        let ends = [
            "FROM",
            "INTO",
            "WHERE",
            "ORDER",
            "LIMIT",
            "UNION",
            "GROUP",
            "HAVING",
            "FOR",
            "LOCK",
            "EXCEPT",
            "INTERSECT",
        ];
        let end = query
            .find(from, |at| {
                query.is_any(at, &ends) && !query.op(at.wrapping_sub(1), b".")
            })
            .unwrap_or(query.len());
        for (from, to) in elements(query, from, end) {
            list.push(query.slice(from, to));
        }
        list.tables = tables(query, end);
        list
    }

    fn push(&mut self, element: Statement<'a>) {
        let last = element.len().saturating_sub(1);
        if element.op(last, b"*") && (last == 0 || element.op(last - 1, b".")) {
            self.star.get_or_insert(self.columns.len());
        }
        let explicit = last >= 2 && element.is(last - 1, "AS");
        let implicit = last >= 1 && element.is_name(last) && ends_operand(element, last - 1);
        let literal = last >= 1
            && element.kind(last) == Some(Kind::Param)
            && (explicit || ends_operand(element, last - 1));
        self.hidden_alias |= literal;
        let end = if explicit {
            last - 1
        } else if implicit || literal {
            last
        } else {
            last + 1
        };
        let alias = ((explicit || implicit) && !literal).then(|| plain(element.bytes(last)));
        self.columns.push(Column {
            expression: element.slice(0, end),
            alias,
        });
    }

    fn numbered(&self, at: usize) -> Option<SortKey> {
        let known = self.star.is_none_or(|star| at < star);
        u16::try_from(at)
            .ok()
            .filter(|_| known)
            .map(SortKey::Column)
    }
}

fn is_modifier(statement: Statement<'_>, at: usize) -> bool {
    let words = [
        "ALL",
        "DISTINCT",
        "DISTINCTROW",
        "HIGH_PRIORITY",
        "STRAIGHT_JOIN",
        "SQL_SMALL_RESULT",
        "SQL_BIG_RESULT",
        "SQL_BUFFER_RESULT",
        "SQL_CACHE",
        "SQL_NO_CACHE",
        "SQL_CALC_FOUND_ROWS",
    ];
    statement.is_any(at, &words)
}

/// Whether a name behind this token is an alias, not a part of the expression.
fn ends_operand(statement: Statement<'_>, at: usize) -> bool {
    match statement.kind(at) {
        Some(
            Kind::Name
            | Kind::Param
            | Kind::UserVariable
            | Kind::SystemVariable
            | Kind::Number
            | Kind::Text,
        ) => true,
        Some(Kind::Word) => {
            statement.is_name(at)
                || statement.is_any(
                    at,
                    &[
                        "NULL",
                        "TRUE",
                        "FALSE",
                        "CURRENT_TIMESTAMP",
                        "CURRENT_DATE",
                        "CURRENT_TIME",
                        "CURRENT_USER",
                    ],
                )
        }
        Some(Kind::Operator) => statement.op(at, b")"),
        _ => false,
    }
}

/// How many tables the FROM list names: 1, or more than 1.
fn tables(query: Statement<'_>, from: usize) -> usize {
    let end = query
        .find(from, |at| {
            query.is_any(at, &["WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION"])
        })
        .unwrap_or(query.len());
    let list = query.slice(from, end);
    let more = list
        .find(0, |at| {
            list.op(at, b",") || list.is_any(at, &["JOIN", "STRAIGHT_JOIN"])
        })
        .is_some()
        || list.op(1, b"(");
    if more { 2 } else { 1 }
}

/// Where one sort key stands; `None` for a constant, which sorts nothing.
fn key(element: Statement<'_>, list: &SelectList<'_>) -> Option<SortKey> {
    let last = element.len().checked_sub(1)?;
    let directed = element.is_any(last, &["ASC", "DESC"]);
    let key = if directed {
        element.slice(0, last)
    } else {
        element
    };
    match (key.len(), key.kind(0)) {
        (0, _) => return Some(SortKey::Hidden),
        (1, Some(Kind::Number)) => return Some(ordinal(key)),
        (1, Some(Kind::Param)) => return None,
        (1, Some(Kind::Word)) if key.is_any(0, &["NULL", "TRUE", "FALSE"]) => return None,
        _ => {}
    }
    Some(match name(key) {
        Some((qualifier, name)) => named(key, qualifier.as_deref(), &name, list),
        None => expression(key, list),
    })
}

fn ordinal(key: Statement<'_>) -> SortKey {
    let number = std::str::from_utf8(key.bytes(0))
        .ok()
        .and_then(|n| n.parse::<u16>().ok());
    number
        .and_then(|n| n.checked_sub(1))
        .map_or(SortKey::Hidden, SortKey::Column)
}

/// `name`, `table.name` or `database.table.name`.
fn name(key: Statement<'_>) -> Option<(Option<String>, String)> {
    let last = key.len().checked_sub(1)?;
    let shaped = (0..key.len()).all(|at| {
        if at % 2 == 0 {
            key.is_name(at)
        } else {
            key.op(at, b".")
        }
    });
    if !shaped || last % 2 != 0 || last > 4 {
        return None;
    }
    let qualifier = (last >= 2).then(|| plain(key.bytes(last - 2)));
    Some((qualifier, plain(key.bytes(last))))
}

fn named(
    key: Statement<'_>,
    qualifier: Option<&str>,
    column: &str,
    list: &SelectList<'_>,
) -> SortKey {
    let by_name = || SortKey::Named(column.to_owned());
    if list.hidden_alias {
        return if qualifier.is_none() {
            by_name()
        } else {
            SortKey::Hidden
        };
    }
    if qualifier.is_none()
        && let Some(at) = list.columns.iter().position(|c| {
            c.alias
                .as_ref()
                .is_some_and(|a| a.eq_ignore_ascii_case(column))
        })
    {
        return list.numbered(at).unwrap_or_else(by_name);
    }
    if let Some(at) = list.columns.iter().position(|c| same(c.expression, key)) {
        return placed(list, at, column);
    }
    let alike = |c: &Column<'_>| {
        let found = name(c.expression);
        found.is_some_and(|(q, n)| {
            n.eq_ignore_ascii_case(column)
                && (q.is_none() || qualifier.is_none())
                && (qualifier.is_none() || list.tables == 1)
        })
    };
    if let Some(at) = list.columns.iter().position(alike) {
        return placed(list, at, column);
    }
    if list.star.is_some() {
        by_name()
    } else {
        SortKey::Hidden
    }
}

/// A column of the list, by number, or behind a `*` by the name that it has in the answer.
fn placed(list: &SelectList<'_>, at: usize, column: &str) -> SortKey {
    list.numbered(at).unwrap_or_else(|| {
        let alias = list.columns.get(at).and_then(|c| c.alias.clone());
        SortKey::Named(alias.unwrap_or_else(|| column.to_owned()))
    })
}

/// An expression is found only if it is written alike and holds no literal, as literals are not
/// known here.
fn expression(key: Statement<'_>, list: &SelectList<'_>) -> SortKey {
    let literal = key
        .tokens
        .iter()
        .any(|t| matches!(t.kind, Kind::Param | Kind::Fold));
    let found = list
        .columns
        .iter()
        .position(|c| same(c.expression, key))
        .filter(|_| !literal && !list.hidden_alias);
    found
        .and_then(|at| list.numbered(at))
        .unwrap_or(SortKey::Hidden)
}

fn same(a: Statement<'_>, b: Statement<'_>) -> bool {
    a.len() == b.len()
        && (0..a.len())
            .all(|at| a.kind(at) == b.kind(at) && a.bytes(at).eq_ignore_ascii_case(b.bytes(at)))
}
