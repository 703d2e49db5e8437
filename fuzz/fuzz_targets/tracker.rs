//! No answer panics the tracker, and its pieces do not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::wire::answer::{Answer, AnswerTracker, Outcome, Progress};
use understudy::wire::capability::Capabilities;
use understudy::wire::command::Command;

fuzz_target!(|input: (u8, bool, u8, Vec<u8>)| {
    let (command, new, piece, stream) = input;
    let plain = Capabilities::PROTOCOL_41;
    let dialect = if new {
        plain.with(Capabilities::DEPRECATE_EOF)
    } else {
        plain
    };
    let command = Command(command);
    assert_eq!(
        track(dialect, command, &stream, usize::from(piece) + 1),
        track(dialect, command, &stream, usize::MAX)
    );
});

/// The results, and whether the answer ended (after how many bytes) or was lost.
fn track(
    dialect: Capabilities,
    command: Command,
    mut stream: &[u8],
    piece: usize,
) -> (Vec<Outcome>, Result<u64, bool>) {
    let (mut tracker, mut answer) = (AnswerTracker::new(dialect, 64), Answer::default());
    tracker.begin(command.expect());
    while !stream.is_empty() {
        let piece = &stream[..piece.min(stream.len())];
        let used = match tracker.feed(piece, &mut answer) {
            Progress::More => piece.len(),
            Progress::ClientTurn { used } => used,
            Progress::Ended { .. } => return (answer.results, Ok(answer.bytes)),
            Progress::Unsure => return (answer.results, Err(true)),
        };
        stream = &stream[used..];
    }
    (answer.results, Err(false))
}
