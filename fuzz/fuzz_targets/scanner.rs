//! No command panics the scanner, and every piece is used up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::wire::command::{CommandScanner, Scanned};

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (mut scanner, mut payload) = (CommandScanner::new(64), Vec::new());
    for mut piece in input.1.chunks(usize::from(input.0) + 1) {
        while let Scanned::Ended { used } = scanner.feed(piece, &mut payload)
            && !piece.is_empty()
        {
            piece = &piece[used..];
            payload.clear();
        }
    }
});
