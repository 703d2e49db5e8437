//! No row, definition or reply panics its reader.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::wire::capability::Capabilities;
use understudy::wire::column::Column;
use understudy::wire::{reply, row};

fuzz_target!(|input: (u32, u16, Vec<u8>, Vec<u8>)| {
    let (capabilities, count, definition, payload) = input;
    let _ = row::text_row(&payload, count.into());
    let columns = Column::parse(&definition).map(|column| vec![column; usize::from(count % 64)]);
    let _ = columns.map(|columns| row::binary_row(&payload, &columns).map(drop));
    let _ = (
        reply::parse_ok(&payload, Capabilities(capabilities)),
        reply::parse_err(&payload),
    );
});
