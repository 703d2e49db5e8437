//! How long both servers take: as percentile curves and over time, of all commands, of a class, of a statement;
//! and the statements, those first that have become slower.

use super::Wanted;
use super::bits::{Tone, block, code, hue, moment, number, query, state, tag, text, wide};
use super::layout::{Frame, Here};
use super::seats::Visitor;
use super::trouble::Trouble;
use crate::admin::Parts;
use crate::admin::answer::{Asked, Refusal, read, scrape};
use crate::admin::latency::{Marked, Told, Which, is_slow, marked, told};
use crate::ledger::{Byte, Curve, Moment, Pace, Protocol, SHARES, Turn, Whose};
use crate::readiness::times;
use crate::report::chart;
use crate::words::{brief, count, harmless, micros, span};
use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Statements of a page.
const LIMIT: usize = 50;

/// Characters of a statement in the list, and over a chart.
const BRIEF: usize = 160;
const TITLE: usize = 26;

/// Of fewer commands a ratio says little.
const SAMPLES_MIN: u64 = 20;

/// The orders that there are.
const SORTS: [(&str, &str); 4] = [
    ("slower", "with an open finding, then by ratio"),
    ("count", "timed most often"),
    ("p99", "longest p99 on the shadow"),
    ("ratio", "greatest p99 ratio"),
];

/// Figures of a curve: their names, and their shares in percent.
const FIGURES: [(&str, f64); 6] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
    ("longest", 100.0),
];

/// What the address says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Latency {
    class: Option<String>,
    fingerprint: Option<String>,
    protocol: Option<String>,
    byte: Option<String>,
    search: Option<String>,
    sort: Option<String>,
    before: Option<usize>,
}

impl Latency {
    /// A form sends its empty fields too.
    fn tidied(mut self) -> Self {
        for field in [
            &mut self.class,
            &mut self.fingerprint,
            &mut self.protocol,
            &mut self.byte,
            &mut self.search,
            &mut self.sort,
        ] {
            *field = field.take().filter(|text| !text.trim().is_empty());
        }
        self
    }

    fn which(&self) -> Which {
        Which {
            class: self.class.clone(),
            fingerprint: self.fingerprint.clone(),
            protocol: self.protocol.clone(),
            byte: self.byte.clone(),
        }
    }

    /// A link to the same but for these; pages begin anew.
    fn link(&self, other: &[(&str, &str)]) -> String {
        let none = None;
        let fields = [
            ("class", &self.class),
            ("fingerprint", &self.fingerprint),
            ("protocol", &self.protocol),
            ("byte", &self.byte),
            ("search", &self.search),
            ("sort", &self.sort),
            ("before", &none),
        ];
        let fields = fields.map(|(name, field)| {
            let said = other.iter().find(|(known, _)| *known == name);
            let kept = field.as_deref().unwrap_or_default();
            (name, said.map_or(kept, |(_, value)| *value))
        });
        query("/ui/latency", &fields)
    }

    /// # Errors
    /// An order that is not known.
    fn order(&self) -> Result<&str, Refusal> {
        let (first, _) = SORTS[0];
        let named = self.sort.as_deref().unwrap_or(first);
        if SORTS.iter().any(|(name, _)| *name == named) {
            return Ok(named);
        }
        let names = SORTS.map(|(name, _)| name).join(", ");
        Err(Refusal::bad(format!(
            "sort: found {named:?}; it is one of {names}"
        )))
    }
}

/// The link to a statement's latency.
pub(super) fn of_statement(digest: &str, protocol: &str) -> String {
    let fields = [("fingerprint", digest), ("protocol", protocol)];
    query("/ui/latency", &fields)
}

/// The view, or its charts alone.
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    wanted: Wanted,
    asked: Result<Asked<Latency>, Refusal>,
) -> Result<Markup, Trouble> {
    let asked = asked?.0.tidied();
    let (whose, byte) = asked.which().meant()?;
    asked.order()?;
    let charts = if wanted.has("curve") {
        Some(charts(&parts, &asked, whose, byte).await?)
    } else {
        None
    };
    let rest = match (wanted.whole(), whose) {
        (false, _) => html! {},
        (true, Whose::Statement(..)) => html! {},
        (true, _) => statements(&parts, &asked, whose, byte).await?,
    };
    let is_statement = matches!(whose, Whose::Statement(..));
    let content = html! {
        @if is_statement { p class="up" { a rel="up" href=(asked.link(&[("fingerprint", ""), ("protocol", "")])) { "← Latency" } } }
        div class="title" { h1 { "Latency" @if is_statement { " of a statement" } } (bytes(&asked, byte)) }
        @if let Some(charts) = charts { (charts) }
        (rest)
    };
    Ok(Frame {
        parts: &parts,
        visitor: &visitor,
        wanted: &wanted,
        here: Here::Latency,
        title: "Latency",
    }
    .around(&content))
}

