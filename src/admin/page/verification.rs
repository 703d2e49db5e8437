//! The verification of data at rest: how the run stands, table by table, what differs, and the forms that
//! begin, pause and end one.

use super::bits::{
    Tone, age, block, heads, is, list, moment, number, outcome, progress, query, tag, text, texts,
    wide,
};
use super::layout::{Frame, Here};
use super::seats::Visitor;
use super::trouble::{Trouble, status_of};
use super::{Wanted, form};
use crate::admin::Parts;
use crate::admin::answer::{Asked, Refusal};
use crate::admin::verify::{Steer, steered, told};
use crate::admin::who::Caller;
use crate::verify::Wish;
use crate::words::{count, harmless, share, span};
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// Rows that differ and are shown, of each table.
const ROWS_MAX: usize = 50;

/// What a form said, and what was wrong with it.
#[derive(Debug, Default)]
struct Answered {
    who: String,
    tables: String,
    wrong: Option<String>,
}

/// What a link has filled in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filled {
    tables: Option<String>,
}

/// A link to the form with these tables in it.
pub(super) fn of_tables(tables: &[&str]) -> String {
    query("/ui/verification", &[("tables", &tables.join(" "))]) + "#begin"
}

/// How it stands.
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    headers: HeaderMap,
    filled: Result<Asked<Filled>, Refusal>,
) -> Result<Markup, Trouble> {
    let answered = Answered {
        who: form::who(&visitor, &headers),
        tables: filled?.0.tables.unwrap_or_default(),
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
    let standing = told(Arc::clone(&parts.inspector), &visitor.caller).await?;
    let content = html! {
        @if wanted.whole() { h1 { "Verification" } }
        @if wanted.has("run") {
            section class="panel" id="run" data-part="run" data-by="verification" { (run(visitor, &standing)) }
        }
        @if wanted.whole() {
            section class="panel" id="begin" { h2 { "Begin a run" }
                @if visitor.may_change() { (asked(visitor, answered)) } @else { (form::not_yours(visitor)) } }
        }
        @if wanted.has("runs") { (runs(&standing)) }
    };
    Ok(Frame {
        parts,
        visitor,
        wanted,
        here: Here::Verification,
        title: "Verification",
    }
    .around(&content))
}

fn run(visitor: &Visitor, standing: &Value) -> Markup {
    let run = standing.get("run").filter(|run| run.is_object());
    let state = text(standing, "/state");
    let Some(run) = run else {
        return html! { h2 { "Now " (outcome(state)) } p class="soft" { "No table was verified since the start." } };
    };
    let (rows, expected) = (number(run, "/rows"), number(run, "/rows_expected"));
    let expected = expected.max(rows);
    let ended = text(run, "/outcome");
    html! {
        h2 { "Run " (number(run, "/id")) " " (outcome(if ended.is_empty() { state } else { ended })) }
        p class="soft" { (text(run, "/shadow")) " against " (text(run, "/primary")) ", for " (text(run, "/who")) ", began " (age(text(run, "/started")))
            @if !text(run, "/ended").is_empty() { ", ended " (age(text(run, "/ended"))) } }
        @if !text(run, "/why").is_empty() { p { (text(run, "/why")) } }
        @if ended.is_empty() {
            p { (progress(rows, expected, "Rows read")) " " span class="number" { (count(rows)) " of about " (count(expected)) " rows (" (share(rows, expected.max(1))) "), "
                (count(number(run, "/rows_per_second"))) " rows/s"
                @match run.get("eta_s").and_then(Value::as_u64) {
                    Some(eta) => { ", " (span(eta)) " left" },
                    None => { @if settles(run) { ", what looked different is looked at again" } },
                } } }
            @if !text(run, "/waits").is_empty() { p { (tag(Tone::Busy, "waits")) " " (text(run, "/waits")) } }
            @if visitor.may_change() { form method="post" action="/ui/verification/steer" class="row" {
                (form::token(visitor))
                @if state == "paused" { button type="submit" name="act" value="resume" id="resume" { "Resume" } }
                @else { button type="submit" name="act" value="pause" id="pause" { "Pause" } }
                button class="danger" type="submit" name="act" value="abort" id="end" { "End it" }
            } }
        }
        (tables(list(run, "/tables")))
        @for table in first(list(run, "/tables")) { (differences(table)) }
        @for note in texts(run, "/notes") { p class="soft" { "Note: " (harmless(note)) } }
    }
}

/// Whether a table is looked at once more, of which all rows were read.
fn settles(run: &Value) -> bool {
    let mut tables = list(run, "/tables").iter();
    tables.any(|one| text(one, "/stage") == "settling")
}

/// Tables that are shown: the page is made anew whenever rows were read.
const TABLES_MAX: usize = 200;

/// What is told first of so many: what differs or could not be read whole, then what is under way, then the rest.
fn first(all: &[Value]) -> Vec<&Value> {
    let rank = |one: &&Value| match text(one, "/outcome") {
        "equal" => 3,
        "" if text(one, "/stage") == "waiting" => 2,
        "" => 1,
        _ => 0,
    };
    let mut shown: Vec<&Value> = all.iter().collect();
    if shown.len() > TABLES_MAX {
        shown.sort_by_key(rank);
        shown.truncate(TABLES_MAX);
    }
    shown
}

fn tables(all: &[Value]) -> Markup {
    html! {
        @if !all.is_empty() {
            (wide("Tables", &html! {
                table class="list cards" role="table" {
                    caption class="unseen" { "Tables" }
                    (heads(&[("Table", ""), ("Outcome", ""), ("Read", ""), ("Primary rows", "number"), ("Shadow rows", "number"),
                        ("Different", "number"), ("Repaired", "number"), ("Unsettled", "number"), ("Why", "")]))
                    tbody role="rowgroup" { @for one in first(all) { (table(one)) } }
                }
            }))
            @if all.len() > TABLES_MAX {
                p class="soft" { (all.len() - TABLES_MAX) " more tables are equal or wait: " code { "understudy verify status" } " has all." }
            }
        }
    }
}

fn table(one: &Value) -> Markup {
    let name = format!("{}.{}", text(one, "/database"), text(one, "/table"));
    let (read, expected) = (number(one, "/rows_primary"), number(one, "/rows_expected"));
    let ended = text(one, "/outcome");
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (harmless(&name)) }
            td role="cell" { (outcome(if ended.is_empty() { text(one, "/stage") } else { ended })) }
            td role="cell" { @if ended.is_empty() { (progress(read, expected, &format!("Rows of {name} read"))) } }
            @for (label, figure) in [("primary rows", count(read)), ("shadow rows", count(number(one, "/rows_shadow"))), ("different", different(one)),
                ("repaired", count(number(one, "/repaired"))), ("unsettled", count(number(one, "/unsettled")))] {
                td role="cell" class="number" data-label=(label) { (figure) } }
            td role="cell" class="words full" { (text(one, "/why")) }
        }
    }
}

