//! The list of findings: each shape of a difference once, filtered, searched, sorted and paged by links.

use super::Wanted;
use super::bits::{age, code, heads, list, number, query, state, text, texts, wide};
use super::layout::{Frame, Here};
use super::seats::Visitor;
use super::trouble::Trouble;
use crate::admin::Parts;
use crate::admin::answer::{Asked, Refusal, read};
use crate::admin::findings::{Findings, listed};
use crate::compare::verdict::{Kind, Reason};
use crate::ledger::{By, LIMIT_MAX, Page, STATES};
use crate::words::{count, harmless};
use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use serde_json::Value;

/// Rows of a page where the query does not say.
const LIMIT: u32 = 50;

/// Characters of a statement.
const BRIEF: usize = 160;

/// The orders that there are.
const SORTS: [(&str, &str); 3] = [
    ("impact", "impact"),
    ("count", "count"),
    ("last_seen", "last seen"),
];

/// The list, as its query says.
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    asked: Result<Asked<Findings>, Refusal>,
) -> Result<Markup, Trouble> {
    let asked = tidied(asked?.0);
    let limit = asked.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let (by, filter) = asked.meant(limit)?;
    let ledger = parts.clone();
    let page = read(move || listed(&ledger, by, &filter)).await?;
    let content = html! {
        div class="title" { h1 { "Findings" } (views(&asked)) }
        (filters(&asked, by))
        (states(&asked))
        div id="news" class="notice" data-stale="findings" hidden {
            p { "Findings have changed since this list was made. " a href=(link(&asked, &[])) { "Show it anew" } }
        }
        @match by {
            None => (rows(&page)),
            Some(by) => (rolled(&page, by)),
        }
        @if !page.items.is_empty() {
            p class="soft small" { "Impact: the share of all commands that diverged so, in percent, times the weight of its kind: 10 where it failed or is unsupported there, "
                "8 where values or rows differ, down to 1 where it is slower. What follows from another finding has none." }
        }
        (pages(&asked, &page, limit))
    };
    Ok(Frame {
        parts: &parts,
        visitor: &visitor,
        wanted: &wanted,
        here: Here::Findings,
        title: "Findings",
    }
    .around(&content))
}

/// A form sends its empty fields too.
fn tidied(mut asked: Findings) -> Findings {
    for field in [
        &mut asked.by,
        &mut asked.sort,
        &mut asked.state,
        &mut asked.kind,
        &mut asked.table,
        &mut asked.fingerprint,
        &mut asked.search,
        &mut asked.rule,
    ] {
        *field = field.take().filter(|text| !text.trim().is_empty());
    }
    asked
}

/// A link to the same list but for these; pages begin anew.
fn link(asked: &Findings, other: &[(&str, &str)]) -> String {
    let said = |field: &Option<String>| field.clone().unwrap_or_default();
    let limit = asked.limit.map_or_else(String::new, |n| n.to_string());
    let mut fields = vec![
        ("by", said(&asked.by)),
        ("state", said(&asked.state)),
        ("kind", said(&asked.kind)),
        ("table", said(&asked.table)),
        ("fingerprint", said(&asked.fingerprint)),
        ("search", said(&asked.search)),
        ("rule", said(&asked.rule)),
        ("sort", said(&asked.sort)),
        ("limit", limit),
        ("before", String::new()),
    ];
    for (name, value) in other {
        if let Some((_, field)) = fields.iter_mut().find(|(known, _)| known == name) {
            (*value).clone_into(field);
        }
    }
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    query("/ui/findings", &fields)
}

fn views(asked: &Findings) -> Markup {
    let by = asked.by.as_deref().unwrap_or_default();
    html! {
        nav class="tabs" aria-label="Rolled up" {
            @for (key, name) in [("", "Each"), ("fingerprint", "By statement"), ("table", "By table")] {
                a href=(link(asked, &[("by", key), ("sort", "")])) aria-current=[(by == key).then_some("true")] { (name) }
            }
        }
    }
}

