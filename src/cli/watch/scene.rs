//! The dashboard on a screen of any size. Pure: what is known → cells.

use super::news::{Answers, News};
use crate::cli::words::{ago, brief, bytes, count, items, list, micros, number, share, span, text};
use crate::cli::{readiness, status};
use crate::words::harmless;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table};
use serde_json::Value;

/// A part of the commands, by what became of them.
#[derive(Clone, Copy, Debug)]
struct Part {
    name: &'static str,
    colour: Color,
    /// For who sees no colours.
    shape: char,
    count: u64,
    /// Cells of the bar.
    cells: usize,
}

pub(super) fn draw(frame: &mut Frame<'_>, news: &News, at: &str) {
    let heading = news.now.as_ref().map_or_else(Vec::new, heading);
    let [head, middle, foot] = Layout::vertical([
        Constraint::Length(u16::try_from(heading.len()).unwrap_or(u16::MAX).max(1)),
        Constraint::Min(6),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(footer(news, at), foot);
    let Some(answers) = &news.now else {
        frame.render_widget(Paragraph::new("asking …"), head);
        return;
    };
    frame.render_widget(Paragraph::new(heading), head);
    let [coverage, rest] =
        Layout::vertical([Constraint::Length(4), Constraint::Min(0)]).areas(middle);
    draw_coverage(frame, coverage, answers, news);
    let [upper, lower] =
        Layout::vertical([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(rest);
    let [guards, latency] =
        Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(upper);
    frame.render_widget(guards_of(&answers.readiness, guards.width), guards);
    frame.render_widget(latency_of(answers, latency.width), latency);
    frame.render_widget(findings_of(&answers.findings, lower.width), lower);
}

fn titled(title: String) -> Block<'static> {
    Block::new()
        .borders(Borders::TOP)
        .border_style(Style::new().dim())
        .title(title.bold())
}

fn heading(answers: &Answers) -> Vec<Line<'static>> {
    let status = &answers.status;
    let line = |name: &'static str, words: String| {
        Line::from(vec![
            Span::from(format!("{name:<9}")).dim(),
            Span::from(harmless(&words)),
        ])
    };
    let mut first = vec![
        Span::from(format!("understudy {}", text(status, "/version"))).bold(),
        Span::from(format!(", up {}", span(number(status, "/uptime_s")))),
    ];
    let trouble = text(status, "/ledger/last_error");
    if !trouble.is_empty() {
        first.push(Span::from(format!("   the ledger: {}", harmless(trouble))).red());
    }
    let mut mirror = line("mirror", status::mirror(status));
    mirror = match status::word(status) {
        "running" => mirror,
        "off" => mirror.dark_gray(),
        _ => mirror.yellow().bold(),
    };
    let cutover = status::cutover(status);
    let cutover = cutover.map(|words| line("cutover", words).yellow().bold());
    let mut lines = vec![
        Line::from(first),
        line("primary", status::server(status, "primary")),
        line("shadow", status::server(status, "shadow")),
        mirror,
        line(
            "sessions",
            format!(
                "{} open, {} mirrored, {} tunnelled; {} commands wait for the shadow, {} in all",
                count(number(status, "/sessions/open")),
                count(number(status, "/sessions/mirrored")),
                count(number(status, "/sessions/tunnelled")),
                count(number(status, "/mirror/waiting")),
                bytes(number(status, "/mirror/queue_bytes")),
            ),
        ),
    ];
    lines.extend(cutover);
    lines
}

fn parts(coverage: &Value, width: usize) -> [Part; 4] {
    let reasons = coverage.get("not_compared").and_then(Value::as_object);
    let not_compared = reasons
        .into_iter()
        .flatten()
        .filter_map(|(_, n)| n.as_u64())
        .sum();
    let part = |name, colour, shape, count| Part {
        name,
        colour,
        shape,
        count,
        cells: 0,
    };
    let counted = |pointer| number(coverage, pointer);
    let mut parts = [
        part("matched", Color::Green, '█', counted("/matched")),
        part("tolerated", Color::Cyan, '▓', counted("/tolerated")),
        part("diverged", Color::Red, '╳', counted("/diverged")),
        part("not compared", Color::DarkGray, '░', not_compared),
    ];
    widen(&mut parts, width);
    parts
}

/// Shares the bar's cells out. What there is at all has one at least: a single divergence is seen.
fn widen(parts: &mut [Part; 4], width: usize) {
    let total: u64 = parts.iter().map(|part| part.count).sum();
    if total == 0 {
        return;
    }
    for part in parts.iter_mut() {
        let cells = u128::from(part.count) * (width as u128) / u128::from(total);
        let least = usize::from(part.count > 0);
        part.cells = usize::try_from(cells).unwrap_or(0).max(least);
    }
    // What was rounded is made good by the largest.
    let used: usize = parts.iter().map(|part| part.cells).sum();
    if let Some(largest) = parts.iter_mut().max_by_key(|part| part.cells) {
        largest.cells = largest.cells.saturating_add(width).saturating_sub(used);
    }
}

fn draw_coverage(frame: &mut Frame<'_>, area: Rect, answers: &Answers, news: &News) {
    let coverage = answers.status.get("coverage").unwrap_or(&Value::Null);
    let commands = number(coverage, "/commands");
    let block = titled(format!(" coverage of {} commands ", count(commands)));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [bars, rates] =
        Layout::horizontal([Constraint::Percentage(70), Constraint::Min(20)]).areas(inner);
    let parts = parts(coverage, usize::from(bars.width.saturating_sub(2)));
    let bar = parts.iter().map(|part| {
        let cells = part.shape.to_string().repeat(part.cells);
        Span::styled(cells, Style::new().fg(part.colour))
    });
    let legend = parts.iter().flat_map(|part| {
        [
            Span::styled(format!("{} ", part.shape), Style::new().fg(part.colour)),
            Span::from(format!("{} {}   ", part.name, share(part.count, commands))),
        ]
    });
    let told = vec![Line::from_iter(bar), Line::from_iter(legend)];
    frame.render_widget(Paragraph::new(told), bars);
    let [words, line] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(rates);
    let now = news.rates.back().copied().unwrap_or(0);
    frame.render_widget(
        Paragraph::new(format!("{} commands a second", count(now))),
        words,
    );
    let room = usize::from(line.width);
    let skipped = news.rates.len().saturating_sub(room);
    let data: Vec<u64> = news.rates.iter().skip(skipped).copied().collect();
    frame.render_widget(
        Sparkline::default().data(data).style(Style::new().blue()),
        line,
    );
}

fn guards_of(readiness: &Value, width: u16) -> Paragraph<'static> {
    let guards = readiness.get("guards").and_then(Value::as_array);
    let guards = guards.map_or(&[][..], Vec::as_slice);
    let is = |guard: &Value, key: &str| guard.get(key) == Some(&Value::Bool(true));
    let failed = guards.iter().filter(|guard| !is(guard, "pass")).count();
    let title = if is(readiness, "ready") {
        " ready: every guard passes ".to_owned()
    } else {
        format!(" not ready: {failed} of {} guards fail ", guards.len())
    };
    let title = match readiness::way_back(readiness) {
        Some(back) => {
            let (back, _) = back.split_once([',', ';']).unwrap_or((back.as_str(), ""));
            format!(" {back};{title}")
        }
        None => title,
    };
    let room = usize::from(width).saturating_sub(24).max(10);
    let line = |guard: &Value| {
        let (mark, colour) = if is(guard, "pass") {
            ("pass", Color::Green)
        } else {
            ("FAIL", Color::Red)
        };
        Line::from(vec![
            Span::styled(format!("{mark} "), Style::new().fg(colour)),
            Span::from(format!("{:<17} ", text(guard, "/name"))),
            Span::from(brief(&harmless(text(guard, "/why")), room)).dim(),
        ])
    };
    // What fails is seen on a small screen too.
    let (pass, fail): (Vec<&Value>, Vec<&Value>) =
        guards.iter().partition(|guard| is(guard, "pass"));
    let lines: Vec<Line<'_>> = fail.into_iter().chain(pass).map(line).collect();
    Paragraph::new(lines).block(titled(title))
}

