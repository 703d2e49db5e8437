//! The audit: what was asked for, by whom, from where, and how it was answered.

use super::Wanted;
use super::bits::{Tone, heads, moment, number, query, tag, text, wide};
use super::layout::{Frame, Here};
use super::seats::Visitor;
use super::trouble::Trouble;
use crate::admin::Parts;
use crate::admin::answer::{Asked, Refusal, read};
use crate::ledger::Page as Items;
use crate::words::harmless;
use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

/// Lines of a page.
const LINES: u32 = 100;

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Older {
    before: Option<i64>,
}

/// The newest, or those before one.
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    asked: Result<Asked<Older>, Refusal>,
) -> Result<Markup, Trouble> {
    let Asked(older) = asked?;
    let ledger = parts.ledger.clone();
    let page = read(move || ledger.audited(LINES, older.before)).await?;
    let content = html! {
        h1 { "Audit" }
        p class="soft" { "Every request that would change something, those too that were refused. What became of it stands with the finding, the cutover, the run." }
        section class="panel" { (lines(&page)) }
        nav class="row" aria-label="Pages" {
            @if older.before.is_some() { a rel="prev" href="/ui/audit" { "Newest" } }
            @if let Some(next) = page.next { a rel="next" href=(query("/ui/audit", &[("before", &next.to_string())])) { "Older" } }
        }
    };
    Ok(Frame {
        parts: &parts,
        visitor: &visitor,
        wanted: &wanted,
        here: Here::Audit,
        title: "Audit",
    }
    .around(&content))
}

fn lines(page: &Items) -> Markup {
    if page.items.is_empty() {
        return html! { p class="empty" { "Nothing was asked for that would change something." } };
    }
    wide(
        "Audit",
        &html! {
            table class="list cards" role="table" {
                caption class="unseen" { "Audit" }
                (heads(&[("When", ""), ("Who", ""), ("From", ""), ("What", ""), ("Asked", ""), ("Answer", "")]))
                tbody role="rowgroup" { @for item in &page.items { (line(item)) } }
            }
        },
    )
}

fn line(item: &Value) -> Markup {
    let status = number(item, "/status");
    let said = text(item, "/said");
    html! {
        tr data-row role="row" {
            td role="cell" { (moment(text(item, "/at"))) }
            td role="cell" { @match text(item, "/who") { "" => span class="soft" { "nobody known" }, who => (harmless(who)) }
                @if !said.is_empty() && said != text(item, "/who") { " " span class="soft" { "as " (harmless(said)) } } }
            td role="cell" data-label="from" { (text(item, "/from")) }
            td role="cell" class="words full" { code { (harmless(text(item, "/what"))) } }
            td role="cell" class="words full" { (harmless(text(item, "/body"))) }
            td role="cell" { (answer(status)) }
        }
    }
}

/// How it was answered. A form that was taken sends its browser on to a view: that is 303, and no answer of its own.
fn answer(status: u64) -> Markup {
    let good = match status {
        0 => return tag(Tone::Open, "left before it"),
        303 => "done".to_owned(),
        200..=399 => format!("done ({status})"),
        403 => return tag(Tone::Bad, "not allowed (403)"),
        400..=499 => return tag(Tone::Bad, &format!("refused ({status})")),
        _ => return tag(Tone::Bad, &format!("failed ({status})")),
    };
    tag(Tone::Good, &good)
}
