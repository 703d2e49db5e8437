//! What must hold for any answers, drawn at random.

use super::notation::{Scenario, spoken};
use super::verdict::{Kind, Tolerance, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

/// Columns: a key, a string, a decimal, a float, a moment.
const COLUMNS: &str = "t.id:int t.v:varchar t.d:decimal t.f:double t.at:datetime";

/// One row's cells but for the key, which is the row's number.
fn cells() -> impl Strategy<Value = [String; 4]> {
    let or_null =
        |strategy: BoxedStrategy<String>| prop_oneof![9 => strategy, 1 => Just("NULL".to_owned())];
    [
        or_null("[a-z]{0,6}".boxed()),
        or_null(
            (0..1000_u32, 0..3_usize)
                .prop_map(|(n, zeros)| format!("{n}.5{}", "0".repeat(zeros)))
                .boxed(),
        ),
        or_null((0..1000_u32).prop_map(|n| format!("{n}.25")).boxed()),
        or_null(
            (0..60_u32)
                .prop_map(|n| format!("2024-01-02 03:04:{n:02}"))
                .boxed(),
        ),
    ]
}

fn answer(side: char, rows: &[String]) -> String {
    rows.iter().map(|row| format!("{side} | {row}\n")).collect()
}

/// Rows as the notation has them.
fn rows() -> impl Strategy<Value = Vec<String>> {
    vec(cells(), 1..12).prop_map(|rows| {
        rows.iter()
            .enumerate()
            .map(|(at, cells)| format!("{at} | {}", cells.join(" | ")))
            .collect()
    })
}

fn scenario(facts: &str, primary: &[String], shadow: &[String], rest: &str) -> Scenario {
    let (primary, shadow) = (answer('P', primary), answer('S', shadow));
    Scenario::parse(&format!(
        "? {facts}\n= cols {COLUMNS}\n{primary}{shadow}{rest}"
    ))
}

fn facts() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "order=id",
        "order=v",
        "order=hidden",
        "limit",
        "limit order=d",
        "inside order=id",
        "clock",
        "unknown",
    ])
}

/// One paragraph of `tolerances.txt`.
struct Tolerated {
    by: Tolerance,
    /// Answers that differ by the tolerance alone.
    alone: String,
    /// The same, and the shadow's rows or OK say something else for real.
    real: String,
    /// What the real difference is.
    kind: &'static str,
    /// What the tolerated one is without its tolerance.
    off: &'static str,
}

fn tolerated() -> Vec<Tolerated> {
    let blocks = include_str!("tolerances.txt").split("\n# ").skip(1);
    blocks.map(paragraph).collect()
}

fn paragraph(block: &'static str) -> Tolerated {
    let mut lines = block.lines().filter(|line| !line.is_empty());
    let by = lines.next().and_then(Tolerance::named);
    let (mut alone, mut instead, mut kind, mut off) = (Vec::new(), Vec::new(), "", "");
    for line in lines {
        match line.split_once(": ") {
            Some(("and", rest)) => instead.push(rest),
            Some(("says", rest)) => kind = rest,
            Some(("off", rest)) => off = rest,
            _ => alone.push(line),
        }
    }
    let says = |line: &&&str| !line.starts_with("S |") && !line.starts_with("S ok");
    let real: Vec<&str> = alone.iter().filter(says).chain(&instead).copied().collect();
    assert!(!instead.is_empty(), "{block}");
    Tolerated {
        by: by.unwrap_or_else(|| panic!("no such tolerance: {block}")),
        alone: alone.join("\n"),
        real: real.join("\n"),
        kind,
        off,
    }
}

