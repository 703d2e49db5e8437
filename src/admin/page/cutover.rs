//! The cutover: how it stands, its steps as they happen, the guards, and the forms that order one, rehearse
//! one, or end it. The server's name is typed, not clicked.

use super::bits::{
    Tone, age, block, heads, is, list, moment, number, outcome, progress as progress_bar, query,
    tag, text, texts, wide,
};
use super::layout::{Frame, Here};
use super::seats::Visitor;
use super::trouble::{Trouble, status_of};
use super::{Wanted, form, overview};
use crate::admin::answer::{Id, Refusal, read};
use crate::admin::cutover::{Ordered, Wanted as Order, aborted, ordered, stopped, told};
use crate::admin::{Parts, readiness};
use crate::config::FedBy;
use crate::cutover::machine::Rest;
use crate::cutover::{GUARDS, Judged};
use crate::words::{brief, count, harmless, micros, span};
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::{Value, json};

/// The steps, in their order.
const STEPS: [&str; 6] = [
    "checking",
    "preparing",
    "holding",
    "catching_up",
    "switching",
    "soaking",
];

/// The field of the query that names the dry run before, by its record.
const REHEARSED: &str = "rehearsed";

/// Those in which new transactions wait.
const HELD: [&str; 3] = ["holding", "catching_up", "switching"];

/// What a form came to, where it was not done.
#[derive(Debug, Default)]
struct Answered {
    who: String,
    wrong: Option<String>,
    /// The guards that refuse, and the others.
    guards: Vec<Judged>,
    /// The guards that were ticked in the form.
    force: Vec<String>,
    /// The dry run that led here, by its record.
    rehearsed: Option<u64>,
}

