//! What follows from a statement's shape in a database: its tables, and how it takes part in
//! transactions. Made once and shared by all commands of that shape. Pure but for a bounded cache.
//!
//! Nothing here may depend on a literal: what a SET assigns is read from each text anew, and its
//! outline with it.

use super::order::Scope;
use crate::sql::{Analysis, Catalog, Change, Class, Control, Dialect, TableSet, Tables};
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// See the module.
#[derive(Debug)]
pub(super) struct Outline {
    /// Of the statement.
    pub(super) analysis: Arc<Analysis>,
    /// The session's database, in which unqualified tables are.
    database: Arc<str>,
    /// The tables that it names.
    pub(super) scope: Scope,
    /// Those that it writes, or whose rows it locks.
    pub(super) writes: Scope,
    /// The transaction control of its last such statement.
    pub(super) control: Option<Control>,
    /// One statement whose tables are known, so that it calls no stored function.
    pub(super) plannable: bool,
    /// Several statements, among them one that ends a transaction, commits implicitly or may switch
    /// autocommit.
    pub(super) ends_inside: bool,
    /// What it touches beyond the tables that it names, by the last map that was asked.
    beyond: Mutex<Option<(u64, Beyond)>>,
}

/// Tables that are touched, and written, beyond those that are named.
pub(super) type Beyond = (Scope, Scope);

impl Outline {
    fn of(analysis: &Arc<Analysis>, database: &Arc<str>) -> Self {
        let mut scope = Scope::none();
        let mut writes = Scope::none();
        let mut current = database.to_string();
        for one in &analysis.statements {
            scope.join(&Scope::of(&one.tables, &current));
            let written = match (&one.written, one.class) {
                // Whoever locks rows stands in the same queue as who writes them.
                (Tables::Known(none), Class::LockingRead) if none.is_empty() => &one.tables,
                (written, _) => written,
            };
            writes.join(&Scope::of(written, &current));
            for change in &one.changes {
                if let Change::Database(name) = change {
                    name.clone_into(&mut current);
                }
            }
        }
        let several = analysis.statements.len() > 1;
        let known = |one: &crate::sql::Statement| one.tables != Tables::Unknown;
        Self {
            database: Arc::clone(database),
            scope,
            writes,
            control: analysis.statements.iter().rev().find_map(|one| one.control),
            plannable: !several && analysis.statements.iter().all(known),
            ends_inside: several && analysis.statements.iter().any(may_end),
            analysis: Arc::clone(analysis),
            beyond: Mutex::default(),
        }
    }

    /// The tables that it names, as far as they are known: what is merely reached by a view, a
    /// trigger or a foreign key is for its place in the order, and no rule on it is meant for the
    /// statement.
    pub(super) fn named(&self) -> TableSet {
        self.scope.tables()
    }

    /// What is touched beyond the tables that it names, remembered for the map with this number.
    pub(super) fn beyond(&self, map: u64, find: impl FnOnce(&Scope, &Scope) -> Beyond) -> Beyond {
        let mut beyond = self.beyond.lock();
        match &*beyond {
            Some((of, known)) if *of == map => known.clone(),
            _ => {
                let found = find(&self.scope, &self.writes);
                *beyond = Some((map, found.clone()));
                found
            }
        }
    }
}

/// Whether a statement among others ends the transaction around it, or makes those behind it
/// commit by themselves.
fn may_end(one: &crate::sql::Statement) -> bool {
    let switches = |change: &Change| match change {
        Change::Variable { name, .. } | Change::Value(name) => name == "autocommit",
        Change::Unknown => true,
        Change::Database(_) => false,
    };
    let within = |control: Control| matches!(control, Control::Within);
    one.class == Class::Ddl
        || one.control.is_some_and(|control| !within(control))
        || one.class == Class::Session && one.changes.iter().any(switches)
}

/// Shapes seen before: their analyses, and their outlines in each database.
#[derive(Debug)]
pub(super) struct Shapes {
    catalog: Catalog,
    outlines: Mutex<LruCache<u64, Arc<Outline>>>,
}

impl Shapes {
    /// As many are remembered, at most.
    pub(super) fn new(most: usize) -> Self {
        let bound = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
        Self {
            catalog: Catalog::new(most),
            outlines: Mutex::new(LruCache::new(bound)),
        }
    }

    /// What a text is.
    pub(super) fn analyze(&self, text: &[u8], dialect: Dialect) -> Arc<Analysis> {
        self.catalog.analyze(text, dialect)
    }

    /// The outline of what was analysed here, in a database.
    pub(super) fn outline(&self, analysis: &Arc<Analysis>, database: &Arc<str>) -> Arc<Outline> {
        if analysis.has_literals() {
            return Arc::new(Outline::of(analysis, database));
        }
        let key = xxh3_64_with_seed(database.as_bytes(), analysis.digest);
        let mut outlines = self.outlines.lock();
        if let Some(known) = outlines.get(&key)
            // The catalog may have forgotten the shape and read it again: that is another analysis.
            && Arc::ptr_eq(&known.analysis, analysis)
            && known.database == *database
        {
            return Arc::clone(known);
        }
        let outline = Arc::new(Outline::of(analysis, database));
        outlines.put(key, Arc::clone(&outline));
        outline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Table;

    fn outline(shapes: &Shapes, text: &str, database: &str) -> Arc<Outline> {
        let analysis = shapes.analyze(text.as_bytes(), Dialect::default());
        shapes.outline(&analysis, &Arc::from(database))
    }

    fn on(database: &str, name: &str) -> Scope {
        let table = Table {
            database: Some(database.into()),
            name: name.into(),
        };
        Scope::Known([table].into())
    }

    #[test]
    fn a_shape_has_one_outline_in_each_database() {
        let shapes = Shapes::new(8);
        let one = outline(&shapes, "SELECT a FROM t WHERE id = 1", "app");
        let again = outline(&shapes, "SELECT a FROM t WHERE id = 2", "app");
        let other = outline(&shapes, "SELECT a FROM t WHERE id = 2", "other");
        assert!(Arc::ptr_eq(&one, &again));
        assert_eq!(
            (&one.scope, &other.scope),
            (&on("app", "t"), &on("other", "t"))
        );
    }

    #[test]
    fn what_a_set_assigns_is_of_its_own_text() {
        let shapes = Shapes::new(8);
        for (text, ends_inside) in [
            ("SET autocommit = 0; DELETE FROM t", true),
            ("SET autocommit = 1; DELETE FROM t", true),
            ("SET @a = 1; DELETE FROM t", false),
        ] {
            let outline = outline(&shapes, text, "app");
            assert_eq!(outline.ends_inside, ends_inside, "{text}");
        }
        let of = |text| {
            outline(&shapes, text, "app").analysis.statements[0]
                .changes
                .clone()
        };
        assert_ne!(of("SET @a = 1"), of("SET @a = 2"));
    }

    #[test]
    fn what_is_beyond_is_asked_once_of_each_map() {
        let shapes = Shapes::new(8);
        let outline = outline(&shapes, "SELECT a FROM v", "app");
        let mut asked = 0;
        for map in [1, 1, 2, 2, 3] {
            let (touched, _) = outline.beyond(map, |_, _| {
                asked += 1;
                (on("app", &format!("t{asked}")), Scope::none())
            });
            assert_eq!(touched, on("app", &format!("t{map}")));
        }
        assert_eq!(asked, 3);
    }
}
