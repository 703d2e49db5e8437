//! A statement's shape: literals as `?`, lists folded, comments dropped, spaces made even.
//!
//! Much like performance_schema's DIGEST_TEXT, with names as written. Everything else that we know
//! of a statement is read from its fingerprint, so that equal fingerprints are equal in all that
//! follows from them. Hence what matters stays: `LIMIT ?`, the ordinals of ORDER BY and GROUP BY,
//! `IS NULL`, every name and every call. What goes: strings, numbers, NULL and TRUE as values,
//! a number's sign, charset introducers, how many values a list has, how many rows an INSERT has.
//!
//! - `IN (1, 2)` → `IN (...)`; a row of literals → `(...)`; more rows of a shape → `(...), ...`
//! - `f(a, 1, 2, 3)` → `f(a, ?, ...)`
//! - a quote without an end → the quote alone

use super::Dialect;
use super::functions::BUILTIN;
use super::lexer::{Kind, Lexer, Token};
use super::words::{AFTER_KEYS, APART, BEFORE_VALUES, CHARSETS, OPERANDS, RESERVED, SHOWN, SOFT};

/// Parentheses deeper than this are copied, not folded.
const DEPTH_MAX: usize = 256;
/// Shapes of rows remembered in one VALUES.
const ROWS_MAX: usize = 8;

/// Buffers for one fingerprint after another.
#[derive(Debug, Default)]
pub(crate) struct Fingerprinter {
    out: Vec<u8>,
    frames: Vec<Frame>,
    /// Open parentheses beyond [`DEPTH_MAX`].
    beyond: usize,
    prev: Prev,
    before_prev: Prev,
    /// Where the last token's text begins, and where the text ended before it.
    prev_start: usize,
    before_prev_end: usize,
    /// Signs that may belong to a number: where they begin, how many, and what stood before.
    sign: Option<(usize, u32, Prev)>,
    /// The signs before the last token.
    before_sign: Option<(usize, u32, Prev)>,
    verb: Verb,
    /// Semicolons that are written only if something follows.
    semicolons: usize,
    /// Behind INTO, TABLE, INDEX …: a name comes, and a `(` after it holds columns.
    naming: bool,
}

/// What the last token was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Prev {
    #[default]
    Nothing,
    Open,
    Close,
    Comma,
    Dot,
    Operator,
    Literal,
    Text,
    Word,
    Name,
    Variable,
    Keyword(&'static str),
}

impl Prev {
    /// Whether a sign after it is an operator between two operands.
    fn is_operand(self) -> bool {
        match self {
            Self::Nothing | Self::Open | Self::Comma | Self::Dot | Self::Operator => false,
            Self::Close | Self::Literal | Self::Text | Self::Word | Self::Name | Self::Variable => {
                true
            }
            Self::Keyword(word) => OPERANDS.has(word.as_bytes()),
        }
    }

    /// Whether NULL, TRUE or FALSE after it is a value.
    fn is_before_value(self) -> bool {
        match self {
            Self::Open | Self::Comma | Self::Operator => true,
            Self::Keyword(word) => BEFORE_VALUES.has(word.as_bytes()),
            _ => false,
        }
    }
}

/// What the statement began with, as far as its words are spelled by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verb {
    #[default]
    None,
    Control,
    Show,
    Insert,
    Other,
}

/// What a parenthesis holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    Plain,
    /// Of IN.
    List,
    /// Of VALUES, or one row of an IN list.
    Row,
    /// A query: nothing directly inside is folded.
    Query,
}

#[derive(Debug, Default)]
struct Frame {
    shape: Shape,
    /// Right behind the `(`.
    start: usize,
    /// Tokens in the current element, and whether the last was a literal.
    element: u32,
    literal: bool,
    /// Whether every element so far was a literal, and how many there were.
    others: bool,
    elements: u32,
    /// End of the literal that the next one folds into.
    run_end: Option<usize>,
    run_folded: bool,
    /// Inside ORDER BY or GROUP BY.
    keys: bool,
    rows: Rows,
}

/// The rows of a VALUES list or of an IN list.
#[derive(Debug, Default)]
struct Rows {
    /// A row may come.
    on: bool,
    seen: [(usize, usize); ROWS_MAX],
    count: usize,
    end: usize,
    folded: bool,
}

