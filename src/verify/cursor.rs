//! How far a table's walk has come: what the ledger keeps of it, so that the next start goes on there. Pure.

use super::board::Tally;
use super::plan::Plan;
use super::rows::{Key, key_alone};
use serde::{Deserialize, Serialize};

/// See the module. Everything before it has been compared, and what looked different there was settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// 0: the primary is walked; 1: the shadow, in its own order.
    pub(super) pass: u8,
    /// The key behind which it goes on, its values in hexadecimal digits; none for the beginning.
    after: Option<Vec<String>>,
    /// The key's columns: of another key it says nothing.
    key: Vec<String>,
    /// The digest of the two servers and both definitions: of others it says nothing.
    #[serde(default)]
    of: String,
    /// Ranges that it went through.
    pub(super) ranges: u64,
    /// Ranges that the sample left out.
    pub(super) skipped: u64,
    /// Rows read on the primary.
    pub(super) rows_primary: u64,
    /// Rows read on the shadow.
    pub(super) rows_shadow: u64,
    /// Rows that differ.
    pub(super) differences: Tally,
    /// Rows that did not come to rest.
    pub(super) unsettled: u64,
    /// Rows that were the same after all.
    pub(super) settled: u64,
}

impl Cursor {
    /// At a table's beginning.
    #[must_use]
    pub(super) fn start(plan: &Plan, of: &str) -> Self {
        Self {
            key: names(plan),
            of: of.to_owned(),
            ..Self::default()
        }
    }

    /// The key behind which it goes on.
    #[must_use]
    pub(super) fn after(&self, plan: &Plan) -> Option<Key> {
        let values: Option<Vec<Vec<u8>>> = self
            .after
            .as_ref()?
            .iter()
            .map(|text| bytes(text))
            .collect();
        let values = values?;
        let cells: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_slice())).collect();
        Some(key_alone(plan, &cells))
    }

    /// From here on it goes on behind this key.
    pub(super) fn set_after(&mut self, key: Option<&Key>) {
        let hex = |value: &[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect();
        self.after = key.map(|key| key.values.iter().map(|value| hex(value)).collect());
    }

    /// Whether it is of this plan's key, and of these servers and definitions.
    #[must_use]
    pub(super) fn fits(&self, plan: &Plan, of: &str) -> bool {
        let len = |values: &Vec<String>| values.len() == plan.key.len();
        self.of == of && self.key == names(plan) && self.after.as_ref().is_none_or(len)
    }
}

fn names(plan: &Plan) -> Vec<String> {
    let columns = plan.key.iter().filter_map(|at| plan.columns.get(*at));
    columns.map(|column| column.name.clone()).collect()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    digits.len().is_multiple_of(2).then_some(())?;
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs
        .map(|pair| u8::from_str_radix(pair?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::shape::Shape;
    use super::super::shape::tests::{column, index};
    use super::*;

    fn plan(key: &str) -> Plan {
        let shape = Shape {
            columns: vec![column("id", "bigint"), column("other", "varbinary(9)")],
            indexes: vec![index("PRIMARY", true, &[key])],
        };
        super::super::plan::plan(&shape, &shape).unwrap()
    }

    #[test]
    fn a_walk_goes_on_where_the_cursor_says() {
        let plan = plan("other");
        let mut cursor = Cursor::start(&plan, "these");
        assert_eq!(cursor.after(&plan), None);
        let key = key_alone(&plan, &[Some(b"\x00\xFFx")]);
        cursor.set_after(Some(&key));
        let kept = serde_json::to_string(&cursor).unwrap();
        let read: Cursor = serde_json::from_str(&kept).unwrap();
        assert_eq!(read, cursor);
        assert_eq!(read.after(&plan), Some(key));
    }

    #[test]
    fn of_another_key_it_says_nothing() {
        let cursor = Cursor::start(&plan("id"), "these");
        assert!(cursor.fits(&plan("id"), "these"));
        assert!(!cursor.fits(&plan("other"), "these"));
    }

    #[test]
    fn of_other_servers_or_another_definition_it_says_nothing() {
        let cursor = Cursor::start(&plan("id"), "these");
        assert!(!cursor.fits(&plan("id"), "others"));
        // One that was kept before it was said whose it is.
        let old: Cursor = serde_json::from_value({
            let mut kept = serde_json::json!(cursor);
            kept.as_object_mut().unwrap().remove("of");
            kept
        })
        .unwrap();
        assert!(!old.fits(&plan("id"), "these"));
    }
}