fn states(asked: &Findings) -> Markup {
    let now = asked.state.as_deref().unwrap_or_default();
    html! {
        nav class="tabs" aria-label="State" {
            a href=(link(asked, &[("state", "")])) aria-current=[now.is_empty().then_some("true")] { "All" }
            @for one in STATES {
                a href=(link(asked, &[("state", one)])) aria-current=[(now == one).then_some("true")] { (state(one)) }
            }
        }
    }
}

fn filters(asked: &Findings, by: Option<By>) -> Markup {
    let said = |field: &Option<String>| field.clone().unwrap_or_default();
    let kinds = Kind::ALL
        .map(Kind::name)
        .into_iter()
        .chain([Reason::Tainted.name()]);
    let (kind, sort) = (said(&asked.kind), said(&asked.sort));
    html! {
        form class="filters" method="get" action="/ui/findings" role="search" {
            @for (name, field) in [("by", &asked.by), ("state", &asked.state), ("fingerprint", &asked.fingerprint), ("rule", &asked.rule)] {
                @if let Some(value) = field { input type="hidden" name=(name) value=(value); }
            }
            div { label for="search" { "Search" } input type="search" id="search" name="search" value=(said(&asked.search)) placeholder="in statements and tables"; }
            div { label for="kind" { "Kind" } select id="kind" name="kind" {
                option value="" { "any" }
                @for one in kinds { option value=(one) selected[one == kind] { (one.replace('_', " ")) } }
            } }
            div { label for="table" { "Table" } input type="text" id="table" name="table" value=(said(&asked.table)) placeholder="any"; }
            @if by.is_none() {
                div { label for="sort" { "In order of" } select id="sort" name="sort" {
                    @for (value, name) in SORTS { option value=(value) selected[value == sort] { (name) } }
                } }
            }
            button class="main" type="submit" { "Show" }
            @if asked.fingerprint.is_some() || asked.rule.is_some() || asked.search.is_some() || asked.kind.is_some() || asked.table.is_some() {
                a class="quiet" href=(query("/ui/findings", &[("by", asked.by.as_deref().unwrap_or_default()), ("state", asked.state.as_deref().unwrap_or_default())])) { "Clear" }
            }
        }
    }
}

fn nothing() -> Markup {
    html! { p class="empty" { "No finding is like this." } }
}

fn impact(item: &Value) -> String {
    let impact = item.get("impact").and_then(Value::as_f64).unwrap_or(0.0);
    format!("{impact:.2}")
}

/// The columns of the list, with their classes.
const HEADS: [(&str, &str); 9] = [
    ("Id", "number"),
    ("State", ""),
    ("Kind", ""),
    ("Impact", "number"),
    ("Count", "number"),
    ("Of commands", "number"),
    ("Last seen", ""),
    ("Tables", ""),
    ("Statement", ""),
];

/// On a phone each row is a card.
fn rows(page: &Page) -> Markup {
    if page.items.is_empty() {
        return nothing();
    }
    wide(
        "Findings",
        &html! {
            table class="list cards" role="table" {
                caption class="unseen" { "Findings" }
                (heads(&HEADS))
                tbody role="rowgroup" { @for item in &page.items { (row(item)) } }
            }
        },
    )
}

fn row(item: &Value) -> Markup {
    let id = number(item, "/id");
    html! {
        tr data-row role="row" {
            td role="cell" class="number id" { "#" (id) }
            td role="cell" { (state(text(item, "/state"))) (standing(item)) }
            td role="cell" { (text(item, "/kind").replace('_', " ")) }
            td role="cell" class="number" data-label="impact" { (impact(item)) }
            td role="cell" class="number" data-label="count" { (count(number(item, "/count"))) }
            td role="cell" class="number" data-label="of commands" { (count(number(item, "/commands"))) }
            td role="cell" { (age(text(item, "/last_seen"))) }
            td role="cell" class="words" { @for (at, table) in texts(item, "/tables").enumerate() { @if at > 0 { ", " } (harmless(table)) } }
            td role="cell" class="statement" { a href={"/ui/findings/" (id)} { (code(text(item, "/fingerprint"), BRIEF)) } }
        }
    }
}