/// How it stands. The guards that the dry run before overrode are ticked ([`rehearsal`]).
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Markup, Trouble> {
    let query = query.unwrap_or_default();
    let mut named = form_urlencoded::parse(query.as_bytes());
    let rehearsed = named.find(|(name, _)| name == REHEARSED);
    let answered = Answered {
        who: form::who(&visitor, &headers),
        rehearsed: rehearsed.and_then(|(_, id)| id.parse().ok()),
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
    let standing = told(parts.clone(), None).await?;
    let shadow = parts.roles.borrow().shadow.name.clone();
    let content = html! {
        @if wanted.whole() { h1 { "Cutover" } }
        @if wanted.has("standing") { (now(parts, visitor, &standing)) }
        div class="halves flip" {
            @if wanted.has("order") {
                // Another primary makes another form of it; nothing else touches what is typed there, or was answered.
                section class="panel" id="order" data-part="order" data-by="roles" data-made-of={ (shadow) " " (visitor.form_token) } {
                    (asked(visitor, &standing, &shadow, answered))
                }
            }
            @if !answered.guards.is_empty() {
                section class="panel" { h2 { "What the guards said" } (said(&json!(answered.guards))) }
            } @else if wanted.has("readiness") {
                section class="panel" id="readiness" data-part="readiness" data-by="readiness roles" {
                    (ready(parts, &shadow).await)
                }
            }
        }
        @if wanted.has("records") { (records(&standing)) }
    };
    Ok(Frame {
        parts,
        visitor,
        wanted,
        here: Here::Cutover,
        title: "Cutover",
    }
    .around(&content))
}

async fn ready(parts: &Parts, shadow: &str) -> Markup {
    let asked = parts.clone();
    match read(move || readiness::told(&asked)).await {
        Ok(told) => html! {
            (overview::guards(&told, shadow))
            p class="soft" { "A dry run asks these, as far as they are asked of it, and the guards that only a cutover has ("
                (GUARDS.iter().filter(|one| !crate::readiness::GUARDS.contains(one)).copied().collect::<Vec<_>>().join(", ")) ")." }
        },
        Err(refusal) => html! { h2 { "Readiness" } p class="problem" { (refusal.message()) } },
    }
}

/// The state, and the record that it is of.
fn now(parts: &Parts, visitor: &Visitor, standing: &Value) -> Markup {
    let state = parts.helm.state();
    let under_way = state.rest().is_none();
    let soaks = matches!(state.rest(), Some(Rest::Soaking(_)));
    let word = text(standing, "/state");
    let record = standing.get("record").filter(|record| record.is_object());
    html! {
        section class="panel" id="standing" data-part="standing" data-by="cutover" {
            h2 { "Now " (outcome(word)) }
            p { span data-say { @if under_way { "A cutover is under way: " (word.replace('_', " ")) ". " } }
                strong { (text(standing, "/primary")) } " is the primary."
                @if soaks { " It is watched for a while." } }
            (progress(standing))
            @if let Some(record) = record { (one(record)) }
            @if under_way && visitor.may_change() {
                form method="post" action="/ui/cutover/abort" class="row" {
                    (form::token(visitor))
                    (of_record(parts))
                    button class="danger" type="submit" id="abort" { "Abort" }
                    span class="soft" { "Until its switch; production then goes on as before." }
                }
            }
            // Where replication feeds the shadow, somebody must say that it has ended before rows flow back.
            @if parts.config.shadow.fed_by == FedBy::Replication && !under_way && visitor.may_change() {
                details { summary { "Replication to the new primary has stopped" }
                    p { "Dark writes flow back, and a rollback loses nothing, once replication from the old primary to the new one is known to have ended. Say so only when it has." }
                    form method="post" action="/ui/cutover/stopped" class="row" {
                        (form::token(visitor))
                        (of_record(parts))
                        button type="submit" { "It has stopped" }
                    }
                }
            }
        }
    }
}

/// What the step under way waits for, or how the new primary does; nothing at rest.
fn progress(standing: &Value) -> Markup {
    let Some(progress) = standing.get("progress").filter(|told| told.is_object()) else {
        return html! {};
    };
    let limit = progress.get("limit_ms").and_then(Value::as_u64);
    let passed = number(progress, "/passed_ms");
    let soak = progress.get("soak").filter(|soak| soak.is_object());
    html! {
        div id="progress" {
            p class="notice" {
                @match (soak, limit) {
                    (Some(_), Some(limit)) => { (span(limit.saturating_sub(passed).div_ceil(1_000))) " of " (span(limit / 1_000)) " left" },
                    _ => (harmless(text(progress, "/words"))),
                }
                @if let Some(limit) = limit { " " (progress_bar(passed, limit, "Time that has passed")) }
            }
            @if let Some(soak) = soak { (soaked(soak)) }
        }
    }
}

/// How the new primary does, beside the old one before the switch and what is allowed.
fn soaked(soak: &Value) -> Markup {
    let percent = |pointer: &str| {
        let share = soak.pointer(pointer).and_then(Value::as_f64);
        format!("{:.2} %", share.unwrap_or_default() * 100.0)
    };
    let failed = |side: &str| {
        let commands = number(soak, &format!("/commands/{side}"));
        format!(
            "{} of {}",
            percent(&format!("/errors/{side}")),
            count(commands)
        )
    };
    let time = |pointer: &str| micros(number(soak, pointer));
    html! {
        (wide("The new primary beside the old one", &html! {
            table class="numbers" {
                caption class="unseen" { "The new primary beside the old one" }
                thead { tr { th scope="col" { "Since the switch" } th scope="col" class="number" { "Now" }
                    th scope="col" class="number" { "Before" } th scope="col" class="number" { "Allowed" } } }
                tbody {
                    tr { th scope="row" { "commands that failed" } td class="number" { (failed("now")) } td class="number" { (failed("before")) }
                        td class="number" { (percent("/errors_limit")) } }
                    tr { th scope="row" { "p99" } td class="number" { (time("/p99_us/now")) } td class="number" { (time("/p99_us/before")) }
                        td class="number" { (time("/p99_limit_us")) } }
                }
            }
        }))
        p class="soft" { (text(soak, "/unjudged"))
            @if text(soak, "/unjudged").is_empty() { "By cutover.soak_errors_max and cutover.soak_latency_max." } }
    }
}

/// Which cutover a button is about: a page that is old must not speak of another one.
fn of_record(parts: &Parts) -> Markup {
    let record = parts.helm.record().unwrap_or_default();
    html! { input type="hidden" name="record" value=(record); }
}

/// Who says it, where it is said of the cutover that stands now; of another one it is refused.
fn of_now(
    parts: &Parts,
    visitor: &Visitor,
    sent: &form::Sent,
    headers: &HeaderMap,
) -> Result<Option<String>, Refusal> {
    let now = parts.helm.record().unwrap_or_default();
    match sent
        .text("record")
        .and_then(|record| record.parse::<i64>().ok())
    {
        Some(record) if record == now => {
            Ok(Some(form::who(visitor, headers)).filter(|who| !who.is_empty()))
        }
        Some(record) => Err(Refusal::conflict(format!(
            "nothing was done: that was said of cutover {record}, and now it is {now}; look again"
        ))),
        None => Err(Refusal::bad(
            "nothing was done: it does not say of which cutover",
        )),
    }
}

/// A record, with its steps.
fn one(record: &Value) -> Markup {
    let hold = record.get("hold_us").and_then(Value::as_u64);
    let waits = text(record, "/outcome").is_empty() && HELD.contains(&text(record, "/state"));
    let forced: Vec<&str> = texts(record, "/forced").collect();
    html! {
        (track(record))
        dl class="facts" {
            dt { "Record" } dd { a href={"/ui/cutover/" (number(record, "/id"))} { "#" (number(record, "/id")) }
                ", " (text(record, "/from")) " → " (text(record, "/to"))
                @if is(record, "/is_back") { ", a way back" } @if is(record, "/dry_run") { ", a dry run" } }
            dt { "Longest pause" } dd class="number" {
                @match hold {
                    Some(us) => { "transactions waited " strong { (micros(us)) } }
                    None if waits => "new transactions are waiting now",
                    None => "no transaction waited",
                } }
            dt { "Asked" } dd { "by " (text(record, "/who")) ", " (age(text(record, "/started"))) }
            @if !forced.is_empty() { dt { "Overridden" } dd { (forced.join(", ")) } }
            @if !text(record, "/outcome").is_empty() { dt { "Ended" } dd { (outcome(text(record, "/outcome"))) " "
                @if !text(record, "/ended").is_empty() { (age(text(record, "/ended"))) } } }
            @if !text(record, "/why").is_empty() { dt { "Why" } dd { (text(record, "/why")) } }
        }
    }
}

/// The steps as a track: which are over and how long they took, which lasts, which are to come.
fn track(record: &Value) -> Markup {
    let steps = list(record, "/steps");
    let of = |name: &str| steps.iter().rev().find(|step| text(step, "/step") == name);
    let beside: Vec<&Value> = steps
        .iter()
        .filter(|step| !STEPS.contains(&text(step, "/step")))
        .collect();
    html! {
        ol class="track" {
            @for name in STEPS {
                @let step = of(name);
                @let ended = step.map(|step| text(step, "/outcome")).unwrap_or_default();
                @let class = match (step, ended) { (None, _) => "to-come", (Some(_), "") => "lasts", (Some(_), "done" | "ok") => "over", _ => "failed" };
                li class=(class) aria-current=[(class == "lasts").then_some("step")] {
                    span class="step" { (name.replace('_', " ")) }
                    span class="took number" { @match (step, class) {
                        (Some(step), "over" | "failed") => (took(step)),
                        (Some(_), _) => "…",
                        (None, _) => "–",
                    } }
                    @if let Some(step) = step { @if !text(step, "/why").is_empty() { span class="why" { (text(step, "/why")) } }
                        @if class == "failed" { span class="why" { (outcome(ended)) } } }
                }
            }
        }
        @if !beside.is_empty() {
            ul class="beside" { @for step in beside { li { strong { (text(step, "/step").replace('_', " ")) } " " (text(step, "/outcome")) " " (took(step)) " " span class="soft" { (text(step, "/why")) } } } }
        }
    }
}

fn took(step: &Value) -> String {
    let us = step.get("took_us").and_then(Value::as_u64);
    us.map_or_else(|| "…".to_owned(), micros)
}

/// The dry run whose guards come ticked, so that the cutover behind it overrides the same: the newest record of all, if it
/// is of a dry run with this server. An address that names any other ticks nothing, and none can name a guard: a link
/// could come from anywhere.
fn rehearsal<'a>(standing: &'a Value, shadow: &str, rehearsed: Option<u64>) -> Option<&'a Value> {
    let newest = list(standing, "/history").first()?;
    let is_it = rehearsed == Some(number(newest, "/id"));
    (is_it && is(newest, "/dry_run") && text(newest, "/to") == shadow).then_some(newest)
}