fn bytes(asked: &Latency, byte: Byte) -> Markup {
    html! {
        nav class="tabs" aria-label="Until which byte of the answer" {
            a href=(asked.link(&[("byte", "")])) aria-current=[(byte == Byte::Last).then_some("true")] { "Last byte" }
            a href=(asked.link(&[("byte", "first")])) aria-current=[(byte == Byte::First).then_some("true")] { "First byte" }
        }
    }
}

/// The curve, its figures, how it went; of a statement with its words.
async fn charts(
    parts: &Parts,
    asked: &Latency,
    whose: Whose,
    byte: Byte,
) -> Result<Markup, Refusal> {
    let looked = parts.clone();
    let told = scrape(move || told(&looked, whose, byte)).await?;
    let statement = match &asked.fingerprint {
        None => None,
        Some(digest) => Some(statement(parts, digest, asked.protocol.as_deref()).await?),
    };
    let name = match (&statement, &asked.class) {
        (Some(statement), _) if statement.fingerprint.is_empty() => "this statement".to_owned(),
        (Some(statement), _) => brief(&harmless(&statement.fingerprint), TITLE),
        (None, Some(class)) => class.replace('_', " "),
        (None, None) => "all commands".to_owned(),
    };
    let limits = &parts.config.readiness.whole().latency;
    Ok(html! {
        section class="panel" id="curve" data-part="curve" data-by="readiness roles" {
            h2 { (name) " " (judged(&told, statement.as_ref())) }
            @if let Some(statement) = &statement { (words(statement, asked)) }
            @if let Some(slow) = &told.slower {
                p class="problem" { "Lately (the last one to two times " (span(limits.window.as_secs())) ") the shadow takes longer than [readiness] allows: "
                    (times(slow)) "." }
            }
            @match &told.curve {
                None => p class="soft" { "Too few of these commands were timed on both servers since understudy started." },
                Some(curve) => {
                    div class="charts" {
                        (chart::curve(curve, &name, coloured(parts, &told.servers)))
                        (course(parts, &told, &name, byte))
                    }
                    (figures(curve, coloured(parts, &told.servers)))
                },
            }
            p class="soft small" { "Until the answer's " @if byte == Byte::First { "first" } @else { "last" }
                " byte, of commands that ran on both servers since understudy started; both axes of the curve in powers of ten." }
        }
    })
}

/// How it stands with it, in a word.
fn judged(told: &Told, statement: Option<&Statement>) -> Markup {
    let found = statement.and_then(|statement| statement.marked.as_ref());
    html! {
        @if told.slower.is_some() { (tag(Tone::Bad, "slower than allowed")) " " }
        @if let Some(found) = found { (finding(found)) }
    }
}

fn finding(found: &Marked) -> Markup {
    html! { (state(&found.state)) " " a href={"/ui/findings/" (found.id)} { "finding #" (found.id) } }
}

/// Each server in the colour that it has under the config's first roles.
fn coloured<'a>(parts: &Parts, servers: &'a [String; 2]) -> chart::Servers<'a> {
    let names = servers.each_ref().map(String::as_str);
    chart::Servers::new(names, &parts.config.primary.name)
}

/// Minutes below which there is no line to draw.
const MINUTES_MIN: usize = 2;

/// Over time; minutes past the guard's limits are marked, and changes of the primary.
fn course(parts: &Parts, told: &Told, name: &str, byte: Byte) -> Markup {
    let limits = &parts.config.readiness.whole().latency;
    let slow = |one: &Moment| byte == Byte::Last && is_slow(limits, one);
    let minutes = &told.course.moments;
    let slow_ones = minutes.iter().filter(|one| slow(one)).count();
    html! {
        @if minutes.len() < MINUTES_MIN {
            p class="empty" { "How it goes over time shows here once it ran in two minutes." }
        } @else {
            div {
                (chart::course(&told.course, name, coloured(parts, &told.servers), slow))
                p class="soft small" {
                    "p50 drawn through, p99 dashed. "
                    @if slow_ones > 0 { (count(slow_ones as u64)) " of " (count(minutes.len() as u64))
                        " minutes, marked at the foot, were slower on the shadow of that time than [readiness] allows." }
                    @else if byte == Byte::Last { "No minute was slower on the shadow of that time than [readiness] allows." }
                    (turned(&told.course.turns))
                }
            }
        }
    }
}