/// Columns of a class's name, and of a figure with its unit.
const CLASS_WIDTH: u16 = 11;
const FIGURE_WIDTH: u16 = 9;

fn latency_of(answers: &Answers, width: u16) -> Table<'static> {
    // No figure is cut: where there is no room for all, the tail's are shown.
    let all = CLASS_WIDTH + 4 * (FIGURE_WIDTH + 1);
    let quantiles: &[&str] = if width >= all {
        &["p50", "p99"]
    } else {
        &["p99"]
    };
    let told = usize::from(FIGURE_WIDTH);
    let servers = ["/primary", "/shadow"].map(|role| text(&answers.status, role).to_owned());
    let classes = answers.latency.get("classes").and_then(Value::as_array);
    let mut classes = classes.cloned().unwrap_or_default();
    classes.sort_by_key(|class| std::cmp::Reverse(number(class, "/count")));
    let figure = |class: &Value, server: &str, quantile: &str| {
        let us = class.get(server).and_then(|side| side.get(quantile));
        us.and_then(Value::as_u64)
            .map_or_else(|| "-".to_owned(), micros)
    };
    let row = |class: &Value| {
        let mut cells = vec![Cell::new(text(class, "/class").to_owned())];
        for quantile in quantiles {
            for server in &servers {
                let figure = figure(class, server, quantile);
                cells.push(Cell::new(format!("{figure:>told$}")));
            }
        }
        Row::new(cells)
    };
    let mut head = vec!["class".to_owned()];
    for quantile in quantiles {
        for server in &servers {
            let title = brief(&format!("{quantile} {server}"), told);
            head.push(format!("{title:>told$}"));
        }
    }
    let figures = quantiles.len() * servers.len();
    let widths = std::iter::once(Constraint::Min(CLASS_WIDTH)).chain(std::iter::repeat_n(
        Constraint::Length(FIGURE_WIDTH),
        figures,
    ));
    Table::new(classes.iter().map(row), widths)
        .header(Row::new(head).dim())
        .block(titled(" latency ".to_owned()))
}

