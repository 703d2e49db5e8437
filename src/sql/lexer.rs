//! MySQL's tokens, in one pass over bytes.
//!
//! Reads as the server's own lexer does (`sql_lex.cc`), for any charset whose multi-byte
//! characters hold no ASCII bytes (sjis, gbk and the like are never read here). It never fails and
//! never allocates: what has no end becomes one [`Kind::Broken`] token to the end of the text.
//! Comments are skipped; the contents of `/*! … */` are code.

use super::Dialect;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or an unquoted name.
    Word,
    /// A quoted name.
    Name,
    /// A string, `N'…'`, `x'…'` or `b'…'`.
    Text,
    /// A number, `0x…` or `0b…`.
    Number,
    /// A parameter's `?`.
    Param,
    /// `@name`, the name quoted or not.
    UserVariable,
    /// `@@name`; a scope and the dot after it are tokens of their own.
    SystemVariable,
    /// The fingerprint's own `...`.
    Fold,
    /// All else, by longest match.
    Operator,
    /// A quote or a comment without an end: the rest of the text.
    Broken,
}

/// A token: its kind and where it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its first byte.
    pub(crate) start: usize,
    /// The byte after its last.
    pub(crate) end: usize,
}

/// Reads tokens off a text.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    dialect: Dialect,
    /// Depth of `/*! … */` around `at`.
    code_comments: u32,
    /// Where a name ended: a dot right there separates names, whatever follows it.
    name_end: usize,
    /// Right behind such a dot.
    after_dot: bool,
    /// A comment was skipped since this was last cleared.
    pub(crate) commented: bool,
}

const NOWHERE: usize = usize::MAX;