fn different(one: &Value) -> String {
    let rows = one.get("differences").and_then(Value::as_object);
    let each = rows.into_iter().flatten();
    let each = each.map(|(how, n)| format!("{} {how}", count(n.as_u64().unwrap_or(0))));
    let words = each.collect::<Vec<_>>().join(", ");
    if words.is_empty() {
        "0".to_owned()
    } else {
        words
    }
}

/// Of one table: where definitions differ, what was not covered, the first rows that differ.
fn differences(table: &Value) -> Markup {
    let (schema, uncovered) = (list(table, "/schema"), list(table, "/not_covered"));
    let rows = list(table, "/rows");
    let name = format!("{}.{}", text(table, "/database"), text(table, "/table"));
    if schema.is_empty() && uncovered.is_empty() && rows.is_empty() {
        return html! {};
    }
    let repairs = rows.iter().map(|row| text(row, "/repair"));
    let mut repairs: Vec<&str> = repairs.filter(|repair| !repair.is_empty()).collect();
    // Whoever may not see them is told so once.
    repairs.dedup();
    html! {
        @let differs = !rows.is_empty() || schema.iter().any(|one| text(one, "/weight") == "differs");
        details open[!rows.is_empty()] { summary { (if differs { "What differs in " } else { "Notes on " }) strong { (harmless(&name)) } }
            @for one in schema { p { (tag(if text(one, "/weight") == "differs" { Tone::Bad } else { Tone::Calm }, text(one, "/weight"))) " " (text(one, "/what")) " " span class="soft" { (harmless(text(one, "/said"))) } } }
            @for one in texts(table, "/not_covered") { p class="soft" { "Not covered: " (harmless(one)) } }
            @if !rows.is_empty() {
                (wide("Rows that differ", &html! {
                    table class="list cards" role="table" {
                        caption class="unseen" { "Rows that differ" }
                        (heads(&[("How", ""), ("Key", ""), ("Columns (primary → shadow)", ""), ("Repair", "")]))
                        tbody role="rowgroup" { @for row in rows.iter().take(ROWS_MAX) { tr role="row" {
                            td role="cell" { (text(row, "/how")) }
                            td role="cell" data-label="key" { @match text(row, "/key") { "" => span class="soft" { "redacted" }, key => code { (harmless(key)) } } }
                            td role="cell" class="words" { (columns(row)) }
                            td role="cell" { (text(row, "/repaired")) }
                        } } }
                    }
                }))
                @if rows.len() > ROWS_MAX { p class="soft" { (count((rows.len() - ROWS_MAX) as u64)) " more are told by the API." } }
            }
            @if !repairs.is_empty() { h3 { "Statements that would repair it" } (block(&repairs.iter().take(ROWS_MAX).copied().collect::<Vec<_>>().join("\n"))) }
        }
    }
}

