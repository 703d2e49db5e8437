//! The live queries: statements as they get their verdicts, with both servers' times, as rows that come by
//! server-sent events. Without JavaScript, those of the last moment.
//!
//! A browser is shown the newest of what comes, a few at a time; of the rest it is told how much it was. Nothing
//! waits for it.

use super::bits::{Tone, code, list, number, query, tag, text, wide};
use super::entry::cookie_name;
use super::form::cookie;
use super::layout::{Frame, Here};
use super::seats::Visitor;
use super::trouble::Trouble;
use super::{Page, Wanted};
use crate::admin::Parts;
use crate::admin::answer::{Asked, Refusal};
use crate::admin::querylog::{Wanted as Filter, classes, listened};
use crate::admin::server::LIFE_MAX;
use crate::admin::streams::{Stream as Answer, Streams};
use crate::admin::who::Caller;
use crate::ledger::{Listener, QueryLine, VERDICTS};
use crate::words::{count, harmless, micros};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::Value;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Rows of one piece of the stream, and of the document at first.
const ROWS: usize = 20;

/// Between two pieces: what comes faster than so many rows in this time nobody could read.
const STEP: Duration = Duration::from_millis(500);

/// Lines that are taken at once: more than there is room for.
const TAKEN_MAX: usize = 10_000;

/// So long is looked for the document's first rows.
const LOOK: Duration = Duration::from_millis(400);

/// Between two looks for them.
const GLANCE: Duration = Duration::from_millis(25);

/// Pieces without a row, until something is said all the same: 15 seconds.
const QUIET_MAX: u32 = 30;

/// Rows that a document keeps, the newest.
const KEPT: usize = 200;

/// Characters of a statement.
const BRIEF: usize = 200;

/// A form sends its empty fields too.
fn tidied(mut asked: Filter) -> Filter {
    for field in [
        &mut asked.fingerprint,
        &mut asked.user,
        &mut asked.table,
        &mut asked.class,
        &mut asked.verdict,
    ] {
        *field = field.take().filter(|text| !text.trim().is_empty());
    }
    asked
}

/// An address with this filter, but for these.
fn link(path: &str, asked: &Filter, other: &[(&str, &str)]) -> String {
    let slower = asked.slower_us.map(|us| us.to_string());
    let fields = [
        ("fingerprint", &asked.fingerprint),
        ("user", &asked.user),
        ("table", &asked.table),
        ("class", &asked.class),
        ("verdict", &asked.verdict),
        ("slower_us", &slower),
    ];
    let fields = fields.map(|(name, field)| {
        let said = other.iter().find(|(known, _)| *known == name);
        let kept = field.as_deref().unwrap_or_default();
        (name, said.map_or(kept, |(_, value)| *value))
    });
    query(path, &fields)
}

/// The view, with what came in its first moment.
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    asked: Result<Asked<Filter>, Refusal>,
) -> Result<Markup, Trouble> {
    let asked = tidied(asked?.0);
    let filter = asked.clone().filter()?;
    let content = if wanted.whole() {
        let lines = match listened(&parts, &visitor.caller, filter) {
            Ok(listener) => Ok(first(&listener).await),
            Err(refusal) => Err(refusal),
        };
        shown(&asked, &lines)
    } else {
        html! {}
    };
    Ok(Frame {
        parts: &parts,
        visitor: &visitor,
        wanted: &wanted,
        here: Here::Queries,
        title: "Live queries",
    }
    .around(&content))
}

