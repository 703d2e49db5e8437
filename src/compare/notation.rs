//! For tests: two answers as text, one line for each thing they say.
//!
//! A line begins with the side that says it: `P` the primary, `S` the shadow, `=` both.
//!
//! ```text
//! = cols t.id:int t.name:varchar now:datetime/len=19    (t. makes it a table's column)
//! = | 1 | a | NULL
//! = end warnings=1
//! = cursor
//! = binary                                              (before cols)
//! = ok affected=1 id=7 info=x warnings=1 status=3
//! = err 1064 text                                       (after rows: breaks them off)
//! = prepared 2 3                                        (parameters, columns; definitions follow)
//! = defs ?:varchar ?:varchar t.id:int                    (the parameters', the columns')
//! = more 16                                             (results that were not kept)
//! = cut 40 | = cut rows=2                               (the sample's bytes, or rows)
//! ? order=1,name limit inside insert clock random unknown pinned wrapped clocked behind
//! > insert into t (id) values (7)                       (the command, where it matters)
//! ! unordered ties                                      (tolerances switched off)
//! ```

use super::verdict::{Tolerance, Tolerances, Verdict};
use super::{ClockColumns, Context, compare};
use crate::config;
use crate::sql::{Class, OrderBy, SortKey, Statement, Tables};
use crate::wire::answer::{Answer, Done, Failure, Outcome, Rows};
use crate::wire::packet::{write_lenenc, write_lenenc_bytes, write_packet};
use crate::wire::status::Status;
use std::time::Duration;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// A scenario: two answers, what is known of the statement, the rules.
pub(super) struct Scenario {
    pub(super) primary: Answer,
    pub(super) shadow: Answer,
    pub(super) statements: Vec<Statement>,
    pub(super) rules: config::Measure,
    command: String,
    key_pinned: bool,
    clock_columns: ClockColumns,
    behind: Duration,
    transactions_mirrored: bool,
}

impl Scenario {
    pub(super) fn parse(text: &str) -> Self {
        let (mut primary, mut shadow) = (Side::default(), Side::default());
        let mut facts = "";
        let mut command = String::new();
        let mut rules = rules();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (who, said) = line.split_at(1);
            match who {
                "P" => primary.line(said.trim()),
                "S" => shadow.line(said.trim()),
                "=" => [&mut primary, &mut shadow]
                    .into_iter()
                    .for_each(|side| side.line(said.trim())),
                "?" => facts = said,
                ">" if said.trim() == "COM_RESET_CONNECTION" => command = "\x1f".to_owned(),
                ">" => command = format!("\x03{said}"),
                "!" => {
                    for name in said.split_whitespace() {
                        rules.tolerate =
                            rules.tolerate.without(Tolerance::named(name).expect(name));
                    }
                }
                _ => panic!("no such line: {line}"),
            }
        }
        let results = primary
            .answer
            .results
            .len()
            .max(shadow.answer.results.len())
            + 1;
        let has = |word: &str| facts.split_whitespace().any(|fact| fact == word);
        let statements = if has("unknown") {
            Vec::new()
        } else {
            vec![statement(facts); results]
        };
        let mut clock_columns = ClockColumns::default();
        if has("clocked") {
            clock_columns.learn("app", "t", "at", true);
        }
        Self {
            primary: primary.finish(),
            shadow: shadow.finish(),
            statements,
            rules,
            command,
            key_pinned: has("pinned"),
            clock_columns,
            behind: Duration::from_secs(if has("behind") { 5 } else { 0 }),
            transactions_mirrored: !has("wrapped"),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.judge(&self.primary, &self.shadow)
    }

    pub(super) fn judge(&self, primary: &Answer, shadow: &Answer) -> Verdict {
        let context = Context {
            command: self.command.as_bytes(),
            statements: &self.statements,
            rules: &self.rules,
            key_pinned: self.key_pinned,
            clock_columns: &self.clock_columns,
            behind: self.behind,
            transactions_mirrored: self.transactions_mirrored,
        };
        compare(primary, shadow, &context)
    }
}

