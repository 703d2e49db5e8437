//! The tracker against answers written by hand and drawn at random: the same answer, ending at the
//! same byte, however its bytes arrive; no panic and no endless loop on any bytes.

use super::super::capability::Capabilities;
use super::super::command::Expect;
use super::super::digest;
use super::super::packet::{CHUNK_MAX, write_packet};
use super::super::reply;
use super::super::status::Status;
use super::*;
use proptest::prelude::*;

const TEXT: Expect = Expect::Results { binary: false };
const BINARY: Expect = Expect::Results { binary: true };
const OLD: Capabilities = Capabilities::PROTOCOL_41;
const NEW: Capabilities = OLD.with(Capabilities::DEPRECATE_EOF);
const SAMPLE: usize = 64;

/// Writes answers as a server does.
struct Script {
    capabilities: Capabilities,
    bytes: Vec<u8>,
    seq: u8,
}

impl Script {
    fn new(capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            bytes: Vec::new(),
            seq: 1,
        }
    }

    fn packet(mut self, payload: &[u8]) -> Self {
        self.seq = write_packet(&mut self.bytes, self.seq, payload);
        self
    }

    fn packets(self, payloads: &[&[u8]]) -> Self {
        payloads
            .iter()
            .fold(self, |script, payload| script.packet(payload))
    }

    fn new_dialect(&self) -> bool {
        self.capabilities.has(Capabilities::DEPRECATE_EOF)
    }

    fn ok(mut self, status: u16) -> Self {
        let done = Done {
            affected_rows: 3,
            status: Status(status),
            ..Done::default()
        };
        self.seq = reply::write_ok(&mut self.bytes, self.seq, done);
        self
    }

    fn err(mut self, code: u16) -> Self {
        self.seq = reply::write_err(&mut self.bytes, self.seq, code, *b"42000", "no such thing");
        self
    }

    /// The EOF behind definitions, where the dialect has one.
    fn eof(mut self, status: u16) -> Self {
        if !self.new_dialect() {
            self.seq = reply::write_eof(&mut self.bytes, self.seq, Status(status), 0);
        }
        self
    }

    /// What ends rows.
    fn end(mut self, status: u16) -> Self {
        if !self.new_dialect() {
            return self.eof(status);
        }
        let mut packet = Vec::new();
        reply::write_ok(
            &mut packet,
            0,
            Done {
                status: Status(status),
                ..Done::default()
            },
        );
        packet[4] = reply::EOF;
        self.seq = write_packet(&mut self.bytes, self.seq, &packet[4..]);
        self
    }

    fn definitions(self, count: usize) -> Self {
        (0..count).fold(self, |script, at| script.packet(&definition(at)))
    }

    fn rows(self, columns: u8, rows: &[&[u8]], status: u16) -> Self {
        self.packet(&[columns])
            .definitions(usize::from(columns))
            .eof(status)
            .packets(rows)
            .end(status)
    }
}

fn definition(at: usize) -> Vec<u8> {
    format!(
        "\x03def\x00\x01t\x01t\x02c{}\x00\x0c\x3f\x00\x0b\x00\x00\x00\x03\x00\x00\x00\x00\x00",
        at % 10
    )
    .into_bytes()
}

/// What the tracker makes of a stream in pieces of these lengths (the last one repeats).
fn track(
    capabilities: Capabilities,
    expect: Expect,
    stream: &[u8],
    pieces: &[usize],
) -> (Answer, Progress, usize) {
    let mut tracker = AnswerTracker::new(capabilities, SAMPLE);
    let mut answer = Answer::default();
    tracker.begin(expect);
    let (mut at, mut turn) = (0, 0);
    loop {
        let len = pieces[turn.min(pieces.len() - 1)]
            .max(1)
            .min(stream.len() - at);
        turn += 1;
        let progress = tracker.feed(&stream[at..at + len], &mut answer);
        match progress {
            Progress::More => at += len,
            Progress::ClientTurn { used } => at += used,
            Progress::Ended { used } => return (answer, progress, at + used),
            Progress::Unsure => return (answer, progress, at),
        }
        if at == stream.len() {
            return (answer, progress, at);
        }
    }
}