/// The form. What leads back is called so.
fn asked(visitor: &Visitor, standing: &Value, shadow: &str, answered: &Answered) -> Markup {
    let back = text(standing, "/way_back") == shadow;
    let rehearsal = rehearsal(standing, shadow, answered.rehearsed);
    html! {
        h2 { @if back { "Roll back to " } @else { "Make " } strong { (shadow) } @if !back { " the primary" } }
        @if let Some(wrong) = &answered.wrong { p class="problem" role="alert" id="wrong" tabindex="-1" { (wrong) } }
        @if visitor.may_change() { (order_form(visitor, (shadow, back), answered, rehearsal)) } @else { (form::not_yours(visitor)) }
    }
}

fn order_form(
    visitor: &Visitor,
    (shadow, back): (&str, bool),
    answered: &Answered,
    rehearsal: Option<&Value>,
) -> Markup {
    let failed = |name: &str| answered.guards.iter().find(|one| one.guard.name == name);
    let typed = answered.force.iter().map(String::as_str);
    let before = rehearsal.into_iter().flat_map(|run| texts(run, "/forced"));
    let ticked: Vec<&str> = typed.chain(before).collect();
    html! {
        form method="post" action="/ui/cutover" class="stack" {
            (form::token(visitor))
            input type="hidden" name="to" value=(shadow);
            label for="who" { "Who asks" }
            input type="text" id="who" name="who" maxlength="200" required autocomplete="nickname" value=(answered.who);
            details open[!answered.guards.is_empty() || !ticked.is_empty()] {
                summary { "Override guards" }
                p class="soft" { "Each is written to the record, with your name." }
                @if let Some(run) = rehearsal.filter(|_| !ticked.is_empty()) {
                    p class="soft" { "Ticked as in the dry run " a href={"/ui/cutover/" (number(run, "/id"))} { "#" (number(run, "/id")) }
                        " by " (text(run, "/who")) "." }
                }
                div class="checks" {
                    @for name in GUARDS {
                        label { input type="checkbox" name="force" value=(name) checked[ticked.contains(&name)];
                            " " (name) @if let Some(one) = failed(name) { " " @if one.guard.pass { (tag(Tone::Good, "pass")) } @else { (tag(Tone::Bad, "fail")) } } }
                    }
                }
            }
            div class="row" {
                button type="submit" name="act" value="dry_run" id="dry-run" formnovalidate { "Dry run" }
                span class="soft" { "asks every guard, opens the connections, changes nothing" }
            }
            label for="confirm" { "To do it, type " strong { (shadow) } }
            input type="text" id="confirm" name="confirm" autocomplete="off" autocapitalize="none" spellcheck="false" data-confirm=(shadow);
            button class="danger" type="submit" name="act" value="cutover" id="go" {
                @if back { "Roll back to " (shadow) } @else { "Make " (shadow) " the primary" } }
        }
    }
}