/// What goes with a state: until when, by which rule, from what it follows.
pub(super) fn standing(item: &Value) -> Markup {
    let until = text(item, "/until");
    let cause = item.get("cause_id").and_then(Value::as_u64);
    html! {
        span class="soft small" {
            @if item.get("expired") == Some(&Value::Bool(true)) { " expired" }
            @else if !until.is_empty() { " until " (until.get(..10).unwrap_or(until)) }
            @if !text(item, "/who").is_empty() { " by " (text(item, "/who")) }
            @if !text(item, "/rule").is_empty() { " by rule " (text(item, "/rule")) }
            @if item.get("follows") == Some(&Value::Bool(true)) { " follows" @if let Some(id) = cause { " from #" (id) } }
            @if item.pointer("/floor/at_or_below") == Some(&Value::Bool(true)) { " at its floor" }
        }
    }
}

fn rolled(page: &Page, by: By) -> Markup {
    if page.items.is_empty() {
        return nothing();
    }
    let (key, title) = match by {
        By::Fingerprint => ("fingerprint", "Statement"),
        By::Table => ("table", "Table"),
    };
    wide(
        "Findings, rolled up",
        &html! {
            table class="list cards" role="table" {
                caption class="unseen" { "Findings, rolled up" }
                (heads(&[("Worst", ""), ("Impact", "number"), ("Findings", "number"), ("Count", "number"), ("Kinds", ""), ("Last seen", ""), (title, "")]))
                tbody role="rowgroup" { @for item in &page.items {
                    tr data-row role="row" {
                        td role="cell" { (state(text(item, "/state"))) }
                        td role="cell" class="number" data-label="impact" { (impact(item)) }
                        td role="cell" class="number" data-label="findings" { (count(number(item, "/findings"))) }
                        td role="cell" class="number" data-label="count" { (count(number(item, "/count"))) }
                        td role="cell" class="words" { (kinds(item)) }
                        td role="cell" { (age(text(item, "/last_seen"))) }
                        td role="cell" class="statement" { (of(item, key)) }
                    }
                } }
            }
        },
    )
}

/// The findings that it is made of.
fn of(item: &Value, key: &str) -> Markup {
    let name = text(item, &format!("/{key}"));
    let (field, value) = match key {
        "fingerprint" => ("fingerprint", text(item, "/digest")),
        other => (other, name),
    };
    html! { a href=(query("/ui/findings", &[(field, value)])) { (code(name, BRIEF)) } }
}

fn kinds(item: &Value) -> String {
    let kinds = item.get("kinds").and_then(Value::as_object);
    let each = kinds.into_iter().flatten();
    let each = each.map(|(kind, n)| {
        format!(
            "{} {}",
            kind.replace('_', " "),
            count(n.as_u64().unwrap_or(0))
        )
    });
    each.collect::<Vec<_>>().join(", ")
}

fn pages(asked: &Findings, page: &Page, limit: u32) -> Markup {
    let at = asked.before.unwrap_or(0).max(0);
    let before = (at - i64::from(limit)).max(0);
    let to = |cursor: i64| match cursor {
        0 => link(asked, &[]),
        cursor => link(asked, &[("before", &cursor.to_string())]),
    };
    html! {
        nav class="pages" aria-label="Pages" {
            @if at > 0 { a rel="prev" href=(to(before)) { "← Previous" } }
            @if let Some(next) = page.next { a rel="next" href=(to(next)) { "Next →" } }
            span class="soft" { "Rows " (count(at.unsigned_abs() + u64::from(!page.items.is_empty()))) "–" (count(at.unsigned_abs() + page.items.len() as u64)) }
        }
    }
}

/// The newest divergences of a finding, as a list of links.
pub(super) fn examples(finding: &Value) -> Markup {
    let examples = list(finding, "/examples");
    html! {
        @if examples.is_empty() { p class="soft" { "None of its divergences is kept any more." } }
        @else {
            ul class="examples" {
                @for one in examples {
                    li { a href={"/ui/divergences/" (number(one, "/id"))} { "divergence " (number(one, "/id")) } " "
                        (age(text(one, "/at"))) span class="soft" { " " (harmless(text(one, "/detail"))) } }
                }
            }
        }
    }
}
