//! The audit: what was asked for, by whom, from where, and how it was answered.

use super::Wanted;
use super::bits::{Tone, moment, number, query, tag, text, wide};
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
            table class="list" {
                caption class="unseen" { "Audit" }
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "From" }
                    th scope="col" { "What" } th scope="col" { "Asked" } th scope="col" { "Answer" }
                } }
                tbody { @for item in &page.items { (line(item)) } }
            }
        },
    )
}

fn line(item: &Value) -> Markup {
    let status = number(item, "/status");
    let said = text(item, "/said");
    html! {
        tr data-row {
            td { (moment(text(item, "/at"))) }
            td { @match text(item, "/who") { "" => span class="soft" { "nobody known" }, who => (harmless(who)) }
                @if !said.is_empty() && said != text(item, "/who") { " " span class="soft" { "as " (harmless(said)) } } }
            td { (text(item, "/from")) }
            td class="words" { code { (harmless(text(item, "/what"))) } }
            td class="words" { (harmless(text(item, "/body"))) }
            td class="number" { @match status {
                0 => (tag(Tone::Open, "left")),
                200..=399 => (tag(Tone::Good, &status.to_string())),
                _ => (tag(Tone::Bad, &status.to_string())),
            } }
        }
    }
}
