//! The tables that a statement reads and writes, found by where names stand.
//!
//! In MySQL's grammar a table is named only behind FROM, JOIN, INTO, UPDATE, TABLE and the like,
//! and behind the commas of their lists; a reserved word cannot be a name unless it is quoted. So
//! one walk over the tokens with a frame for each parenthesis finds every table, in subqueries of
//! any depth too, whatever the expressions between hold. Names of CTEs and derived tables are not
//! tables; views cannot be told from tables. Where the walk meets what it does not expect, it says
//! that it does not know.

use super::functions::Calls;
use super::lexer::Kind;
use super::names::plain;
use super::statements::Statement;
use super::words::RESERVED;
use super::{Table, Tables};

/// What the walk found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) found: Vec<Found>,
    /// The tables written, by name or alias; `None` inside for all that were found in its lists.
    pub(crate) targets: Vec<Target>,
    /// Something stood where nothing was expected.
    pub(crate) unknown: bool,
    /// Tokens that name a database.
    pub(crate) databases: Vec<usize>,
    /// Tokens that name a table or a CTE.
    pub(crate) named: Vec<usize>,
    /// What the query calls that a new table is filled from.
    pub(crate) fills: Calls,
}

/// A table where the statement names it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) table: Table,
    pub(crate) alias: Option<String>,
    /// Named in the statement's own list, not in a subquery.
    pub(crate) outer: bool,
}

/// A table that is written.
#[derive(Debug)]
pub(crate) enum Target {
    /// Named so.
    Table(Table),
    /// The table behind this name or alias of the statement's own list.
    Alias(String),
    /// Every table of the statement's own list.
    Outer,
}

impl Scan {
    /// All tables.
    pub(crate) fn tables(&self) -> Tables {
        if self.unknown {
            return Tables::Unknown;
        }
        known(self.found.iter().map(|f| f.table.clone()).collect())
    }

    /// The tables written.
    pub(crate) fn written(&self) -> Tables {
        if self.unknown {
            return if self.targets.is_empty() {
                Tables::Known(Vec::new())
            } else {
                self.certain_targets()
            };
        }
        known(
            self.targets
                .iter()
                .flat_map(|target| self.behind(target))
                .collect(),
        )
    }

    /// Where the reads are unknown, a target named outright is still the only one.
    fn certain_targets(&self) -> Tables {
        let mut tables = Vec::new();
        for target in &self.targets {
            match target {
                Target::Table(table) => tables.push(table.clone()),
                Target::Alias(_) | Target::Outer => return Tables::Unknown,
            }
        }
        known(tables)
    }

    fn behind(&self, target: &Target) -> Vec<Table> {
        let outer = || self.found.iter().filter(|f| f.outer);
        match target {
            Target::Table(table) => vec![table.clone()],
            Target::Outer => outer().map(|f| f.table.clone()).collect(),
            Target::Alias(alias) => {
                let named = |f: &&Found| match &f.alias {
                    Some(a) => a.eq_ignore_ascii_case(alias),
                    None => f.table.name.eq_ignore_ascii_case(alias),
                };
                let found: Vec<Table> = outer().filter(named).map(|f| f.table.clone()).collect();
                if found.is_empty() {
                    self.behind(&Target::Outer)
                } else {
                    found
                }
            }
        }
    }
}

/// Sorted, each once.
pub(crate) fn known(mut tables: Vec<Table>) -> Tables {
    tables.sort();
    tables.dedup();
    Tables::Known(tables)
}

/// Walks over a query or a write from its first token.
pub(crate) fn scan(statement: Statement<'_>) -> Scan {
    let mut walk = Walk {
        statement,
        scan: Scan::default(),
        frames: vec![Frame::default()],
        verb: Verb::None,
    };
    let mut at = 0;
    while at < statement.len() {
        at = walk.step(at).max(at + 1);
    }
    walk.scan.unknown |= walk.frames.iter().any(|frame| frame.expect);
    walk.scan
}

/// Parentheses deeper than this are not followed.
const DEPTH_MAX: usize = 256;

#[derive(Debug, Default)]
struct Frame {
    /// A SELECT, DELETE … was seen: FROM names tables, and is not EXTRACT's or TRIM's.
    query: bool,
    /// In a list of tables: a comma is followed by a table.
    from: bool,
    /// The next token begins a table.
    expect: bool,
    /// Part of the statement's own list.
    outer: bool,
    ctes: Vec<String>,
    with: With,
}

