//! One divergence as both servers had it: what they answered side by side, the cells that differ, the cause,
//! the session, how to repeat it. It shows what the API shows: what the ledger redacts is redacted here.

use super::bits::{block, is, list, number, text, texts, wide};
use crate::words::{count, harmless, micros};
use maud::{Markup, html};
use serde_json::Value;

/// Characters of a cell.
const CELL: usize = 500;

/// Both ends of the answer: a row for each thing that can differ.
pub(super) fn sides(item: &Value) -> Markup {
    let servers = ["primary", "shadow"].map(|side| text(item, &format!("/{side}/server")));
    let rows = if item.pointer("/shadow/quantiles").is_some() {
        quantiles(item)
    } else {
        answers(item)
    };
    wide(
        "Both answers",
        &html! {
            table class="sides" {
                caption class="unseen" { "Both answers" }
                thead { tr { td {} @for (at, server) in servers.iter().enumerate() {
                    th scope="col" { (server) " " span class="what" { (if at == 0 { "primary" } else { "shadow" }) } }
                } } }
                tbody {
                    @for [name, primary, shadow] in rows {
                        // Two servers never take the same time; a difference of it is a finding of its own.
                        @let differs = primary != shadow && name != "took";
                        tr class=[differs.then_some("differs")] {
                            th scope="row" { (name) @if differs { " " span class="mark" title="differs" { "≠" } } }
                            td { (primary) } td { (shadow) }
                        }
                    }
                }
            }
        },
    )
}

fn answers(item: &Value) -> Vec<[String; 3]> {
    let both = |of: &dyn Fn(&Value) -> String| {
        ["primary", "shadow"].map(|side| item.get(side).map_or_else(String::new, of))
    };
    let figure = |key: &'static str| {
        both(&move |side| {
            let n = side.get(key).and_then(Value::as_u64);
            n.map_or_else(String::new, count)
        })
    };
    let took = both(&|side| {
        let us = side.get("latency_us").and_then(Value::as_u64);
        us.map_or_else(String::new, micros)
    });
    let error = both(
        &|side| match side.get("error").filter(|one| one.is_object()) {
            None => "none".to_owned(),
            Some(_) => harmless(&format!(
                "{} ({}) {}",
                number(side, "/error/code"),
                text(side, "/error/sqlstate"),
                text(side, "/error/message")
            )),
        },
    );
    let rows = [
        ("error", error),
        ("rows", figure("rows")),
        ("rows changed", figure("affected_rows")),
        ("took", took),
    ];
    let told = rows
        .into_iter()
        .filter(|(_, both)| both.iter().any(|one| !one.is_empty()));
    told.map(|(name, [primary, shadow])| [name.to_owned(), primary, shadow])
        .collect()
}

fn quantiles(item: &Value) -> Vec<[String; 3]> {
    let names = ["p50", "p90", "p99", "p999", "max"];
    let time = |side: &str, name: &str| {
        let us = item.pointer(&format!("/{side}/quantiles/{name}"));
        us.and_then(Value::as_u64).map_or_else(String::new, micros)
    };
    names
        .map(|name| {
            let title = name.replace("p999", "p99.9");
            [title, time("primary", name), time("shadow", name)]
        })
        .to_vec()
}

/// The first differing rows, cell by cell.
pub(super) fn cells(item: &Value) -> Markup {
    let examples = list(item, "/examples");
    let server = |side: &str| text(item, &format!("/{side}/server")).to_owned();
    html! {
        @if is(item, "/examples_left_out") {
            p class="soft" { "The differing rows were too long to be kept." }
        } @else if !examples.is_empty() {
            (wide("Cells that differ", &html! {
                table class="cells" {
                    caption class="unseen" { "Cells that differ" }
                    thead { tr {
                        th scope="col" class="number" { "Row" } th scope="col" { "Column" }
                        th scope="col" { (server("primary")) " " span class="what" { "primary" } }
                        th scope="col" { (server("shadow")) " " span class="what" { "shadow" } }
                    } }
                    tbody { @for one in examples { (example(one)) } }
                }
            }))
        }
    }
}

fn example(one: &Value) -> Markup {
    let (primary, shadow) = (list(one, "/primary"), list(one, "/shadow"));
    let (names, numbers) = (list(one, "/names"), list(one, "/columns"));
    let row = one.get("row").and_then(Value::as_u64);
    let row = row.map_or_else(|| "–".to_owned(), |row| count(row.saturating_add(1)));
    let most = numbers.len().max(primary.len()).max(shadow.len());
    html! {
        @for at in 0..most {
            @let (ours, theirs) = (cell(primary, at), cell(shadow, at));
            @let [left, right] = marked(&ours, &theirs);
            tr {
                td class="number" { @if at == 0 { (row) } }
                td { (column(names.get(at), numbers.get(at))) }
                td { (left) } td { (right) }
            }
        }
    }
}

