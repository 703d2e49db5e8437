//! Answers that do not end by themselves: while one is given, its connection lives on past its time.
//!
//! They end with the process. How many there may be is for whoever gives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

/// What a request knows of the connection that it came by; in its extensions.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    under_way: Arc<AtomicUsize>,
    ending: CancellationToken,
}

impl Streams {
    /// Of a new connection; `ending` is cancelled when the process ends.
    pub(super) fn new(ending: CancellationToken) -> Self {
        Self {
            under_way: Arc::default(),
            ending,
        }
    }

    /// Whether an answer is under way that has no end.
    pub(super) fn any(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// An answer without an end begins.
    pub(super) fn begin(&self) -> Stream {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Stream(self.clone())
    }
}

/// An answer without an end, until it is dropped.
#[derive(Debug)]
pub(super) struct Stream(Streams);

impl Stream {
    /// The process ends, and so is the answer to.
    pub(super) fn is_to_end(&self) -> bool {
        self.0.ending.is_cancelled()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