/// How far a WITH clause has come.
#[derive(Debug, Default, PartialEq, Eq)]
enum With {
    #[default]
    None,
    /// A name comes.
    Name { recursive: bool },
    /// Behind the name, before AS.
    Named { recursive: bool, name: String },
    /// Behind AS: the next parenthesis is the body.
    Body { recursive: bool, name: String },
    /// Behind the body: a comma and another name, or the query.
    Done { recursive: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    None,
    Query,
    Write,
    Update,
}

struct Walk<'a> {
    statement: Statement<'a>,
    scan: Scan,
    frames: Vec<Frame>,
    verb: Verb,
}

impl Walk<'_> {
    /// Takes the token at `at`; the next one to take.
    fn step(&mut self, at: usize) -> usize {
        if self.frames.len() > DEPTH_MAX {
            self.scan.unknown = true;
            return self.statement.len();
        }
        if self.statement.op(at, b"(") {
            return self.open(at);
        }
        if self.statement.op(at, b")") {
            return self.close(at);
        }
        if let Some(next) = self.with(at) {
            return next;
        }
        if self.frame().expect {
            return self.table_reference(at);
        }
        if self.statement.op(at, b",") {
            let frame = self.frame();
            frame.expect = frame.from;
            return at + 1;
        }
        match self.statement.kind(at) {
            Some(Kind::Word) if at == 0 || !self.statement.op(at - 1, b".") => self.word(at),
            Some(Kind::Name) => self.qualified_name(at),
            Some(Kind::Fold | Kind::Broken) if self.frame().from => {
                self.scan.unknown = true;
                at + 1
            }
            _ => at + 1,
        }
    }

    fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            self.frames.push(Frame::default());
        }
        let last = self.frames.len() - 1;
        #[expect(
            clippy::indexing_slicing,
            reason = "never empty here: a frame was pushed above where it was"
        )]
        &mut self.frames[last]
    }

    fn open(&mut self, at: usize) -> usize {
        let query = self
            .statement
            .is_any(at + 1, &["SELECT", "WITH", "VALUES", "TABLE"]);
        let frame = self.frame();
        let joined = std::mem::take(&mut frame.expect) && !query;
        let outer = joined && frame.outer;
        self.frames.push(Frame {
            from: joined,
            expect: joined,
            outer,
            ..Frame::default()
        });
        at + 1
    }

    fn close(&mut self, at: usize) -> usize {
        if self.frames.len() > 1 {
            let ended = self.frames.pop();
            self.scan.unknown |= ended.is_some_and(|frame| frame.expect);
        } else {
            self.scan.unknown = true;
        }
        let frame = self.frame();
        match std::mem::take(&mut frame.with) {
            With::Body { recursive, name } => {
                frame.ctes.push(name);
                frame.with = With::Done { recursive };
            }
            other => frame.with = other,
        }
        at + 1
    }

    /// The words of a WITH clause.
    fn with(&mut self, at: usize) -> Option<usize> {
        let statement = self.statement;
        let mut named = None;
        let frame = self.frame();
        match std::mem::take(&mut frame.with) {
            With::None => return None,
            With::Name { recursive } => {
                let name = plain(statement.bytes(at));
                named = Some(at);
                if recursive {
                    frame.ctes.push(name.clone());
                }
                frame.with = With::Named { recursive, name };
            }
            With::Named { recursive, name } if statement.is(at, "AS") => {
                frame.with = With::Body { recursive, name }
            }
            With::Named { recursive, name } => frame.with = With::Named { recursive, name },
            With::Body { recursive, name } => frame.with = With::Body { recursive, name },
            With::Done { recursive } if statement.op(at, b",") => {
                frame.with = With::Name { recursive }
            }
            With::Done { .. } => return None,
        }
        self.scan.named.extend(named);
        Some(at + 1)
    }

    fn word(&mut self, at: usize) -> usize {
        let statement = self.statement;
        let Some(word) = RESERVED.find(statement.bytes(at)) else {
            return self.plain_word(at);
        };
        // REPLACE(…) is a function, FOR UPDATE a lock.
        let begins = self.frames.len() == 1
            && self.verb == Verb::None
            && !(word == "REPLACE" && statement.op(at + 1, b"("))
            && !(word == "INSERT" && statement.op(at + 1, b"("))
            && !(at > 0 && statement.is(at - 1, "FOR"));
        let begins_with = word == "WITH" && self.begins_with(at);
        let frame = self.frame();
        match word {
            "SELECT" => {
                *frame = Frame {
                    query: true,
                    ctes: std::mem::take(&mut frame.ctes),
                    ..Frame::default()
                };
                self.begin(Verb::Query);
            }
            "FROM" if frame.query => {
                frame.from = true;
                frame.expect = true;
            }
            "JOIN" | "STRAIGHT_JOIN" if frame.from => frame.expect = true,
            "FOR" if at > 0 && statement.is_any(at - 1, &["INDEX", "KEY"]) => {
                return if statement.is(at + 1, "JOIN") {
                    at + 2
                } else {
                    at + 3
                };
            }
            "TABLE" => {
                frame.expect = true;
                frame.from = false;
                self.begin(Verb::Query);
            }
            "VALUES" => {
                frame.from = false;
                self.begin(Verb::Query);
            }
            "WITH" if begins_with => return self.open_with(at),
            "INSERT" | "REPLACE" if begins => return self.insert(at),
            "UPDATE" if begins => return self.update(at),
            "DELETE" if begins => return self.delete(at),
            "WHERE" | "GROUP" | "HAVING" | "ORDER" | "LIMIT" | "UNION" | "SET" | "INTO"
            | "LOCK" | "PROCEDURE" => {
                frame.from = false;
            }
            "FOR" if statement.is(at + 1, "UPDATE") => frame.from = false,
            _ => {}
        }
        at + 1
    }

    fn begin(&mut self, verb: Verb) {
        if self.verb == Verb::None && self.frames.len() == 1 {
            self.verb = verb;
        }
    }

    /// A word that is not reserved: it may end a list of tables all the same.
    fn plain_word(&mut self, at: usize) -> usize {
        let ends = [
            "EXCEPT",
            "INTERSECT",
            "WINDOW",
            "DUPLICATE",
            "RETURNING",
            "SHARE",
        ];
        let statement = self.statement;
        let ended = statement.is_any(at, &ends)
            && (!statement.is(at, "WINDOW") || statement.is(at + 2, "AS"));
        let as_name = at > 0 && statement.is(at - 1, "AS");
        if ended && !as_name && !statement.op(at + 1, b".") {
            self.frame().from = false;
        }
        self.qualified_name(at)
    }

    /// In an expression: `a.b.c` and `a.b(…)` name a database, `a.b` names a column.
    fn qualified_name(&mut self, at: usize) -> usize {
        let statement = self.statement;
        if at > 0
            && (statement.op(at - 1, b".") || statement.kind(at - 1) == Some(Kind::SystemVariable))
        {
            return at + 1;
        }
        if statement.op(at + 1, b".") && (statement.op(at + 3, b".") || statement.op(at + 3, b"("))
        {
            self.scan.databases.push(at);
        }
        at + 1
    }

    fn begins_with(&self, at: usize) -> bool {
        let name = if self.statement.is(at + 1, "RECURSIVE") {
            at + 2
        } else {
            at + 1
        };
        let after = self.statement.is(name + 1, "AS") || self.statement.op(name + 1, b"(");
        self.statement.is_name(name) && after
    }

    fn open_with(&mut self, at: usize) -> usize {
        let recursive = self.statement.is(at + 1, "RECURSIVE");
        self.frame().with = With::Name { recursive };
        if recursive { at + 2 } else { at + 1 }
    }

    /// Where a table is expected.
    fn table_reference(&mut self, at: usize) -> usize {
        let statement = self.statement;
        if statement.is_any(at, &["LATERAL", "LOW_PRIORITY", "IGNORE"])
            && !statement.op(at + 1, b".")
        {
            return at + 1;
        }
        self.frame().expect = false;
        if statement.is(at, "DUAL") {
            return at + 1;
        }
        if statement.kind(at) == Some(Kind::Word) && statement.op(at + 1, b"(") {
            return at + 1; // JSON_TABLE(…)
        }
        let outer = self.frame().outer;
        let Some((table, next)) = self.name(at) else {
            self.scan.unknown = true;
            return at + 1;
        };
        if !self.is_cte(&table) {
            let alias = alias(statement, next);
            self.scan.found.push(Found {
                table,
                alias,
                outer,
            });
        }
        next
    }

    fn is_cte(&self, table: &Table) -> bool {
        let named = |frame: &Frame| {
            frame
                .ctes
                .iter()
                .any(|cte| cte.eq_ignore_ascii_case(&table.name))
        };
        table.database.is_none() && self.frames.iter().any(named)
    }

    /// `table` or `database.table` at a token, and the token behind it.
    fn name(&mut self, at: usize) -> Option<(Table, usize)> {
        let (table, next) = table_name(self.statement, at)?;
        if table.database.is_some() {
            self.scan.databases.push(at);
        }
        self.scan.named.push(next - 1);
        Some((table, next))
    }

    fn insert(&mut self, at: usize) -> usize {
        self.verb = Verb::Write;
        let mut at = at + 1;
        while self.statement.is_any(
            at,
            &["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"],
        ) {
            at += 1;
        }
        let Some((table, next)) = self.name(at) else {
            self.scan.unknown = true;
            return at;
        };
        self.scan.targets.push(Target::Table(table.clone()));
        self.scan.found.push(Found {
            table,
            alias: None,
            outer: false,
        });
        next
    }

    fn update(&mut self, at: usize) -> usize {
        self.verb = Verb::Update;
        self.scan.targets.push(Target::Outer);
        let frame = self.frame();
        frame.from = true;
        frame.expect = true;
        frame.outer = true;
        at + 1
    }

    /// `DELETE FROM t`, `DELETE a, b FROM …`, `DELETE FROM a, b USING …`.
    fn delete(&mut self, at: usize) -> usize {
        self.verb = Verb::Write;
        let mut at = at + 1;
        while self
            .statement
            .is_any(at, &["LOW_PRIORITY", "QUICK", "IGNORE"])
            && !self.statement.op(at + 1, b".")
        {
            at += 1;
        }
        let leading = self.statement.is(at, "FROM");
        let names_at = if leading { at + 1 } else { at };
        let (names, next) = self.delete_list(names_at);
        let frame = self.frame();
        frame.query = true;
        frame.outer = true;
        if names.is_empty() {
            self.scan.unknown = true;
            self.scan.targets.push(Target::Outer);
            return next;
        }
        if !leading || self.statement.is(next, "USING") {
            self.scan.targets.extend(names.into_iter().map(target));
            let frame = self.frame();
            frame.from = leading;
            frame.expect = leading;
            return if leading { next + 1 } else { next };
        }
        for table in names {
            let alias = alias(self.statement, next);
            self.scan.targets.push(Target::Table(table.clone()));
            self.scan.found.push(Found {
                table,
                alias,
                outer: true,
            });
        }
        next
    }

    fn delete_list(&mut self, from: usize) -> (Vec<Table>, usize) {
        let mut names = Vec::new();
        let mut at = from;
        while let Some((table, next)) = self.name(at) {
            names.push(table);
            at = if self.statement.op(next, b".") && self.statement.op(next + 1, b"*") {
                next + 2
            } else {
                next
            };
            if !self.statement.op(at, b",") {
                break;
            }
            at += 1;
        }
        (names, at)
    }
}

fn target(table: Table) -> Target {
    if table.database.is_some() {
        Target::Table(table)
    } else {
        Target::Alias(table.name)
    }
}

/// `table` or `database.table` at a token, and the token behind it.
pub(crate) fn table_name(statement: Statement<'_>, at: usize) -> Option<(Table, usize)> {
    if !statement.is_name(at) {
        return None;
    }
    let first = plain(statement.bytes(at));
    let second = statement.op(at + 1, b".")
        && matches!(statement.kind(at + 2), Some(Kind::Word | Kind::Name));
    if second {
        let name = plain(statement.bytes(at + 2));
        return Some((
            Table {
                database: Some(first),
                name,
            },
            at + 3,
        ));
    }
    Some((
        Table {
            database: None,
            name: first,
        },
        at + 1,
    ))
}

fn alias(statement: Statement<'_>, at: usize) -> Option<String> {
    let mut at = at;
    if statement.is(at, "PARTITION") && statement.op(at + 1, b"(") {
        at = statement.closing(at + 1) + 1;
    }
    if statement.is(at, "AS") {
        at += 1;
    }
    statement.is_name(at).then(|| plain(statement.bytes(at)))
}
