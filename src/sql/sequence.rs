//! Which sequence fills a table's keys: vtgate says so in the plan of an INSERT.

/// The sequence that a vtgate's plan draws from, by vtgate's name for it:
/// `"AutoIncrement": "select next :n /* INT64 */ values from events_seq:Values::(null)"`
#[must_use]
pub fn sequence_in(plan: &str) -> Option<&str> {
    let (_, rest) = plan.split_once("\"AutoIncrement\"")?;
    let (line, _) = rest.split_once('\n').unwrap_or((rest, ""));
    let (_, name) = line.split_once("values from ")?;
    let (name, _) = name.split_once(':')?;
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '`');
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_stands_in_the_plan_of_an_insert() {
        let plan = "{\n\t\"OperatorType\": \"Insert\",\n\t\"AutoIncrement\": \"select next :n /* INT64 */ \
            values from events_seq:Values::(null)\",\n\t\"Query\": \"insert into t values from x:y\"\n}";
        assert_eq!(sequence_in(plan), Some("events_seq"));
        for none in [
            "{\n\t\"OperatorType\": \"Insert\",\n\t\"Query\": \"insert into t values from x:y\"\n}",
            "{\n\t\"AutoIncrement\": \"select next :n values from a; DROP TABLE t:Values::(null)\"\n}",
        ] {
            assert_eq!(sequence_in(none), None);
        }
    }
}