/// What the upright lines say, for who does not see them.
fn turned(turns: &[Turn]) -> Markup {
    html! {
        @if let Some(last) = turns.last() {
            " Upright lines: another server became the primary, at last " (harmless(&last.to)) ", "
            (moment(&last.at.to_string())) "."
        }
    }
}

/// The curve's figures, for who does not see it, and for who wants them exactly.
fn figures(curve: &Curve, servers: chart::Servers<'_>) -> Markup {
    let ([primary, shadow], [own, others]) = (servers.names(), servers.hues());
    let at = |share: f64| SHARES.iter().position(|one| (one - share).abs() < 1e-9);
    let is_told =
        |share: f64| share > 99.995 || (1.0 - share / 100.0) * lossy(curve.samples) >= 1.0;
    let rows = FIGURES.iter().filter(|(_, share)| is_told(*share));
    let rows = rows.filter_map(|(name, share)| {
        let at = at(*share)?;
        Some((*name, *curve.primary.get(at)?, *curve.shadow.get(at)?))
    });
    wide(
        "Figures",
        &html! {
            table class="numbers" {
                caption class="unseen" { "Figures of the curve" }
                thead { tr { th scope="col" { "Of the commands" } th scope="col" class="number" { (hue(own)) (harmless(primary)) }
                    th scope="col" class="number" { (hue(others)) (harmless(shadow)) } th scope="col" class="number" { "Ratio" } } }
                tbody { @for (name, one, other) in rows {
                    tr { th scope="row" { (name) } td class="number" { (micros(one)) } td class="number" { (micros(other)) } td class="number" { (ratio(one, other)) } }
                } }
            }
        },
    )
}

#[expect(clippy::cast_precision_loss, reason = "whether there are so many")]
const fn lossy(n: u64) -> f64 {
    n as f64
}

/// In hundredths, how many times as long the shadow takes.
fn hundredths(primary: u64, shadow: u64) -> u64 {
    shadow.saturating_mul(100) / primary.max(1)
}

fn ratio(primary: u64, shadow: u64) -> String {
    let n = hundredths(primary, shadow);
    format!("×{}.{:02}", count(n / 100), n % 100)
}

/// A statement, as far as it is known here.
#[derive(Debug)]
struct Statement {
    fingerprint: String,
    digest: String,
    protocol: String,
    class: String,
    count: u64,
    marked: Option<Marked>,
}

async fn statement(
    parts: &Parts,
    digest: &str,
    protocol: Option<&str>,
) -> Result<Statement, Refusal> {
    let (looked, wanted) = (parts.clone(), digest.to_owned());
    let (items, marks) = read(move || {
        let items = looked.ledger.latency(Some(&wanted));
        marked(&looked).map(|marks| (items, marks))
    })
    .await?;
    let protocol = protocol.unwrap_or("text");
    let item = items
        .iter()
        .find(|item| text(item, "/protocol") == protocol);
    let item = item.cloned().unwrap_or(Value::Null);
    let key = (digest.to_owned(), protocol.to_owned());
    Ok(Statement {
        fingerprint: text(&item, "/fingerprint").to_owned(),
        class: text(&item, "/class").to_owned(),
        count: number(&item, "/count"),
        marked: marks.get(&key).cloned(),
        digest: key.0,
        protocol: key.1,
    })
}

fn words(statement: &Statement, asked: &Latency) -> Markup {
    html! {
        @if statement.fingerprint.is_empty() {
            p class="soft" { "This statement has not been timed since understudy started, or is not among the busiest any more." }
        } @else {
            (block(&statement.fingerprint))
            dl class="facts" {
                dt { "Class" } dd { a href=(asked.link(&[("class", &statement.class), ("fingerprint", ""), ("protocol", "")])) { (statement.class.replace('_', " ")) }
                    ", " (statement.protocol) " protocol" }
                dt { "Count" } dd class="number" { (count(statement.count)) " commands" }
                dt { "Findings" } dd { a href=(query("/ui/findings", &[("fingerprint", &statement.digest)])) { "of this shape" } }
            }
        }
    }
}

