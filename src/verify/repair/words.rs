//! The statements of a repair. Pure.
//!
//! A row is met by its key and by its key's very bytes: a collation may take others for the same. An UPDATE names
//! the columns that differ and no others, but for those that the shadow would set to the time of the UPDATE.

use super::super::rows::Key;
use super::super::statements::{Place, hex, literal, quoted, survives};
use super::super::types::Form;

/// A row's cells, in the plan's order.
pub(super) type Cells = [Option<Vec<u8>>];

impl Place<'_> {
    /// The rows with these keys, each behind its columns with every number of which six digits are compared once
    /// more, exactly.
    #[must_use]
    pub(super) fn whole(&self, keys: &[Key]) -> String {
        let exact = self.floats().map(|(_, name)| format!(", {name} + 0e0"));
        format!(
            "SELECT {}{} FROM {} WHERE {}",
            self.all_columns(),
            exact.collect::<String>(),
            self.name(),
            self.is_one_of(keys)
        )
    }

    /// The columns that are FLOAT on one side alone, as places in the plan, with their names.
    pub(super) fn floats(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        let columns = self.plan.columns.iter().enumerate();
        columns
            .filter(|(_, column)| column.form == Form::Digits)
            .map(|(at, column)| (at, self.side.name(column)))
    }

    /// This key and none that a collation takes for it.
    #[must_use]
    pub(super) fn exactly(&self, key: &Key) -> String {
        let mut parts = Vec::new();
        for (nth, (name, value)) in self.parts(key).into_iter().enumerate() {
            parts.push(format!("{name} = {value}"));
            let column = self.plan.key.get(nth);
            let column = column.and_then(|at| self.plan.columns.get(*at));
            if column.is_some_and(|column| column.form == Form::Text)
                && let Some(bytes) = key.values.get(nth)
            {
                parts.push(format!(
                    "CAST(CONVERT({name} USING utf8mb4) AS BINARY) = {}",
                    hex(bytes)
                ));
            }
        }
        parts.join(" AND ")
    }

    /// A column of the plan and its value, as both are written; none where nobody writes it.
    fn pair(&self, at: usize, cells: &Cells) -> Option<(String, String)> {
        let column = self.plan.columns.get(at).filter(|one| !one.generated)?;
        let value = match cells.get(at).and_then(Option::as_deref) {
            Some(bytes) => literal(column, bytes),
            None => "NULL".to_owned(),
        };
        Some((self.side.name(column), value))
    }

    /// Puts a row there that is not.
    #[must_use]
    pub(super) fn insert(&self, cells: &Cells) -> String {
        let pairs = (0..self.plan.columns.len()).filter_map(|at| self.pair(at, cells));
        let (names, values): (Vec<String>, Vec<String>) = pairs.unzip();
        format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.name(),
            names.join(", "),
            values.join(", ")
        )
    }

    /// Gives a row these values in these columns; `None` where nobody can, for they are computed.
    #[must_use]
    pub(super) fn update(&self, key: &Key, cells: &Cells, differ: &[usize]) -> Option<String> {
        let pairs = differ.iter().filter_map(|at| self.pair(*at, cells));
        let mut set: Vec<String> = pairs
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        if set.is_empty() {
            return None;
        }
        for (at, column) in self.plan.columns.iter().enumerate() {
            if column.renews && !differ.contains(&at) {
                let name = self.side.name(column);
                set.push(format!("{name} = {name}"));
            }
        }
        Some(format!(
            "UPDATE {} SET {} WHERE {}",
            self.name(),
            set.join(", "),
            self.exactly(key)
        ))
    }

    /// Takes a row away.
    #[must_use]
    pub(super) fn delete(&self, key: &Key) -> String {
        format!("DELETE FROM {} WHERE {}", self.name(), self.exactly(key))
    }

    /// Takes it away on the shard that a session is aimed at: there a name has no database.
    #[must_use]
    pub(super) fn delete_here(&self, key: &Key) -> String {
        format!(
            "DELETE FROM {} WHERE {}",
            quoted(self.table),
            self.exactly(key)
        )
    }

    /// Asks whether it is on that shard.
    #[must_use]
    pub(super) fn is_here(&self, key: &Key) -> String {
        format!(
            "SELECT 1 FROM {} WHERE {}",
            quoted(self.table),
            self.exactly(key)
        )
    }

    /// Asks a vtgate where a lookup of it goes.
    #[must_use]
    pub(super) fn route(&self, key: &Key) -> String {
        format!(
            "VEXPLAIN QUERIES SELECT 1 FROM {} WHERE {}",
            self.name(),
            self.exactly(key)
        )
    }

    /// Asks for the character set of a column of this row.
    #[must_use]
    pub(super) fn charset(&self, key: &Key, at: usize) -> Option<String> {
        let name = self.side.name(self.plan.columns.get(at)?);
        Some(format!(
            "SELECT CHARSET({name}) FROM {} WHERE {}",
            self.name(),
            self.exactly(key)
        ))
    }

    /// Asks whether a column of this row, told in UTF-8, is all that it is.
    #[must_use]
    pub(super) fn survives(&self, key: &Key, at: usize, charset: &str) -> Option<String> {
        let name = self.side.name(self.plan.columns.get(at)?);
        let is_name = charset.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_name.then(|| {
            format!(
                "SELECT {} FROM {} WHERE {}",
                survives(&name, charset),
                self.name(),
                self.exactly(key)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::{Plan, Planned, Way};
    use super::super::super::rows::key_alone;
    use super::super::super::statements::Side;
    use super::*;

    fn column(name: &str, form: Form) -> Planned {
        Planned {
            name: name.into(),
            on_shadow: name.to_uppercase(),
            form,
            generated: false,
            renews: false,
            binary: form == Form::Bytes,
            lossy: [None, None],
        }
    }

    fn plan() -> Plan {
        Plan {
            columns: vec![
                column("k", Form::Text),
                column("n", Form::Number),
                column("b", Form::Bytes),
                Planned {
                    renews: true,
                    ..column("at", Form::Moment)
                },
                Planned {
                    generated: true,
                    ..column("sum", Form::Number)
                },
                column("f", Form::Digits),
            ],
            key: vec![0],
            way: Way::Lookups,
            spread: None,
        }
    }

    fn on<'a>(plan: &'a Plan) -> Place<'a> {
        Place {
            plan,
            side: Side::Shadow,
            database: "app",
            table: "t",
            condition: None,
        }
    }

    fn cells() -> Vec<Option<Vec<u8>>> {
        let of = |text: &str| Some(text.as_bytes().to_vec());
        vec![
            of("é"),
            of("1"),
            Some(vec![0xAB]),
            None,
            of("7"),
            of("0.10000000149011612"),
        ]
    }

    #[test]
    fn a_row_is_met_by_the_very_bytes_of_its_key() {
        let plan = plan();
        let key = key_alone(&plan, &[Some("é".as_bytes())]);
        assert_eq!(
            on(&plan).delete(&key),
            "DELETE FROM `app`.`t` WHERE `K` = 'é' AND CAST(CONVERT(`K` USING utf8mb4) AS BINARY) = x'C3A9'"
        );
    }

    #[test]
    fn what_differs_is_set_and_nothing_else() {
        let plan = plan();
        let key = key_alone(&plan, &[Some(b"a")]);
        let update = |differ: &[usize]| on(&plan).update(&key, &cells(), differ);
        let set = |differ| {
            let update = update(differ)?;
            let (_, behind) = update.split_once(" SET ")?;
            behind.split_once(" WHERE ").map(|(set, _)| set.to_owned())
        };
        assert_eq!(set(&[2]).unwrap(), "`B` = x'AB', `AT` = `AT`");
        assert_eq!(set(&[1, 3]).unwrap(), "`N` = 1, `AT` = NULL");
        assert_eq!(set(&[5]).unwrap(), "`F` = 0.10000000149011612, `AT` = `AT`");
        assert_eq!(update(&[4]), None, "a server computes it");
    }

    #[test]
    fn a_row_is_put_there_whole_but_for_what_is_computed() {
        let plan = plan();
        assert_eq!(
            on(&plan).insert(&cells()),
            "INSERT INTO `app`.`t` (`K`, `N`, `B`, `AT`, `F`) VALUES ('é', 1, x'AB', NULL, 0.10000000149011612)"
        );
    }

    #[test]
    fn a_float_is_asked_for_exactly() {
        let plan = plan();
        let key = key_alone(&plan, &[Some(b"a")]);
        let ask = on(&plan).whole(std::slice::from_ref(&key));
        assert!(ask.starts_with("SELECT `K`, `N`, `B`, `AT`, `SUM`, `F`, `F` + 0e0 FROM"));
        let survives = on(&plan).survives(&key, 0, "latin1");
        assert!(survives.unwrap().contains("USING latin1"));
        assert_eq!(on(&plan).survives(&key, 0, "latin1) OR (1"), None);
    }
}