impl<'a> Lexer<'a> {
    pub(crate) const fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self {
            text,
            at: 0,
            dialect,
            code_comments: 0,
            name_end: NOWHERE,
            after_dot: false,
            commented: false,
        }
    }

    /// The bytes of a token of this text.
    pub(crate) fn text(&self, token: Token) -> &'a [u8] {
        self.text.get(token.start..token.end).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    /// Steps over spaces and comments. A comment without an end is a token after all.
    fn skip(&mut self) -> Option<Token> {
        loop {
            match self.byte(self.at) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'#' => self.line_comment(),
                b'-' if self.byte(self.at + 1) == b'-' && self.ends_dashes(self.at + 2) => {
                    self.line_comment()
                }
                b'*' if self.code_comments > 0 && self.byte(self.at + 1) == b'/' => {
                    self.code_comments -= 1;
                    self.at += 2;
                }
                b'/' if self.byte(self.at + 1) == b'*' => {
                    self.commented = true;
                    if !self.open_code_comment() && !self.block_comment() {
                        return Some(self.token(Kind::Broken, self.at, self.text.len()));
                    }
                }
                _ => return None,
            }
        }
    }

    /// `--` begins a comment only before a space, a control character or the end.
    fn ends_dashes(&self, at: usize) -> bool {
        self.text.get(at).is_none_or(|b| *b <= b' ' || *b == 0x7f)
    }

    fn line_comment(&mut self) {
        self.commented = true;
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest
            .iter()
            .position(|b| *b == b'\n')
            .map_or(rest.len(), |n| n + 1);
    }

    /// `/*!`, `/*!40101` and MariaDB's `/*M!100100`: what follows is code.
    fn open_code_comment(&mut self) -> bool {
        let mark = match (self.byte(self.at + 2), self.byte(self.at + 3)) {
            (b'!', _) => 3,
            (b'M', b'!') => 4,
            _ => return false,
        };
        self.at += mark;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let digits = rest
            .iter()
            .take(6)
            .take_while(|b| b.is_ascii_digit())
            .count();
        if digits >= 5 {
            self.at += digits;
        }
        self.code_comments += 1;
        true
    }

    fn block_comment(&mut self) -> bool {
        let from = self.at + 2;
        let rest = self.text.get(from..).unwrap_or_default();
        let Some(end) = rest.windows(2).position(|pair| pair == b"*/") else {
            return false;
        };
        self.at = from + end + 2;
        true
    }

    fn token(&mut self, kind: Kind, start: usize, end: usize) -> Token {
        self.at = end;
        self.after_dot = false;
        if kind == Kind::Broken {
            self.code_comments = 0;
        }
        if matches!(kind, Kind::Word | Kind::Name | Kind::SystemVariable) {
            self.name_end = end;
        }
        Token { kind, start, end }
    }

    fn read(&mut self) -> Option<Token> {
        if let Some(broken) = self.skip() {
            return Some(broken);
        }
        let start = self.at;
        if start >= self.text.len() {
            if self.code_comments > 0 {
                self.code_comments = 0;
                return Some(self.token(Kind::Broken, start, start));
            }
            return None;
        }
        let first = self.byte(start);
        Some(match first {
            b'0'..=b'9' if self.after_dot => self.word(start),
            b'0'..=b'9' => self.number(start),
            b'.' => self.dot(start),
            b'\'' => self.quoted(Kind::Text, start, start, b'\''),
            b'"' if self.dialect.ansi_quotes => self.quoted(Kind::Name, start, start, b'"'),
            b'"' => self.quoted(Kind::Text, start, start, b'"'),
            b'`' => self.quoted(Kind::Name, start, start, b'`'),
            b'@' => self.variable(start),
            b'?' => self.token(Kind::Param, start, start + 1),
            _ if is_name(first) => self.word(start),
            _ => self.operator(start),
        })
    }

    fn word(&mut self, start: usize) -> Token {
        let end = self.names_end(start);
        if end == start + 1 && self.byte(end) == b'\'' {
            match self.byte(start) {
                b'x' | b'X' | b'b' | b'B' | b'n' | b'N' => {
                    return self.quoted(Kind::Text, start, end, b'\'');
                }
                _ => {}
            }
        }
        self.token(Kind::Word, start, end)
    }

    fn names_end(&self, start: usize) -> usize {
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.iter().position(|b| !is_name(*b)).unwrap_or(rest.len())
    }

    fn digits_end(&self, start: usize) -> usize {
        let rest = self.text.get(start..).unwrap_or_default();
        start
            + rest
                .iter()
                .position(|b| !b.is_ascii_digit())
                .unwrap_or(rest.len())
    }

    /// A number; or a name that begins with digits, which MySQL allows.
    fn number(&mut self, start: usize) -> Token {
        if self.byte(start) == b'0' && matches!(self.byte(start + 1), b'x' | b'b') {
            let end = self.names_end(start);
            let digits = self.text.get(start + 2..end).unwrap_or_default();
            let fits = |b: &u8| {
                if self.byte(start + 1) == b'x' {
                    b.is_ascii_hexdigit()
                } else {
                    matches!(b, b'0' | b'1')
                }
            };
            let kind = if !digits.is_empty() && digits.iter().all(fits) {
                Kind::Number
            } else {
                Kind::Word
            };
            return self.token(kind, start, end);
        }
        let end = self.digits_end(start);
        match self.byte(end) {
            b'.' => self.fraction(start, end),
            b'e' | b'E' if self.exponent_end(end).is_some() => {
                let end = self.exponent_end(end).unwrap_or(end);
                self.token(Kind::Number, start, end)
            }
            b if is_name(b) => self.word(start),
            _ => self.token(Kind::Number, start, end),
        }
    }

    /// From the dot of a decimal number.
    fn fraction(&mut self, start: usize, dot: usize) -> Token {
        let end = self.digits_end(dot + 1);
        let end = self.exponent_end(end).unwrap_or(end);
        self.token(Kind::Number, start, end)
    }

    fn exponent_end(&self, at: usize) -> Option<usize> {
        if !matches!(self.byte(at), b'e' | b'E') {
            return None;
        }
        let digits = if matches!(self.byte(at + 1), b'+' | b'-') {
            at + 2
        } else {
            at + 1
        };
        self.byte(digits)
            .is_ascii_digit()
            .then(|| self.digits_end(digits))
    }

    fn dot(&mut self, start: usize) -> Token {
        let next = self.byte(start + 1);
        if self.name_end == start && is_name(next) {
            let token = self.token(Kind::Operator, start, start + 1);
            self.after_dot = true;
            return token;
        }
        if next.is_ascii_digit() {
            return self.fraction(start, start);
        }
        self.operator(start)
    }

    /// From an opening quote at `open` to its end; a doubled quote does not end it.
    fn quoted(&mut self, kind: Kind, start: usize, open: usize, quote: u8) -> Token {
        let escapes = kind == Kind::Text && !self.dialect.no_backslash_escapes;
        match self.quote_end(open + 1, quote, escapes) {
            Some(end) => self.token(kind, start, end),
            None => self.token(Kind::Broken, start, self.text.len()),
        }
    }

    fn quote_end(&self, from: usize, quote: u8, escapes: bool) -> Option<usize> {
        let mut at = from;
        loop {
            let byte = *self.text.get(at)?;
            if byte == quote {
                if self.byte(at + 1) != quote {
                    return Some(at + 1);
                }
                at += 2;
            } else if byte == b'\\' && escapes {
                at += 2;
            } else {
                at += 1;
            }
        }
    }

    fn variable(&mut self, start: usize) -> Token {
        let next = self.byte(start + 1);
        if next == b'@' {
            return self.system_variable(start);
        }
        match next {
            b'\'' | b'"' | b'`' => {
                let escapes = next != b'`' && !self.dialect.no_backslash_escapes;
                match self.quote_end(start + 2, next, escapes) {
                    Some(end) => self.token(Kind::UserVariable, start, end),
                    None => self.token(Kind::Broken, start + 1, self.text.len()),
                }
            }
            _ => {
                let rest = self.text.get(start + 1..).unwrap_or_default();
                let length = rest
                    .iter()
                    .position(|b| !is_name(*b) && *b != b'.')
                    .unwrap_or(rest.len());
                let kind = if length == 0 {
                    Kind::Operator
                } else {
                    Kind::UserVariable
                };
                self.token(kind, start, start + 1 + length)
            }
        }
    }

    fn system_variable(&mut self, start: usize) -> Token {
        if self.byte(start + 2) == b'`' {
            return match self.quote_end(start + 3, b'`', false) {
                Some(end) => self.token(Kind::SystemVariable, start, end),
                None => self.token(Kind::Broken, start + 2, self.text.len()),
            };
        }
        let end = self.names_end(start + 2);
        let kind = if end == start + 2 {
            Kind::Operator
        } else {
            Kind::SystemVariable
        };
        self.token(kind, start, end)
    }

    fn operator(&mut self, start: usize) -> Token {
        let three = self.text.get(start..start + 3).unwrap_or_default();
        let two = self.text.get(start..start + 2).unwrap_or_default();
        match (three, two) {
            (b"...", _) => self.token(Kind::Fold, start, start + 3),
            (b"<=>" | b"->>", _) => self.token(Kind::Operator, start, start + 3),
            (_, b"\\N") => self.token(Kind::Number, start, start + 2), // NULL
            (_, b":=" | b"<=" | b">=" | b"<>" | b"!=" | b"<<" | b">>" | b"||" | b"&&" | b"->") => {
                self.token(Kind::Operator, start, start + 2)
            }
            _ => self.token(Kind::Operator, start, start + 1),
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.read()
    }
}

