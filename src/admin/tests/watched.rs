//! What `deploy/` watches is what the exporter says: every metric, label and value that an alert or the board
//! names, and every page of the guide that an alert points to. So neither can rot.

use super::{Door, known};
use std::collections::{BTreeMap, BTreeSet};

const ALERTS: &str = include_str!("../../../deploy/prometheus/alerts.yaml");
const CASES: [&str; 2] = [
    include_str!("../../../deploy/prometheus/alerts_test.yaml"),
    include_str!("../../../deploy/prometheus/alerts_day_test.yaml"),
];
const BOARD: &str = include_str!("../../../deploy/grafana/understudy.json");

/// A metric that an expression asks for, with what it wants of labels: name, and the values that it allows.
#[derive(Debug)]
struct Selector {
    metric: String,
    wanted: Vec<(String, Vec<String>)>,
}

/// The selectors of an expression, as `name{label="value", other=~"one|two"}`.
fn selectors(expression: &str) -> Vec<Selector> {
    expression
        .match_indices("understudy_")
        .filter_map(|(at, _)| expression.split_at_checked(at))
        .filter(|(before, _)| {
            // Not the end of a longer word, nor of a value.
            let last = before.chars().next_back();
            last.is_none_or(|last| last != '"' && last != '_' && !last.is_alphanumeric())
        })
        .map(|(_, rest)| {
            let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            let (metric, rest) = rest.split_at(end.unwrap_or(rest.len()));
            let inside = rest
                .strip_prefix('{')
                .and_then(|rest| rest.split('}').next());
            let wanted = inside.unwrap_or_default().split(", ").filter_map(label);
            Selector {
                metric: metric.to_owned(),
                wanted: wanted.collect(),
            }
        })
        .collect()
}

fn label(wanted: &str) -> Option<(String, Vec<String>)> {
    let (name, value) = wanted.split_once('=')?;
    let value = value.trim_start_matches('~').trim_matches('"');
    let values = value.split('|').map(str::to_owned).collect();
    Some((name.trim_end_matches('!').to_owned(), values))
}

/// What stands behind `key:` in every line that begins with it.
fn of_alerts(key: &str) -> impl Iterator<Item = &str> {
    ALERTS
        .lines()
        .filter_map(move |line| {
            line.trim_start()
                .trim_start_matches("- ")
                .strip_prefix(key)?
                .strip_prefix(": ")
        })
        .map(|value| value.trim_matches('"'))
}

/// Every `expr` and `query` of the board.
fn of_board(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                match field.as_str() {
                    Some(text) if key == "expr" || key == "query" => into.push(text.to_owned()),
                    _ => of_board(field, into),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| of_board(item, into)),
        _ => {}
    }
}

fn expressions() -> Vec<String> {
    let board = serde_json::from_str(BOARD).expect("the board is JSON");
    let mut all: Vec<String> = of_alerts("expr").map(str::to_owned).collect();
    assert!(all.len() > 20, "the alerts are read");
    let alerts = all.len();
    of_board(&board, &mut all);
    assert!(all.len() > alerts + 50, "the board is read");
    all
}

/// Of each metric the labels and their values, as the exporter says them now.
fn said(text: &str) -> BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> {
    let mut said: BTreeMap<_, BTreeMap<_, BTreeSet<_>>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((metric, labels)) = line.split_once('{') else {
            continue;
        };
        let labels = labels.split('}').next().unwrap_or_default();
        for one in labels.split("\",") {
            if let Some((name, value)) = one.split_once("=\"") {
                let values = said.entry(metric).or_default().entry(name).or_default();
                values.insert(value.trim_end_matches('"'));
            }
        }
    }
    said
}

#[test]
fn every_metric_and_label_that_is_watched_is_exported() {
    for expression in expressions() {
        for Selector { metric, wanted } in selectors(&expression) {
            let known = known().find(|known| known.name == metric);
            let known = known.unwrap_or_else(|| panic!("{metric} is not exported: {expression}"));
            let labels = known.help.split("labels: ").nth(1).unwrap_or_default();
            for (label, _) in wanted {
                let is_prometheus_own = ["instance", "job"].contains(&label.as_str());
                let told = labels
                    .split([' ', ',', '.'])
                    .any(|word| word == label.as_str());
                assert!(
                    is_prometheus_own || told,
                    "{metric} has no {label}: {expression}"
                );
            }
        }
    }
}

#[tokio::test]
async fn every_value_of_a_label_that_is_watched_is_one_that_the_exporter_says() {
    let door = Door::open("").await;
    door.fill().await;
    let (_, text) = door.get("/metrics").await;
    let said = said(text.as_str().expect("text"));
    let mut held = 0;
    for expression in expressions() {
        for Selector { metric, wanted } in selectors(&expression) {
            let Some(labels) = said.get(metric.as_str()) else {
                continue;
            };
            for (label, values) in &wanted {
                let Some(there) = labels.get(label.as_str()) else {
                    continue;
                };
                for value in values.iter().filter(|value| !value.starts_with('$')) {
                    assert!(
                        there.contains(value.as_str()),
                        "{metric} never says {label}={value}, but {there:?}: {expression}"
                    );
                    held += 1;
                }
            }
        }
    }
    assert!(held > 10, "only {held} values could be held against it");
}

#[test]
fn every_alert_says_whose_fault_and_what_to_do_and_has_a_case() {
    let names: Vec<&str> = of_alerts("alert").collect();
    let count = |key| of_alerts(key).count();
    for key in ["expr", "labels", "summary", "fault", "action", "runbook"] {
        assert_eq!(count(key), names.len(), "{key}");
    }
    for severity in of_alerts("labels") {
        assert!(
            ["{severity: page}", "{severity: ticket}"].contains(&severity),
            "{severity}"
        );
    }
    for fault in of_alerts("fault") {
        let at_fault = [
            "primary",
            "shadow",
            "clients",
            "operator",
            "machine",
            "understudy",
        ];
        assert!(at_fault.contains(&fault), "{fault}");
    }
    for name in &names {
        let case = format!("alertname=\"{name}\"");
        assert!(
            CASES.iter().any(|cases| cases.contains(&case)),
            "{name} has no case"
        );
    }
    let different: BTreeSet<&&str> = names.iter().collect();
    assert_eq!(different.len(), names.len());
}

#[test]
fn every_page_that_an_alert_points_to_is_there() {
    for runbook in of_alerts("runbook") {
        let (page, heading) = runbook.split_once('#').unwrap_or((runbook, ""));
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = std::fs::read_to_string(path).unwrap_or_else(|fault| panic!("{page}: {fault}"));
        let mut headings = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(anchor);
        assert!(
            heading.is_empty() || headings.any(|one| one == heading),
            "{page} has no heading {heading}"
        );
    }
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches(['#', ' '])
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn an_expression_is_read_as_prometheus_reads_it() {
    let read = selectors(
        "max without (state) (understudy_a{state=~\"x|y\", instance=~\"$instance\"}) == 1 and rate(understudy_b_total[5m])",
    );
    assert_eq!(read[0].metric, "understudy_a");
    assert_eq!(
        read[0].wanted,
        [
            ("state".to_owned(), vec!["x".to_owned(), "y".to_owned()]),
            ("instance".to_owned(), vec!["$instance".to_owned()])
        ]
    );
    assert_eq!(read[1].metric, "understudy_b_total");
    assert!(selectors("up{job=\"understudy_x\"}").is_empty());
}