/// The classes as ways, and the statements as a list.
async fn statements(
    parts: &Parts,
    asked: &Latency,
    whose: Whose,
    byte: Byte,
) -> Result<Markup, Refusal> {
    let looked = parts.clone();
    let (paces, marks, servers) = read(move || {
        let servers = crate::admin::readiness::names(&looked);
        let names = servers.each_ref().map(String::as_str);
        let paces = looked.ledger.paces_since_start(names, byte);
        marked(&looked).map(|marks| (paces, marks, servers))
    })
    .await?;
    let classes = paces.iter().filter(|pace| pace.shape.is_none());
    let classes: Vec<&'static str> = classes.map(|pace| pace.class.name()).collect();
    let mut rows: Vec<Row<'_>> = paces
        .iter()
        .filter(|pace| match whose {
            Whose::Class(class) => pace.class == class,
            Whose::All | Whose::Statement(..) => true,
        })
        .filter_map(|pace| Row::of(pace, &marks))
        .filter(|row| asked.search.as_ref().is_none_or(|part| row.has(part)))
        .collect();
    let order = asked.order()?;
    rows.sort_by_key(|row| row.rank(order));
    Ok(html! {
        (ways(asked, &classes))
        (filters(asked, order))
        (list(&rows, &servers, asked))
    })
}

/// A statement of the list.
struct Row<'a> {
    pace: &'a Pace,
    digest: String,
    protocol: Protocol,
    marked: Option<&'a Marked>,
}

impl<'a> Row<'a> {
    fn of(pace: &'a Pace, marks: &'a BTreeMap<(String, String), Marked>) -> Option<Self> {
        let (digest, protocol) = pace.shape?;
        let digest = format!("{digest:016x}");
        let marked = marks.get(&(digest.clone(), protocol.name().to_owned()));
        Some(Self {
            pace,
            digest,
            protocol,
            marked,
        })
    }

    fn has(&self, part: &str) -> bool {
        let part = part.trim().to_lowercase();
        let holds = |text: &str| text.to_lowercase().contains(&part);
        self.pace.fingerprint.as_deref().is_some_and(holds)
            || self.pace.tables.iter().any(|table| holds(table))
    }

    fn is_marked(&self) -> bool {
        self.marked.is_some_and(Marked::is_open)
    }

    /// What stands first is least.
    fn rank(&self, order: &str) -> (bool, bool, Reverse<u64>) {
        let pace = self.pace;
        match order {
            "count" => (false, false, Reverse(pace.samples)),
            "p99" => (false, false, Reverse(pace.shadow.p99)),
            order => {
                let ratio = hundredths(pace.primary.p99, pace.shadow.p99);
                let is_rare = pace.samples < SAMPLES_MIN;
                let is_behind = order != "ratio" && !self.is_marked();
                (is_behind, is_rare, Reverse(ratio))
            }
        }
    }
}

