//! One client, from login to close.

use super::Shared;
use super::anew;
use super::book::Book;
use super::ear::Ear;
use super::held;
use super::login::{self, Legs};
use super::own::{self, Own};
use super::pump::{Event, Pump};
use super::refuse::close;
use crate::connect::Stream;
use crate::tee::End;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

/// Serves a client to its end.
pub(super) async fn serve(shared: Arc<Shared>, client: Stream, peer: SocketAddr) {
    let Some((mut pump, ahead)) = begin(&shared, client).await else {
        return;
    };
    let session = pump.book.facts().session;
    tracing::debug!(session, %peer, "logged in");
    let end = run(&shared, &mut pump, ahead).await;
    tracing::debug!(session, ?end, "over");
    Box::pin(finish(&shared, *pump, end)).await;
}

/// Logs in and enters the census; what the client sent ahead is not looked at yet.
async fn begin(shared: &Arc<Shared>, client: Stream) -> Option<(Box<Pump>, Vec<u8>)> {
    let _in_login = shared.roster.login();
    // Boxed, so that what a login needs is not held by a session that has long logged in.
    let legs = Box::pin(login::relay(shared, client)).await?;
    let (pump, ahead) = pump(shared, legs);
    Some((Box::new(pump), ahead))
}

fn pump(shared: &Arc<Shared>, legs: Legs) -> (Pump, Vec<u8>) {
    let Legs {
        client,
        primary,
        facts,
        newcomer,
        status,
        ahead,
    } = legs;
    let counters = Arc::clone(&shared.counters);
    let has_init = !shared.server(&facts.primary).init.is_empty();
    let own = Own::new(
        shared.roster.ids_differ(),
        facts.capabilities,
        (newcomer.vitess, has_init),
    );
    let seat = shared.roster.enter(&facts, newcomer);
    let book = Book::new(
        facts,
        shared.tee.clone(),
        shared.limits.book,
        status,
        Arc::clone(&counters),
        own,
    );
    let at_gate = (seat, shared.gate.word_never());
    (Pump::new(client, primary, book, counters, at_gate), ahead)
}

async fn run(shared: &Arc<Shared>, pump: &mut Pump, ahead: Vec<u8>) -> End {
    let mut ear = Ear::new(&shared.drain, &shared.gate, &shared.bell);
    poll_fn(|context| {
        pump.seat().summons().wakes(context.waker());
        Poll::Ready(())
    })
    .await;
    if let Err(end) = Box::pin(held::arrive(shared, pump, &mut ear, ahead)).await {
        return end;
    }
    loop {
        let event = poll_fn(|context| {
            let word = ear.listen(context);
            pump.poll(context, word, (&shared.gate, &shared.drain))
        });
        match event.await {
            Event::Over(end) => return end,
            Event::Held => Box::pin(held::wait(shared, pump, &mut ear)).await,
            Event::Login => {
                if let Err(end) = Box::pin(anew::relay(shared, pump)).await {
                    return end;
                }
            }
            Event::Own => {
                if let Err(end) = Box::pin(own::deal(shared, pump)).await {
                    return end;
                }
            }
        }
    }
}

/// Closes the books and both legs.
async fn finish(shared: &Shared, mut pump: Pump, end: End) {
    shared.counters.bytes_up.add(pump.up.moved());
    shared.counters.bytes_down.add(pump.down.moved());
    if !pump.is_tunnel() {
        pump.book.abandon();
        pump.book.tee().closed(pump.book.facts(), end);
    }
    let client_ended = pump.client_ended();
    let (client, primary, seat) = pump.into_legs();
    // The primary first: what it holds for this session (locks, a transaction) goes at once.
    close(primary, true).await;
    // Nothing more can come to the primary.
    drop(seat);
    close(client, client_ended).await;
}
