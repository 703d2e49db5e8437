//! What an answer's sample holds of one result: its definitions, and its rows as far as they were
//! kept. Where rows end is known from their number, so nothing is guessed from first bytes.

use super::answer::{Answer, Outcome, Rows};
use super::column::Column;
use super::packet::{CHUNK_MAX, HEADER_LEN, Header, Reader};
use super::reply;

/// One result in a sample. Iterate for its rows' payloads.
#[derive(Clone, Debug)]
pub struct Sampled<'a> {
    /// The definitions; none for rows that a cursor's FETCH brought.
    pub columns: Vec<Column>,
    payloads: Payloads<'a>,
    rows_left: u64,
}

impl<'a> Sampled<'a> {
    /// The result that `rows`, one of the answer's own, describes; `None` where the sample ends
    /// within its definitions.
    #[must_use]
    pub fn read(answer: &'a Answer, rows: &Rows) -> Option<Self> {
        let offset = usize::try_from(rows.offset).ok()?;
        let mut payloads = Payloads {
            rest: answer.sample.get(offset..)?,
        };
        let mut columns = Vec::new();
        if rows.columns > 0 {
            let count = Reader::new(payloads.next()?).lenenc_int().ok()?;
            if count != rows.columns {
                return None;
            }
            for _ in 0..count {
                columns.push(Column::parse(payloads.next()?).ok()?);
            }
            payloads.skip_eof();
        }
        Some(Self {
            columns,
            payloads,
            rows_left: rows.rows,
        })
    }

    /// The results with rows in an answer, in turn, as far as the sample goes.
    pub fn all(answer: &'a Answer) -> impl Iterator<Item = Self> {
        let rows = answer.results.iter().filter_map(|outcome| match outcome {
            Outcome::Rows(rows) | Outcome::RowsThenError(rows, _) => Some(rows),
            Outcome::Ok(_)
            | Outcome::Error(_)
            | Outcome::Prepared { .. }
            | Outcome::LocalInfile
            | Outcome::Other => None,
        });
        rows.map_while(|rows| Self::read(answer, rows))
    }

    /// Whether all of the result's rows have been read; false for good once the sample ended.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.rows_left == 0
    }
}

impl<'a> Iterator for Sampled<'a> {
    type Item = &'a [u8];

    /// The next row's payload.
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rows_left == 0 {
            return None;
        }
        let payload = self.payloads.next()?;
        self.rows_left -= 1;
        Some(payload)
    }
}

/// The definitions of a prepared statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    /// Of its parameters.
    pub parameters: Vec<Column>,
    /// Of its result's columns.
    pub columns: Vec<Column>,
}

/// The definitions that an answer to a PREPARE holds, so many of each; `None` where its sample
/// ends within them.
#[must_use]
pub fn prepared(answer: &Answer, parameters: u16, columns: u16) -> Option<Definitions> {
    let mut payloads = Payloads {
        rest: &answer.sample,
    };
    payloads.next()?; // the id and the two numbers
    let mut group = |count: u16| {
        let mut read = Vec::new();
        for _ in 0..count {
            read.push(Column::parse(payloads.next()?).ok()?);
        }
        payloads.skip_eof();
        Some(read)
    };
    Some(Definitions {
        parameters: group(parameters)?,
        columns: group(columns)?,
    })
}

/// Payloads in a sample, up to the first that is not all there. One of [`CHUNK_MAX`] or more
/// bytes counts as cut off: it cannot be lent in one piece.
#[derive(Clone, Copy, Debug)]
struct Payloads<'a> {
    rest: &'a [u8],
}

