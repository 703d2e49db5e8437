//! No query or execution panics its reader.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::wire::capability::Capabilities;
use understudy::wire::execute::{Execute, Shape};
use understudy::wire::query::query_text;

fuzz_target!(|input: (u32, u16, Vec<u16>, Vec<u8>)| {
    let (capabilities, parameters, long) = (
        Capabilities(input.0),
        input.1,
        input.2.into_iter().collect(),
    );
    let shape = Shape {
        parameters,
        capabilities,
        types: None,
        long: &long,
    };
    let _ = query_text(&input.3, capabilities);
    if let Ok(execute) = Execute::parse(&input.3, shape) {
        let _ = (execute.decode(shape), execute.encode(1, capabilities, None));
    }
});
