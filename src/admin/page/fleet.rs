//! The fleet: the proxies that change their primary together, what each said last, and the form that takes one
//! out which is gone for good. Its name is typed, not clicked.

use super::bits::{Tone, age, list, moment, tag, text, wide};
use super::layout::{Frame, Here};
use super::seats::Visitor;
use super::trouble::{Trouble, status_of};
use super::{Wanted, form};
use crate::admin::Parts;
use crate::admin::answer::Refusal;
use crate::admin::fleet::{forgotten, of};
use crate::words::harmless;
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::{Value, json};

/// What the form came to, where it was refused.
#[derive(Debug, Default)]
struct Answered {
    who: String,
    name: String,
    wrong: Option<String>,
}

/// How it stands.
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    headers: HeaderMap,
) -> Result<Markup, Trouble> {
    let answered = Answered {
        who: form::who(&visitor, &headers),
        ..Answered::default()
    };
    shown(&parts, &visitor, &wanted, &answered).await
}

async fn shown(
    parts: &Parts,
    visitor: &Visitor,
    wanted: &Wanted,
    answered: &Answered,
) -> Result<Markup, Trouble> {
    let content = match of(parts) {
        Err(alone) => html! {
            h1 { "Fleet" }
            p class="empty" { (alone.message()) ": nothing flips together with it." }
        },
        Ok(fleet) => {
            let shown = json!(fleet.shown().await);
            html! {
                @if wanted.whole() { h1 { "Fleet" } }
                @if wanted.has("fleet") {
                    section class="panel" id="fleet" data-part="fleet" data-by="readiness cutover roles" { (members(&shown)) (call(&shown)) (lost(&shown)) }
                }
                @if wanted.whole() { section class="panel" id="forget" { @if visitor.may_change() { (asked(visitor, answered, &shown)) } @else { (form::not_yours(visitor)) } } }
            }
        }
    };
    Ok(Frame {
        parts,
        visitor,
        wanted,
        here: Here::Fleet,
        title: "Fleet",
    }
    .around(&content))
}

fn members(shown: &Value) -> Markup {
    let reachable = shown.pointer("/etcd/reachable") == Some(&Value::Bool(true));
    let own = text(shown, "/name");
    let members = list(shown, "/members");
    html! {
        h2 { "Proxies " @if reachable { (tag(Tone::Good, "etcd answers")) } @else { (tag(Tone::Bad, "etcd does not answer")) } }
        @if !reachable { p class="problem" { (harmless(text(shown, "/etcd/why"))) } }
        @if reachable {
            p { "Primary, as etcd has it: " strong { @match text(shown, "/primary") { "" => "none yet", name => (name) } } }
        }
        @if members.is_empty() { p class="soft" { "No proxy is known of." } }
        @else {
            (wide("Proxies", &html! {
                table class="list" {
                    caption class="unseen" { "Proxies of the fleet" }
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Runs since" } th scope="col" { "Said last, in the cutover" } th scope="col" { "Its run" } } }
                    tbody { @for one in members {
                        tr {
                            td { strong { (harmless(text(one, "/name"))) } @if text(one, "/name") == own { " " span class="soft" { "this one" } } }
                            td { (age(text(one, "/at"))) }
                            td { @match text(one, "/said") { "" => span class="soft" { "nothing" }, word => (tag(Tone::Busy, word)) } }
                            td class="words" { code { (harmless(text(one, "/instance"))) } }
                        }
                    } }
                }
            }))
        }
    }
}

/// The last cutover that they were called to.
fn call(shown: &Value) -> Markup {
    let Some(call) = shown.get("cutover").filter(|call| call.is_object()) else {
        return html! {};
    };
    html! {
        h3 { "The last call" }
        p { (text(call, "/from")) " → " strong { (text(call, "/to")) } ", led by " (harmless(text(call, "/leader"))) ", for " (harmless(text(call, "/who"))) ", "
            (age(text(call, "/at"))) ": " (tag(Tone::Calm, &phase(call)))
            @if !text(call, "/why").is_empty() { " " (harmless(text(call, "/why"))) } }
    }
}

/// How far it is, in a word.
fn phase(call: &Value) -> String {
    text(call, "/phase").replace('_', " ")
}

/// Proxies that took dark writes with them.
fn lost(shown: &Value) -> Markup {
    let lost = shown.get("lost").and_then(Value::as_object);
    let lost = lost.filter(|lost| !lost.is_empty());
    let Some(lost) = lost else { return html! {} };
    html! {
        h3 { "Dark writes went with these" }
        ul class="beside" { @for (name, how) in lost {
            li { strong { (harmless(name)) } " " (harmless(text(how, "/why"))) ", " (moment(text(how, "/at"))) } } }
        p class="soft" { "What they had not brought to the shadow may be in any table: until its taint is cleared, nothing is ready." }
    }
}

