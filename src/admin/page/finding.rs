//! One finding, whole, and its triage; and one divergence, whole.

use super::bits::{age, block, list, moment, number, query, state, text, texts};
use super::layout::{Frame, Here};
use super::seats::Visitor;
use super::trouble::{Trouble, status_of};
use super::{Wanted, evidence, findings, form, latency, taints};
use crate::admin::answer::{Id, Refusal};
use crate::admin::findings::{one_divergence, one_finding, triaged};
use crate::admin::{Parts, proof};
use crate::compare::verdict::Kind;
use crate::ledger::FindingPatch;
use crate::words::{count, harmless};
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::Value;

/// What a person may say of a finding: the word, its key, what it means.
const SAYINGS: [(&str, &str, &str); 4] = [
    ("accepted", "a", "known and lived with, until a day"),
    (
        "fixed",
        "x",
        "it should not come back; if it does, it is regressed",
    ),
    ("noise", "n", "it says nothing"),
    ("open", "o", "it is to be judged"),
];

/// What a form said, to be shown once more where it was refused.
#[derive(Debug, Default)]
struct Said {
    patch: FindingPatch,
    wrong: Option<String>,
}

/// The finding.
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    headers: HeaderMap,
    id: Result<Id, Refusal>,
) -> Result<Markup, Trouble> {
    let Id(id) = id?;
    let said = Said {
        patch: FindingPatch {
            who: Some(form::who(&visitor, &headers)),
            ..FindingPatch::default()
        },
        wrong: None,
    };
    shown(&parts, &visitor, &wanted, id, &said).await
}

async fn shown(
    parts: &Parts,
    visitor: &Visitor,
    wanted: &Wanted,
    id: i64,
    said: &Said,
) -> Result<Markup, Trouble> {
    let found = one_finding(parts.clone(), id).await?;
    let newest = found.pointer("/examples/0").filter(|one| one.is_object());
    let one = newest.filter(|newest| is_one(newest));
    let title = format!("Finding {id}");
    let content = html! {
        p class="up" { a rel="up" href="/ui/findings" { "← Findings" } }
        div class="title" { h1 { "Finding " (id) " " (state(text(&found, "/state"))) } (findings::standing(&found)) }
        @if wanted.whole() {
            div id="news" class="notice" data-stale="findings" hidden {
                p { "Findings have changed since this was shown. " a href={"/ui/findings/" (id)} { "Show it anew" } }
            }
        }
        div class="detail-grid" {
            div {
                section class="panel" { (head(&found, newest)) }
                @if let Some(newest) = newest {
                    section class="panel" { h2 { "What differs" }
                        (evidence::also(newest)) (evidence::sides(newest)) (evidence::cells(newest)) }
                }
                section class="panel" { h2 { "Cause" }
                    @if let Some(cause) = found.get("cause_id").and_then(Value::as_u64) {
                        p { "It follows from " a href={"/ui/findings/" (cause)} { "finding " (cause) } "." }
                    }
                    (evidence::cause(newest.filter(|one| one.pointer("/cause/text").is_some()).unwrap_or(&found)))
                    (evidence::plans(&found))
                    @if let Some(newest) = one { (evidence::repeat(&script(parts, newest), number(newest, "/id"))) }
                }
                @if let Some(newest) = one { section class="panel" { h2 { "Session" } (evidence::session(newest)) } }
            }
            div class="aside" {
                section class="panel" id="triage" { h2 { "Triage" } (judged(&found, visitor, said)) }
                section class="panel" id="history" { h2 { "History" } (history(&found)) }
                section class="panel" { h2 { "Newest divergences" } (findings::examples(&found)) }
            }
        }
    };
    Ok(Frame {
        parts,
        visitor,
        wanted,
        here: Here::Findings,
        title: &title,
    }
    .around(&content))
}

/// Whether it is of one command. Of statistics over many there is no session, and nothing to repeat.
fn is_one(item: &Value) -> bool {
    text(item, "/kind") != Kind::Latency.name()
}

fn head(found: &Value, newest: Option<&Value>) -> Markup {
    let statement = newest.map_or("", |newest| text(newest, "/statement"));
    let fingerprint = text(found, "/fingerprint");
    html! {
        (block(if statement.is_empty() { fingerprint } else { statement }))
        dl class="facts" {
            dt { "Kind" } dd { (text(found, "/kind").replace('_', " ")) ", " (text(found, "/protocol")) " protocol" }
            dt { "Tables" } dd {
                @for (at, table) in texts(found, "/tables").enumerate() {
                    @if at > 0 { ", " } a href=(query("/ui/findings", &[("table", table)])) { (harmless(table)) } }
            }
            (taints::of_finding(found))
            dt { "Count" } dd class="number" { (count(number(found, "/count"))) " of " (count(number(found, "/commands"))) " commands" }
            dt { "Seen" } dd { (moment(text(found, "/first_seen"))) " to " (moment(text(found, "/last_seen"))) " (" (age(text(found, "/last_seen"))) ")" }
            dt { "Latency" } dd { a href=(latency::of_statement(text(found, "/digest"), text(found, "/protocol"))) { "of both servers" } }
            dt { "Shape" } dd { a href=(query("/ui/findings", &[("fingerprint", text(found, "/digest"))])) { (super::bits::code(fingerprint, 400)) } }
        }
    }
}

fn script(parts: &Parts, item: &Value) -> Result<String, String> {
    proof::script_of(parts, item).map_err(|refusal| refusal.message().to_owned())
}