fn findings_of(found: &Value, width: u16) -> Table<'static> {
    let now = jiff::Timestamp::now();
    let room = usize::from(width).saturating_sub(66).max(20);
    let row = |item: &Value| {
        Row::new([
            format!("{:>6}", number(item, "/id")),
            text(item, "/kind").to_owned(),
            format!("{:>9}", count(number(item, "/count"))),
            ago(text(item, "/last_seen"), now),
            brief(&harmless(&list(item, "/tables")), 22),
            brief(&harmless(text(item, "/fingerprint")), room),
        ])
    };
    let head = ["    id", "kind", "    count", "last", "tables", "statement"];
    let widths = [
        Constraint::Length(6),
        Constraint::Length(14),
        Constraint::Length(9),
        Constraint::Length(11),
        Constraint::Length(22),
        Constraint::Min(20),
    ];
    let title = match items(found).len() {
        0 => " no open finding ".to_owned(),
        _ => " open findings, by impact: understudy findings ID ".to_owned(),
    };
    Table::new(items(found).iter().map(row), widths)
        .header(Row::new(head).dim())
        .block(titled(title))
}

fn footer(news: &News, at: &str) -> Line<'static> {
    match &news.trouble {
        Some(trouble) => Line::from(format!("what stands here is old: {}", harmless(trouble)))
            .style(Style::new().red().add_modifier(Modifier::BOLD)),
        None => Line::from(format!("q leaves   {at}, every second")).dim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;
    use tokio::time::Instant;

    fn news() -> News {
        let answers = Answers {
            at: Instant::now(),
            status: json!({
                "version": "0.1.0", "uptime_s": 7_620, "primary": "legacy", "shadow": "vitess",
                "servers": {
                    "legacy": {"address": "127.0.0.1:3356", "version": "5.6.24"},
                    "vitess": {"address": "127.0.0.1:15306", "error": "connection refused"},
                },
                "mirror": {"state": "suspended", "reason": "the shadow is down", "reads": true,
                           "writes": "apply", "sample": 1.0, "waiting": 17, "queue_bytes": 2048, "queue_bytes_max": 4096},
                "sessions": {"open": 8, "mirrored": 7, "tunnelled": 1},
                "coverage": {"commands": 1_000_000, "matched": 999_989, "tolerated": 0, "diverged": 1,
                             "not_compared": {"race": 10}, "pending": 0},
            }),
            readiness: json!({"ready": false, "guards": [
                {"name": "taint", "pass": true, "why": "no table is tainted"},
                {"name": "divergences", "pass": false, "why": "1 open finding"},
            ]}),
            latency: json!({"classes": [{"class": "read", "count": 9, "legacy": {"p50": 200, "p99": 400}, "vitess": {"p50": 900}}]}),
            findings: json!({"items": [{"id": 3, "kind": "value", "count": 1, "last_seen": "2026-01-01T00:00:00Z",
                                        "tables": ["app.t"], "fingerprint": "SELECT a FROM t\u{1b}[2J"}]}),
        };
        let mut news = News::default();
        news.take(Ok(answers));
        news.rates.extend([10, 4_321]);
        news
    }

    fn drawn(news: &News, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        let frame = terminal.draw(|frame| draw(frame, news, "http://127.0.0.1:8306"));
        let buffer = frame.expect("drawn").buffer.clone();
        let cells: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
        let lines = cells.chunks(usize::from(width)).map(<[&str]>::concat);
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn everything_that_is_wrong_is_on_the_screen() {
        let screen = drawn(&news(), (140, 40));
        for word in [
            "suspended (the shadow is down)",
            "NOT REACHED: connection refused",
            "17 commands wait",
            "coverage of 1,000,000 commands",
            "4,321 commands a second",
            "not ready: 1 of 2 guards fail",
            "FAIL divergences",
            "900 µs",
            "SELECT a FROM t",
            "q leaves",
        ] {
            assert!(screen.contains(word), "{word}:\n{screen}");
        }
        // One divergence among a million is seen, and what a client wrote does not steer the terminal.
        assert!(
            screen.contains('╳') && !screen.contains('\u{1b}'),
            "{screen}"
        );
    }

    /// Finding: at 120 columns the units were cut, and 12.3 ms could not be told from 12.3 s.
    #[test]
    fn a_figure_is_shown_with_its_unit_or_not_at_all() {
        let mut news = news();
        if let Some(answers) = &mut news.now {
            answers.latency = json!({"classes": [{"class": "transaction", "count": 9,
                "legacy": {"p50": 123_456, "p99": 987_654}, "vitess": {"p50": 12_345_678, "p99": 59_999_999}}]});
        }
        let wide = drawn(&news, (120, 40));
        for figure in ["123.4 ms", "987.6 ms", "12.34 s", "59.99 s", "p50 lega…"] {
            assert!(wide.contains(figure), "{figure}:\n{wide}");
        }
        let narrow = drawn(&news, (80, 24));
        assert!(narrow.contains("987.6 ms") && narrow.contains("59.99 s"));
        assert!(!narrow.contains("123.4"), "{narrow}");
    }

    #[test]
    fn a_soak_and_the_way_back_are_on_the_screen() {
        let mut news = news();
        let now = news.now.as_mut().expect("answers");
        now.status["cutover"] =
            json!({"state": "soaking", "progress": {"words": "4 min 2 s left"}});
        now.readiness["way_back"] = json!({"to": "legacy", "open": true, "barred_by": []});
        let screen = drawn(&news, (140, 40));
        for word in [
            "cutover  soaking: 4 min 2 s left",
            "the way back to legacy: open; not ready: 1",
        ] {
            assert!(screen.contains(word), "{word}:\n{screen}");
        }
    }

    #[test]
    fn a_screen_of_any_size_is_drawn_on() {
        let mut news = news();
        for size in [(1, 1), (20, 5), (80, 24), (300, 90)] {
            drawn(&news, size);
        }
        news.take(Err("it does not answer".to_owned()));
        assert!(drawn(&news, (80, 24)).contains("what stands here is old: it does not answer"));
        assert!(drawn(&News::default(), (80, 24)).contains("asking"));
    }

    #[test]
    fn a_bar_is_as_wide_as_it_may_be_and_leaves_nothing_out() {
        for ([matched, diverged, paused], width) in [
            ([1_000_000, 1, 10], 98),
            ([1, 1, 1], 10),
            ([3, 0, 0], 7),
            ([0, 0, 0], 9),
        ] {
            let coverage = json!({"matched": matched, "diverged": diverged, "not_compared": {"paused": paused}});
            let parts = parts(&coverage, width);
            let cells: usize = parts.iter().map(|part| part.cells).sum();
            assert_eq!(cells, if matched > 0 { width } else { 0 }, "{parts:?}");
            assert!(
                parts
                    .iter()
                    .all(|part| (part.count > 0) == (part.cells > 0)),
                "{parts:?}"
            );
        }
    }
}
