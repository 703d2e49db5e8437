//! Read buffers, borrowed only while bytes are on their way. HOT PATH.
//!
//! Each thread keeps a few, so that taking one costs neither a lock nor, mostly, an allocation,
//! and an idle session holds none.

use std::cell::RefCell;

/// Size of a buffer.
pub(super) const BUFFER_BYTES: usize = 16 << 10;

/// Buffers that a thread keeps for their next use: 1 MiB.
const KEPT_MAX: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`BUFFER_BYTES`], its content arbitrary.
pub(super) fn borrow() -> Box<[u8]> {
    KEPT.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
}

/// Takes a buffer back. One of another size is let go.
pub(super) fn give_back(buffer: Box<[u8]>) {
    KEPT.with_borrow_mut(|kept| {
        if kept.len() < KEPT_MAX && buffer.len() == BUFFER_BYTES {
            kept.push(buffer);
        }
    });
}