/// The form, as the API's PATCH takes it.
fn judged(found: &Value, visitor: &Visitor, said: &Said) -> Markup {
    let id = number(found, "/id");
    let rule = text(found, "/rule");
    if !rule.is_empty() {
        return html! { p { "The rule " strong { (rule) } " took it: delete or change that rule (" code { "understudy rules" } ")." } };
    }
    if !visitor.may_change() {
        return form::not_yours(visitor);
    }
    let kept = |text: &Option<String>| text.clone().unwrap_or_default();
    let chosen = said.patch.state.as_deref().unwrap_or_default();
    html! {
        @if let Some(wrong) = &said.wrong { p class="problem" role="alert" id="wrong" tabindex="-1" { (wrong) } }
        form method="post" action={"/ui/findings/" (id)} class="stack" {
            (form::token(visitor))
            fieldset { legend { "It is" }
                @for (word, key, means) in SAYINGS {
                    label class="choice" {
                        input type="radio" name="state" value=(word) data-key=(key) required checked[word == chosen];
                        span { strong { (word) } " " kbd { (key) } br; span class="soft small" { (means) } }
                    }
                }
            }
            label for="who" { "Who says so" }
            input type="text" id="who" name="who" maxlength="200" required autocomplete="nickname" value=(kept(&said.patch.who));
            label for="until" { "Accepted until (0:00 UTC of this day)" }
            input type="date" id="until" name="until" value=(kept(&said.patch.until).get(..10).unwrap_or_default());
            label for="why" { "Why" }
            textarea id="why" name="why" rows="3" maxlength="1000" { (kept(&said.patch.why)) }
            button class="main" type="submit" { "Say so" }
        }
    }
}

fn history(found: &Value) -> Markup {
    let all = list(found, "/history");
    html! {
        @if all.is_empty() { p class="soft" { "Nobody has said anything yet." } }
        @else {
            ol class="history" {
                @for one in all {
                    li { (age(text(one, "/at"))) " " strong { (text(one, "/who")) } ": " (text(one, "/what"))
                        @if !text(one, "/why").is_empty() { br; span class="soft" { (text(one, "/why")) } } }
                }
            }
        }
    }
}

/// Takes what somebody says, as the API's PATCH.
pub(super) async fn triage(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    id: Result<Id, Refusal>,
    sent: form::Sent,
) -> Result<Response, Trouble> {
    let Id(id) = id?;
    let state = sent.text("state");
    let accepts = state.as_deref() == Some("accepted");
    let patch = FindingPatch {
        state,
        who: sent.text("who"),
        why: sent.text("why"),
        // A day that was left in its field means nothing for another state.
        until: sent.text("until").filter(|_| accepts).map(whole_day),
    };
    match triaged(parts.clone(), &visitor.caller, id, patch.clone()).await {
        Ok(_) => {
            let to = format!("/ui/findings/{id}#history");
            let remembered = form::remember(patch.who.as_deref());
            Ok((remembered, Redirect::to(&to)).into_response())
        }
        Err(refusal) => {
            let status = status_of(&refusal);
            let said = Said {
                patch,
                wrong: Some(refusal.message().to_owned()),
            };
            let whole = Wanted::default();
            let shown = shown(&parts, &visitor, &whole, id, &said).await?;
            Ok((status, shown).into_response())
        }
    }
}

/// A day as the moment at which it begins.
fn whole_day(until: String) -> String {
    if until.parse::<jiff::civil::Date>().is_ok() && !until.contains('T') {
        format!("{until}T00:00:00Z")
    } else {
        until
    }
}

/// One divergence.
pub(super) async fn divergence(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    id: Result<Id, Refusal>,
) -> Result<Markup, Trouble> {
    let Id(id) = id?;
    let item = one_divergence(parts.clone(), id).await?;
    let finding = number(&item, "/finding_id");
    let title = format!("Divergence {id}");
    let statement = text(&item, "/statement");
    let content = html! {
        p class="up" { a rel="up" href={"/ui/findings/" (finding)} { "← Finding " (finding) } }
        div class="title" { h1 { "Divergence " (id) } }
        section class="panel" {
            (block(if statement.is_empty() { text(&item, "/fingerprint") } else { statement }))
            dl class="facts" {
                dt { "Kind" } dd { (text(&item, "/kind").replace('_', " ")) ", " (text(&item, "/protocol")) " protocol" }
                dt { "At" } dd { (moment(text(&item, "/at"))) " (" (age(text(&item, "/at"))) ")" }
            }
        }
        section class="panel" { h2 { "What differs" } (evidence::also(&item)) (evidence::sides(&item)) (evidence::cells(&item)) }
        section class="panel" { h2 { "Cause" } (evidence::cause(&item)) (evidence::plans(&item))
            @if is_one(&item) { (evidence::repeat(&script(&parts, &item), number(&item, "/id"))) } }
        @if is_one(&item) { section class="panel" { h2 { "Session" } (evidence::session(&item)) } }
    };
    Ok(Frame {
        parts: &parts,
        visitor: &visitor,
        wanted: &wanted,
        here: Here::Findings,
        title: &title,
    }
    .around(&content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_its_midnight_in_utc() {
        assert_eq!(whole_day("2030-01-31".into()), "2030-01-31T00:00:00Z");
        for other in ["2030-01-31T12:00:00Z", "tomorrow", ""] {
            assert_eq!(whole_day(other.into()), other);
        }
    }
}
