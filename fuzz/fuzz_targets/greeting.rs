//! No greeting panics its reader, and a restricted one reads with fewer capabilities.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::wire::capability::Capabilities;
use understudy::wire::greeting::{Greeting, restrict};

fuzz_target!(|input: (u32, Vec<u8>)| {
    let keep = Capabilities(input.0).without(Capabilities::SSL);
    let (before, mut payload) = (Greeting::parse(&input.1), input.1);
    if let (Ok(before), Ok(()), Ok(after)) = (
        before,
        restrict(&mut payload, keep),
        Greeting::parse(&payload),
    ) {
        assert_eq!(after.capabilities, before.capabilities.and(keep));
    }
});
