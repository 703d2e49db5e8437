//! A table's name: for words, for a statement, and as texts in one.

/// A table by the primary's names for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) database: String,
    pub(super) name: String,
}

/// `app.orders`
pub(super) fn named(table: &Table) -> String {
    format!("{}.{}", table.database, table.name)
}

/// With its database, quoted.
pub(super) fn quoted(table: &Table) -> String {
    let quote = |name: &str| format!("`{}`", name.replace('`', "``"));
    format!("{}.{}", quote(&table.database), quote(&table.name))
}

/// Database and name, as texts of a statement.
pub(super) fn texts(table: &Table) -> (String, String) {
    let text = |name: &str| format!("'{}'", name.replace('\\', "\\\\").replace('\'', "''"));
    (text(&table.database), text(&table.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name() {
        let table = Table {
            database: "it's".to_owned(),
            name: "back\\sl`ash".to_owned(),
        };
        let (database, name) = texts(&table);
        assert_eq!((&*database, &*name), ("'it''s'", "'back\\\\sl`ash'"));
        assert_eq!(quoted(&table), "`it's`.`back\\sl``ash`");
    }
}