/// The verdict in the words of the scenarios.
pub(super) fn spoken(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Match => "match".to_owned(),
        Verdict::Tolerated(set) => set
            .iter()
            .fold("tolerated".to_owned(), |text, one| text + " " + one.name()),
        Verdict::NotCompared(reason) => format!("not_compared {}", reason.name()),
        Verdict::Diverged(divergence) => divergence.also.iter().fold(
            format!("diverged {}", divergence.kind.name()),
            |text, kind| text + " " + kind.name(),
        ),
    }
}

fn rules() -> config::Measure {
    config::Measure {
        tolerate: Tolerances::all(),
        examples: 3,
        example_cell_bytes: 64,
        clock: Duration::from_secs(2),
    }
}

pub(super) fn statement(facts: &str) -> Statement {
    let has = |word: &str| facts.split_whitespace().any(|fact| fact == word);
    let keys = facts
        .split_whitespace()
        .find_map(|fact| fact.strip_prefix("order="));
    let key = |key: &str| match key.parse::<u16>() {
        Ok(number) => SortKey::Column(number - 1),
        Err(_) if key == "hidden" => SortKey::Hidden,
        Err(_) => SortKey::Named(key.to_owned()),
    };
    Statement {
        ties: false,
        stored: false,
        fingerprint: "select ?".into(),
        digest: 0,
        class: if has("insert") {
            Class::Write
        } else {
            Class::Read
        },
        tables: Tables::Unknown,
        written: Tables::Unknown,
        control: None,
        changes: Vec::new(),
        order_by: keys.map(|keys| OrderBy {
            keys: keys.split(',').map(key).collect(),
        }),
        limit: has("limit") || has("inside"),
        limit_inside: has("inside"),
        nondeterministic: if has("random") {
            vec!["rand"]
        } else {
            Vec::new()
        },
        clock: has("clock"),
        sets_last_insert_id: false,
        insert: has("insert"),
        qualified: false,
    }
}

/// One column as the notation has it.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    table: String,
    name: String,
    kind: u8,
    charset: u16,
    length: u32,
    flags: u16,
    decimals: u8,
    unsigned: bool,
}

impl Spec {
    fn parse(text: &str) -> Self {
        let (name, rest) = text.rsplit_once(':').expect("name:type");
        let mut parts = rest.split('/');
        let (table, name) = name.split_once('.').unwrap_or(("", name));
        let (kind, charset) = kind(parts.next().expect("a type"));
        let mut spec = Self {
            table: table.to_owned(),
            name: name.to_owned(),
            kind,
            charset,
            length: 11,
            flags: 0,
            decimals: 0,
            unsigned: false,
        };
        for part in parts {
            let (key, value) = part.split_once('=').expect("key=value");
            let number: u16 = value.parse().expect("a number");
            match key {
                "len" => spec.length = number.into(),
                "flags" => spec.flags = number,
                "dec" => spec.decimals = u8::try_from(number).expect("a byte"),
                "cs" => spec.charset = number,
                "kind" => spec.kind = u8::try_from(number).expect("a byte"),
                _ => panic!("no such key: {key}"),
            }
        }
        spec.unsigned = spec.flags & 0x20 != 0;
        spec
    }

    fn payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let origin = if self.table.is_empty() {
            ""
        } else {
            self.name.as_str()
        };
        for text in ["def", "app", &self.table, &self.table, &self.name, origin] {
            write_lenenc_bytes(&mut out, text.as_bytes());
        }
        out.push(0x0C);
        out.extend_from_slice(&self.charset.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.push(self.kind);
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&[self.decimals, 0, 0]);
        out
    }

    /// A value of this column in a binary row.
    fn binary(&self, text: &str, out: &mut Vec<u8>) {
        let number = || text.parse::<i128>().expect("an integer").to_le_bytes();
        match self.kind {
            1 => out.extend_from_slice(&number()[..1]),
            2 | 13 => out.extend_from_slice(&number()[..2]),
            3 | 9 => out.extend_from_slice(&number()[..4]),
            8 => out.extend_from_slice(&number()[..8]),
            4 => out.extend_from_slice(&text.parse::<f32>().expect("a float").to_le_bytes()),
            5 => out.extend_from_slice(&text.parse::<f64>().expect("a float").to_le_bytes()),
            7 | 10 | 12 => {
                let parts: Vec<u32> = text
                    .split(['-', ' ', ':', '.'])
                    .map(|part| part.parse().expect("digits"))
                    .collect();
                let bytes: Vec<u8> = parts
                    .iter()
                    .enumerate()
                    .flat_map(|(at, part)| match at {
                        0 => part.to_le_bytes()[..2].to_vec(),
                        6 => part.to_le_bytes().to_vec(),
                        _ => part.to_le_bytes()[..1].to_vec(),
                    })
                    .collect();
                write_lenenc_bytes(out, &bytes);
            }
            _ => write_lenenc_bytes(out, text.as_bytes()),
        }
    }
}

