//! Every kind, tolerance and reason as a sentence and two answers: `scenarios.txt`.

use super::notation::{Scenario, spoken};
use super::verdict::{Kind, Tolerance, Verdict};

/// Title and text of each scenario, and what it says.
fn scenarios() -> Vec<(&'static str, &'static str, &'static str)> {
    let all = include_str!("scenarios.txt")
        .split("\n# ")
        .map(|text| text.trim_start_matches("# "));
    let parse = |text: &'static str| {
        let (title, body) = text.split_once('\n')?;
        let (body, said) = body.split_once("says: ")?;
        Some((title, body, said.trim()))
    };
    all.filter_map(parse).collect()
}

#[test]
fn every_scenario_says_what_it_should() {
    let wrong: Vec<String> = scenarios()
        .iter()
        .map(|(title, body, said)| (title, said, spoken(&Scenario::parse(body).verdict())))
        .filter(|(_, said, got)| *said != got)
        .map(|(title, said, got)| format!("{title}\n  should say {said}\n  but says   {got}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(scenarios().len() > 100);
}

#[test]
fn a_difference_that_is_not_tolerated_has_its_example() {
    let scenario = "! decimal_scale\n= cols t.d:decimal\nP | 1.50\nS | 1.5";
    let Verdict::Diverged(divergence) = Scenario::parse(scenario).verdict() else {
        panic!("not diverged");
    };
    let [example] = &divergence.examples[..] else {
        panic!("{divergence:?}");
    };
    assert_eq!(example.primary, [Some("1.50".to_owned())]);
    assert_eq!(example.shadow, [Some("1.5".to_owned())]);
}

#[test]
fn the_columns_are_told_only_where_it_is_known_that_no_other_differs() {
    let columns = |scenario: &str| match Scenario::parse(scenario).verdict() {
        Verdict::Diverged(divergence) => divergence.columns,
        other => panic!("{other:?}"),
    };
    let named = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let two = "= cols t.id:int t.a:varchar t.b:varchar\n";
    for (rows, known) in [
        ("P | 1 | x | y\nS | 1 | z | y", named(&["a"])),
        ("P | 1 | x | y\nS | 1 | NULL | z", named(&["a", "b"])),
        // More rows than there are examples, all of them looked at.
        (
            "P | 1 | x | y\nP | 2 | x | y\nP | 3 | x | y\nP | 4 | x | y\nP | 5 | x | y\nS | 1 | z | y\nS | 2 | z | y\nS | 3 | z | y\nS | 4 | z | y\nS | 5 | x | z",
            named(&["a", "b"]),
        ),
        // A row too many is more than a column.
        ("P | 1 | x | y\nS | 1 | z | y\nS | 2 | z | y", None),
    ] {
        assert_eq!(columns(&format!("{two}{rows}")), known, "{rows}");
    }
    let expression = "= cols t.id:int count:int\nP | 1 | 2\nS | 1 | 3";
    assert_eq!(columns(expression), None, "an expression has no name");
}

#[test]
fn every_kind_and_tolerance_has_a_scenario() {
    let said: Vec<&str> = scenarios()
        .iter()
        .flat_map(|(_, _, said)| said.split(' '))
        .collect();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Latency) {
        assert!(said.contains(&kind.name()), "{}", kind.name());
    }
    for tolerance in Tolerance::ALL {
        assert!(said.contains(&tolerance.name()), "{}", tolerance.name());
    }
}