/// The answer of a stream that is one whole answer, fed in pieces of every length.
fn whole(script: &Script, expect: Expect) -> Answer {
    let stream = &script.bytes;
    let (answer, progress, end) = track(script.capabilities, expect, stream, &[stream.len()]);
    assert!(
        matches!(progress, Progress::Ended { .. }),
        "{progress:?} {answer:?}"
    );
    assert_eq!((end, answer.bytes), (stream.len(), stream.len() as u64));
    let kept = stream.len().min(SAMPLE);
    assert_eq!(answer.sample, stream[..kept]);
    assert_eq!(answer.sample_whole, kept == stream.len());
    for len in 1..stream.len().min(300) {
        let (again, progress, end) = track(script.capabilities, expect, stream, &[len]);
        assert!(
            matches!(progress, Progress::Ended { .. }),
            "{progress:?} in pieces of {len}"
        );
        assert_eq!(end, stream.len());
        assert_eq!(
            format!("{again:?}"),
            format!("{answer:?}"),
            "in pieces of {len}"
        );
    }
    answer
}

fn unsure(script: &Script, expect: Expect) {
    for len in 1..=script.bytes.len() {
        let (_, progress, _) = track(script.capabilities, expect, &script.bytes, &[len]);
        assert_eq!(progress, Progress::Unsure, "in pieces of {len}");
    }
}