/// A column's name; of an expression, which has none to show, its number.
fn column(name: Option<&Value>, number: Option<&Value>) -> String {
    match name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
        Some(name) => harmless(name),
        None => number
            .and_then(Value::as_u64)
            .map_or_else(String::new, |number| format!("column {}", number + 1)),
    }
}

/// What stands in a cell.
#[derive(Debug, PartialEq, Eq)]
enum Cell {
    NoRow,
    Null,
    Text(String),
}

fn cell(cells: &[Value], at: usize) -> Cell {
    match cells.get(at) {
        None => Cell::NoRow,
        Some(Value::Null) => Cell::Null,
        Some(Value::String(text)) => Cell::Text(cut(text)),
        Some(other) => Cell::Text(cut(&other.to_string())),
    }
}

fn cut(text: &str) -> String {
    let shown = harmless(text);
    if shown.chars().count() <= CELL {
        return shown;
    }
    shown.chars().take(CELL).chain(['…']).collect()
}

/// Both cells, with what differs marked: the whole of it where they look the same (redacted, or cut).
fn marked(ours: &Cell, theirs: &Cell) -> [Markup; 2] {
    match (ours, theirs) {
        (Cell::Text(ours), Cell::Text(theirs)) => {
            let (start, end) = common(ours, theirs);
            [ours, theirs].map(|text| {
                let chars: Vec<char> = text.chars().collect();
                let [from, to] = [start, chars.len().saturating_sub(end)];
                let part = |from: usize, to: usize| {
                    let all = chars.iter().skip(from);
                    all.take(to.saturating_sub(from)).collect::<String>()
                };
                html! { code { (part(0, from)) mark { (part(from, to)) } (part(to, chars.len())) } }
            })
        }
        both => [both.0, both.1].map(|one| match one {
            Cell::NoRow => html! { em class="soft" { "no row" } },
            Cell::Null => html! { mark { "NULL" } },
            Cell::Text(text) => html! { code { mark { (text) } } },
        }),
    }
}

/// Characters that two texts share at their beginning and at their end; none where they are the same.
fn common(one: &str, other: &str) -> (usize, usize) {
    if one == other {
        return (0, 0);
    }
    let same =
        |one: &mut dyn Iterator<Item = char>, other: &mut dyn Iterator<Item = char>, most| {
            let mut n = 0;
            while n < most {
                match (one.next(), other.next()) {
                    (Some(a), Some(b)) if a == b => n += 1,
                    _ => break,
                }
            }
            n
        };
    let shorter = one.chars().count().min(other.chars().count());
    let start = same(&mut one.chars(), &mut other.chars(), shorter);
    let end = same(
        &mut one.chars().rev(),
        &mut other.chars().rev(),
        shorter - start,
    );
    (start, end)
}

/// The known cause, and what to do.
pub(super) fn cause(item: &Value) -> Markup {
    let words = text(item, "/cause/text");
    html! {
        @if !words.is_empty() {
            p { strong { (harmless(words)) } @if !text(item, "/cause/code").is_empty() { " " code { (text(item, "/cause/code")) } } }
            @if !text(item, "/cause/advice").is_empty() { p { "What to do: " (text(item, "/cause/advice")) "." } }
        } @else { p class="soft" { "No cause is known of this difference." } }
    }
}

/// What of a session's state is told, in words.
const SESSION: [(&str, &str); 7] = [
    ("shadow_database", "database there"),
    ("charset", "charset"),
    ("collation", "collation"),
    ("sql_mode", "sql_mode"),
    ("isolation", "isolation"),
    ("time_zone", "time_zone"),
    ("commands_before", "commands before it in its transaction"),
];

/// The session that asked, where its client set something.
pub(super) fn session(item: &Value) -> Markup {
    let state = item.get("session").unwrap_or(&Value::Null);
    let told = SESSION.iter().filter_map(|(key, name)| {
        let words = match state.get(key)? {
            // Said where it is another one there.
            Value::String(word) if *key == "shadow_database" && word == text(item, "/database") => {
                return None;
            }
            Value::String(word) if word.is_empty() => "''".to_owned(),
            Value::String(word) => harmless(word),
            Value::Number(n) if n.as_u64() != Some(0) => n.to_string(),
            _ => return None,
        };
        Some((*name, words))
    });
    html! {
        dl class="facts" {
            dt { "User" } dd { (harmless(text(item, "/user"))) }
            dt { "Database" } dd { (harmless(text(item, "/database"))) }
            @for (name, words) in told { dt { (name) } dd { (words) } }
            @if is(state, "/in_transaction") { dt { "Transaction" } dd { "in one" @if is(state, "/wrote_before") { ", which wrote before" } } }
            @if state.get("autocommit") == Some(&Value::Bool(false)) { dt { "autocommit" } dd { "off" } }
            @if is(state, "/rewritten") { dt { "Rewritten" } dd { "the shadow was sent another text" } }
        }
    }
}

