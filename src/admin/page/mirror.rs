//! The mirror's switches, as a form of the overview.

use super::form;
use super::overview;
use super::seats::Visitor;
use super::trouble::{Trouble, status_of};
use super::{Page, Wanted};
use crate::admin::answer::Refusal;
use crate::admin::mirror::{Change, Control, switched};
use crate::admin::{House, Parts};
use crate::config::{FedBy, Writes};
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use std::sync::Arc;

/// What the form said, where it was refused.
#[derive(Debug, Default)]
pub(super) struct Answered {
    pub(super) who: String,
    pub(super) change: Change,
    pub(super) wrong: Option<String>,
}

/// Whether writes reach the shadow by the mirror, so that one which is left out leaves other rows there.
fn carries(control: &Control, fed_by: FedBy) -> bool {
    fed_by == FedBy::Mirror && control.writes == Writes::Apply && !control.paused
}

fn fed_by(parts: &Parts) -> FedBy {
    parts.roles.borrow().shadow.fed_by
}

/// The form. It is made anew where somebody sets the switches; else what is typed there stays.
pub(super) fn switches(parts: &Parts, visitor: &Visitor, answered: &Answered) -> Markup {
    let house: &dyn House = &*parts.house;
    let mirror = house.mirror();
    let control = mirror.control;
    let change = &answered.change;
    let chosen = |wish: Option<bool>, now: bool| wish.unwrap_or(now);
    let writes = change.writes.as_deref().unwrap_or(control.writes.name());
    let sample = change.sample.unwrap_or(control.sample);
    let either = |id: &str, name: &str, [yes, no]: [&str; 2], is: bool| {
        html! {
            div { label for=(id) { (name) } select id=(id) name=(id) {
                option value="yes" selected[is] { (yes) } option value="no" selected[!is] { (no) } } }
        }
    };
    let made_of = format!("{control:?} {}", visitor.form_token);
    html! {
        section class="panel" id="switches" data-part="switches" data-by="status roles" data-made-of=(made_of) {
            h2 { "Mirror switches" }
            p class="soft" { "At run time; a restart brings the config's back." }
            @if let Some(wrong) = &answered.wrong { p class="problem" role="alert" id="wrong" tabindex="-1" { (wrong) } }
            @if !visitor.may_change() { (form::not_yours(visitor)) } @else { form method="post" action="/ui/mirror" class="stack wider" {
                (form::token(visitor))
                input type="hidden" name="was" value=(format!("{control:?}"));
                div class="fields" {
                    (either("paused", "Mirror", ["paused", "running"], chosen(change.paused, control.paused)))
                    (either("reads", "Dark reads", ["on", "off"], chosen(change.reads, control.reads)))
                    div { label for="writes" { "Dark writes" } select id="writes" name="writes" {
                        @for (name, _) in Writes::NAMES { option value=(name) selected[name == writes] { (name) } } } }
                    div { label for="sample" { "Reads sampled, in percent" }
                        input type="text" inputmode="decimal" id="sample" name="sample" required value=(percent(sample)); }
                    div { label for="switch-who" { "Who says so" }
                        input type="text" id="switch-who" name="who" maxlength="200" required autocomplete="nickname" value=(answered.who); }
                }
                @if carries(&control, fed_by(parts)) {
                    label class="choice" { input type="checkbox" name="sure" value="yes";
                        span { "Pausing, or dark writes other than apply: I know that every table written meanwhile is tainted, as the shadow lacks those rows." } }
                }
                button class="main" type="submit" id="switch" { "Set" }
            } }
        }
    }
}

/// A share in percent, without a sign.
fn percent(share: f64) -> String {
    overview::percent(share).trim_end_matches(" %").to_owned()
}

/// The address at which a refusal stands: asked for anew it is the overview, whose form that was.
pub(super) async fn view(
    State(parts): State<Parts>,
    page: Extension<Arc<Page>>,
    visitor: Extension<Visitor>,
    wanted: Wanted,
    headers: HeaderMap,
) -> Response {
    if wanted.whole() {
        return Redirect::to("/ui/#switches").into_response();
    }
    let view = overview::view(State(parts), page, visitor, wanted, headers);
    view.await.into_response()
}

/// Sets them, as the API's PATCH.
pub(super) async fn order(
    State(parts): State<Parts>,
    Extension(page): Extension<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    sent: form::Sent,
) -> Result<Response, Trouble> {
    let who = sent.text("who");
    let (change, wrong) = match wish(&sent) {
        Ok(change) => (change, None),
        Err(refusal) => (Change::default(), Some(refusal)),
    };
    let done = match wrong {
        Some(refusal) => Err(refusal),
        None => {
            let (was, is_sure) = (sent.text("was"), sent.text("sure").is_some());
            set(&parts, &visitor, &change, was.as_deref(), is_sure).await
        }
    };
    let Err(refusal) = done else {
        let remembered = form::remember(who.as_deref());
        return Ok((remembered, Redirect::to("/ui/#switches")).into_response());
    };
    let answered = Answered {
        who: who.unwrap_or_default(),
        change,
        wrong: Some(refusal.message().to_owned()),
    };
    let whole = Wanted::default();
    let shown = overview::shown(&parts, &page, &visitor, &whole, &answered).await;
    Ok((status_of(&refusal), shown).into_response())
}

/// What the form asks for.
fn wish(sent: &form::Sent) -> Result<Change, Refusal> {
    let yes = |name: &str| match sent.text(name).as_deref() {
        Some("yes") => Ok(Some(true)),
        Some("no") => Ok(Some(false)),
        None => Ok(None),
        Some(other) => Err(Refusal::bad(format!(
            "{name}: found {other:?}; it is yes or no. Nothing was changed"
        ))),
    };
    let share = |text: String| {
        let number = text.trim_end_matches('%').trim().replace(',', ".");
        let share = number
            .parse::<f64>()
            .ok()
            .filter(|n| (0.0..=100.0).contains(n));
        share.map(|percent| percent / 100.0).ok_or_else(|| {
            Refusal::bad(format!(
                "sample: found {text:?}; it is a number of percent from 0 to 100. Nothing was changed"
            ))
        })
    };
    Ok(Change {
        reads: yes("reads")?,
        writes: sent.text("writes"),
        sample: sent.text("sample").map(share).transpose()?,
        paused: yes("paused")?,
        // It taints every table while nothing is mirrored: by the API alone.
        observe: None,
        who: Some(
            sent.text("who")
                .ok_or_else(|| Refusal::bad("who: write who says so. Nothing was changed"))?,
        ),
    })
}

async fn set(
    parts: &Parts,
    visitor: &Visitor,
    change: &Change,
    was: Option<&str>,
    is_sure: bool,
) -> Result<(), Refusal> {
    let fed_by = fed_by(parts);
    let may = |now: &Control, then: &Control| {
        if was.is_some_and(|was| was != format!("{now:?}")) {
            return Err(Refusal::conflict(
                "nothing was changed: somebody else has set the switches since this form was made; look at it again, and send it once more",
            ));
        }
        let stops = carries(now, fed_by) && (then.paused || then.writes != Writes::Apply);
        if stops && !is_sure {
            return Err(Refusal::conflict(
                "nothing was changed: dark writes would stop, and every table written meanwhile be tainted; tick the box below if that is meant",
            ));
        }
        Ok(())
    };
    switched(parts, &visitor.caller, change, may).await
}
