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