/// Type code and charset by a short name.
fn kind(name: &str) -> (u8, u16) {
    match name {
        "tiny" => (1, 63),
        "int" => (3, 63),
        "bigint" => (8, 63),
        "float" => (4, 63),
        "double" => (5, 63),
        "null" => (6, 63),
        "timestamp" => (7, 63),
        "date" => (10, 63),
        "time" => (11, 63),
        "datetime" => (12, 63),
        "json" => (245, 63),
        "decimal" => (246, 63),
        "text" => (252, 45),
        "blob" => (252, 63),
        "varchar" => (253, 45),
        "char" => (254, 45),
        other => panic!("no such type: {other}"),
    }
}

/// One side's answer while it is built.
#[derive(Default)]
struct Side {
    answer: Answer,
    binary: bool,
    columns: Vec<Spec>,
    /// Where in the sample each row ends.
    row_ends: Vec<usize>,
    cut: Option<usize>,
}

impl Side {
    fn line(&mut self, said: &str) {
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        match word {
            "binary" => self.binary = true,
            "cols" => self.cols(rest),
            "|" => self.row(rest),
            "end" => self.end(rest),
            "cursor" => self.rows().cursor = true,
            "ok" => self.ok(rest),
            "err" => self.err(rest),
            "prepared" => {
                let (parameters, columns) = rest.split_once(' ').expect("two numbers");
                self.answer.results.push(Outcome::Prepared {
                    statement_id: 1,
                    columns: columns.parse().expect("a number"),
                    parameters: parameters.parse().expect("a number"),
                    definitions: 0,
                });
                self.packet(&[0; 12]);
            }
            "defs" => self.defs(rest),
            "more" => self.answer.results_more = rest.parse().expect("a number"),
            "other" => {
                self.packet(rest.as_bytes());
                self.answer.results.push(Outcome::Other);
            }
            "cut" => {
                self.cut = Some(match rest.strip_prefix("rows=") {
                    Some(rows) => self.row_ends[rows.parse::<usize>().expect("a number") - 1],
                    None => rest.parse().expect("a number"),
                });
            }
            _ => panic!("no such word: {said}"),
        }
    }

    fn packet(&mut self, payload: &[u8]) {
        write_packet(&mut self.answer.sample, 0, payload);
    }

    fn cols(&mut self, specs: &str) {
        let offset = self.answer.sample.len() as u64;
        self.columns = specs.split_whitespace().map(Spec::parse).collect();
        self.row_ends.clear();
        let mut count = Vec::new();
        write_lenenc(&mut count, self.columns.len() as u64);
        self.packet(&count);
        let payloads: Vec<Vec<u8>> = self.columns.iter().map(Spec::payload).collect();
        payloads.iter().for_each(|payload| self.packet(payload));
        self.answer.results.push(Outcome::Rows(Rows {
            binary: self.binary,
            columns: self.columns.len() as u64,
            columns_digest: xxh3_64(&payloads.concat()),
            status: Status(Status::AUTOCOMMIT),
            offset,
            ..Rows::default()
        }));
    }

    fn defs(&mut self, specs: &str) {
        let payloads: Vec<Vec<u8>> = specs
            .split_whitespace()
            .map(|spec| Spec::parse(spec).payload())
            .collect();
        payloads.iter().for_each(|payload| self.packet(payload));
        match self.answer.results.last_mut() {
            Some(Outcome::Prepared { definitions, .. }) => {
                *definitions = xxh3_64(&payloads.concat());
            }
            _ => panic!("definitions without a prepared statement"),
        }
    }

    fn rows(&mut self) -> &mut Rows {
        match self.answer.results.last_mut() {
            Some(Outcome::Rows(rows)) => rows,
            _ => panic!("a row without columns"),
        }
    }

