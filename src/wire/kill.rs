//! KILL, in both of its forms: COM_PROCESS_KILL, and a COM_QUERY that is nothing but a KILL of a
//! number. Any other form (an expression, a list of statements, MariaDB's KILL of a user or of a
//! query's own id) is not read: whoever asks passes it on as it is.
//!
//! <https://dev.mysql.com/doc/refman/8.4/en/kill.html>

use super::HEADER_LEN;
use super::capability::Capabilities;
use super::command::Command;
use super::packet::Reader;
use super::query::query_text;

/// A text longer than this is no KILL that is read.
pub const KILL_BYTES_MAX: usize = 1024;

/// What is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The statement that runs.
    Query,
    /// The whole connection.
    Connection,
}

/// A KILL of a connection's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// What it ends.
    pub victim: Victim,
    /// The id that it names.
    pub id: u64,
    /// Where the id stands in the payload, as it was written; of COM_PROCESS_KILL its four bytes.
    at: (usize, usize),
}

/// What the first bytes of a command tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It is none.
    Other,
    /// It begins like one.
    Kill,
    /// Too few to tell.
    Short,
}

/// Whether a command, its header included, begins like a KILL. Costs a compare or two for nearly
/// every other command. Comments before the word are seen through.
#[must_use]
pub fn begins(piece: &[u8], capabilities: Capabilities) -> Beginning {
    let Some((header, payload)) = piece.split_first_chunk::<HEADER_LEN>() else {
        return Beginning::Short;
    };
    let [a, b, c, _] = *header;
    let len = usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap_or(usize::MAX);
    let Some((kind, text)) = payload.split_first() else {
        return if len == 0 {
            Beginning::Other
        } else {
            Beginning::Short
        };
    };
    match Command(*kind) {
        Command::PROCESS_KILL => Beginning::Kill,
        Command::QUERY if len <= KILL_BYTES_MAX => {
            let whole = payload.get(..len);
            if capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
                begins_with_attributes(text, whole, capabilities)
            } else {
                word(text, cut(whole.is_some()))
            }
        }
        _ => Beginning::Other,
    }
}

/// Where attributes come first, the text of a command that has some is found once that is whole.
fn begins_with_attributes(
    text: &[u8],
    whole: Option<&[u8]>,
    capabilities: Capabilities,
) -> Beginning {
    match (text, whole) {
        ([0, 0..=0xFA, text @ ..], _) => word(text, cut(whole.is_some())),
        (_, None) => Beginning::Short,
        (_, Some(whole)) => match query_text(whole, capabilities) {
            Ok(text) => word(text, Beginning::Other),
            Err(_) => Beginning::Other,
        },
    }
}

/// What a text tells that ends within the word.
const fn cut(whole: bool) -> Beginning {
    if whole {
        Beginning::Other
    } else {
        Beginning::Short
    }
}

fn word(text: &[u8], cut: Beginning) -> Beginning {
    let text = text.get(skip(text)..).unwrap_or_default();
    if is_cut_comment(text) {
        return cut;
    }
    let known = text.get(..4).unwrap_or(text);
    let alike = b"KILL".get(..known.len()).unwrap_or_default();
    match known.eq_ignore_ascii_case(alike) {
        false => Beginning::Other,
        true if known.len() == 4 => Beginning::Kill,
        true => cut,
    }
}

/// How many bytes of white space and comments the text begins with. A comment that has not ended is
/// not one of them, nor is one that MySQL reads as a statement.
fn skip(text: &[u8]) -> usize {
    let mut at = 0_usize;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let len = match rest {
            [b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C, ..] => 1,
            [b'/', b'*', b'!', ..] | [b'/', b'*', b'M', b'!', ..] => 0,
            [b'/', b'*', inner @ ..] => find(inner, b"*/").map_or(0, |end| end.saturating_add(4)),
            [b'#', ..] | [b'-', b'-', b' ' | b'\t' | b'\n', ..] => {
                find(rest, b"\n").map_or(0, |end| end.saturating_add(1))
            }
            _ => 0,
        };
        if len == 0 {
            return at;
        }
        at = at.saturating_add(len);
    }
}

/// Whether the text is the beginning of a comment that may end further on, and was not skipped.
fn is_cut_comment(text: &[u8]) -> bool {
    match text {
        [b'/', b'*', b'!', ..] | [b'/', b'*', b'M', b'!', ..] => false,
        [b'/'] | [b'/', b'*', ..] | [b'#', ..] | [b'-'] | [b'-', b'-'] => true,
        [b'-', b'-', b' ' | b'\t', ..] => true,
        _ => false,
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|piece| piece == what)
}

impl Kill {
    /// Reads a command's whole payload; `None` where it is no KILL of a number.
    #[must_use]
    pub fn parse(payload: &[u8], capabilities: Capabilities) -> Option<Self> {
        let mut reader = Reader::new(payload);
        if Command(reader.u8().ok()?) == Command::PROCESS_KILL {
            let id = reader.u32().ok()?;
            return Some(Self {
                victim: Victim::Connection,
                id: u64::from(id),
                at: (1, 5),
            });
        }
        let text = query_text(payload, capabilities).ok()?;
        let before = payload.len().checked_sub(text.len())?;
        Words { text, at: 0 }.kill(before)
    }

