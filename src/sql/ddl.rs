//! Table DDL, and what other statements that are never replayed may have written.

use super::Table;
use super::functions::calls;
use super::statements::Statement;
use super::tables::{Found, Scan, Target, scan, table_name};

/// The tables of a CREATE, ALTER, DROP, RENAME or TRUNCATE of tables or indexes. `None`: it is
/// none of these.
pub(crate) fn ddl(statement: Statement<'_>) -> Option<Scan> {
    let mut names = Names {
        statement,
        scan: Scan::default(),
    };
    let at = 1 + modifiers(statement, 1);
    match () {
        () if statement.is(0, "CREATE") && statement.is(at, "TABLE") => names.create(at + 1),
        () if statement.is(0, "ALTER") && statement.is(at, "TABLE") => names.alter(at + 1),
        () if statement.is(0, "DROP") && statement.is_any(at, &["TABLE", "TABLES"]) => {
            names.list(skip_if(statement, at + 1))
        }
        () if statement.is(0, "RENAME") && statement.is_any(1, &["TABLE", "TABLES"]) => {
            names.rename(skip_if(statement, 2))
        }
        () if statement.is(0, "TRUNCATE") => {
            names.list(if statement.is(1, "TABLE") { 2 } else { 1 })
        }
        () if statement.is_any(0, &["CREATE", "DROP"]) && statement.is(at, "INDEX") => {
            names.index(at + 1)
        }
        () => return None,
    }
    names.scan.unknown |= names.scan.targets.is_empty();
    Some(names.scan)
}

/// Whether it makes or drops a table of this session alone.
pub(crate) fn is_temporary(statement: Statement<'_>) -> bool {
    (1..4).any(|at| statement.is(at, "TEMPORARY"))
}

/// Words between the verb and TABLE or INDEX.
fn modifiers(statement: Statement<'_>, from: usize) -> usize {
    let words = [
        "OR",
        "REPLACE",
        "TEMPORARY",
        "ONLINE",
        "OFFLINE",
        "IGNORE",
        "UNIQUE",
        "FULLTEXT",
        "SPATIAL",
    ];
    (from..from + 4)
        .take_while(|at| statement.is_any(*at, &words))
        .count()
}

fn skip_if(statement: Statement<'_>, at: usize) -> usize {
    if statement.are(at, &["IF", "NOT", "EXISTS"]) {
        at + 3
    } else if statement.are(at, &["IF", "EXISTS"]) {
        at + 2
    } else {
        at
    }
}

struct Names<'a> {
    statement: Statement<'a>,
    scan: Scan,
}

impl Names<'_> {
    fn name(&mut self, at: usize, written: bool) -> usize {
        let Some((table, next)) = table_name(self.statement, at) else {
            self.scan.unknown = true;
            return at + 1;
        };
        if table.database.is_some() {
            self.scan.databases.push(at);
        }
        self.scan.named.push(next - 1);
        self.push(table, written);
        next
    }

    fn push(&mut self, table: Table, written: bool) {
        if written {
            self.scan.targets.push(Target::Table(table.clone()));
        }
        self.scan.found.push(Found {
            table,
            alias: None,
            outer: true,
        });
    }

    /// `CREATE TABLE t LIKE u`, `(…)`, `… SELECT`.
    fn create(&mut self, at: usize) {
        let next = self.name(skip_if(self.statement, at), true);
        let like = if self.statement.op(next, b"(") {
            next + 1
        } else {
            next
        };
        if self.statement.is(like, "LIKE") {
            self.name(like + 1, false);
        }
        self.references(next);
        let query = (next..self.statement.len())
            .find(|at| self.statement.is_any(*at, &["SELECT", "WITH"]) || self.table_query(*at));
        if let Some(query) = query.filter(|at| {
            !self.statement.is(*at, "WITH")
                || self.statement.is_any(at - 1, &["AS", "IGNORE", "REPLACE"])
        }) {
            let source = self.statement.slice(query, self.balanced_end(query));
            let inner = scan(source);
            self.scan.fills = calls(source, &inner.named);
            self.scan.unknown |= inner.unknown;
            self.scan.found.extend(inner.found);
            self.scan
                .databases
                .extend(inner.databases.iter().map(|at| at + query));
            self.scan
                .named
                .extend(inner.named.iter().map(|at| at + query));
        }
    }

    /// `CREATE TABLE t AS TABLE u`.
    fn table_query(&self, at: usize) -> bool {
        self.statement.is(at, "TABLE") && self.statement.is(at.saturating_sub(1), "AS")
    }

    /// The end of a query that may stand in parentheses opened before it.
    fn balanced_end(&self, from: usize) -> usize {
        let mut depth = 0_usize;
        for at in from..self.statement.len() {
            if self.statement.op(at, b"(") {
                depth += 1;
            } else if self.statement.op(at, b")") {
                let Some(less) = depth.checked_sub(1) else {
                    return at;
                };
                depth = less;
            }
        }
        self.statement.len()
    }

    fn references(&mut self, from: usize) {
        for at in from..self.statement.len() {
            if self.statement.is(at, "REFERENCES") {
                self.name(at + 1, false);
            }
        }
    }

    fn alter(&mut self, at: usize) {
        let next = self.name(skip_if(self.statement, at), true);
        self.references(next);
        for at in next..self.statement.len() {
            if self.statement.is(at, "RENAME")
                && !self.statement.is_any(at + 1, &["COLUMN", "INDEX", "KEY"])
            {
                let name = if self.statement.is_any(at + 1, &["TO", "AS"]) {
                    at + 2
                } else {
                    at + 1
                };
                self.name(name, true);
            } else if self.statement.are(at, &["WITH", "TABLE"]) {
                self.name(at + 2, true);
            }
        }
    }

    fn list(&mut self, from: usize) {
        let mut at = self.name(from, true);
        while self.statement.op(at, b",") {
            at = self.name(at + 1, true);
        }
    }

    fn rename(&mut self, from: usize) {
        let mut at = from;
        loop {
            at = self.name(at, true);
            if !self.statement.is(at, "TO") {
                self.scan.unknown = true;
                return;
            }
            at = self.name(at + 1, true);
            if !self.statement.op(at, b",") {
                return;
            }
            at += 1;
        }
    }

    /// `CREATE INDEX i ON t`, `DROP INDEX i ON t`.
    fn index(&mut self, from: usize) {
        match (from..self.statement.len().min(from + 8)).find(|at| self.statement.is(*at, "ON")) {
            Some(on) => {
                self.name(on + 1, true);
            }
            None => self.scan.unknown = true,
        }
    }
}
