//! Answers that do not end by themselves: while one is given and read, its connection lives on past its time.
//!
//! They end with the process. How many there may be is for whoever gives them.

use axum::http::{HeaderMap, header};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

/// What a request knows of the connection that it came by; in its extensions.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    under_way: Arc<AtomicUsize>,
    /// Somebody has read on since the last look.
    read: Arc<AtomicBool>,
    ending: CancellationToken,
}

impl Streams {
    /// Of a new connection; `ending` is cancelled when the process ends.
    pub(super) fn new(ending: CancellationToken) -> Self {
        Self {
            under_way: Arc::default(),
            read: Arc::default(),
            ending,
        }
    }

    /// Whether an answer is under way that has no end, and was read on since the last look.
    pub(super) fn go_on(&self) -> bool {
        self.read.swap(false, Ordering::Relaxed) && self.under_way.load(Ordering::Relaxed) > 0
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
    /// The next piece of it is asked for: what came before has gone on its way.
    pub(super) fn is_read(&self) {
        self.0.read.store(true, Ordering::Relaxed);
    }

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

/// How its lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object a line.
    Ndjson,
    /// Server-sent events.
    Events,
}

impl Form {
    /// What the asker takes; what is usual there, where they do not say.
    pub(super) fn asked(headers: &HeaderMap, usual: Self) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
        let takes = |form: &Self| accept.is_some_and(|accept| accept.contains(form.kind()));
        [Self::Events, Self::Ndjson]
            .into_iter()
            .find(takes)
            .unwrap_or(usual)
    }

    /// The answer's content type.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    /// One line.
    pub(super) fn line(self, into: &mut String, line: &Value) {
        let text = line.to_string();
        match self {
            Self::Ndjson => into.extend([&*text, "\n"]),
            Self::Events => into.extend(["data: ", &*text, "\n\n"]),
        }
    }

    /// One line, which listeners to events know by this name.
    pub(super) fn event(self, into: &mut String, name: &str, line: &Value) {
        if self == Self::Events {
            into.extend(["event: ", name, "\n"]);
        }
        self.line(into, line);
    }

    /// Which every reader passes over.
    pub(super) const fn nothing(self) -> &'static str {
        match self {
            Self::Ndjson => "\n",
            Self::Events => ":\n\n",
        }
    }
}