    /// The payload with another id.
    #[must_use]
    pub fn with_id(&self, payload: &[u8], id: u32) -> Vec<u8> {
        let (begin, end) = self.at;
        let head = payload.get(..begin).unwrap_or_default();
        let tail = payload.get(end..).unwrap_or_default();
        if payload.first() == Some(&Command::PROCESS_KILL.0) {
            return [head, &id.to_le_bytes(), tail].concat();
        }
        [head, id.to_string().as_bytes(), tail].concat()
    }
}

/// The words of a text, in turn.
struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    /// `before`: how many bytes of the payload stand before the text.
    fn kill(mut self, before: usize) -> Option<Kill> {
        if !self.next().eq_ignore_ascii_case(b"KILL") {
            return None;
        }
        let mut victim = Victim::Connection;
        let mut word = self.next();
        if [&b"HARD"[..], b"SOFT"]
            .iter()
            .any(|it| word.eq_ignore_ascii_case(it))
        {
            word = self.next(); // MariaDB's.
        }
        if word.eq_ignore_ascii_case(b"QUERY") {
            victim = Victim::Query;
            word = self.next();
        } else if word.eq_ignore_ascii_case(b"CONNECTION") {
            word = self.next();
        }
        let end = before.saturating_add(self.at);
        let id: u64 = std::str::from_utf8(word).ok()?.parse().ok()?;
        if !word.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.ends().then_some(Kill {
            victim,
            id,
            at: (end.saturating_sub(word.len()), end),
        })
    }

    /// The next run of letters, digits and underscores; empty where none stands next.
    fn next(&mut self) -> &'a [u8] {
        self.skip();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let len = rest.iter().take_while(|byte| is_word(byte)).count();
        self.at = self.at.saturating_add(len);
        rest.get(..len).unwrap_or_default()
    }

    fn skip(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at = self.at.saturating_add(skip(rest));
    }

    /// Whether nothing more is said.
    fn ends(&mut self) -> bool {
        self.skip();
        if self.text.get(self.at) == Some(&b';') {
            self.at = self.at.saturating_add(1);
            self.skip();
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        // What libraries written in C may send behind a text; a comment to the text's end.
        rest.iter().all(|byte| *byte == 0)
            || rest.first() == Some(&b'#')
            || rest.starts_with(b"-- ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::write_packet;
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Capabilities = Capabilities::PROTOCOL_41;
    const ATTRIBUTES: Capabilities = PLAIN.with(Capabilities::QUERY_ATTRIBUTES);

    fn text(text: &str) -> Vec<u8> {
        [b"\x03", text.as_bytes()].concat()
    }

    fn wire(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_packet(&mut out, 0, payload);
        out
    }

    #[test]
    fn a_kill_reads_however_it_is_written() {
        for (written, victim, id) in [
            ("KILL 5", Victim::Connection, 5),
            ("kill query 17", Victim::Query, 17),
            (
                "KILL CONNECTION 4294967295;",
                Victim::Connection,
                4_294_967_295,
            ),
            (" \n/*My app*/ KILL/**/QUERY\t7 ; ", Victim::Query, 7),
            ("-- from the pool\nKILL QUERY 8 -- done", Victim::Query, 8),
            ("KILL HARD QUERY 9", Victim::Query, 9),
            ("KILL 10\0", Victim::Connection, 10),
        ] {
            let kill = Kill::parse(&text(written), PLAIN).unwrap_or_else(|| panic!("{written}"));
            assert_eq!((kill.victim, kill.id), (victim, id), "{written}");
            let other = kill.with_id(&text(written), 123);
            let again = Kill::parse(&other, PLAIN).unwrap();
            assert_eq!((again.victim, again.id), (victim, 123), "{written}");
            let expected = written.replacen(&id.to_string(), "123", 1);
            assert_eq!(other, text(&expected));
        }
    }

    #[test]
    fn what_is_no_kill_of_a_number_is_not_read() {
        for written in [
            "KILL",
            "KILL QUERY",
            "KILL @id",
            "KILL CONNECTION_ID()",
            "KILL QUERY ID 5",
            "KILL USER app",
            "KILL 5; SELECT 1",
            "KILL 5 + 1",
            "KILL -5",
            "KILL 5x",
            "KILL 99999999999999999999999",
            "KILLS 5",
            "SELECT 'KILL 5'",
            "/*! KILL 5 */",
            "/*M! KILL 5 */",
            "",
        ] {
            assert_eq!(Kill::parse(&text(written), PLAIN), None, "{written}");
        }
        assert_eq!(Kill::parse(b"", PLAIN), None);
        assert_eq!(Kill::parse(b"\x0c\x01\x00", PLAIN), None);
    }

    #[test]
    fn the_command_of_its_own_has_four_bytes() {
        let payload = b"\x0c\x07\x00\x00\x01";
        let kill = Kill::parse(payload, PLAIN).unwrap();
        assert_eq!((kill.victim, kill.id), (Victim::Connection, 0x0100_0007));
        assert_eq!(kill.with_id(payload, 9), b"\x0c\x09\x00\x00\x00");
    }

    #[test]
    fn a_statement_with_attributes_of_its_own_passes_through() {
        // One attribute: a flag of nulls, types bound, a string without a name.
        let with = |text: &[u8]| [&b"\x03\x01\x01\x00\x01\xFE\x00\x00\x01x"[..], text].concat();
        let (select, kill) = (wire(&with(b"SELECT 1")), wire(&with(b"KILL 5")));
        assert_eq!(begins(&select, ATTRIBUTES), Beginning::Other);
        assert_eq!(begins(&kill, ATTRIBUTES), Beginning::Kill);
        let cut = select.split_last().unwrap().1;
        assert_eq!(begins(cut, ATTRIBUTES), Beginning::Short);
    }

    #[test]
    fn it_stands_behind_query_attributes() {
        for head in [
            &b"\x03\x00\x01"[..],
            b"\x03\x01\x01\x00\x01\xFE\x00\x01n\x01x",
        ] {
            let payload = [head, b"KILL QUERY 5"].concat();
            let kill = Kill::parse(&payload, ATTRIBUTES).unwrap();
            assert_eq!((kill.victim, kill.id), (Victim::Query, 5));
            let expected = [head, b"KILL QUERY 4000"].concat();
            assert_eq!(kill.with_id(&payload, 4000), expected);
            assert_eq!(begins(&wire(&payload), ATTRIBUTES), Beginning::Kill);
        }
        let other = wire(b"\x03\x00\x01SELECT 1");
        assert_eq!(begins(&other, ATTRIBUTES), Beginning::Other);
    }

    #[test]
    fn the_first_bytes_tell_as_soon_as_they_can() {
        let kill = wire(&text("/* a */ KILL 5"));
        for len in 0..kill.len() {
            let told = begins(&kill[..len], PLAIN);
            let expected = match len {
                0..=16 => Beginning::Short,
                _ => Beginning::Kill,
            };
            assert_eq!(told, expected, "{len} bytes");
        }
        let others = [
            "SELECT 1",
            "KEEP",
            "KIL",
            "UPDATE t SET a = 1",
            "/* it ends nowhere",
            "-- nor does this",
            "/*! KILL 5 */",
            "/ 2",
            "-1",
            "",
        ];
        for other in others {
            assert_eq!(
                begins(&wire(&text(other)), PLAIN),
                Beginning::Other,
                "{other}"
            );
        }
        assert_eq!(
            begins(&wire(&text("SELECT 1"))[..6], PLAIN),
            Beginning::Other
        );
        assert_eq!(
            begins(&wire(&[0x0c, 1, 0, 0, 0])[..5], PLAIN),
            Beginning::Kill
        );
        assert_eq!(begins(&wire(&[0x0e]), PLAIN), Beginning::Other);
        assert_eq!(begins(&wire(&[]), PLAIN), Beginning::Other);
        let long = text(&format!("KILL {}", " ".repeat(KILL_BYTES_MAX)));
        assert_eq!(begins(&wire(&long), PLAIN), Beginning::Other);
    }

    /// Texts that are KILLs, and others made of the same pieces.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "KILL",
            "kill ",
            "K",
            " ",
            "\n",
            "/* a */",
            "/*",
            "*/",
            "/*!",
            "-- x\n",
            "-- ",
            "#\n",
            "#",
            "-",
            "/",
            "QUERY ",
            "CONNECTION ",
            "HARD ",
            "5",
            "4294967296",
            "@id",
            ";",
            "\0",
            "\u{1}",
        ]);
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn what_is_read_as_a_kill_begins_like_one_however_much_has_come(
            text in texts(),
            attributes in any::<bool>(),
        ) {
            let (head, capabilities) = if attributes {
                (&b"\x03\x00\x01"[..], ATTRIBUTES)
            } else {
                (&b"\x03"[..], PLAIN)
            };
            let payload = [head, &text].concat();
            let bytes = wire(&payload);
            if let Some(kill) = Kill::parse(&payload, capabilities) {
                for len in 0..bytes.len() {
                    prop_assert_ne!(begins(&bytes[..len], capabilities), Beginning::Other);
                }
                prop_assert_eq!(begins(&bytes, capabilities), Beginning::Kill);
                let again = Kill::parse(&kill.with_id(&payload, 9), capabilities);
                prop_assert_eq!(again.map(|again| (again.victim, again.id)), Some((kill.victim, 9)));
            }
        }

        /// Once it is known to be none it stays none, and a whole one is never waited for.
        #[test]
        fn what_begins_otherwise_is_not_read_as_one(text in texts(), cut in 0..40_usize) {
            let payload = [&b"\x03"[..], &text].concat();
            let bytes = wire(&payload);
            let part = bytes.get(..cut).unwrap_or(&bytes);
            if begins(part, PLAIN) == Beginning::Other {
                prop_assert_eq!(Kill::parse(&payload, PLAIN), None);
            }
            prop_assert_ne!(begins(&bytes, PLAIN), Beginning::Short);
        }
    }
}