fn asked(visitor: &Visitor, answered: &Answered, shown: &Value) -> Markup {
    let own = text(shown, "/name");
    let others = list(shown, "/members").iter().map(|one| text(one, "/name"));
    let others: Vec<&str> = others.filter(|name| *name != own).collect();
    html! {
        h2 { "Forget a proxy" }
        p { "One that is gone for good: every cutover waits for its word. Be sure that its process has ended, for one that lives and is forgotten can be left behind by a cutover. "
            "Where the mirror feeds the shadow, what waited in it is lost, and every table is tainted." }
        @if let Some(wrong) = &answered.wrong { p class="problem" role="alert" id="wrong" tabindex="-1" { (wrong) } }
        @if others.is_empty() { p class="soft" { "There is no other proxy." } }
        @else {
            form method="post" action="/ui/fleet/forget" class="stack" {
                (form::token(visitor))
                label for="who" { "Who says so" }
                input type="text" id="who" name="who" maxlength="200" required autocomplete="nickname" value=(answered.who);
                label for="name" { "Which" }
                select id="name" name="name" { @for name in others { option value=(name) selected[name == answered.name] { (harmless(name)) } } }
                label for="confirm" { "To do it, type its name" }
                input type="text" id="confirm" name="confirm" required autocomplete="off" autocapitalize="none" spellcheck="false";
                button class="danger" type="submit" id="forget-it" { "Forget it" }
            }
        }
    }
}

/// Takes one out, as the API's POST.
pub(super) async fn forget(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    sent: form::Sent,
) -> Result<Response, Trouble> {
    let name = sent.text("name").unwrap_or_default();
    let who = sent.text("who");
    let done = match (&who, sent.text("confirm")) {
        (None, _) => Err(Refusal::bad("nothing was done: write who says so")),
        (Some(_), Some(typed)) if typed == name => {
            forgotten(&parts, &visitor.caller, &name, who.clone())
                .await
                .map(drop)
        }
        (Some(_), _) => Err(Refusal::bad(format!(
            "nothing was done: type {name} to confirm"
        ))),
    };
    let Err(refusal) = done else {
        let remembered = form::remember(who.as_deref());
        return Ok((remembered, Redirect::to("/ui/fleet")).into_response());
    };
    let answered = Answered {
        who: who.unwrap_or_default(),
        name,
        wrong: Some(refusal.message().to_owned()),
    };
    let shown = shown(&parts, &visitor, &Wanted::default(), &answered).await?;
    Ok((status_of(&refusal), shown).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::holders::Holders;
    use crate::admin::page::seats::Seats;
    use crate::admin::who::Caller;
    use crate::config::{Config, Role};
    use std::sync::Arc;

    fn visitor() -> Visitor {
        let admin = Config::parse("", &[]).unwrap().admin;
        let holders = Holders::new(&admin, &Arc::default());
        let caller = Caller::known("dba".into(), Role::Operator, None);
        Seats::new(holders).visitor(caller)
    }

    #[test]
    fn a_fleet_is_told_whole_and_one_does_not_forget_oneself() {
        let shown = json!({
            "name": "a", "etcd": {"reachable": true, "why": null}, "primary": "legacy",
            "members": [
                {"name": "a", "instance": "a-1", "at": "2026-01-02T03:04:05Z", "said": null},
                {"name": "<b>", "instance": "b-1", "at": "2026-01-02T03:04:05Z", "said": "prepared"},
            ],
            "cutover": {"from": "legacy", "to": "vitess", "leader": "a", "who": "dba", "at": "2026-01-02T03:04:05Z",
                "phase": "aborted", "why": "b has not prepared its sessions"},
            "lost": {"c": {"at": "2026-01-02T03:04:05Z", "why": "was taken out"}},
        });
        let told = html! { (members(&shown)) (call(&shown)) (lost(&shown)) }.into_string();
        for part in [
            "this one",
            "&lt;b&gt;",
            "prepared",
            "led by a",
            "aborted",
            "was taken out",
            "legacy",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let form = asked(&visitor(), &Answered::default(), &shown).into_string();
        assert!(
            form.contains("value=\"&lt;b&gt;\"") && !form.contains("value=\"a\""),
            "{form}"
        );
    }
}