/// What comes within a moment, at most as many as are shown.
async fn first(listener: &Listener) -> Vec<QueryLine> {
    let end = Instant::now() + LOOK;
    let mut lines = Vec::new();
    loop {
        let room = ROWS.saturating_sub(lines.len());
        lines.extend(listener.take(room));
        if lines.len() >= ROWS || Instant::now() >= end {
            return lines;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

fn shown(asked: &Filter, lines: &Result<Vec<QueryLine>, Refusal>) -> Markup {
    let anew = link("/ui/queries", asked, &[]);
    html! {
        div class="title" { h1 { "Live queries" }
            span id="tail-state" class="soft" role="status" { "The last moment." }
            button type="button" id="pause" hidden { "Pause" } }
        (filters(asked))
        @if let Err(refusal) = lines { p class="problem" role="alert" { (refusal.message()) } }
        noscript { p { "These are of the moment at which the page was asked for. " a href=(anew) { "Look again" } } }
        (wide("Live queries", &html! {
            table class="list cards" role="table" {
                caption class="unseen" { "Commands as they get their verdicts, the newest first" }
                thead role="rowgroup" { tr role="row" {
                    @for (head, class) in [("At, UTC", ""), ("Verdict", ""), ("Primary", "number"), ("Shadow", "number"), ("User", ""), ("Statement", "")] {
                        th scope="col" role="columnheader" class=(class) { (head) } }
                } }
                tbody role="rowgroup" id="tail" data-tail=(link("/ui/queries/stream", asked, &[])) data-most=(KEPT) {
                    @for line in lines.iter().flatten().rev() { (row(asked, &line.json())) }
                }
            }
        }))
        p class="soft" { span id="passed" class="number" { "0" } " more came and were not shown: the page shows the newest "
            (ROWS) " of each half second, and " code { "understudy tail" } " all that a reader keeps up with. Shapes, never values." }
    }
}

fn filters(asked: &Filter) -> Markup {
    let field = |id: &str, name: &str, value: &Option<String>, hint: &str| {
        html! {
            div { label for=(id) { (name) } input type="text" id=(id) name=(id) value=(value.as_deref().unwrap_or_default())
                placeholder=(hint) autocapitalize="none" spellcheck="false"; }
        }
    };
    let choice = |id: &str, name: &str, value: &Option<String>, all: &[&str]| {
        html! {
            div { label for=(id) { (name) } select id=(id) name=(id) {
                option value="" { "any" }
                @for one in all { option value=(one) selected[value.as_deref() == Some(*one)] { (one.replace('_', " ")) } }
            } }
        }
    };
    let is_filtered = *asked != Filter::default();
    html! {
        form class="filters" method="get" action="/ui/queries" role="search" {
            @if let Some(us) = asked.slower_us { input type="hidden" name="slower_us" value=(us); }
            (field("fingerprint", "Statement", &asked.fingerprint, "its shape, or its digest"))
            (field("user", "User", &asked.user, "any"))
            (field("table", "Table", &asked.table, "any"))
            (choice("verdict", "Verdict", &asked.verdict, &VERDICTS))
            (choice("class", "Class", &asked.class, &classes()))
            button class="main" type="submit" { "Show" }
            @if is_filtered { a class="quiet" href="/ui/queries" { "Clear" } }
        }
    }
}

/// A command, as the API tells it.
fn row(asked: &Filter, line: &Value) -> Markup {
    let at = text(line, "/at");
    let verdict = text(line, "/verdict");
    let tone = match verdict {
        "matched" => Tone::Good,
        "tolerated" => Tone::Busy,
        "diverged" => Tone::Bad,
        _ => Tone::Calm,
    };
    let reasons = list(line, "/reasons").iter().filter_map(Value::as_str);
    let reasons = reasons.collect::<Vec<_>>().join(", ").replace('_', " ");
    let same = link(
        "/ui/queries",
        asked,
        &[("fingerprint", text(line, "/digest"))],
    );
    html! {
        tr data-row role="row" {
            td role="cell" class="number" { time datetime=(at) { (clock(at)) } }
            td role="cell" { (tag(tone, &verdict.replace('_', " "))) @if !reasons.is_empty() { " " span class="soft small" { (reasons) } } }
            @for side in ["primary", "shadow"] { td role="cell" class="number" data-label=(side) { (half(line, side)) } }
            td role="cell" { (harmless(text(line, "/user"))) }
            td role="cell" class="statement" { a href=(same) { (code(text(line, "/fingerprint"), BRIEF)) } }
        }
    }
}

/// One server's side: how long, and what it answered.
fn half(line: &Value, side: &str) -> Markup {
    let at = |field: &str| format!("/{side}/{field}");
    let number_of = |field: &str| line.pointer(&at(field)).and_then(Value::as_u64);
    if line.pointer(&format!("/{side}/server")).is_none() {
        return html! { "–" };
    }
    html! {
        @match number_of("latency_us") { Some(us) => (micros(us)), None => "–" }
        br;
        span class="soft small" {
            @if let Some(error) = number_of("error") { "error " (error) }
            @else if let Some(rows) = number_of("affected_rows").filter(|rows| *rows > 0) { (count(rows)) " affected" }
            @else { (count(number(line, &at("rows")))) @if number(line, &at("rows")) == 1 { " row" } @else { " rows" } }
        }
    }
}

/// A moment's time of day, to the millisecond.
fn clock(at: &str) -> String {
    let parsed = at.parse::<Timestamp>();
    let written = |at: Timestamp| at.strftime("%H:%M:%S%.3f").to_string();
    parsed.map_or_else(|_| at.to_owned(), written)
}

/// Who looks, until they leave.
struct Tail {
    page: Arc<Page>,
    /// The cookie's seat, where one is needed: with it the stream ends.
    seat: Option<String>,
    /// Who looks: with their token it ends, too.
    caller: Caller,
    asked: Filter,
    listener: Listener,
    answer: Answer,
    ends: Instant,
    begun: bool,
    quiet: u32,
}

/// The rows as they come.
pub(super) async fn stream(
    State(parts): State<Parts>,
    Extension(page): Extension<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Extension(streams): Extension<Streams>,
    headers: HeaderMap,
    Asked(asked): Asked<Filter>,
) -> Result<Response, Refusal> {
    let asked = tidied(asked);
    let listener = listened(&parts, &visitor.caller, asked.clone().filter()?)?;
    let seat = cookie(&headers, &cookie_name(parts.config.admin.address.port()));
    let tail = Tail {
        page,
        seat: seat.filter(|_| visitor.seated),
        caller: visitor.caller,
        asked,
        listener,
        answer: streams.begin(),
        ends: Instant::now() + LIFE_MAX,
        begun: false,
        quiet: 0,
    };
    let events = stream::unfold(tail, |mut tail| async move {
        let event = tail.next().await?;
        Some((Ok::<_, Infallible>(event), tail))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::from_stream(events)).into_response())
}

impl Tail {
    /// The next piece, when there is one; nothing once the stream is over.
    async fn next(&mut self) -> Option<String> {
        self.answer.is_read();
        if !self.begun {
            self.begun = true;
            return Some("retry: 3000\n\n".to_owned());
        }
        loop {
            tokio::time::sleep(STEP).await;
            let gone = |seat: &String| self.page.seats.at(seat).is_none();
            let is_over = self.answer.is_to_end() || Instant::now() >= self.ends;
            if is_over || self.caller.is_over() || self.seat.as_ref().is_some_and(gone) {
                return None;
            }
            let (lines, passed) = newest(&self.listener);
            self.quiet += 1;
            if !lines.is_empty() || passed > 0 {
                self.quiet = 0;
                return Some(piece(&self.asked, &lines, passed));
            }
            if self.quiet >= QUIET_MAX {
                self.quiet = 0;
                return Some(": still here\n\n".to_owned());
            }
        }
    }
}

/// The newest that came, oldest first, and how many more there were.
fn newest(listener: &Listener) -> (VecDeque<QueryLine>, u64) {
    let mut lines = VecDeque::new();
    let mut passed = 0;
    for line in listener.take(TAKEN_MAX) {
        if lines.len() >= ROWS {
            lines.pop_front();
            passed += 1;
        }
        lines.push_back(line);
    }
    (lines, passed + listener.dropped())
}

/// Rows, newest first, and how many were passed over, as events.
fn piece(asked: &Filter, lines: &VecDeque<QueryLine>, passed: u64) -> String {
    let mut piece = String::new();
    if passed > 0 {
        piece.push_str(&format!("event: passed\ndata: {passed}\n\n"));
    }
    if !lines.is_empty() {
        let rows = html! { @for line in lines.iter().rev() { (row(asked, &line.json())) } };
        // An event's data ends with its line.
        let rows = rows.into_string().replace(['\n', '\r'], " ");
        piece.push_str(&format!("event: rows\ndata: {rows}\n\n"));
    }
    piece
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_side_that_did_not_run_failed_or_wrote_says_so() {
        let line = json!({
            "primary": {"server": "legacy", "latency_us": 1_250, "rows": 0, "affected_rows": 3, "error": null},
            "shadow": {"server": "vitess", "latency_us": null, "rows": 0, "affected_rows": null, "error": 1235},
        });
        let shown = |side: &str| half(&line, side).into_string();
        assert!(shown("primary").contains("1.25 ms") && shown("primary").contains("3 affected"));
        assert!(
            shown("shadow").contains("error 1235"),
            "{}",
            shown("shadow")
        );
        assert_eq!(half(&json!({"shadow": null}), "shadow").into_string(), "–");
    }

    #[test]
    fn a_row_is_one_line_whatever_a_client_wrote() {
        let line = json!({
            "at": "2026-01-02T03:04:05.678901Z", "verdict": "diverged", "reasons": ["other_error"],
            "user": "a\nb\r\n\r\nevent: x", "digest": "00000000000000ff", "fingerprint": "SELECT\n'<script>'",
        });
        let shown = row(&Filter::default(), &line).into_string();
        assert!(
            shown.contains("03:04:05.678") && shown.contains("other error"),
            "{shown}"
        );
        assert!(
            shown.contains("/ui/queries?fingerprint=00000000000000ff"),
            "{shown}"
        );
        assert!(!shown.contains("<script>"), "{shown}");
    }
}
