//! What must hold for any answers, drawn at random.

use super::notation::{Scenario, spoken};
use super::verdict::{Kind, Verdict};
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
        "clock",
        "unknown",
    ])
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
