//! JSON by content: keys in one order, no blanks, numbers by value, escapes undone. Pure.
//!
//! Not a library's parser: those make a double of a number that has more digits than one.

use super::number;
use std::collections::BTreeMap;

/// What MySQL takes at most.
const DEPTH_MAX: usize = 100;

/// One text for one content; `None` for what is no JSON.
#[must_use]
pub(super) fn canonical(text: &[u8]) -> Option<Vec<u8>> {
    let mut parser = Parser { rest: text };
    let mut out = Vec::with_capacity(text.len());
    parser.value(&mut out, DEPTH_MAX)?;
    parser.blanks();
    parser.rest.is_empty().then_some(out)
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn blanks(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.blanks();
        self.rest.first().copied()
    }

    fn takes(&mut self, word: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(word);
        if let Some(rest) = rest {
            self.rest = rest;
        }
        rest.is_some()
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(out, depth.checked_sub(1)?),
            b'[' => self.array(out, depth.checked_sub(1)?),
            b'"' => {
                let text = self.string()?;
                write_string(out, &text);
                Some(())
            }
            b't' => self.word(out, b"true"),
            b'f' => self.word(out, b"false"),
            b'n' => self.word(out, b"null"),
            _ => self.number(out),
        }
    }

    fn word(&mut self, out: &mut Vec<u8>, word: &[u8]) -> Option<()> {
        self.takes(word).then(|| out.extend_from_slice(word))
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let is_of_it = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let len = self.rest.iter().take_while(is_of_it).count();
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        out.extend_from_slice(number::decimal(text)?.as_bytes());
        Some(())
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.takes(b"[").then_some(())?;
        out.push(b'[');
        if self.peek()? == b']' {
            self.takes(b"]");
            out.push(b']');
            return Some(());
        }
        loop {
            self.value(out, depth)?;
            match self.peek()? {
                b',' => self.takes(b","),
                b']' => {
                    self.takes(b"]");
                    out.push(b']');
                    return Some(());
                }
                _ => return None,
            };
            out.push(b',');
        }
    }

    fn object(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.takes(b"{").then_some(())?;
        let mut members: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        if self.peek()? == b'}' {
            self.takes(b"}");
        } else {
            loop {
                (self.peek()? == b'"').then_some(())?;
                let key = self.string()?;
                (self.peek()? == b':').then_some(())?;
                self.takes(b":");
                let mut value = Vec::new();
                self.value(&mut value, depth)?;
                members.insert(key, value);
                match self.peek()? {
                    b',' => self.takes(b","),
                    b'}' => {
                        self.takes(b"}");
                        break;
                    }
                    _ => return None,
                };
            }
        }
        out.push(b'{');
        for (at, (key, value)) in members.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(out, key);
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
        Some(())
    }

    /// The bytes that a string means.
    fn string(&mut self) -> Option<Vec<u8>> {
        self.takes(b"\"").then_some(())?;
        let mut text = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(text),
                b'\\' => self.escape(&mut text)?,
                byte => text.push(byte),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Option<()> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        let meant = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut buffer = [0; 4];
                let c = self.unicode()?;
                text.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                return Some(());
            }
            _ => return None,
        };
        text.push(meant);
        Some(())
    }

    fn unicode(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first);
        }
        self.takes(b"\\u").then_some(())?;
        let second = self
            .hex4()?
            .checked_sub(0xDC00)
            .filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + second)
    }

    fn hex4(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
        self.rest = rest;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

/// Behind its length, so that no content can look like structure.
fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(format!("\"{}:", text.len()).as_bytes());
    out.extend_from_slice(text);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_content_has_one_text() {
        let same =
            |one: &str, other: &str| canonical(one.as_bytes()) == canonical(other.as_bytes());
        for (one, other) in [
            (r#"{"a": 1, "b": [1, 2]}"#, r#"{"b":[1,2],"a":1}"#),
            (r#"{"a": 1.0}"#, r#"{"a": 1}"#),
            (r#"{"a": 1e2}"#, r#"{"a": 100}"#),
            (r#""é""#, r#""\u00e9""#),
            (r#""😀""#, r#""\ud83d\ude00""#),
            (
                r#"{"x": {"b": 1, "a": null}}"#,
                r#" {"x":{"a":null,"b":1}} "#,
            ),
            (r#""a\/b""#, r#""a/b""#),
        ] {
            assert!(canonical(one.as_bytes()).is_some(), "{one}");
            assert!(same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn other_contents_have_other_texts() {
        for (one, other) in [
            ("[1, 2]", "[2, 1]"),
            ("{}", "[]"),
            ("null", "\"null\""),
            ("1", "\"1\""),
            ("true", "1"),
            ("123456789012345678901", "123456789012345678902"),
            (r#"{"a": 1}"#, r#"{"a": 1, "b": null}"#),
            (r#"["a,b"]"#, r#"["a","b"]"#),
            (r#""a ""#, r#""a""#),
        ] {
            let (one, other) = (canonical(one.as_bytes()), canonical(other.as_bytes()));
            assert!(one.is_some() && other.is_some());
            assert_ne!(one, other);
        }
    }

    #[test]
    fn what_is_no_json_is_none() {
        let deep = format!("{}1{}", "[".repeat(101), "]".repeat(101));
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "tru",
            "1 2",
            "\"a",
            r#""\q""#,
            r#""\ud800x""#,
            &deep,
        ] {
            assert_eq!(canonical(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_parsers_own_print_is_the_same_content(keys in proptest::collection::btree_map("[a-z\"\\\\é]{0,5}", any::<i32>(), 0..6)) {
            let value = serde_json::json!(keys);
            let reversed: Vec<String> = keys.iter().rev()
                .map(|(key, n)| format!("{}:{n}", serde_json::json!(key))).collect();
            let other = format!("{{{}}}", reversed.join(" , "));
            prop_assert_eq!(canonical(value.to_string().as_bytes()), canonical(other.as_bytes()));
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = canonical(&bytes);
        }
    }
}
