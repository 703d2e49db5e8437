//! What stands in a report, in which order.

use super::chart::Servers;
use super::{Block, Found, Look, Report, Table, Text};
use crate::ledger::{Pace, Sum};
use crate::words::{brief, count, micros, percent, period, share, span};
use serde_json::Value;

/// Characters of a statement in a table, and in a block of its own.
const BRIEF: usize = 120;
const LONG: usize = 2_000;

/// Characters of one cell of an example.
const CELL: usize = 200;

/// Rows of an example.
const EXAMPLES: usize = 3;

/// Statements in the table of latencies.
const PACES: usize = 20;

pub(super) fn title(report: &Report) -> String {
    format!(
        "understudy: {} → {}",
        report.primary.name, report.shadow.name
    )
}

pub(super) fn blocks(report: &Report) -> Vec<Block<'_>> {
    let mut blocks = observed(report);
    readiness(report, &mut blocks);
    coverage(report, &mut blocks);
    findings(report, &mut blocks);
    latency(report, &mut blocks);
    unjudged(report, &mut blocks);
    notes(report, &mut blocks);
    blocks
}

fn observed(report: &Report) -> Vec<Block<'_>> {
    let evidence = &report.evidence;
    let server = |server: &super::Server| {
        let version = server.version.as_deref().unwrap_or("version not seen");
        vec![
            Text::Strong(server.name.clone()),
            format!(", {version}").into(),
        ]
    };
    let period = match (evidence.first_compared, evidence.last_compared) {
        (Some(first), Some(last)) => format!(
            "first comparison {}, last {}; hours of the clock in which something was compared: {}",
            moment(first),
            moment(last),
            count(evidence.hours)
        ),
        _ => "nothing was compared yet".to_owned(),
    };
    let mirror = &report.mirror;
    let switch = |key: &str| match mirror.get(key) {
        Some(Value::Bool(true)) => "on".to_owned(),
        Some(Value::Bool(false)) => "off".to_owned(),
        Some(Value::String(word)) => word.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let mirroring = format!(
        "{}; reads {}, writes {}, sample {}",
        switch("state"),
        switch("reads"),
        switch("writes"),
        switch("sample")
    );
    vec![
        Block::Verdict(report.readiness.ready, verdict(report)),
        Block::Facts(vec![
            ("Primary", server(&report.primary)),
            ("Shadow", server(&report.shadow)),
            ("Observed", vec![period.into()]),
            (
                "Commands",
                vec![
                    format!(
                        "{}, of which {} were compared",
                        count(evidence.ever.commands),
                        count(evidence.ever.compared())
                    )
                    .into(),
                ],
            ),
            ("Mirror", vec![mirroring.into()]),
            (
                "Report",
                vec![
                    format!(
                        "made {} by understudy {}, up {}",
                        moment(report.at),
                        report.version,
                        span(report.uptime_s)
                    )
                    .into(),
                ],
            ),
        ]),
    ]
}

fn verdict(report: &Report) -> String {
    let failed: Vec<&str> = report
        .readiness
        .guards
        .iter()
        .filter(|guard| !guard.pass)
        .map(|guard| guard.name)
        .collect();
    if report.readiness.ready {
        format!(
            "Ready: every guard passes, {} may become the primary.",
            report.shadow.name
        )
    } else {
        format!("Not ready: {} did not pass.", failed.join(", "))
    }
}

fn readiness(report: &Report, blocks: &mut Vec<Block<'_>>) {
    blocks.push(Block::Section("Readiness"));
    let rows = report.readiness.guards.iter().map(|guard| {
        vec![
            Text::Strong(guard.name.to_owned()),
            Text::Mark(guard.pass, if guard.pass { "pass" } else { "fail" }),
            guard.why.clone().into(),
            limits(&guard.limit).into(),
        ]
    });
    blocks.push(Block::Table(Table {
        head: ["guard", "", "found", "limit"].map(str::to_owned).to_vec(),
        right: Vec::new(),
        rows: rows.collect(),
    }));
}

