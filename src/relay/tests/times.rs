//! When things were, as it is handed over.

use super::world::*;
use crate::relay::book::{Book, Limits};
use crate::relay::counters::Counters;
use crate::relay::own::Own;
use crate::tee::{self, Facts, Handed, Share};
use crate::wire::status::Status;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, advance};

/// Finding: a primary on the same host answers while the command is still being written, and was said to have taken
/// a microsecond.
#[tokio::test(start_paused = true)]
async fn a_command_was_sent_when_it_began_to_be_written() {
    let (tee, mut receiver) = tee::door(tee::Limits::default());
    let facts = Arc::new(Facts {
        session: 1,
        login: 0,
        user: "app".into(),
        database: String::new(),
        capabilities: CLIENT,
        collation: 45,
        primary: "legacy".into(),
        thread_id: 7,
        client: None,
        share: Arc::new(Share::default()),
    });
    let limits = Limits {
        command_bytes_max: 1 << 20,
        copy_bytes_max: 1 << 20,
        sample_bytes: 1 << 16,
    };
    let own = Own::new(Arc::default(), CLIENT, (false, false));
    let counters = Arc::new(Counters::default());
    let mut book = Book::new(facts, tee, limits, Status(2), counters, own);
    let mut command = packet(0, b"\x03SELECT 1");
    let read = Instant::now();
    book.client(&mut command, read);
    advance(Duration::from_millis(5)).await;
    book.sent(command.len() as u64, Some(read));
    book.abandon();
    let Some(Handed::Exchange(one)) = receiver.try_recv() else {
        panic!("it is handed over");
    };
    assert_eq!(one.acked.duration_since(one.sent), Duration::from_millis(5));
}