fn rows_of(outcome: &Outcome) -> Rows {
    match outcome {
        Outcome::Rows(rows) | Outcome::RowsThenError(rows, _) => *rows,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ok_and_err_end_the_answers_of_one_packet() {
    for capabilities in [OLD, NEW] {
        for expect in [TEXT, BINARY, Expect::One, Expect::Login] {
            let answer = whole(&Script::new(capabilities).ok(2), expect);
            assert_eq!(answer.status, Some(Status(2)));
            assert!(matches!(
                answer.results[..],
                [Outcome::Ok(Done {
                    affected_rows: 3,
                    ..
                })]
            ));
        }
        let refused = [TEXT, BINARY, Expect::One, Expect::Login, Expect::Prepared];
        for expect in refused
            .into_iter()
            .chain([Expect::Rows, Expect::Columns, Expect::Text])
        {
            let answer = whole(&Script::new(capabilities).err(1146), expect);
            assert_eq!(
                answer.error().map(|error| error.code),
                Some(1146),
                "{expect:?}"
            );
            assert!(
                matches!(answer.results[..], [Outcome::Error(_)]),
                "{expect:?}"
            );
            assert_eq!(answer.status, None);
        }
        let answer = whole(&Script::new(capabilities).end(2), Expect::One);
        assert!(matches!(answer.results[..], [Outcome::Ok(_)]));
    }
}

#[test]
fn rows_end_with_either_dialects_packet() {
    let rows: [&[u8]; 3] = [b"\x011\x03abc", b"\x012\xFB", b"\x00\x00"];
    let answers = [OLD, NEW].map(|dialect| whole(&Script::new(dialect).rows(2, &rows, 0x22), TEXT));
    for answer in &answers {
        let rows = rows_of(&answer.results[0]);
        assert_eq!((rows.columns, rows.rows, rows.bytes), (2, 3, 6 + 3 + 2));
        assert_eq!(
            (rows.status, answer.status),
            (Status(0x22), Some(Status(0x22)))
        );
        let mut expected = NO_ROWS;
        for payload in [&b"\x011\x03abc"[..], b"\x012\xFB", b"\x00\x00"] {
            digest::fold_row(&mut expected, digest::row(payload), payload.len() as u64);
        }
        assert_eq!(
            (rows.ordered, rows.unordered),
            (expected.ordered, expected.unordered)
        );
    }
    assert_eq!(
        rows_of(&answers[0].results[0]),
        rows_of(&answers[1].results[0])
    );
}

const NO_ROWS: Rows = Rows {
    binary: false,
    columns: 0,
    columns_digest: 0,
    rows: 0,
    ordered: 0,
    unordered: 0,
    bytes: 0,
    status: Status(0),
    warnings: 0,
    offset: 0,
    cursor: false,
    undigested: false,
};

#[test]
fn an_error_breaks_off_definitions_and_rows() {
    for capabilities in [OLD, NEW] {
        let in_rows = Script::new(capabilities)
            .packet(&[1])
            .definitions(1)
            .eof(2)
            .packet(b"\x011")
            .err(1317);
        let answer = whole(&in_rows, TEXT);
        assert!(matches!(&answer.results[..], [Outcome::RowsThenError(rows, _)] if rows.rows == 1));
        for definitions in 0..=2 {
            let script = Script::new(capabilities)
                .packet(&[2])
                .definitions(definitions)
                .err(1317);
            let answer = whole(&script, TEXT);
            assert!(
                matches!(&answer.results[..], [Outcome::RowsThenError(rows, _)] if rows.rows == 0)
            );
        }
    }
}

#[test]
fn each_result_says_whether_another_follows() {
    let more = Status::MORE_RESULTS | 2;
    for capabilities in [OLD, NEW] {
        let script = Script::new(capabilities)
            .ok(more)
            .rows(1, &[b"\x01a"], more)
            .rows(1, &[], more)
            .rows(2, &[b"\x01a\x01b"], more)
            .ok(2);
        let answer = whole(&script, TEXT);
        assert_eq!(answer.results.len(), 5);
        assert_eq!(answer.rows(), 2);
        let offsets =
            [1, 2, 3].map(|at| usize::try_from(rows_of(&answer.results[at]).offset).unwrap());
        let counts = offsets.map(|at| script.bytes[at + 4]);
        assert_eq!((offsets[0], counts), (4 + 7, [1, 1, 2]));
        assert_eq!(offsets.map(|at| script.bytes[at]), [1, 1, 1]);
        let broken = whole(&Script::new(capabilities).ok(more).err(1064), TEXT);
        assert!(matches!(
            broken.results[..],
            [Outcome::Ok(_), Outcome::Error(_)]
        ));
    }
}

#[test]
fn results_past_the_limit_are_counted_and_the_last_error_is_kept() {
    let many = (0..200).fold(Script::new(OLD), |script, _| {
        script.ok(Status::MORE_RESULTS)
    });
    let answer = whole(&many.err(1064), TEXT);
    assert_eq!(
        (answer.results.len(), answer.results_more),
        (RESULTS_MAX + 1, 200 - RESULTS_MAX as u64)
    );
    assert_eq!(answer.error().map(|error| error.code), Some(1064));
}

#[test]
fn binary_rows_begin_with_zero_and_nothing_else() {
    for capabilities in [OLD, NEW] {
        let answer = whole(
            &Script::new(capabilities).rows(1, &[b"\x00\x00\x05", b"\x00\x04"], 2),
            BINARY,
        );
        let rows = rows_of(&answer.results[0]);
        assert!(rows.binary && !rows.cursor);
        assert_eq!(rows.rows, 2);
        unsure(
            &Script::new(capabilities)
                .packet(&[1])
                .definitions(1)
                .eof(2)
                .packet(b"\x011"),
            BINARY,
        );
    }
}

#[test]
fn a_cursor_ends_the_answer_behind_the_definitions_in_either_dialect() {
    let status = Status::CURSOR_EXISTS | 2;
    let opened = |capabilities| Script::new(capabilities).packet(&[1]).definitions(1);
    for script in [opened(OLD).eof(status), opened(NEW).end(status)] {
        let answer = whole(&script, BINARY);
        assert!(rows_of(&answer.results[0]).cursor);
        assert_eq!(answer.status, Some(Status(status)));
    }
    for capabilities in [OLD, NEW] {
        let fetched = Script::new(capabilities)
            .packet(b"\x00\x00\x05")
            .end(status);
        let rows = rows_of(&whole(&fetched, Expect::Rows).results[0]);
        assert_eq!((rows.rows, rows.columns, rows.cursor), (1, 0, false));
        let last = Script::new(capabilities).end(Status::LAST_ROW_SENT);
        assert_eq!(rows_of(&whole(&last, Expect::Rows).results[0]).rows, 0);
    }
}

#[test]
fn a_prepared_statement_ends_behind_its_last_definition() {
    for capabilities in [OLD, NEW] {
        for (columns, parameters) in [(0, 0), (2, 0), (0, 3), (2, 3)] {
            let mut script = Script::new(capabilities)
                .packet(&[0, 9, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0]);
            for count in [parameters, columns] {
                script = script.definitions(count.into());
                script = if count > 0 { script.eof(2) } else { script };
            }
            let answer = whole(&script, Expect::Prepared);
            let (columns, parameters) = (columns.into(), parameters.into());
            let Some(Outcome::Prepared { definitions, .. }) = answer.results.first() else {
                panic!("{:?}", answer.results);
            };
            assert_eq!(*definitions != 0, columns + parameters > 0);
            assert_eq!(
                answer.results,
                [Outcome::Prepared {
                    statement_id: 9,
                    columns,
                    parameters,
                    definitions: *definitions,
                }]
            );
        }
    }
}

#[test]
fn rows_that_nobody_compares_are_counted_and_say_so() {
    let mut script = Script::new(OLD).packet(&[1]).packet(&definition(0)).eof(0);
    for row in [&b"\x03abc"[..], b"\x00", b"\x01x"] {
        script = script.packet(row);
    }
    let script = script.eof(0);
    let digested = whole(&script, TEXT);
    for pieces in [script.bytes.len(), 1, 3] {
        let mut tracker = AnswerTracker::new(OLD, SAMPLE);
        let mut answer = Answer::default();
        tracker.digest_rows(false);
        tracker.begin(TEXT);
        for piece in script.bytes.chunks(pieces) {
            tracker.feed(piece, &mut answer);
        }
        let [Outcome::Rows(rows)] = answer.results[..] else {
            panic!("{answer:?}")
        };
        assert!(rows.undigested && !answer.is_digested());
        let [Outcome::Rows(other)] = digested.results[..] else {
            panic!("{digested:?}")
        };
        assert_eq!(
            (rows.rows, rows.bytes),
            (other.rows, other.bytes),
            "{pieces}"
        );
        assert_eq!(rows.columns_digest, other.columns_digest);
        assert_eq!(
            (answer.bytes, answer.sample),
            (digested.bytes, digested.sample.clone())
        );
        assert!(digested.is_digested());
    }
}

#[test]
fn the_client_sends_its_file_and_then_the_server_goes_on() {
    let mut tracker = AnswerTracker::new(OLD, SAMPLE);
    let mut answer = Answer::default();
    tracker.begin(TEXT);
    let request = Script::new(OLD).packet(b"\xFBdata.csv");
    assert_eq!(
        tracker.feed(&request.bytes, &mut answer),
        Progress::ClientTurn { used: 13 }
    );
    let more = Script::new(OLD).ok(Status::MORE_RESULTS).err(1064);
    let end = more.bytes.len();
    assert_eq!(
        tracker.feed(&more.bytes, &mut answer),
        Progress::Ended { used: end }
    );
    assert!(matches!(
        answer.results[..],
        [Outcome::LocalInfile, Outcome::Ok(_), Outcome::Error(_)]
    ));
    assert_eq!(answer.bytes, (13 + end) as u64);
}

#[test]
fn a_change_of_user_is_a_login_in_turns() {
    let mut tracker = AnswerTracker::new(NEW, SAMPLE);
    let mut answer = Answer::default();
    tracker.begin(Expect::Login);
    let switch = Script::new(NEW)
        .packet(b"\xFEcaching_sha2_password\x00abcdefghijklmnopqrst\x00")
        .bytes;
    let full = Script::new(NEW).packet(b"\x01\x04").bytes;
    for turn in [switch, full] {
        assert_eq!(
            tracker.feed(&turn, &mut answer),
            Progress::ClientTurn { used: turn.len() }
        );
    }
    assert_eq!(
        tracker.feed(&Script::new(NEW).packet(b"\x01\x03").bytes, &mut answer),
        Progress::More
    );
    let ok = Script::new(NEW).ok(2).bytes;
    assert_eq!(
        tracker.feed(&ok, &mut answer),
        Progress::Ended { used: ok.len() }
    );
    assert!(matches!(answer.results[..], [Outcome::Ok(_)]));
}

#[test]
fn statistics_are_a_string_and_a_field_list_is_definitions() {
    for capabilities in [OLD, NEW] {
        let statistics = Script::new(capabilities).packet(b"Uptime: 5  Threads: 1");
        assert_eq!(whole(&statistics, Expect::Text).results, [Outcome::Other]);
        assert_eq!(
            whole(&Script::new(capabilities).packet(b""), Expect::Text).results,
            [Outcome::Other]
        );
        let list = Script::new(capabilities).definitions(3).end(2);
        let answer = whole(&list, Expect::Columns);
        assert_eq!(
            (answer.results, answer.status),
            (vec![Outcome::Other], Some(Status(2)))
        );
    }
}

/// The answer to a text query with one row of one cell, `len` bytes long with its length.
fn one_large_row(capabilities: Capabilities, cell: usize) -> (Script, usize) {
    let mut row = Vec::new();
    super::super::packet::write_lenenc_bytes(&mut row, &vec![0xFE; cell]);
    let len = row.len();
    (
        Script::new(capabilities)
            .packet(&[1])
            .definitions(1)
            .eof(2)
            .packet(&row)
            .packet(b"\xFB")
            .end(2),
        len,
    )
}

#[test]
fn a_row_of_many_chunks_is_one_row_and_its_tail_ends_nothing() {
    // Just under, at and over one chunk and two; a first cell of 16 MiB or more begins with 0xFE.
    let max = CHUNK_MAX;
    for capabilities in [OLD, NEW] {
        for cell in [max - 5, max - 4, max - 3, max, max + 1, 2 * max - 9] {
            let (script, len) = one_large_row(capabilities, cell);
            let stream = &script.bytes;
            let mut seen = Vec::new();
            for piece in [stream.len(), 16 * 1024, 1_000_003, max + 4] {
                let (answer, progress, end) = track(capabilities, TEXT, stream, &[piece]);
                assert!(
                    matches!(progress, Progress::Ended { .. }),
                    "{cell} in pieces of {piece}"
                );
                assert_eq!(end, stream.len());
                let rows = rows_of(&answer.results[0]);
                assert_eq!((rows.rows, rows.bytes), (2, len as u64 + 1));
                seen.push(rows.ordered);
            }
            assert!(seen.iter().all(|ordered| *ordered == seen[0]));
        }
    }
}

#[test]
fn a_packet_that_fits_nowhere_is_unsure() {
    let wrong: [(Expect, &[&[u8]]); 14] = [
        (TEXT, &[b""]),
        (TEXT, &[b"\x00\x00\x00"]),
        (TEXT, &[b"\xFE\x00\x00\x02\x00"]),
        (TEXT, &[b"\x02\x01"]),
        (TEXT, &[b"\xFD\x00\x00\x01"]),
        (TEXT, &[b"\x01", b"\xFE\x00\x00\x02\x00"]),
        (TEXT, &[b"\x01", b"\x03def", b"\x011"]),
        (TEXT, &[b"\x01", b"\x03def", b"\xFE\x00\x00\x02\x00", b""]),
        (TEXT, &[b"\xFF\xFF\xFF\x01\x01"]),
        (TEXT, &[b"\xFF"]),
        (Expect::One, &[b"\x01"]),
        (Expect::Prepared, &[b"\x00\x01"]),
        (Expect::Prepared, &[b"\x05"]),
        (Expect::Tunnel, &[b"\x00\x00\x00\x02\x00\x00\x00"]),
    ];
    for (expect, packets) in wrong {
        unsure(&Script::new(OLD).packets(packets), expect);
    }
}

#[test]
fn a_server_that_speaks_unasked_is_unsure_and_nothing_is_an_answer_too() {
    let mut tracker = AnswerTracker::new(OLD, SAMPLE);
    let mut answer = Answer::default();
    let ok = Script::new(OLD).ok(2).bytes;
    tracker.begin(Expect::Nothing);
    assert_eq!(tracker.feed(&ok, &mut answer), Progress::Ended { used: 0 });
    tracker.begin(Expect::One);
    let twice = [ok.clone(), ok.clone()].concat();
    assert_eq!(
        tracker.feed(&twice, &mut answer),
        Progress::Ended { used: ok.len() }
    );
    assert_eq!(tracker.feed(&[], &mut answer), Progress::More);
    assert_eq!(tracker.feed(&ok, &mut answer), Progress::Unsure);
    tracker.begin(Expect::One);
    assert_eq!(tracker.feed(&ok, &mut answer), Progress::Unsure);
}

#[test]
fn a_layout_that_the_tracker_does_not_know_is_unsure() {
    let unknown = [
        Capabilities(0),
        OLD.with(Capabilities::OPTIONAL_RESULTSET_METADATA),
        OLD.with(Capabilities::COMPRESS),
    ];
    for capabilities in unknown {
        unsure(&Script::new(capabilities).ok(2), TEXT);
    }
}

/// One result, its last packet saying `status`.
#[derive(Clone, Debug)]
enum Drawn {
    Ok,
    Rows(u8, Vec<Vec<u8>>),
}

fn result() -> impl Strategy<Value = Drawn> {
    let row = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        Just(Drawn::Ok),
        (1..9_u8, prop::collection::vec(row, 0..12)).prop_map(|(n, rows)| Drawn::Rows(n, rows))
    ]
}

fn script(capabilities: Capabilities, binary: bool, results: &[Drawn], error: bool) -> Script {
    let mut script = Script::new(capabilities);
    for (at, result) in results.iter().enumerate() {
        let last = at + 1 == results.len() && !error;
        let status = if last { 2 } else { 2 | Status::MORE_RESULTS };
        script = match result {
            Drawn::Ok => script.ok(status),
            Drawn::Rows(columns, rows) => {
                let begin: &[u8] = if binary { &[0] } else { &[0xFC, 0, 0] };
                let rows = rows
                    .iter()
                    .map(|row| [begin, row].concat())
                    .collect::<Vec<_>>();
                script.rows(
                    *columns,
                    &rows.iter().map(Vec::as_slice).collect::<Vec<_>>(),
                    status,
                )
            }
        };
    }
    if error { script.err(1317) } else { script }
}

proptest! {
    #[test]
    fn any_split_of_any_answer_gives_the_same_answer_and_the_same_end(
        new in any::<bool>(),
        tracked in any::<bool>(),
        binary in any::<bool>(),
        results in prop::collection::vec(result(), 1..5),
        error in any::<bool>(),
        pieces in prop::collection::vec(1..40_usize, 1..200),
        trailing in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let dialect = if new { NEW } else { OLD };
        let dialect = if tracked { dialect.with(Capabilities::SESSION_TRACK) } else { dialect };
        let mut script = script(dialect, binary, &results, error);
        let end = script.bytes.len();
        script.bytes.extend(trailing);
        let expect = Expect::Results { binary };
        let (one, progress, at) = track(dialect, expect, &script.bytes, &[script.bytes.len()]);
        prop_assert_eq!((progress, at), (Progress::Ended { used: end }, end));
        let (many, progress, at) = track(dialect, expect, &script.bytes, &pieces);
        let ended = matches!(progress, Progress::Ended { .. });
        prop_assert!(ended, "{progress:?}");
        prop_assert_eq!(at, end);
        prop_assert_eq!(&one.results, &many.results);
        prop_assert_eq!(one.results.len(), results.len() + usize::from(error));
        prop_assert_eq!((&one.sample, one.sample_whole), (&many.sample, many.sample_whole));
        prop_assert_eq!((one.bytes, one.status), (many.bytes, many.status));
    }

    #[test]
    fn no_bytes_panic_or_loop_and_their_pieces_do_not_matter(
        new in any::<bool>(),
        expect in prop::sample::select(vec![
            TEXT, BINARY, Expect::Prepared, Expect::Rows, Expect::Columns, Expect::Text, Expect::One, Expect::Login,
        ]),
        packets in prop::collection::vec((prop::sample::select(vec![0, 1, 2, 3, 0xFB, 0xFC, 0xFE, 0xFF]), prop::collection::vec(0..6_u8, 0..12)), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..60),
        pieces in prop::collection::vec(1..9_usize, 1..60),
    ) {
        let dialect = if new { NEW } else { OLD };
        let mut stream = Vec::new();
        for (first, rest) in packets {
            write_packet(&mut stream, 0, &[&[first][..], &rest].concat());
        }
        stream.extend(noise);
        let (one, one_end, _) = track(dialect, expect, &stream, &[stream.len()]);
        let (many, many_end, _) = track(dialect, expect, &stream, &pieces);
        prop_assert_eq!(std::mem::discriminant(&one_end), std::mem::discriminant(&many_end));
        prop_assert_eq!(one.results, many.results);
    }
}
