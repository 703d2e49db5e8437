//! One client, from login to close.

use super::Shared;
use super::anew;
use super::book::Book;
use super::counters::Ticket;
use super::ear::Ear;
use super::held;
use super::homes::Place;
use super::login::{self, Legs};
use super::own::{self, Own};
use super::pump::{Event, Pump};
use super::refuse::close;
use crate::connect::Stream;
use crate::tee::End;
use crate::wire::proxied::Addresses;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// Serves a client to its end; until then the ticket counts it, and it has its place on a thread. `client`
/// is called there.
///
/// Nearly all sessions are idle nearly always, and what this future holds each of them holds: so
/// what is needed for a while only is boxed, and no argument lies in it twice.
pub(super) fn serve(
    shared: Arc<Shared>,
    client: impl FnOnce() -> io::Result<Stream> + Send + 'static,
    ends: Addresses,
    open: (Ticket, Option<Place>),
) -> impl Future<Output = ()> + Send {
    let beginning: Boxed<Option<Box<Session>>> = Box::pin(begin(Arc::clone(&shared), client, ends));
    async move {
        let Some(mut session) = beginning.await else {
            return;
        };
        let end = run(&shared, &mut session).await;
        let ending: Boxed<()> = Box::pin(finish(shared, session, end));
        ending.await;
        drop(open);
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A session that has logged in, and what its client sent ahead, which is not looked at yet.
struct Session {
    pump: Pump,
    ahead: Vec<u8>,
}

/// Logs in and enters the census.
async fn begin(
    shared: Arc<Shared>,
    client: impl FnOnce() -> io::Result<Stream>,
    mut ends: Addresses,
) -> Option<Box<Session>> {
    let _in_login = shared.roster.login();
    let peer = ends.client;
    let client = client().inspect_err(|error| {
        shared.counters.accept_errors.add(1);
        tracing::warn!(%error, %peer, "a client was let go: its connection cannot be watched (descriptors, memory or fs.epoll.max_user_watches are short)");
    });
    let mut client = client.ok()?;
    let balancers = &shared.limits.balancers;
    if balancers.has(peer.ip()) {
        ends = balancers.hear(&mut client, ends, &shared.counters).await?;
    }
    let legs = login::relay(&shared, client, ends).await?;
    let session = session(&shared, legs);
    tracing::debug!(session = session.pump.book.facts().session, client = %ends.client, "logged in");
    Some(session)
}

fn session(shared: &Arc<Shared>, legs: Legs) -> Box<Session> {
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
    let pump = Pump::new(client, primary, book, counters, at_gate);
    Box::new(Session { pump, ahead })
}

async fn run(shared: &Arc<Shared>, session: &mut Session) -> End {
    let ahead = std::mem::take(&mut session.ahead);
    let pump = &mut session.pump;
    let mut ear = Ear::new(&shared.drain, &shared.gate, &shared.bell);
    poll_fn(|context| {
        pump.seat().summons().wakes(context.waker());
        Poll::Ready(())
    })
    .await;
    let arriving = Box::pin(held::arrive(shared, pump, &mut ear, ahead));
    if let Err(end) = arriving.await {
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
async fn finish(shared: Arc<Shared>, session: Box<Session>, end: End) {
    let mut pump = session.pump;
    tracing::debug!(session = pump.book.facts().session, ?end, "over");
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