/// All guards of a cutover, as they were judged.
fn said(guards: &Value) -> Markup {
    wide(
        "Guards",
        &html! {
            table class="guards" {
                caption class="unseen" { "Guards" }
                thead { tr { th scope="col" { "Guard" } th scope="col" { "Verdict" } th scope="col" { "Found" } } }
                tbody { @for one in list(guards, "") { tr {
                    th scope="row" { (text(one, "/name")) }
                    td { @if is(one, "/pass") { (tag(Tone::Good, "pass")) } @else if is(one, "/forced") { (tag(Tone::Open, "overridden")) } @else { (tag(Tone::Bad, "refuses")) } }
                    td class="words" { (harmless(text(one, "/why"))) }
                } } }
            }
        },
    )
}

fn records(standing: &Value) -> Markup {
    let all = list(standing, "/history");
    html! {
        section class="panel" id="records" data-part="records" data-by="cutover" {
            h2 { "Records" }
            @if all.is_empty() { p class="soft" { "There was none yet." } }
            @else {
                (wide("Records of cutovers", &html! {
                    table class="list cards" role="table" {
                        caption class="unseen" { "Records of cutovers" }
                        (heads(&[("Id", "number"), ("When", ""), ("From → to", ""), ("Outcome", ""), ("Clients waited", "number"), ("Who", ""), ("Why", "")]))
                        tbody role="rowgroup" { @for record in all {
                            tr data-row role="row" {
                                td role="cell" class="number id" { a href={"/ui/cutover/" (number(record, "/id"))} { "#" (number(record, "/id")) } }
                                td role="cell" { (moment(text(record, "/started"))) }
                                td role="cell" { (text(record, "/from")) " → " (text(record, "/to")) @if is(record, "/dry_run") { " " span class="soft" { "dry run" } } }
                                td role="cell" { (outcome(match text(record, "/outcome") { "" => text(record, "/state"), outcome => outcome })) }
                                td role="cell" class="number" data-label="clients waited" { @match record.get("hold_us").and_then(Value::as_u64) { Some(us) => (micros(us)), None => "–" } }
                                td role="cell" data-label="by" { (text(record, "/who")) }
                                td role="cell" class="words full" { (reason(record)) }
                            }
                        } }
                    }
                }))
            }
        }
    }
}

