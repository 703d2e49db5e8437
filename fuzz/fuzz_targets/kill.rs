//! No KILL panics its reader, and what is read as one begins like one, however much of it has come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::wire::capability::Capabilities;
use understudy::wire::kill::{Beginning, KILL_BYTES_MAX, Kill, begins};
use understudy::wire::packet::write_packet;

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (attributes, payload) = (input.0, input.1.as_slice());
    let capabilities = if attributes {
        Capabilities::QUERY_ATTRIBUTES
    } else {
        Capabilities::default()
    };
    let mut wire = Vec::new();
    write_packet(&mut wire, 0, payload);
    let begins = |len| begins(wire.get(..len).unwrap_or_default(), capabilities);
    let Some(kill) = Kill::parse(payload, capabilities) else {
        let _ = begins(wire.len());
        return;
    };
    let again = Kill::parse(&kill.with_id(payload, 7), capabilities);
    assert!(again.is_some_and(|again| again.id == 7 && again.victim == kill.victim));
    if payload.len() <= KILL_BYTES_MAX {
        assert!((0..wire.len()).all(|len| begins(len) != Beginning::Other));
        assert_eq!(begins(wire.len()), Beginning::Kill);
    }
});
