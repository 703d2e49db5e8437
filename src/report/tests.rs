use super::*;
use crate::ledger::{Quantiles, Reach, SHARES, Sum};
use crate::readiness::Guard;
use crate::sql::Class;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a hostile application could have for a statement, an alias, or an error's text.
const HOSTILE: &str = "SELECT '<script>alert(1)</script>' AS `x` | [a](http://b) ![c](http://d)\n# e ``` \"f\" \u{202e}";

#[expect(clippy::too_many_lines, reason = "one of everything")]
fn report() -> Report {
    let sum = Sum {
        commands: 12_345,
        matched: 12_000,
        tolerated: 100,
        diverged: 45,
        not_compared: BTreeMap::from([("race", 150), ("off", 50)]),
    };
    let times = |p50| Quantiles {
        p50,
        p90: p50 * 2,
        p99: p50 * 5,
        p999: p50 * 9,
        max: p50 * 20,
    };
    let curve = |class| Curve {
        class,
        samples: 12_000,
        primary: (1..=SHARES.len() as u64).map(|n| n * n * 100).collect(),
        shadow: (1..=SHARES.len() as u64).map(|n| n * n * 300).collect(),
    };
    let now: jiff::Timestamp = "2026-01-03T00:00:00Z".parse().expect("a time");
    let side = |server: &str, error: Value| json!({"server": server, "rows": 1, "error": error, "affected_rows": null, "latency_us": 1200});
    let example = json!({
        "statement": HOSTILE, "detail": HOSTILE, "kind": "value",
        "primary": side("legacy", json!(null)),
        "shadow": side("vitess", json!({"code": 1064, "sqlstate": "42000", "message": HOSTILE})),
        "examples": [{"row": 0, "columns": [1], "names": [HOSTILE], "primary": ["<text 13>"], "shadow": [null]},
                     {"row": null, "columns": [0], "names": [], "primary": [], "shadow": [HOSTILE]}],
        "cause": {"code": "x", "text": "The shadow rounds.", "advice": "Round there."},
        "session": {"database": HOSTILE, "sql_mode": null, "in_transaction": true},
    });
    let finding = json!({
        "id": 7, "kind": "value", "fingerprint": HOSTILE, "digest": "0", "protocol": "text", "tables": [HOSTILE],
        "count": 45, "commands": 90, "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-02T00:00:00.5Z",
        "state": "open", "impact": 1.5, "cause_id": 3,
        "cause": {"text": "A write was lost.", "advice": "Copy the table anew."}, "who": HOSTILE, "why": HOSTILE, "until": null,
    });
    let row = json!({"fingerprint": HOSTILE, "table": HOSTILE, "commands": 9, "compared": 0, "diverged": 0, "not_compared": {"race": 9}});
    Report {
        at: now,
        version: "0.1.0",
        uptime_s: 7_620,
        primary: Server {
            name: "legacy".into(),
            version: Some(HOSTILE.into()),
        },
        shadow: Server {
            name: "vitess".into(),
            version: None,
        },
        first: "legacy".into(),
        mirror: json!({"state": "running", "reads": true, "writes": "apply", "sample": 1.0}),
        redacted: true,
        evidence: Evidence {
            lost: 0,
            window: sum.clone(),
            ever: sum,
            first_compared: Some(now),
            last_compared: Some(now),
            hours: 30,
            seconds: 40_000,
            fingerprints: Reach {
                all: 9,
                never: 1,
                names: vec![HOSTILE.into()],
            },
            tables: Reach::default(),
            unsettled: Reach {
                all: 9,
                never: 1,
                names: vec![HOSTILE.into()],
            },
        },
        readiness: Readiness {
            ready: false,
            guards: vec![
                Guard {
                    name: "divergences",
                    pass: false,
                    value: json!({"value": 1}),
                    limit: json!({"value": 0}),
                    why: HOSTILE.into(),
                },
                Guard {
                    name: "taint",
                    pass: true,
                    value: json!(0),
                    limit: json!(0),
                    why: "no table is tainted".into(),
                },
            ],
        },
        findings: vec![Found {
            finding,
            example: Some(example),
        }],
        more_findings: true,
        taints: vec![Taint {
            database: Some(HOSTILE.into()),
            table: HOSTILE.into(),
            cause: HOSTILE.into(),
            since: now,
            last: now,
        }],
        never_statements: vec![row.clone()],
        never_tables: vec![row.clone()],
        tables: vec![row],
        curves: vec![curve(None), curve(Some("read"))],
        paces: vec![Pace {
            fingerprint: Some(Arc::from(HOSTILE)),
            shape: None,
            class: Class::Read,
            tables: Vec::new(),
            samples: 12_000,
            primary: times(200),
            shadow: times(900),
        }],
        slower: vec![0],
    }
}