/// Characters of a reason in the list of records; a record's own page has all of it.
const REASON: usize = 160;

/// Why a cutover ended so, in short: where guards refused it, their names.
fn reason(record: &Value) -> String {
    let guards = list(record, "/figures/guards").iter();
    let refuse = guards.filter(|one| !is(one, "/pass") && !is(one, "/forced"));
    let names: Vec<&str> = refuse.map(|one| text(one, "/name")).collect();
    if text(record, "/outcome") == "refused" && !names.is_empty() {
        return format!("guards: {}", names.join(", "));
    }
    brief(&harmless(text(record, "/why")), REASON)
}

/// One record, whole.
pub(super) async fn record(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    id: Result<Id, Refusal>,
) -> Result<Markup, Trouble> {
    let Id(id) = id?;
    let helm = std::sync::Arc::clone(&parts.helm);
    let kept = read(move || helm.kept(id)).await?;
    let missing = || {
        Refusal::not_found(format!(
            "there is no record {id} of a cutover, or not any more"
        ))
    };
    let record = json!(kept.ok_or_else(missing)?);
    let title = format!("Cutover {id}");
    let figures = record.get("figures").filter(|figures| !figures.is_null());
    let content = html! {
        p class="up" { a rel="up" href="/ui/cutover" { "← Cutover" } }
        h1 data-part="record-title" data-by="cutover" { "Cutover " (id) " " (outcome(match text(&record, "/outcome") { "" => text(&record, "/state"), outcome => outcome })) }
        section class="panel" data-part="record" data-by="cutover" { (one(&record))
            p class="soft" { "Began " (moment(text(&record, "/started")))
                @if !text(&record, "/switched").is_empty() { ", switched " (moment(text(&record, "/switched"))) }
                @if !text(&record, "/ended").is_empty() { ", ended " (moment(text(&record, "/ended"))) } "." }
        }
        @if let Some(figures) = figures {
            @let guards = figures.get("guards").filter(|guards| guards.is_array());
            @if let Some(guards) = guards {
                section class="panel" { h2 { "What the guards said" } (said(guards)) }
            }
            section class="panel" {
                details { summary { "All that was measured and judged" } (block(&format!("{figures:#}"))) }
            }
        }
    };
    Ok(Frame {
        parts: &parts,
        visitor: &visitor,
        wanted: &wanted,
        here: Here::Cutover,
        title: &title,
    }
    .around(&content))
}