#[test]
fn no_tolerance_hides_another_difference_and_each_can_be_switched_off() {
    let all = tolerated();
    let mut wrong = Vec::new();
    for tolerance in Tolerance::ALL {
        let name = tolerance.name();
        let Some(one) = all.iter().find(|one| one.by == tolerance) else {
            wrong.push(format!("{name} has no paragraph"));
            continue;
        };
        let others = Tolerance::ALL
            .into_iter()
            .filter(|other| *other != tolerance);
        let others = others.fold("!".to_owned(), |text, other| text + " " + other.name());
        for (what, text, expected) in [
            ("alone", one.alone.clone(), format!("tolerated {name}")),
            // It needs no other's help, and no other stands in for it.
            (
                "of all tolerances alone",
                format!("{}\n{others}", one.alone),
                format!("tolerated {name}"),
            ),
            (
                "switched off",
                format!("{}\n! {name}", one.alone),
                format!("diverged {}", one.off),
            ),
            (
                "with a difference",
                one.real.clone(),
                format!("diverged {}", one.kind),
            ),
        ] {
            let said = spoken(&Scenario::parse(&text).verdict());
            if said != expected {
                wrong.push(format!(
                    "{name} {what} should say {expected}, and says {said}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn two_tolerances_do_not_make_a_third_difference_pass() {
    // All that may differ between healthy servers at once, and one cell.
    let healthy = "= cols t.id:int t.f:double t.d:decimal t.at:datetime t.c:char\n\
         P | 1 | 0.3 | 1.50 | 2024-01-02 03:04:05.000 | a__\n\
         P | 2 | 0.4 | 2.50 | 2024-01-02 03:04:06.000 | b__\n\
         S | 2 | 0.4 | 2.5 | 2024-01-02 03:04:06 | b\n\
         S | 1 | 0.30000000000000004 | 1.5 | 2024-01-02 03:04:05 | a";
    let said = |text: &str| spoken(&Scenario::parse(text).verdict());
    assert_eq!(
        said(healthy),
        "tolerated unordered float_text decimal_scale temporal_fraction padding"
    );
    for (from, to) in [
        ("S | 2 |", "S | 3 |"),
        ("0.30000000000000004", "0.30000000000004"),
        ("| 2.5 |", "| 2.51 |"),
        ("03:04:06 |", "03:04:06.001 |"),
        ("| b", "| bb"),
    ] {
        let (before, after) = healthy.rsplit_once(from).expect("it is there");
        let changed = format!("{before}{to}{after}");
        assert_eq!(said(&changed), "diverged value", "{from} became {to}");
    }
}

proptest! {
    #[test]
    fn an_answer_equals_itself(rows in rows(), facts in facts(), cut in 0..400_usize) {
        let scenario = scenario(facts, &rows, &rows, &format!("= cut {cut}\n"));
        prop_assert_eq!(scenario.verdict(), Verdict::Match);
    }

    #[test]
    fn moved_rows_never_pass_where_the_key_orders_them(rows in rows().prop_shuffle(), sorted in rows()) {
        let mut moved = sorted.clone();
        moved.rotate_left(1);
        prop_assume!(sorted.len() > 1);
        let verdict = scenario("order=id", &sorted, &moved, "").verdict();
        prop_assert_eq!(spoken(&verdict), "diverged order");
        // And where nothing orders them they do.
        let mut shuffled = rows.clone();
        shuffled.reverse();
        let verdict = scenario("", &rows, &shuffled, "").verdict();
        prop_assert!(matches!(verdict, Verdict::Tolerated(_) | Verdict::Match), "{verdict:?}");
    }

    #[test]
    fn a_changed_cell_never_passes(
        rows in rows(), at in any::<prop::sample::Index>(), facts in facts(), column in 1..5_usize, reverse: bool, cut in 0..600_usize,
    ) {
        let mut changed = rows.clone();
        let row = at.index(rows.len());
        let mut cells: Vec<&str> = changed[row].split(" | ").collect();
        cells[column] = ["", "ZZZ", "77777.125", "77777.125", "1999-12-31 00:00:00"][column];
        changed[row] = cells.join(" | ");
        if reverse {
            changed.reverse();
        }
        for rest in [String::new(), format!("= cut {cut}\n")] {
            let verdict = scenario(facts, &rows, &changed, &rest).verdict();
            prop_assert!(!matches!(verdict, Verdict::Match | Verdict::Tolerated(_)), "{verdict:?}");
        }
    }

    #[test]
    fn a_changed_cell_in_a_whole_answer_is_a_value_or_a_null(
        rows in rows(), at in any::<prop::sample::Index>(), reverse: bool,
    ) {
        let mut changed = rows.clone();
        let row = at.index(rows.len());
        let mut cells: Vec<&str> = changed[row].split(" | ").collect();
        let was_null = cells[1] == "NULL";
        cells[1] = "ZZZ";
        changed[row] = cells.join(" | ");
        if reverse {
            changed.reverse();
        }
        let Verdict::Diverged(divergence) = scenario("", &rows, &changed, "").verdict() else {
            return Err(TestCaseError::fail("not diverged"));
        };
        prop_assert_eq!(divergence.kind, if was_null { Kind::Null } else { Kind::Value });
        prop_assert_eq!(divergence.also, vec![]);
        prop_assert_eq!(divergence.examples.len(), 1);
        prop_assert_eq!(&divergence.examples[0].columns, &[1]);
        prop_assert_eq!(&divergence.examples[0].shadow, &[Some("ZZZ".to_owned())]);
    }

    #[test]
    fn the_sides_may_be_exchanged(one in rows(), other in rows(), facts in facts(), cut in 0..600_usize) {
        let said = |one: &[String], other: &[String]| spoken(&scenario(facts, one, other, &format!("P cut {cut}\nS cut {cut}\n")).verdict());
        prop_assert_eq!(said(&one, &other), said(&other, &one));
    }

    #[test]
    fn no_sample_makes_it_panic(
        one in rows(), other in rows(), facts in facts(), binary: bool,
        noise in vec((any::<prop::sample::Index>(), any::<u8>()), 0..20), cut in 0..600_usize,
    ) {
        let mut scenario = scenario(facts, &one, &other, &format!("P cut {cut}\n"));
        for answer in [&mut scenario.primary, &mut scenario.shadow] {
            for (at, byte) in &noise {
                if !answer.sample.is_empty() {
                    let at = at.index(answer.sample.len());
                    answer.sample[at] = *byte;
                }
            }
            for outcome in &mut answer.results {
                if let crate::wire::answer::Outcome::Rows(rows) = outcome {
                    rows.binary = binary;
                    rows.columns_digest ^= u64::from(noise.len() > 10);
                }
            }
        }
        scenario.verdict();
        scenario.judge(&scenario.shadow, &scenario.primary);
    }
}