impl Fingerprinter {
    /// The fingerprint of the whole text. Not UTF-8 where the text's names are not.
    pub(crate) fn run(&mut self, text: &[u8], dialect: Dialect) -> &[u8] {
        self.clear();
        let mut lexer = Lexer::new(text, dialect);
        while let Some(token) = lexer.next() {
            let bytes = text.get(token.start..token.end).unwrap_or_default();
            if bytes == b";" {
                self.semicolon(&mut lexer);
            } else {
                self.step(token, bytes, &lexer);
            }
        }
        if lexer.commented && self.verb == Verb::None {
            self.catch_up();
            self.write_spaced(b"/* */");
        }
        &self.out
    }

    /// Gives back memory beyond a bound.
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        if self.out.capacity() > bytes_max {
            self.out.clear();
            self.out.shrink_to(bytes_max);
        }
    }

    fn clear(&mut self) {
        let out = std::mem::take(&mut self.out);
        let frames = std::mem::take(&mut self.frames);
        *self = Self {
            out,
            frames,
            ..Self::default()
        };
        self.out.clear();
        self.begin_statement();
    }

    fn begin_statement(&mut self) {
        self.frames.clear();
        self.frames.push(Frame {
            shape: Shape::Query,
            ..Frame::default()
        });
        self.beyond = 0;
        self.verb = Verb::None;
        self.prev = Prev::Nothing;
        self.before_prev = Prev::Nothing;
        self.sign = None;
        self.naming = false;
    }

    /// Ends a statement. An empty one that holds a comment is kept apart from one that holds
    /// nothing: the server answers the one with OK and the other with an error.
    fn semicolon(&mut self, lexer: &mut Lexer<'_>) {
        if self.verb == Verb::None && lexer.commented {
            self.catch_up();
            self.write_spaced(b"/* */");
        }
        lexer.commented = false;
        self.semicolons += 1;
        self.begin_statement();
    }

    fn catch_up(&mut self) {
        for at in 0..std::mem::take(&mut self.semicolons) {
            self.out
                .extend_from_slice(if at == 0 || self.out.is_empty() {
                    b";"
                } else {
                    b" ;"
                });
        }
    }

    fn step(&mut self, token: Token, bytes: &[u8], lexer: &Lexer<'_>) {
        if self.semicolons > 0 {
            self.catch_up();
        }
        match token.kind {
            Kind::Word => self.word(bytes),
            Kind::Name => self.name(bytes),
            Kind::Text => self.literal(Prev::Text),
            Kind::Param => self.literal(Prev::Literal),
            Kind::Number if self.is_ordinal(bytes, lexer) => self.emit(bytes, Prev::Literal),
            Kind::Number => self.literal(Prev::Literal),
            Kind::Fold => self.fold(),
            Kind::UserVariable if matches!(bytes.get(1), Some(b'\'' | b'"')) => {
                self.naming = false;
                self.emit(b"@", Prev::Operator);
                self.literal(Prev::Literal);
            }
            Kind::UserVariable | Kind::SystemVariable => self.emit(bytes, Prev::Variable),
            Kind::Operator => self.operator(bytes),
            Kind::Broken => self.emit(broken_mark(bytes), Prev::Literal),
        }
        if self.verb == Verb::None {
            self.verb = Verb::Other;
        }
    }

    fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            self.frames.push(Frame {
                shape: Shape::Query,
                ..Frame::default()
            });
        }
        let last = self.frames.len() - 1;
        #[expect(
            clippy::indexing_slicing,
            reason = "never empty here: a frame was pushed above where it was"
        )]
        &mut self.frames[last]
    }

    fn write_spaced(&mut self, bytes: &[u8]) {
        let glued = self.out.is_empty() || matches!(self.prev, Prev::Open | Prev::Dot);
        if !glued {
            self.out.push(b' ');
        }
        self.prev_start = self.out.len();
        self.out.extend_from_slice(bytes);
    }

    /// Writes a token that is part of the current element.
    fn emit(&mut self, bytes: &[u8], kind: Prev) {
        self.before_prev_end = self.out.len();
        self.write_spaced(bytes);
        self.settle(kind);
    }

    fn settle(&mut self, kind: Prev) {
        let is_row = kind == Prev::Keyword("VALUES")
            || self
                .out
                .get(self.prev_start..)
                .is_some_and(|w| w.eq_ignore_ascii_case(b"ROW"));
        let frame = self.frame();
        frame.element += 1;
        frame.literal = false;
        frame.rows.on = frame.rows.on && is_row;
        self.before_prev = self.prev;
        self.prev = kind;
        self.before_sign = self.sign.take();
    }

    fn literal(&mut self, kind: Prev) {
        if kind == Prev::Text && self.prev == Prev::Text {
            return; // 'a' 'b' is one string
        }
        if self.prev == Prev::Word && self.before_prev != Prev::Word && self.is_introducer() {
            self.out.truncate(self.before_prev_end);
            self.prev = self.before_prev;
            self.sign = self.before_sign.take();
            let frame = self.frame();
            frame.element = frame.element.saturating_sub(1);
        }
        if let Some((start, signs, before)) = self.sign.take() {
            self.out.truncate(start);
            self.prev = before;
            let frame = self.frame();
            frame.element = frame.element.saturating_sub(signs);
        }
        let rows = self.frame().rows.on;
        self.emit(b"?", kind);
        let frame = self.frame();
        frame.literal = true;
        frame.rows.on = rows && frame.shape == Shape::List;
    }

    fn is_introducer(&self) -> bool {
        let word = self.out.get(self.prev_start..).unwrap_or_default();
        word.split_first()
            .is_some_and(|(first, charset)| *first == b'_' && CHARSETS.has(charset))
    }

    /// A number that says which column to sort or group by. Small enough for no secret.
    fn is_ordinal(&mut self, bytes: &[u8], lexer: &Lexer<'_>) -> bool {
        let fits = bytes.len() <= 4 && bytes.iter().all(u8::is_ascii_digit);
        let place = matches!(self.prev, Prev::Keyword("BY") | Prev::Comma);
        if !fits || !place || !self.frame().keys {
            return false;
        }
        lexer.clone().next().is_none_or(|next| {
            let word = lexer.text(next);
            matches!(word, b"," | b")" | b";")
                || matches!(RESERVED.find(word), Some("ASC" | "DESC"))
                || AFTER_KEYS.has(word)
        })
    }

    fn fold(&mut self) {
        let inside_rows = self.frame().rows.on && self.frame().rows.count > 0;
        self.emit(b"...", Prev::Literal);
        let end = self.out.len();
        let frame = self.frame();
        frame.literal = true;
        if inside_rows {
            frame.rows.on = true;
            frame.rows.folded = true;
            frame.rows.end = end;
            frame.others = true;
            frame.literal = false;
        }
    }

    fn name(&mut self, bytes: &[u8]) {
        if bytes.first() != Some(&b'"') {
            return self.emit(bytes, Prev::Name);
        }
        let name = super::names::unquote(bytes);
        let quoted = super::names::quote(&name);
        self.emit(&quoted, Prev::Name);
    }

    fn word(&mut self, bytes: &[u8]) {
        if self.prev == Prev::Dot {
            return self.emit(bytes, Prev::Word);
        }
        let reserved = RESERVED.find(bytes);
        match reserved {
            Some("NULL" | "TRUE" | "FALSE") if self.prev.is_before_value() => {
                return self.literal(Prev::Literal);
            }
            Some(word) => self.keyword(word),
            None if self.verb == Verb::None => self.upper(bytes),
            None if self.is_soft(bytes) => self.upper(bytes),
            None => self.plain_word(bytes),
        }
        if self.verb == Verb::None {
            self.verb = verb(bytes);
            self.naming = self.verb == Verb::Insert;
        }
    }

    fn plain_word(&mut self, bytes: &[u8]) {
        let frame = self.frame();
        if frame.keys && AFTER_KEYS.has(bytes) {
            frame.keys = false;
        }
        self.emit(bytes, Prev::Word);
    }

    fn upper(&mut self, bytes: &[u8]) {
        self.emit(bytes, Prev::Word);
        if let Some(word) = self.out.get_mut(self.prev_start..) {
            word.make_ascii_uppercase();
        }
    }

    /// A word that is no reserved one, but a keyword where it stands.
    fn is_soft(&self, bytes: &[u8]) -> bool {
        match self.verb {
            Verb::Control => SOFT.has(bytes) && self.prev != Prev::Operator,
            Verb::Show => SHOWN.has(bytes),
            Verb::None | Verb::Insert | Verb::Other => {
                let ends = [b"END".as_slice(), b"OFFSET", b"DUPLICATE"]
                    .iter()
                    .any(|w| w.eq_ignore_ascii_case(bytes));
                ends && !self.naming
                    && !matches!(
                        self.prev,
                        Prev::Comma | Prev::Keyword("FROM" | "JOIN" | "AS" | "UPDATE" | "SELECT")
                    )
            }
        }
    }

    fn keyword(&mut self, word: &'static str) {
        let first = matches!(self.prev, Prev::Open | Prev::Nothing);
        let by_keys =
            word == "BY" && (matches!(self.prev, Prev::Keyword("ORDER" | "GROUP" | "PARTITION")));
        self.emit(word.as_bytes(), Prev::Keyword(word));
        let frame = self.frame();
        if by_keys {
            frame.keys = true;
        } else if frame.keys && AFTER_KEYS.has(word.as_bytes()) {
            frame.keys = false;
        }
        match word {
            "SELECT" | "WITH" | "TABLE" | "VALUES" if first => frame.shape = Shape::Query,
            _ => {}
        }
        if word == "VALUES" {
            frame.rows = Rows {
                on: true,
                ..Rows::default()
            };
        }
        match word {
            "INTO" | "TABLE" | "REFERENCES" | "INDEX" | "KEY" | "WITH" => self.naming = true,
            "IGNORE" | "LOW_PRIORITY" | "HIGH_PRIORITY" | "DELAYED" | "IF" | "NOT" | "EXISTS" => {}
            _ => self.naming = false,
        }
        if self.verb == Verb::Show && matches!(word, "FROM" | "IN" | "LIKE" | "WHERE" | "CREATE") {
            self.verb = Verb::Other;
        }
    }

    fn operator(&mut self, bytes: &[u8]) {
        match bytes {
            b"(" => self.open(),
            b")" => self.close(),
            b"," => self.comma(),
            b"." if self.is_name_before() => {
                self.out.push(b'.');
                self.prev_start = self.out.len() - 1;
                let naming = self.naming;
                self.settle(Prev::Dot);
                self.naming = naming;
            }
            b"-" | b"+" if !self.prev.is_operand() => self.sign(bytes),
            _ => {
                self.naming = false;
                self.emit(bytes, Prev::Operator);
            }
        }
    }

    /// Whether a dot belongs to the name before it.
    fn is_name_before(&self) -> bool {
        match self.prev {
            Prev::Word | Prev::Name | Prev::Keyword(_) => true,
            Prev::Variable => self.prev_text().starts_with(b"@@"),
            Prev::Operator => self.prev_text() == b"*", // GRANT … ON *.*
            _ => false,
        }
    }

    fn sign(&mut self, bytes: &[u8]) {
        let (start, signs, before) = self.sign.unwrap_or((self.out.len(), 0, self.prev));
        self.emit(bytes, Prev::Operator);
        self.sign = Some((start, signs + 1, before));
    }

    fn comma(&mut self) {
        self.end_element();
        self.out.push(b',');
        self.prev_start = self.out.len() - 1;
        self.before_prev = self.prev;
        self.prev = Prev::Comma;
        self.sign = None;
        self.naming = false;
    }

    /// At a comma or `)`: a literal after a literal is folded into the one before.
    fn end_element(&mut self) {
        if self.beyond > 0 {
            return;
        }
        let end = self.out.len();
        let frame = self.frame();
        let literal = frame.element == 1 && frame.literal;
        frame.others |= !literal;
        frame.elements += 1;
        frame.element = 0;
        frame.literal = false;
        if !literal || frame.shape == Shape::Query {
            frame.run_end = None;
            return;
        }
        let Some(run_end) = frame.run_end else {
            frame.run_end = Some(end);
            frame.run_folded = false;
            return;
        };
        let folded = std::mem::replace(&mut frame.run_folded, true);
        self.out.truncate(run_end);
        if !folded {
            self.out.extend_from_slice(b", ...");
        }
        let end = self.out.len();
        self.frame().run_end = Some(end);
    }

    fn open(&mut self) {
        self.before_prev_end = self.out.len();
        let shape = self.shape_of_open();
        let value = shape == Shape::Row && !self.prev_text().eq_ignore_ascii_case(b"ROW");
        let called = self.is_call() && !value;
        if called {
            self.spell_function();
        }
        if !called && !self.out.is_empty() && self.prev != Prev::Open {
            self.out.push(b' ');
        }
        self.prev_start = self.out.len();
        self.out.push(b'(');
        self.prev = Prev::Open;
        self.sign = None;
        self.naming = false;
        let start = self.out.len();
        let frame = self.frame();
        frame.element += 1;
        frame.literal = false;
        if self.frames.len() >= DEPTH_MAX || self.beyond > 0 {
            self.beyond += 1;
        } else {
            let rows = Rows {
                on: shape == Shape::List,
                ..Rows::default()
            };
            self.frames.push(Frame {
                shape,
                start,
                rows,
                ..Frame::default()
            });
        }
    }

    fn shape_of_open(&mut self) -> Shape {
        let prev = self.prev;
        let row_word = prev == Prev::Word && self.prev_text().eq_ignore_ascii_case(b"ROW");
        if prev == Prev::Word
            && self.verb == Verb::Insert
            && self.prev_text().eq_ignore_ascii_case(b"VALUE")
        {
            self.frame().rows = Rows {
                on: true,
                ..Rows::default()
            };
            return Shape::Row;
        }
        let frame = self.frame();
        let at_row = matches!(prev, Prev::Open | Prev::Comma | Prev::Keyword("VALUES")) || row_word;
        if frame.rows.on && at_row {
            return Shape::Row;
        }
        frame.rows.on = false;
        if prev == Prev::Keyword("IN") {
            Shape::List
        } else {
            Shape::Plain
        }
    }

    fn prev_text(&self) -> &[u8] {
        self.out.get(self.prev_start..).unwrap_or_default()
    }

    /// Whether the `(` to come is written right behind the word before it.
    fn is_call(&self) -> bool {
        match self.prev {
            Prev::Word => !self.naming && !APART.has(self.prev_text()),
            Prev::Keyword(word) => OPERANDS.has(word.as_bytes()) && !self.naming,
            _ => false,
        }
    }

    fn spell_function(&mut self) {
        let long = self.prev_text().len() > 1; // X(…) and Y(…) are names more often
        let word = self.prev == Prev::Word && self.before_prev != Prev::Dot;
        if long && word && BUILTIN.has(self.prev_text()) {
            let start = self.prev_start;
            if let Some(word) = self.out.get_mut(start..) {
                word.make_ascii_uppercase();
            }
        }
    }

    fn close(&mut self) {
        self.sign = None;
        self.naming = false;
        if self.beyond > 0 {
            self.beyond -= 1;
            self.out.push(b')');
        } else if self.frames.len() > 1 {
            self.close_frame();
        } else {
            self.out.push(b')');
            self.frame().element += 1;
        }
        self.before_prev = self.prev;
        self.prev = Prev::Close;
    }

    fn close_frame(&mut self) {
        let empty = self.frame().element == 0 && self.frame().elements == 0;
        if !empty {
            self.end_element();
        }
        let Some(frame) = self.frames.pop() else {
            return;
        };
        if matches!(frame.shape, Shape::List | Shape::Row) && !frame.others && !empty {
            self.out.truncate(frame.start);
            self.out.extend_from_slice(b"...");
        }
        self.out.push(b')');
        if frame.shape == Shape::Row {
            self.end_row(frame.start);
        }
    }

    /// A row of a shape that this list has had is folded away.
    fn end_row(&mut self, start: usize) {
        let end = self.out.len();
        let out = std::mem::take(&mut self.out);
        let rows = &mut self.frame().rows;
        let text = out.get(start..end);
        let known = rows
            .seen
            .iter()
            .take(rows.count)
            .any(|(from, to)| out.get(*from..*to) == text);
        let folded = rows.folded;
        if known {
            rows.folded = true;
        } else {
            if let Some(free) = rows.seen.get_mut(rows.count) {
                *free = (start, end);
                rows.count += 1;
            }
            rows.end = end;
        }
        let keep = rows.end;
        self.out = out;
        if known {
            self.out.truncate(keep);
            if !folded {
                self.out.extend_from_slice(b", ...");
            }
            let end = self.out.len();
            self.frame().rows.end = end;
        }
    }
}

fn broken_mark(bytes: &[u8]) -> &'static [u8] {
    match bytes.first() {
        Some(b'`') => b"`",
        Some(b'\'' | b'"' | b'x' | b'X' | b'b' | b'B' | b'n' | b'N') => b"'",
        _ => b"/*",
    }
}

fn verb(word: &[u8]) -> Verb {
    let mut upper = [0_u8; 9];
    let Some(upper) = upper.get_mut(..word.len()) else {
        return Verb::Other;
    };
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    match &*upper {
        b"START" | b"BEGIN" | b"COMMIT" | b"ROLLBACK" | b"SET" => Verb::Control,
        b"SHOW" => Verb::Show,
        b"INSERT" | b"REPLACE" => Verb::Insert,
        _ => Verb::Other,
    }
}