/// The columns that differ, with what both have where that is told.
fn columns(row: &Value) -> Markup {
    let (mine, theirs) = (list(row, "/primary"), list(row, "/shadow"));
    let value = |of: &[Value], at: usize| Some(harmless(of.get(at)?.as_str()?));
    html! {
        @for (at, column) in texts(row, "/columns").enumerate() {
            @if at > 0 { br; }
            (harmless(column))
            @if let (Some(mine), Some(theirs)) = (value(mine, at), value(theirs, at)) {
                ": " code { (mine) } " → " code { (theirs) }
            }
        }
    }
}

fn asked(visitor: &Visitor, answered: &Answered) -> Markup {
    let number = |id: &str, name: &str, hint: &str| {
        html! {
            div { label for=(id) { (name) } input type="number" id=(id) name=(id) min="1" placeholder=(hint); }
        }
    };
    html! {
        @if let Some(wrong) = &answered.wrong { p class="problem" role="alert" id="wrong" tabindex="-1" { (wrong) } }
        form method="post" action="/ui/verification" class="stack" {
            (form::token(visitor))
            label for="who" { "Who asks" }
            input type="text" id="who" name="who" maxlength="200" required autocomplete="nickname" value=(answered.who);
            label for="tables" { "Tables (" code { "database.table" } ", " code { "database.*" } "; none for all)" }
            input type="text" id="tables" name="tables" value=(answered.tables) autocapitalize="none" spellcheck="false";
            div class="fields" {
                div { label for="mode" { "How" } select id="mode" name="mode" {
                    option value="chunks" { "range by range" } option value="snapshot" { "as both were at one instant" } } }
                div { label for="repair" { "Differences are" } select id="repair" name="repair" {
                    option value="" { "told" } option value="plan" { "told with the statement that would repair them" } option value="apply" { "repaired on the shadow" } } }
                div { label for="sample" { "Share" } input type="text" id="sample" name="sample" placeholder="all, or 5%"; }
                (number("jobs", "Tables at a time", "by itself"))
                (number("rows_per_second", "Rows a second at most", "as production allows"))
            }
            button class="main" type="submit" { "Begin" }
        }
    }
}