fn ways(asked: &Latency, classes: &[&'static str]) -> Markup {
    let now = asked.class.as_deref();
    let to = |class: &str| asked.link(&[("class", class)]);
    html! {
        nav class="tabs" aria-label="Class" {
            a href=(to("")) aria-current=[now.is_none().then_some("true")] { "All" }
            @for class in classes {
                a href=(to(class)) aria-current=[(now == Some(*class)).then_some("true")] { (class.replace('_', " ")) }
            }
        }
    }
}

fn filters(asked: &Latency, order: &str) -> Markup {
    html! {
        form class="filters" method="get" action="/ui/latency" role="search" {
            @for (name, field) in [("class", &asked.class), ("byte", &asked.byte)] {
                @if let Some(value) = field { input type="hidden" name=(name) value=(value); }
            }
            div { label for="search" { "Search" } input type="search" id="search" name="search" value=(asked.search.as_deref().unwrap_or_default()) placeholder="in statements and tables"; }
            div { label for="sort" { "In order" } select id="sort" name="sort" {
                @for (value, name) in SORTS { option value=(value) selected[value == order] { (name) } }
            } }
            button class="main" type="submit" { "Show" }
            @if asked.search.is_some() { a class="quiet" href=(asked.link(&[("search", "")])) { "Clear" } }
        }
    }
}

fn list(rows: &[Row<'_>], [primary, shadow]: &[String; 2], asked: &Latency) -> Markup {
    let from = asked.before.unwrap_or(0).min(rows.len());
    let shown: Vec<&Row<'_>> = rows.iter().skip(from).take(LIMIT).collect();
    if shown.is_empty() {
        return html! { p class="empty" { "No statement like this was timed on both servers since understudy started." } };
    }
    let until = from + shown.len();
    let page = |before: usize| {
        let before = before.to_string();
        asked.link(&[("before", if before == "0" { "" } else { &before })])
    };
    let head = |server: &str, quantile: &str| format!("{} {quantile}", harmless(server));
    html! {
        (wide("Statements", &html! {
            table class="list cards" role="table" {
                caption class="unseen" { "Statements, and how long both servers took" }
                thead role="rowgroup" { tr role="row" {
                    th scope="col" role="columnheader" { "Finding" }
                    th scope="col" role="columnheader" { "Class" }
                    th scope="col" role="columnheader" class="number" { "Timed" }
                    @for quantile in ["p50", "p99"] { @for server in [primary, shadow] {
                        th scope="col" role="columnheader" class="number" { (head(server, quantile)) } } }
                    th scope="col" role="columnheader" class="number" { "p99 ratio" }
                    th scope="col" role="columnheader" { "Statement" }
                } }
                tbody role="rowgroup" { @for row in &shown { (shown_row(row, [primary, shadow], asked)) } }
            }
        }))
        @if matches!(asked.order(), Ok("slower" | "ratio")) {
            p class="soft small" { "By the ratio of p99, the shadow's over the primary's; what was timed fewer than " (SAMPLES_MIN) " times comes after the rest." }
        }
        nav class="pages" aria-label="Pages" {
            @if from > 0 { a rel="prev" href=(page(from.saturating_sub(LIMIT))) { "← Previous" } }
            @if until < rows.len() { a rel="next" href=(page(until)) { "Next →" } }
            span class="soft" { "Rows " (count(from as u64 + 1)) "–" (count(until as u64)) " of " (count(rows.len() as u64)) }
        }
    }
}

fn shown_row(row: &Row<'_>, [primary, shadow]: [&String; 2], asked: &Latency) -> Markup {
    let pace = row.pace;
    let byte = asked.byte.as_deref().unwrap_or_default();
    let fields = [
        ("fingerprint", row.digest.as_str()),
        ("protocol", row.protocol.name()),
        ("byte", byte),
    ];
    let times = [
        (primary, "p50", pace.primary.p50),
        (shadow, "p50", pace.shadow.p50),
        (primary, "p99", pace.primary.p99),
        (shadow, "p99", pace.shadow.p99),
    ];
    html! {
        tr data-row role="row" {
            td role="cell" { @if let Some(found) = row.marked { (finding(found)) } }
            td role="cell" { (pace.class.name().replace('_', " ")) }
            td role="cell" class="number" data-label="timed" { (count(pace.samples)) }
            @for (server, quantile, us) in times {
                td role="cell" class="number" data-label={ (harmless(server)) " " (quantile) } { (micros(us)) } }
            td role="cell" class="number" data-label="p99" { (ratio(pace.primary.p99, pace.shadow.p99)) }
            td role="cell" class="statement" { a href=(query("/ui/latency", &fields)) { (code(pace.fingerprint.as_deref().unwrap_or_default(), BRIEF)) }
                @if row.protocol == Protocol::Prepared { " " span class="soft small" { "prepared" } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_what_it_does_not_change_and_begins_at_the_first_page() {
        let asked = Latency {
            class: Some("read".into()),
            byte: Some("first".into()),
            search: Some("a b".into()),
            before: Some(50),
            ..Latency::default()
        };
        assert_eq!(
            asked.link(&[("byte", "")]),
            "/ui/latency?class=read&search=a+b"
        );
        assert_eq!(
            asked.link(&[("class", ""), ("before", "100")]),
            "/ui/latency?byte=first&search=a+b&before=100"
        );
    }

    #[test]
    fn a_ratio_is_of_what_it_is_a_ratio_of() {
        assert_eq!(ratio(1_000, 1_500), "×1.50");
        assert_eq!(ratio(0, 7), "×7.00");
        assert_eq!(ratio(1, 5_000), "×5,000.00");
    }
}