/// Orders one, or a dry run, as the API's POST.
pub(super) async fn order(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    sent: form::Sent,
) -> Result<Response, Trouble> {
    let to = sent.text("to").unwrap_or_default();
    let who = sent.text("who");
    let force = sent.all("force");
    let dry_run = match sent.text("act").as_deref() {
        Some("dry_run") => true,
        Some("cutover") => false,
        // Enter in a field names no button, and must not do the greater thing.
        _ => return Err(Refusal::bad("nothing was done: press one of the two buttons").into()),
    };
    let mut answered = Answered {
        who: who.clone().unwrap_or_default(),
        force: force.clone(),
        ..Answered::default()
    };
    let status = if !dry_run && sent.text("confirm").as_deref() != Some(&to) {
        answered.wrong = Some(format!("Nothing was done: type {to} to confirm."));
        StatusCode::BAD_REQUEST
    } else {
        let order = Order {
            to,
            dry_run,
            force,
            who: who.clone(),
        };
        match ordered(&parts, &visitor.caller, order).await {
            Ok(Ordered::Begun(id)) => {
                let remembered = form::remember(who.as_deref());
                // What a dry run was asked with is what the cutover behind it will be; its record says what that was.
                let id = id.to_string();
                let ticks = dry_run && !answered.force.is_empty();
                let run = ticks.then_some((REHEARSED, id.as_str()));
                let to = query("/ui/cutover", run.as_slice());
                return Ok((remembered, Redirect::to(&to)).into_response());
            }
            Ok(Ordered::Refused(guards)) => {
                let refuse = guards.iter().filter(|one| !one.guard.pass && !one.forced);
                let names: Vec<&str> = refuse.map(|one| one.guard.name).collect();
                answered.wrong = Some(format!(
                    "The guards refuse: {}. Nothing was changed.",
                    names.join(", ")
                ));
                answered.guards = guards;
                StatusCode::CONFLICT
            }
            Err(refusal) => {
                answered.wrong = Some(refusal.message().to_owned());
                status_of(&refusal)
            }
        }
    };
    let shown = shown(&parts, &visitor, &Wanted::default(), &answered).await?;
    Ok((status, shown).into_response())
}

/// Ends the one under way.
pub(super) async fn abort(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    sent: form::Sent,
) -> Result<Redirect, Trouble> {
    let who = of_now(&parts, &visitor, &sent, &headers)?;
    aborted(&parts, &visitor.caller, who).await?;
    Ok(Redirect::to("/ui/cutover"))
}

/// Takes an operator's word that replication from the old primary to the new one has ended.
pub(super) async fn replication_stopped(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    sent: form::Sent,
) -> Result<Redirect, Trouble> {
    let who = of_now(&parts, &visitor, &sent, &headers)?;
    stopped(&parts, &visitor.caller, who).await?;
    Ok(Redirect::to("/ui/cutover"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_the_guards_that_refused_and_cuts_what_is_long() {
        let guard = |name: &str, pass: bool, forced: bool| json!({"name": name, "pass": pass, "forced": forced});
        let guards = [
            guard("lag", true, false),
            guard("taint", false, true),
            guard("evidence", false, false),
            guard("latency", false, false),
        ];
        let long = "word ".repeat(100);
        let mut record = json!({"outcome": "refused", "why": long, "figures": {"guards": guards}});
        assert_eq!(reason(&record), "guards: evidence, latency");
        record["outcome"] = json!("aborted");
        assert!(
            reason(&record).chars().count() <= REASON,
            "{}",
            reason(&record)
        );
        assert_eq!(reason(&json!({"outcome": "refused", "why": "x"})), "x");
        assert_eq!(reason(&json!({"outcome": "done", "why": null})), "");
    }

    /// Finding: a soak of five minutes showed nothing that it judges by.
    #[test]
    fn a_soak_shows_what_is_left_and_both_figures_beside_what_is_allowed() {
        let standing = |unjudged: Value| {
            let soak = json!({
                "unjudged": unjudged, "commands": {"now": 2_000, "before": 12_000},
                "errors": {"now": 0.002, "before": 0.001}, "errors_limit": 0.007,
                "p99_us": {"now": 6_000, "before": 4_000}, "p99_limit_us": 13_000,
            });
            json!({"progress": {"words": "all of it", "passed_ms": 18_500, "limit_ms": 300_000, "soak": soak}})
        };
        let page = progress(&standing(Value::Null)).into_string();
        for part in [
            "4 min 42 s of 5 min 0 s left",
            "0.20 % of 2,000",
            "0.10 % of 12,000",
            "0.70 %",
            "6.00 ms",
            "4.00 ms",
            "13.0 ms",
            "cutover.soak_errors_max",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let early = progress(&standing(json!("neither is judged yet"))).into_string();
        assert!(early.contains("neither is judged yet"), "{early}");
        let rest = json!({"progress": null});
        assert_eq!(progress(&rest).into_string(), "");
    }
}