/// A guard's limits on one line, each in the unit that its name ends with.
pub(super) fn limits(limit: &Value) -> String {
    let Value::Object(limits) = limit else {
        return plain(limit);
    };
    let told = limits.iter().filter_map(|(key, limit)| {
        let (name, unit) = match key.rsplit_once('_') {
            Some((name, unit @ ("ms" | "s" | "ratio"))) => (name, unit),
            _ => (key.as_str(), ""),
        };
        let whole = limit.as_u64().unwrap_or(0);
        let words = match unit {
            // What is slower by a factor may be so by a time instead.
            "ms" if limits.contains_key(&format!("{name}_ratio")) => return None,
            "ms" => micros(whole.saturating_mul(1_000)),
            "s" => period(whole),
            "ratio" => {
                let factor = format!("×{}", limit.as_f64().unwrap_or_default());
                match limits.get(&format!("{name}_ms")).and_then(Value::as_u64) {
                    Some(ms) => format!("{factor} or {} more", micros(ms.saturating_mul(1_000))),
                    None => factor,
                }
            }
            _ => plain(limit),
        };
        Some(format!("{} {words}", name.replace('_', " ")))
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A limit without a unit of its own: a number of something, a share of the whole, a word.
fn plain(limit: &Value) -> String {
    match limit {
        // There is none.
        Value::Null => String::new(),
        Value::String(word) => word.clone(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => count(whole),
            (None, Some(share)) => percent(share),
            (None, None) => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn coverage(report: &Report, blocks: &mut Vec<Block<'_>>) {
    let sum = &report.evidence.ever;
    blocks.push(Block::Section("Coverage"));
    if sum.commands == 0 {
        blocks.push(Block::Paragraph(vec!["Nothing was observed yet.".into()]));
        return;
    }
    let skipped: u64 = sum.not_compared.values().sum();
    blocks.push(Block::Bar(vec![
        ("matched", sum.matched, Look::Match),
        ("tolerated", sum.tolerated, Look::Tolerated),
        ("diverged", sum.diverged, Look::Diverged),
        ("not compared", skipped, Look::NotCompared),
    ]));
    blocks.push(Block::Table(verdicts(sum, skipped)));
    let reach = [
        ("statements", &report.evidence.fingerprints),
        ("tables", &report.evidence.tables),
    ];
    let words: Vec<String> = reach
        .into_iter()
        .filter(|(_, reach)| reach.all > 0)
        .map(|(what, reach)| {
            let compared = reach.all.saturating_sub(reach.never);
            format!("{} of {} {what}", count(compared), count(reach.all))
        })
        .collect();
    if !words.is_empty() {
        let words = format!(
            "Of those seen lately, something was compared of {}.",
            words.join(" and ")
        );
        blocks.push(Block::Paragraph(vec![words.into()]));
    }
    if !report.tables.is_empty() {
        blocks.push(Block::Part(vec!["The busiest tables".into()]));
        blocks.push(Block::Table(rows(&report.tables, "table")));
    }
}

fn verdicts(sum: &Sum, skipped: u64) -> Table {
    let row =
        |name: String, n: u64| vec![name.into(), count(n).into(), share(n, sum.commands).into()];
    let mut rows = vec![
        row("matched".to_owned(), sum.matched),
        row("tolerated".to_owned(), sum.tolerated),
        row("diverged".to_owned(), sum.diverged),
        row("not compared".to_owned(), skipped),
    ];
    let mut reasons: Vec<_> = sum.not_compared.iter().collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    rows.extend(
        reasons
            .into_iter()
            .map(|(reason, n)| row(format!("· {}", reason.replace('_', " ")), *n)),
    );
    Table {
        head: ["verdict", "commands", "share"].map(str::to_owned).to_vec(),
        right: vec![1, 2],
        rows,
    }
}

/// Rows of the coverage, by statement or by table.
fn rows(items: &[Value], name: &str) -> Table {
    let number = |item: &Value, key: &str| item.get(key).and_then(Value::as_u64).unwrap_or(0);
    let row = |item: &Value| {
        let commands = number(item, "commands");
        let reasons = item.get("not_compared").and_then(Value::as_object);
        let mut reasons: Vec<_> = reasons
            .into_iter()
            .flatten()
            .map(|(reason, n)| (n.as_u64().unwrap_or(0), reason))
            .collect();
        reasons.sort_by(|one, other| other.cmp(one));
        let reasons: Vec<String> = reasons
            .into_iter()
            .take(3)
            .map(|(n, reason)| format!("{} {}", reason.replace('_', " "), count(n)))
            .collect();
        vec![
            Text::Code(brief(text(item, &format!("/{name}")), BRIEF)),
            count(commands).into(),
            share(number(item, "compared"), commands).into(),
            count(number(item, "diverged")).into(),
            reasons.join(", ").into(),
        ]
    };
    Table {
        head: [
            if name == "table" {
                "table"
            } else {
                "statement"
            },
            "commands",
            "compared",
            "diverged",
            "not compared, mostly",
        ]
        .map(str::to_owned)
        .to_vec(),
        right: vec![1, 2, 3],
        rows: items.iter().map(row).collect(),
    }
}

fn findings(report: &Report, blocks: &mut Vec<Block<'_>>) {
    blocks.push(Block::Section("Findings"));
    if report.findings.is_empty() {
        let none = "No difference was found in what was compared.";
        blocks.push(Block::Paragraph(vec![none.into()]));
        return;
    }
    blocks.push(Block::Paragraph(vec![
        "One for each statement, kind of difference and protocol, by impact (share of all commands × weight of the kind).".into(),
    ]));
    for found in &report.findings {
        finding(found, blocks);
    }
    if report.more_findings {
        let more = "There are more: GET /api/v1/findings has all of them.";
        blocks.push(Block::Paragraph(vec![more.into()]));
    }
}

fn finding(found: &Found, blocks: &mut Vec<Block<'_>>) {
    let (finding, none) = (&found.finding, Value::Null);
    let example = found.example.as_ref().unwrap_or(&none);
    let number = |key: &str| finding.get(key).and_then(Value::as_u64).unwrap_or(0);
    let state = text(finding, "/state");
    blocks.push(Block::Part(vec![
        format!("#{} ", number("id")).into(),
        Text::Strong(text(finding, "/kind").replace('_', " ")),
        format!(" · {state}").into(),
    ]));
    let statement = match text(example, "/statement") {
        "" => text(finding, "/fingerprint"),
        statement => statement,
    };
    blocks.push(Block::Code(cut(statement, LONG)));
    let mut facts = Vec::new();
    let mut fact = |name: &'static str, words: String| {
        if !words.is_empty() {
            facts.push((name, vec![Text::Plain(words)]));
        }
    };
    fact("What", text(example, "/detail").to_owned());
    fact("Tables", list(finding, "/tables"));
    fact(
        "Count",
        format!(
            "{} of {} commands, {}",
            count(number("count")),
            count(number("commands")),
            text(finding, "/protocol")
        ),
    );
    fact(
        "Seen",
        format!(
            "{} to {}",
            when(finding, "/first_seen"),
            when(finding, "/last_seen")
        ),
    );
    fact("Triage", triage(finding));
    fact("Cause", cause(finding, example));
    fact("Session", session(example));
    blocks.push(Block::Facts(facts));
    if let Some(sides) = sides(example) {
        blocks.push(Block::Table(sides));
    }
    if let Some(cells) = cells(example) {
        blocks.push(Block::Table(cells));
    }
}

fn triage(finding: &Value) -> String {
    let mut words = Vec::new();
    for (key, before) in [("/who", "by "), ("/why", ""), ("/until", "until ")] {
        match text(finding, key) {
            "" => {}
            said => words.push(format!("{before}{said}")),
        }
    }
    words.join("; ")
}

/// The finding that this one follows from; what caused that; and what is known of such differences.
fn cause(finding: &Value, example: &Value) -> String {
    let by = finding
        .get("cause_id")
        .and_then(Value::as_u64)
        .map(|id| format!("follows from finding #{id}"));
    let said = [
        text(finding, "/cause/text"),
        text(finding, "/cause/advice"),
        text(example, "/cause/text"),
        text(example, "/cause/advice"),
    ];
    let said = said.into_iter().filter(|said| !said.is_empty());
    let mut words: Vec<String> = by.into_iter().collect();
    for said in said.map(|said| said.trim_end_matches('.')) {
        if !words.iter().any(|known| known == said) {
            words.push(said.to_owned());
        }
    }
    words.join("; ")
}

/// What of a session's state is told, in words.
const SESSION: [(&str, &str); 8] = [
    ("database", "database"),
    ("sql_mode", "sql_mode"),
    ("isolation", "isolation"),
    ("charset", "charset"),
    ("collation", "collation"),
    ("time_zone", "time_zone"),
    ("autocommit", "autocommit"),
    ("in_transaction", "in a transaction"),
];

/// The session's state at that time, where its client set it.
fn session(example: &Value) -> String {
    let state = example.get("session").unwrap_or(&Value::Null);
    SESSION
        .iter()
        .filter_map(|(key, name)| match state.get(key)? {
            Value::String(word) if !word.is_empty() => Some(format!("{name} {word}")),
            Value::Bool(true) => Some(format!("{name} yes")),
            Value::Bool(false) => Some(format!("{name} no")),
            _ => None,
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// Both servers' ends of the answer, side by side.
fn sides(example: &Value) -> Option<Table> {
    let servers = ["primary", "shadow"];
    if example.pointer("/shadow/quantiles").is_some() {
        return Some(quantiles(example, servers));
    }
    let mut rows = Vec::new();
    for side in servers {
        let of = example.get(side).filter(|side| side.is_object())?;
        let error = match of.get("error").filter(|error| error.is_object()) {
            None => String::new(),
            Some(error) => format!(
                "{} ({}) {}",
                error.get("code").unwrap_or(&Value::Null),
                text(error, "/sqlstate"),
                cut(text(error, "/message"), CELL * 2)
            ),
        };
        let figure = |key: &str| of.get(key).and_then(Value::as_u64);
        rows.push(vec![
            text(of, "/server").into(),
            figure("rows").map_or_else(String::new, count).into(),
            figure("affected_rows")
                .map_or_else(String::new, count)
                .into(),
            figure("latency_us").map_or_else(String::new, micros).into(),
            error.into(),
        ]);
    }
    Some(Table {
        head: ["server", "rows", "affected", "took", "error"]
            .map(str::to_owned)
            .to_vec(),
        right: vec![1, 2, 3],
        rows,
    })
}

/// Both servers' times, where those are the finding.
fn quantiles(example: &Value, servers: [&str; 2]) -> Table {
    let names = ["p50", "p90", "p99", "p999", "max"];
    let row = |side: &str| {
        let mut row: Vec<Text> = vec![text(example, &format!("/{side}/server")).into()];
        row.extend(names.map(|name| {
            let time = example.pointer(&format!("/{side}/quantiles/{name}"));
            let time = time.and_then(Value::as_u64);
            time.map_or_else(String::new, micros).into()
        }));
        row
    };
    let mut head = vec!["server".to_owned()];
    head.extend(names.map(|name| name.replace("p999", "p99.9")));
    Table {
        head,
        right: (1..=names.len()).collect(),
        rows: servers.map(row).to_vec(),
    }
}

/// The first differing cells, side by side.
fn cells(example: &Value) -> Option<Table> {
    let examples = example.get("examples").and_then(Value::as_array)?;
    let server = |side: &str| text(example, &format!("/{side}/server")).to_owned();
    let mut rows = Vec::new();
    for one in examples.iter().take(EXAMPLES) {
        let part = |key: &str| one.get(key).and_then(Value::as_array);
        let (Some(columns), primary, shadow) = (part("columns"), part("primary"), part("shadow"))
        else {
            continue;
        };
        let row = match one.get("row").and_then(Value::as_u64) {
            Some(row) => count(row.saturating_add(1)),
            None => "only there".to_owned(),
        };
        let width = [primary, shadow].into_iter().flatten().map(Vec::len).max();
        for at in 0..columns.len().max(width.unwrap_or(0)) {
            let name = part("names")
                .and_then(|names| names.get(at))
                .and_then(Value::as_str);
            let number = columns.get(at).and_then(Value::as_u64);
            let column = match (name, number) {
                (Some(name), _) if !name.is_empty() => name.to_owned(),
                (_, Some(number)) => format!("column {}", number + 1),
                (_, None) => String::new(),
            };
            rows.push(vec![
                row.clone().into(),
                column.into(),
                cell(primary, at),
                cell(shadow, at),
            ]);
        }
    }
    (!rows.is_empty()).then(|| Table {
        head: vec![
            "row".into(),
            "column".into(),
            server("primary"),
            server("shadow"),
        ],
        right: vec![0],
        rows,
    })
}

/// A cell; nothing where that side has no such row.
fn cell(side: Option<&Vec<Value>>, at: usize) -> Text {
    match side.and_then(|cells| cells.get(at)) {
        None => Text::Plain("no row".to_owned()),
        Some(Value::String(text)) => Text::Code(cut(text, CELL)),
        Some(Value::Null) => Text::Plain("NULL".to_owned()),
        Some(other) => Text::Code(other.to_string()),
    }
}

fn latency<'a>(report: &'a Report, blocks: &mut Vec<Block<'a>>) {
    blocks.push(Block::Section("Latency"));
    if report.curves.is_empty() {
        let none = "No command was timed on both servers since understudy started.";
        blocks.push(Block::Paragraph(vec![none.into()]));
        return;
    }
    blocks.push(Block::Paragraph(vec![
        "Time from a command's last byte to its answer's last byte, of commands that ran on both servers since understudy started. \
         Of ten commands, a hundred, a thousand, all but one took at most so long. \
         The tables below are of the latest commands alone, and so is the guard (readiness.latency_window_s)."
            .into(),
    ]));
    let servers = [report.primary.name.as_str(), report.shadow.name.as_str()];
    let coloured = Servers::new(servers, &report.first);
    blocks.push(Block::Curves(&report.curves, coloured));
    let (statements, classes): (Vec<_>, Vec<_>) = report
        .paces
        .iter()
        .enumerate()
        .partition(|(_, pace)| pace.fingerprint.is_some());
    for (what, mut list) in [("class", classes), ("statement", statements)] {
        let slow = |at: usize| report.slower.contains(&at);
        // What is too slow stands first, then the busiest.
        list.sort_by_key(|(at, _)| !slow(*at));
        list.truncate(PACES);
        if !list.is_empty() {
            let rows = list.into_iter().map(|(at, pace)| timed(pace, slow(at)));
            blocks.push(Block::Table(Table {
                head: times_head(what, servers),
                right: (1..8).collect(),
                rows: rows.collect(),
            }));
        }
    }
}

fn times_head(what: &str, servers: [&str; 2]) -> Vec<String> {
    let mut head = vec![what.to_owned(), "timed".to_owned()];
    for quantile in ["p50", "p99", "max"] {
        head.extend(servers.iter().map(|server| format!("{server} {quantile}")));
    }
    head.push(String::new());
    head
}

fn timed(pace: &Pace, slow: bool) -> Vec<Text> {
    let name = match pace.fingerprint {
        Some(_) => Text::Code(pace.name(BRIEF)),
        None => pace.name(BRIEF).into(),
    };
    let times = [
        pace.primary.p50,
        pace.shadow.p50,
        pace.primary.p99,
        pace.shadow.p99,
        pace.primary.max,
        pace.shadow.max,
    ];
    let mut row = vec![name, count(pace.samples).into()];
    row.extend(times.into_iter().map(|us| micros(us).into()));
    row.push(if slow {
        Text::Mark(false, "slower")
    } else {
        Text::Mark(true, "within")
    });
    row
}

fn unjudged(report: &Report, blocks: &mut Vec<Block<'_>>) {
    blocks.push(Block::Section("What could not be judged"));
    let mut none = true;
    if !report.taints.is_empty() {
        none = false;
        blocks.push(Block::Part(vec!["Tainted tables".into()]));
        blocks.push(Block::Paragraph(vec![
            "Their rows may differ on the shadow since a write was lost or differed there; differences on them are not counted as divergences.".into(),
        ]));
        let row = |taint: &crate::ledger::Taint| {
            vec![
                Text::Code(taint.name()),
                moment(taint.since).into(),
                cut(&taint.cause.text, LONG).into(),
            ]
        };
        blocks.push(Block::Table(Table {
            head: ["table", "since", "cause"].map(str::to_owned).to_vec(),
            right: Vec::new(),
            rows: report.taints.iter().map(row).collect(),
        }));
    }
    let unsettled = &report.evidence.unsettled;
    if unsettled.never > 0 {
        none = false;
        blocks.push(Block::Part(vec!["Raced every time".into()]));
        let names = unsettled.names.iter();
        blocks.push(Block::Table(Table {
            head: vec!["statement".to_owned()],
            right: Vec::new(),
            rows: names
                .map(|name| vec![Text::Code(brief(name, BRIEF))])
                .collect(),
        }));
    }
    for (title, list, name) in [
        (
            "Statements never compared",
            &report.never_statements,
            "fingerprint",
        ),
        ("Tables never compared", &report.never_tables, "table"),
    ] {
        if !list.is_empty() {
            none = false;
            blocks.push(Block::Part(vec![title.into()]));
            blocks.push(Block::Table(rows(list, name)));
        }
    }
    if none {
        blocks.push(Block::Paragraph(vec![
            "No table is tainted, no statement raced every time, and of every statement and table something was compared.".into(),
        ]));
    }
}

fn notes(report: &Report, blocks: &mut Vec<Block<'_>>) {
    blocks.push(Block::Section("How to read this"));
    let literals = if report.redacted {
        "Literals of statements, values and error texts are replaced by what kind they were."
    } else {
        "Literals are kept (ledger.literals = \"keep\"): this document may hold your users' data."
    };
    blocks.push(Block::Paragraph(vec![
        "What was not compared is never counted as equal: every command has exactly one verdict. \
         A comparison is of the answer that the primary served with the shadow's answer to the same command. "
            .into(),
        literals.into(),
    ]));
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn list(value: &Value, pointer: &str) -> String {
    let texts = value.pointer(pointer).and_then(Value::as_array);
    let texts = texts.map_or(&[][..], Vec::as_slice);
    let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
    texts.join(", ")
}

fn when(value: &Value, pointer: &str) -> String {
    let said = text(value, pointer);
    said.parse().map_or_else(|_| said.to_owned(), moment)
}

/// To the second.
fn moment(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// With its lines as they are, but not longer than so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most).collect();
    format!("{kept}…")
}