#[test]
fn no_statement_becomes_part_of_the_page() {
    let html = report().html();
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    for forbidden in ["<script", "http:", "src=", "\u{202e}", "<a ", "<img"] {
        // The address of a link that was escaped is text.
        let harmless = html.replace("(http://", "(");
        assert!(!harmless.contains(forbidden), "{forbidden}");
    }
    // Every tag is closed: the page is whole.
    for tag in ["table", "dl", "figure", "svg", "pre", "p", "h3", "tr", "td"] {
        let opened =
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

/// A line as a Markdown reader sees it: without its spans of code and its escaped characters.
fn without_code(line: &str) -> String {
    let chars: Vec<char> = line.chars().collect();
    let run_at = |at: usize| chars[at..].iter().take_while(|c| **c == '`').count();
    let (mut bare, mut at) = (String::new(), 0);
    while at < chars.len() {
        if chars[at] == '\\' {
            at += 2;
        } else if chars[at] == '`' {
            let fence = run_at(at);
            at += fence;
            while run_at(at) != fence {
                assert!(at < chars.len(), "a span that never ends: {line}");
                at += run_at(at).max(1);
            }
            at += fence;
        } else {
            bare.push(chars[at]);
            at += 1;
        }
    }
    bare
}

#[test]
fn no_statement_becomes_part_of_the_markdown() {
    let markdown = report().markdown();
    let mut fence: Option<&str> = None;
    for line in markdown.lines() {
        match fence {
            Some(open) if line == open => {
                fence = None;
                continue;
            }
            Some(_) => continue,
            None if line.starts_with("```") => {
                fence = line.get(..line.len() - line.trim_start_matches('`').len());
                continue;
            }
            None => {}
        }
        let bare = without_code(line);
        for forbidden in ["<script", "](", "\u{202e}"] {
            assert!(!bare.contains(forbidden), "{forbidden}: {line}");
        }
        assert!(!line.starts_with("# e"), "{line}");
    }
    assert_eq!(fence, None, "every block of code ends");
    let rows = markdown
        .lines()
        .filter(|line| line.starts_with("| **divergences**"));
    assert_eq!(rows.count(), 1, "a row is one line");
}

#[test]
fn the_document_tells_what_was_found_and_what_was_not_judged() {
    let report = report();
    for text in [report.html(), report.markdown()] {
        for words in [
            "Not ready: divergences did not pass",
            "12,345",
            "0.36 %",
            "45 of 90 commands",
            "follows from finding",
            "The shadow rounds; Round there",
            "in a transaction yes",
            "Raced every time",
            "Statements never compared",
            "Tables never compared",
            "1.20 ms",
            "column 1",
            "99.9 %",
            "only there",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
    }
}

#[test]
fn a_tail_beyond_the_samples_is_not_drawn() {
    let mut curve = report().curves.remove(0);
    curve.samples = 150;
    let plain = chart::plain(&curve, ["legacy", "vitess"]);
    assert!(
        plain.contains("99 %") && !plain.contains("99.9 %"),
        "{plain}"
    );
    assert!(plain.contains("max"), "{plain}");
    let servers = chart::Servers::new(["legacy", "vitess"], "legacy");
    let svg = chart::curve(&curve, "read", servers).into_string();
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn a_server_has_the_same_colour_whoever_is_the_primary() {
    let one = report();
    let mut turned = report();
    std::mem::swap(&mut turned.primary, &mut turned.shadow);
    for report in [one, turned] {
        let html = report.html();
        let labels = html.split("class=\"label ").skip(1);
        let labels: Vec<&str> = labels.filter_map(|rest| rest.split('<').next()).collect();
        for (server, hue) in [("legacy", "one"), ("vitess", "other")] {
            let of = labels.iter().filter(|label| label.ends_with(server));
            let of: Vec<&&str> = of.collect();
            assert_eq!(of.len(), 2, "{labels:?}");
            assert!(of.iter().all(|label| label.starts_with(hue)), "{labels:?}");
        }
    }
}

#[test]
fn a_report_of_nothing_is_a_report() {
    let mut report = report();
    report.evidence = Evidence::default();
    report.findings.clear();
    report.more_findings = false;
    report.curves.clear();
    report.paces.clear();
    report.taints.clear();
    report.never_statements.clear();
    report.never_tables.clear();
    report.tables.clear();
    for text in [report.html(), report.markdown()] {
        for words in [
            "nothing was compared yet",
            "Nothing was observed yet",
            "No difference was found",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
    }
}

/// Finding: limits stood there as the API has them: `oldest_ms 5000, share_of_rows 0.99`.
#[test]
fn limits_have_units() {
    for (limit, words) in [
        (json!(0), "0"),
        (json!(20_000), "20,000"),
        (Value::Null, ""),
        (json!({"value": 1_000}), "value 1,000"),
        (
            json!({"commands": 0.99, "tables": 1.0}),
            "commands 99 %, tables 100 %",
        ),
        (
            json!({"commands": 1_000, "hours": 12, "age_s": 86_400, "last_s": 90}),
            "age 1 day, commands 1,000, hours 12, last 1 min 30 s",
        ),
        (
            json!({"slower": 0, "p50_ratio": 1.5, "p50_ms": 2, "p99_ratio": 2.0, "p99_ms": 10, "samples": 200}),
            "p50 ×1.5 or 2.00 ms more, p99 ×2 or 10.0 ms more, samples 200, slower 0",
        ),
        (
            json!({"state": "running", "commands": 1_000, "oldest_ms": 5_000}),
            "commands 1,000, oldest 5.00 s, state running",
        ),
        (
            json!({"share": 1.0, "share_of_rows": 0.995, "different": 0, "oldest_s": 604_800}),
            "different 0, oldest 7 days, share 100 %, share of rows 99.5 %",
        ),
    ] {
        assert_eq!(content::limits(&limit), words, "{limit}");
    }
}

#[test]
fn the_cause_of_a_finding_is_told_in_words() {
    let text = report().markdown();
    for words in [
        "follows from finding",
        "A write was lost",
        "Copy the table anew",
        "The shadow rounds",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
