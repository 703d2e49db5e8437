//! The tracker against answers of real servers, as they came: each must end at its last byte,
//! whatever the pieces, and say what the server said.
//!
//! A line of `captures.txt` is: server | capabilities | how the answer ends | what was asked |
//! what the tracker makes of it | the server's bytes.

use super::super::capability::Capabilities;
use super::super::command::Expect;
use super::super::row::{binary_row, text_row};
use super::super::sample::{Sampled, prepared};
use super::*;

const CAPTURES: &str = include_str!("captures.txt");

fn expect(name: &str) -> Expect {
    match name {
        "text" => Expect::Results { binary: false },
        "binary" => Expect::Results { binary: true },
        "prepare" => Expect::Prepared,
        "fetch" => Expect::Rows,
        "list" => Expect::Columns,
        "text line" => Expect::Text,
        "one" => Expect::One,
        "login" => Expect::Login,
        other => panic!("{other}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Feeds a capture in pieces; turns of the client are passed over.
fn track(
    capabilities: Capabilities,
    expect: Expect,
    mut stream: &[u8],
    piece: usize,
) -> (Answer, Progress) {
    let (mut tracker, mut answer) = (
        AnswerTracker::new(capabilities, 64 * 1024),
        Answer::default(),
    );
    tracker.begin(expect);
    let mut last = Progress::More;
    while !stream.is_empty() {
        let piece = &stream[..piece.min(stream.len())];
        last = tracker.feed(piece, &mut answer);
        let used = match last {
            Progress::More => piece.len(),
            Progress::ClientTurn { used } | Progress::Ended { used } => used,
            Progress::Unsure => return (answer, last),
        };
        stream = &stream[used..];
        if matches!(last, Progress::Ended { .. }) {
            assert!(stream.is_empty(), "{} bytes are left", stream.len());
        }
    }
    (answer, last)
}

fn summary(answer: &Answer) -> String {
    let results = answer.results.iter().map(|outcome| match outcome {
        Outcome::Ok(done) => format!("ok {} {}", done.affected_rows, done.warnings),
        Outcome::Error(failure) => format!("error {}", failure.code),
        Outcome::Rows(rows) if rows.cursor => format!("cursor {}", rows.columns),
        Outcome::Rows(rows) => format!("rows {}x{}", rows.rows, rows.columns),
        Outcome::RowsThenError(rows, failure) => format!(
            "rows {}x{}, error {}",
            rows.rows, rows.columns, failure.code
        ),
        Outcome::Prepared {
            columns,
            parameters,
            ..
        } => format!("prepared {parameters} {columns}"),
        Outcome::LocalInfile => "file".to_owned(),
        Outcome::Other => "other".to_owned(),
    });
    results.collect::<Vec<_>>().join("; ")
}

#[test]
fn answers_of_real_servers_end_at_their_last_byte() {
    for line in CAPTURES.lines() {
        let [server, capabilities, kind, name, expected, hex] =
            line.split(" | ").collect::<Vec<_>>()[..]
        else {
            panic!("{line}");
        };
        let capabilities = Capabilities(u32::from_str_radix(capabilities, 16).unwrap());
        let stream = bytes(hex);
        for piece in [1, 2, 3, 5, 7, 64, stream.len()] {
            let (answer, progress) = track(capabilities, expect(kind), &stream, piece);
            let at = format!(
                "{server} {}: {name}, in pieces of {piece}: {answer:?}",
                capabilities.0
            );
            assert!(
                matches!(progress, Progress::Ended { .. }),
                "{progress:?} {at}"
            );
            assert_eq!(summary(&answer), expected, "{at}");
            if kind == "text" || kind == "binary" {
                cells_read(&answer, &at);
            } else if kind == "prepare" {
                definitions_read(&answer, &at);
            }
        }
    }
}

/// Every row in the sample must read to its last byte by the definitions before it.
fn cells_read(answer: &Answer, at: &str) {
    let rows = answer.results.iter().filter_map(|outcome| match outcome {
        Outcome::Rows(rows) | Outcome::RowsThenError(rows, _) => Some(rows),
        _ => None,
    });
    for rows in rows {
        let mut sampled = Sampled::read(answer, rows).unwrap();
        let columns = std::mem::take(&mut sampled.columns);
        for row in sampled.by_ref() {
            let cells = if rows.binary {
                binary_row(row, &columns)
            } else {
                text_row(row, columns.len())
            };
            assert_eq!(
                cells.map(|cells| cells.len() as u64),
                Ok(rows.columns),
                "{at}"
            );
        }
        assert!(sampled.is_whole(), "{at}");
    }
}

/// Every definition of a prepared statement must read, and be in its group.
fn definitions_read(answer: &Answer, at: &str) {
    if let [
        Outcome::Prepared {
            columns,
            parameters,
            ..
        },
    ] = answer.results[..]
    {
        let read = prepared(answer, parameters, columns).unwrap();
        let counts = (read.parameters.len(), read.columns.len());
        assert_eq!(counts, (parameters.into(), columns.into()), "{at}");
        assert!(read.parameters.iter().all(|one| one.name == "?"), "{at}");
        assert!(read.columns.iter().all(|one| one.name != "?"), "{at}");
    }
}