/// Whether a byte may stand in an unquoted name.
pub(crate) const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str, dialect: Dialect) -> String {
        let shown: Vec<String> = Lexer::new(text.as_bytes(), dialect)
            .map(|t| {
                let mark = match t.kind {
                    Kind::Word => "w",
                    Kind::Name => "n",
                    Kind::Text => "s",
                    Kind::Number => "#",
                    Kind::Param => "p",
                    Kind::UserVariable => "u",
                    Kind::SystemVariable => "v",
                    Kind::Fold => "f",
                    Kind::Operator => "o",
                    Kind::Broken => "!",
                };
                format!("{mark}:{}", text.get(t.start..t.end).unwrap())
            })
            .collect();
        shown.join(" ")
    }

    #[test]
    fn tokens_are_read_as_mysql_reads_them() {
        let plain = Dialect::default();
        let ansi = Dialect {
            ansi_quotes: true,
            ..plain
        };
        let bare = Dialect {
            no_backslash_escapes: true,
            ..plain
        };
        let table: &[(&str, Dialect, &str)] = &[
            ("select 1", plain, "w:select #:1"),
            (
                "'it''s' 'a\\'b' \"x\\\"y\"",
                plain,
                "s:'it''s' s:'a\\'b' s:\"x\\\"y\"",
            ),
            ("'a\\' b", bare, "s:'a\\' w:b"),
            ("\"a\"\"b\" 'c'", ansi, "n:\"a\"\"b\" s:'c'"),
            ("`a``b`.`c`", plain, "n:`a``b` o:. n:`c`"),
            (
                "_utf8'x' N'y' x'4d' X'' b'01' n'z' xy'q'",
                plain,
                "w:_utf8 s:'x' s:N'y' s:x'4d' s:X'' s:b'01' s:n'z' w:xy s:'q'",
            ),
            (
                "0x1F 0b01 0xZZ 0X1F 12abc 1e5 1e 1.5e-3 .5 1. 1e+9",
                plain,
                "#:0x1F #:0b01 w:0xZZ w:0X1F w:12abc #:1e5 w:1e #:1.5e-3 #:.5 #:1. #:1e+9",
            ),
            (
                "t.1a t.5 t .5 `t`.1",
                plain,
                "w:t o:. w:1a w:t o:. w:5 w:t #:.5 n:`t` o:. w:1",
            ),
            ("a--b", plain, "w:a o:- o:- w:b"),
            ("a -- b\nc", plain, "w:a w:c"),
            ("a --", plain, "w:a"),
            ("a # b\nc", plain, "w:a w:c"),
            ("a /* b */ c /*+ HINT */ d", plain, "w:a w:c w:d"),
            ("/*!40101 SET NAMES utf8 */", plain, "w:SET w:NAMES w:utf8"),
            ("a /*! b /* c */ d */ e", plain, "w:a w:b w:d w:e"),
            ("a /*!50100 b */ * /*!c*/", plain, "w:a w:b o:* w:c"),
            ("/*M!100100 a */", plain, "w:a"),
            ("/*!080000 a */ /*!1 b*/", plain, "w:a #:1 w:b"),
            (
                "@a @`b c` @'d' @@x @@global.y @@`z` @ a@b.c",
                plain,
                "u:@a u:@`b c` u:@'d' v:@@x v:@@global o:. w:y v:@@`z` o:@ w:a u:@b.c",
            ),
            (
                "a:=1<=>2->>'x'->'y'<>!=||&&",
                plain,
                "w:a o::= #:1 o:<=> #:2 o:->> s:'x' o:-> s:'y' o:<> o:!= o:|| o:&&",
            ),
            ("(...) ?", plain, "o:( f:... o:) p:?"),
            ("a 'b", plain, "w:a !:'b"),
            ("a /* b", plain, "w:a !:/* b"),
            ("a `b", plain, "w:a !:`b"),
            ("/*! a", plain, "w:a !:"),
            ("a 'b\\", plain, "w:a !:'b\\"),
            ("é ü_1", plain, "w:é w:ü_1"),
            ("\\N", plain, "#:\\N"),
        ];
        for (text, dialect, wanted) in table {
            assert_eq!(&tokens(text, *dialect), wanted, "{text}");
        }
    }
}