/// Both servers' plans, folded.
pub(super) fn plans(item: &Value) -> Markup {
    let plans = item.get("plans").filter(|plans| plans.is_object());
    html! {
        @if let Some(plans) = plans {
            details { summary { "Plans of both servers " @if !text(plans, "/class").is_empty() { span class="soft" { "(" (text(plans, "/class")) ")" } } }
                @for role in ["primary", "shadow"] {
                    @if let Some(side) = plans.get(role).filter(|side| side.is_object()) {
                        h3 { (text(side, "/server")) }
                        (plan(side))
                    }
                }
            }
        }
    }
}

fn plan(side: &Value) -> Markup {
    let rows = list(side, "/rows");
    if let Some(plan) = side.get("plan") {
        return block(&format!("{plan:#}"));
    }
    if rows.is_empty() {
        return html! { p class="soft" { (text(side, "/why")) } };
    }
    let row = |row: &Value| {
        let fields = row.as_object().into_iter().flatten();
        let told = fields.filter_map(|(name, value)| {
            let value = value.as_str().filter(|value| !value.is_empty())?;
            Some(format!("{name}={value}"))
        });
        told.collect::<Vec<_>>().join("  ")
    };
    block(&rows.iter().map(row).collect::<Vec<_>>().join("\n"))
}

/// A script that asks both servers again, or why there is none.
pub(super) fn repeat(script: &Result<String, String>, id: u64) -> Markup {
    html! {
        details { summary { "Repeat it: a script for bash and the " code { "mysql" } " client" }
            @match script {
                Ok(script) => {
                    p class="soft" { "It holds no password: give PRIMARY_PASSWORD and SHADOW_PASSWORD. Or: " code { "understudy repro " (id) } }
                    div class="copied" {
                        button type="button" class="quiet" data-copy={"script-" (id)} hidden { "Copy" }
                        pre tabindex="0" id={"script-" (id)} { code { (harmless(script)) } }
                    }
                }
                Err(why) => p class="soft" { (why) },
            }
        }
    }
}

/// A divergence's head in words: when, as what, and what else differed.
pub(super) fn also(item: &Value) -> Markup {
    let also: Vec<&str> = texts(item, "/also").collect();
    html! {
        @if !text(item, "/detail").is_empty() {
            p class="detail" { (harmless(text(item, "/detail")))
                @if !also.is_empty() { span class="soft" { " (also: " (also.join(", ").replace('_', " ")) ")" } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_in_a_cell_is_marked_and_no_more() {
        let item = json!({"primary": {"server": "legacy"}, "shadow": {"server": "vitess"}, "examples": [
            {"row": 0, "names": ["price", "", "note"], "columns": [2, 3, 4],
             "primary": ["25.00", "<text 13>", null], "shadow": ["24.00", "<text 13>", "x"]},
            {"row": null, "names": ["a"], "columns": [0], "primary": [], "shadow": ["y"]}]});
        let shown = cells(&item).into_string();
        for part in [
            "<code>2<mark>5</mark>.00</code>",
            "<code>2<mark>4</mark>.00</code>",
            "<code><mark>&lt;text 13&gt;</mark></code>",
            "<mark>NULL</mark>",
            "no row",
            "column 4",
            "price",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
    }

    #[test]
    fn texts_share_their_ends_and_overlap_nowhere() {
        assert_eq!(common("25.00", "24.00"), (1, 3));
        assert_eq!(common("aa", "aaa"), (2, 0));
        assert_eq!(common("abc", "abc"), (0, 0));
        assert_eq!(common("", "x"), (0, 0));
        assert_eq!(common("äb", "äc"), (1, 0));
    }

    #[test]
    fn a_row_of_the_sides_that_differs_is_marked() {
        let item = json!({
            "primary": {"server": "legacy", "rows": 3, "error": null, "latency_us": 850},
            "shadow": {"server": "vitess", "rows": 0, "latency_us": 9_850,
                       "error": {"code": 1235, "sqlstate": "42000", "message": "<script>no</script>"}}});
        let shown = sides(&item).into_string();
        assert!(shown.contains("1235 (42000) &lt;script&gt;no"), "{shown}");
        assert_eq!(
            shown.matches("≠").count(),
            2,
            "rows and error, not the time"
        );
        assert!(!shown.contains("rows changed"), "neither side has any");
    }
}