impl<'a> Payloads<'a> {
    /// Skips the EOF behind definitions, which only one dialect has. No row is an EOF: one that
    /// begins like it is longer by far.
    fn skip_eof(&mut self) {
        let mut ahead = *self;
        if ahead
            .next()
            .is_some_and(|payload| reply::is_eof(payload) && payload.len() == reply::EOF_LEN)
        {
            *self = ahead;
        }
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let (header, rest) = self.rest.split_first_chunk::<HEADER_LEN>()?;
        let len = usize::try_from(Header::parse(*header).len).ok()?;
        if len >= CHUNK_MAX {
            return None;
        }
        let (payload, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::{AnswerTracker, Done, Progress};
    use super::super::capability::Capabilities;
    use super::super::command::Command;
    use super::super::packet::write_packet;
    use super::super::status::Status;
    use super::*;

    const MORE: u16 = Status::MORE_RESULTS;

    fn rows(out: &mut Vec<u8>, deprecate_eof: bool, columns: u8, rows: &[&[u8]], status: u16) {
        let mut seq = write_packet(out, 1, &[columns]);
        for _ in 0..columns {
            let definition = b"\x03def\x00\x01t\x01t\x01c\x01c\x0c\x3f\x00\x0b\x00\x00\x00\x03\x00\x00\x00\x00\x00";
            seq = write_packet(out, seq, definition);
        }
        if !deprecate_eof {
            seq = reply::write_eof(out, seq, Status(status), 0);
        }
        for row in rows {
            seq = write_packet(out, seq, row);
        }
        if deprecate_eof {
            let [low, high] = status.to_le_bytes();
            write_packet(out, seq, &[reply::EOF, 0, 0, low, high, 0, 0]);
        } else {
            reply::write_eof(out, seq, Status(status), 0);
        }
    }

    /// Two results with an OK between them, in either dialect.
    fn stream(deprecate_eof: bool) -> Vec<u8> {
        let mut out = Vec::new();
        rows(&mut out, deprecate_eof, 1, &[b"\x01a", b"\xFB"], MORE);
        reply::write_ok(
            &mut out,
            1,
            Done {
                status: Status(MORE),
                ..Done::default()
            },
        );
        rows(&mut out, deprecate_eof, 2, &[b"\x01b\x01c"], 0);
        out
    }

    fn answer(deprecate_eof: bool, sample_bytes: usize) -> Answer {
        let plain = Capabilities::PROTOCOL_41;
        let dialect = if deprecate_eof {
            plain.with(Capabilities::DEPRECATE_EOF)
        } else {
            plain
        };
        let mut tracker = AnswerTracker::new(dialect, sample_bytes);
        let mut answer = Answer::default();
        tracker.begin(Command::QUERY.expect());
        let progress = tracker.feed(&stream(deprecate_eof), &mut answer);
        assert!(matches!(progress, Progress::Ended { .. }));
        answer
    }

    #[test]
    fn each_result_is_found_with_its_rows_in_either_dialect() {
        for deprecate_eof in [false, true] {
            let answer = answer(deprecate_eof, 4096);
            let mut found = Vec::new();
            for mut result in Sampled::all(&answer) {
                let rows = result.by_ref().collect::<Vec<_>>();
                assert!(result.is_whole());
                found.push((result.columns.len(), rows));
            }
            let expected = [
                (1, vec![&b"\x01a"[..], b"\xFB"]),
                (2, vec![&b"\x01b\x01c"[..]]),
            ];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_sample_cut_anywhere_gives_what_it_holds_and_says_that_it_was_cut() {
        for deprecate_eof in [false, true] {
            let length = stream(deprecate_eof).len();
            let mut rows_before = 0;
            for sample_bytes in 0..=length {
                let answer = answer(deprecate_eof, sample_bytes);
                let mut results = Sampled::all(&answer).collect::<Vec<_>>();
                let rows = results
                    .iter_mut()
                    .map(|result| result.by_ref().count())
                    .sum::<usize>();
                assert!(rows >= rows_before);
                rows_before = rows;
                let whole = results.len() == 2 && results.iter().all(Sampled::is_whole);
                assert_eq!(whole, rows == 3, "{sample_bytes} of {length}");
            }
            assert_eq!(rows_before, 3);
        }
    }

    #[test]
    fn rows_that_a_fetch_brought_have_no_definitions() {
        let mut tracker = AnswerTracker::new(Capabilities::PROTOCOL_41, 4096);
        let (mut out, mut answer) = (Vec::new(), Answer::default());
        write_packet(&mut out, 1, b"\x00\x00\x05");
        reply::write_eof(&mut out, 2, Status(Status::LAST_ROW_SENT), 0);
        tracker.begin(Command::STMT_FETCH.expect());
        tracker.feed(&out, &mut answer);
        let mut result = Sampled::all(&answer).next().unwrap();
        assert_eq!(
            (result.next(), result.is_whole()),
            (Some(&b"\x00\x00\x05"[..]), true)
        );
    }
}