fn runs(standing: &Value) -> Markup {
    let all = list(standing, "/history");
    html! {
        section class="panel" id="runs" data-part="runs" data-by="verification" {
            h2 { "Runs" }
            @if all.is_empty() { p class="soft" { "There was none yet." } }
            @else {
                (wide("Runs", &html! {
                    table class="list cards" role="table" {
                        caption class="unseen" { "Runs" }
                        (heads(&[("Id", "number"), ("Began", ""), ("Outcome", ""), ("Who", ""), ("Tables", ""), ("Why", "")]))
                        tbody role="rowgroup" { @for run in all {
                            tr role="row" {
                                td role="cell" class="number id" { "#" (number(run, "/id")) } td role="cell" { (moment(text(run, "/started"))) }
                                td role="cell" { (outcome(match text(run, "/outcome") { "" => "running", outcome => outcome })) @if is(run, "/paused") { " paused" } }
                                td role="cell" data-label="by" { (text(run, "/who")) }
                                td role="cell" class="words" data-label="tables" { @match texts(run, "/wish/tables").collect::<Vec<_>>().join(", ") { none if none.is_empty() => "all", tables => (harmless(&tables)) } }
                                td role="cell" class="words full" { (text(run, "/why")) }
                            }
                        } }
                    }
                }))
            }
        }
    }
}

/// Begins a run, as the API's POST.
pub(super) async fn start(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    sent: form::Sent,
) -> Result<Response, Trouble> {
    let answered = Answered {
        who: sent.text("who").unwrap_or_default(),
        tables: sent.text("tables").unwrap_or_default(),
        wrong: None,
    };
    let begun = match wish(&sent, &visitor.caller) {
        Ok((wish, who)) => steered(&parts, Steer::Start(wish, who)).await,
        Err(refusal) => Err(refusal),
    };
    match begun {
        Ok(_) => {
            let remembered = form::remember(Some(&answered.who));
            Ok((remembered, Redirect::to("/ui/verification")).into_response())
        }
        Err(refusal) => {
            let status = status_of(&refusal);
            let wrong = Some(refusal.message().to_owned());
            let answered = Answered { wrong, ..answered };
            let shown = shown(&parts, &visitor, &Wanted::default(), &answered).await?;
            Ok((status, shown).into_response())
        }
    }
}

/// What the form asks for, and who asks.
fn wish(sent: &form::Sent, caller: &Caller) -> Result<(Wish, String), Refusal> {
    let who = caller.says(sent.text("who"))?;
    let whole = |name: &str| match sent.text(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| Refusal::bad(format!("{name}: found {text:?}; it is a whole number"))),
    };
    let tables = sent.text("tables").unwrap_or_default();
    let tables = tables
        .split([',', ' ', '\n', '\r'])
        .filter(|name| !name.is_empty());
    let jobs = whole("jobs")?.map(|jobs| usize::try_from(jobs).unwrap_or(usize::MAX));
    let wish = Wish {
        tables: tables.map(str::to_owned).collect(),
        mode: sent.text("mode"),
        sample: sent.text("sample"),
        repair: sent.text("repair"),
        jobs,
        rows_per_second: whole("rows_per_second")?,
        ..Wish::default()
    };
    Ok((wish, who))
}

/// Pauses it, lets it go on, or ends it.
pub(super) async fn steer(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    sent: form::Sent,
) -> Result<Redirect, Trouble> {
    let steer = match sent.text("act").as_deref() {
        Some("pause") => Steer::Pause,
        Some("resume") => Steer::Resume,
        Some("abort") => {
            let who = Some(form::who(&visitor, &headers)).filter(|who| !who.is_empty());
            Steer::Abort(visitor.caller.says(who)?)
        }
        _ => return Err(Refusal::bad("nothing was done: press one of the buttons").into()),
    };
    steered(&parts, steer).await?;
    Ok(Redirect::to("/ui/verification"))
}