    fn row(&mut self, cells: &str) {
        let cells: Vec<&str> = cells
            .split('|')
            .map(|cell| cell.strip_prefix(' ').unwrap_or(cell))
            .collect();
        let last = cells.len() - 1;
        // ` | ` stands between cells: one space on each side belongs to it.
        let trim = |(at, cell): (usize, &'_ str)| -> Option<String> {
            let cell = if at < last {
                cell.strip_suffix(' ').unwrap_or(cell)
            } else {
                cell
            };
            (cell != "NULL").then(|| cell.replace('_', " "))
        };
        let cells: Vec<Option<String>> = cells.into_iter().enumerate().map(trim).collect();
        self.row_of(&cells);
    }

    fn row_of(&mut self, cells: &[Option<String>]) {
        assert_eq!(cells.len(), self.columns.len(), "{cells:?}");
        let payload = if self.binary {
            self.binary_row(cells)
        } else {
            text_row(cells)
        };
        self.packet(&payload);
        let end = self.answer.sample.len();
        self.row_ends.push(end);
        let rows = self.rows();
        let digest = xxh3_128(&payload);
        rows.rows += 1;
        rows.bytes += payload.len() as u64;
        rows.ordered = rows
            .ordered
            .rotate_left(7)
            .wrapping_mul(0x9E37_79B9)
            .wrapping_add(digest);
        rows.unordered = rows.unordered.wrapping_add(digest);
    }

    fn binary_row(&self, cells: &[Option<String>]) -> Vec<u8> {
        let mut nulls = vec![0; (cells.len() + 9) / 8];
        let mut values = Vec::new();
        for (at, cell) in cells.iter().enumerate() {
            match cell {
                Some(text) => self.columns[at].binary(text, &mut values),
                None => nulls[(at + 2) / 8] |= 1 << ((at + 2) % 8),
            }
        }
        [vec![0], nulls, values].concat()
    }

    fn end(&mut self, said: &str) {
        let rows = self.rows();
        for (key, number) in numbers(said) {
            match key {
                "warnings" => rows.warnings = u16::try_from(number).expect("16 bits"),
                "status" => rows.status = Status(u16::try_from(number).expect("16 bits")),
                _ => panic!("no such key: {key}"),
            }
        }
    }

    fn ok(&mut self, said: &str) {
        let mut done = Done {
            status: Status(Status::AUTOCOMMIT),
            ..Done::default()
        };
        for (key, number) in numbers(said) {
            match key {
                "affected" => done.affected_rows = number,
                "id" => done.last_insert_id = number,
                "info" => done.info = number,
                "warnings" => done.warnings = u16::try_from(number).expect("16 bits"),
                "status" => done.status = Status(u16::try_from(number).expect("16 bits")),
                _ => panic!("no such key: {key}"),
            }
        }
        self.answer.results.push(Outcome::Ok(done));
        self.packet(&[0; 7]);
    }

    fn err(&mut self, said: &str) {
        let (code, message) = said.split_once(' ').unwrap_or((said, ""));
        let code = code.parse().expect("a number");
        let failure = Failure {
            code,
            sqlstate: *b"HY000",
            message: message.as_bytes().to_vec(),
        };
        self.packet(&[0xFF; 9]);
        let outcome = match self.answer.results.last() {
            Some(Outcome::Rows(rows)) => {
                let broken = Outcome::RowsThenError(*rows, failure);
                self.answer.results.pop();
                broken
            }
            _ => Outcome::Error(failure),
        };
        self.answer.results.push(outcome);
    }

    fn finish(mut self) -> Answer {
        self.answer.bytes = self.answer.sample.len() as u64;
        self.answer.sample_whole = self.cut.is_none();
        if let Some(cut) = self.cut {
            self.answer.sample.truncate(cut);
        }
        self.answer
    }
}

fn text_row(cells: &[Option<String>]) -> Vec<u8> {
    let mut out = Vec::new();
    for cell in cells {
        match cell {
            Some(text) => write_lenenc_bytes(&mut out, text.as_bytes()),
            None => out.push(0xFB),
        }
    }
    out
}

fn numbers(said: &str) -> impl Iterator<Item = (&str, u64)> {
    said.split_whitespace().map(|pair| {
        let (key, value) = pair.split_once('=').expect("key=value");
        (key, value.parse().expect("a number"))
    })
}
