//! One client, from login to close.

use super::Shared;
use super::auth::{Broken, Dialogue};
use super::book::{Book, Flight};
use super::login::{self, Legs};
use super::pump::{Event, Pump};
use super::refuse::close;
use crate::connect::{Packet, PacketReader, write_one};
use crate::tee::{End, Facts};
use crate::wire::answer::Outcome;
use crate::wire::login::ChangeUser;
use crate::wire::reply;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::{Instant, timeout};

/// Serves a client to its end.
pub(super) async fn serve(shared: Arc<Shared>, client: crate::connect::Stream, peer: SocketAddr) {
    // Boxed, so that what a login needs is not held by a session that has long logged in.
    let Some(legs) = Box::pin(login::relay(&shared, client)).await else {
        return;
    };
    let session = legs.facts.session;
    tracing::debug!(session, %peer, "logged in");
    let mut pump = Box::new(pump(&shared, legs));
    let end = run(&shared, &mut pump).await;
    tracing::debug!(session, ?end, "over");
    Box::pin(finish(&shared, *pump, end)).await;
}

fn pump(shared: &Arc<Shared>, legs: Legs) -> Pump {
    let Legs {
        client,
        primary,
        facts,
        status,
        ahead,
    } = legs;
    let counters = Arc::clone(&shared.counters);
    let book = Book::new(
        facts,
        shared.tee.clone(),
        shared.limits.book,
        status,
        Arc::clone(&counters),
    );
    let mut pump = Pump::new(client, primary, book, counters);
    pump.put_unseen(&ahead, &[]);
    pump
}

async fn run(shared: &Arc<Shared>, pump: &mut Pump) -> End {
    let mut ear = shared.drain.ear();
    loop {
        let event = poll_fn(|context| {
            ear.listen(context);
            pump.poll(context, &shared.drain)
        });
        match event.await {
            Event::Over(end) => return end,
            Event::Login => {
                if let Err(end) = Box::pin(log_in_anew(shared, pump)).await {
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
    let Pump {
        client, primary, ..
    } = pump;
    // The primary first: what it holds for this session (locks, a transaction) goes at once.
    close(primary, true).await;
    close(client, client_ended).await;
}

/// CHANGE_USER: relays the login in the middle, then goes on with the new facts.
async fn log_in_anew(shared: &Arc<Shared>, pump: &mut Pump) -> Result<(), End> {
    let Some(mut flight) = pump.book.take_first() else {
        return Ok(());
    };
    let facts = Arc::clone(pump.book.facts());
    let renewed = renewed(&facts, &flight);
    let (up, down) = pump.take_unseen();
    let mut dialogue = Dialogue {
        client: &mut pump.client,
        primary: &mut pump.primary,
        from_client: PacketReader::with_ahead(up),
        from_primary: PacketReader::with_ahead(down),
        shift: 0,
        plugin: renewed
            .as_ref()
            .map(|(_, plugin)| plugin.clone())
            .unwrap_or_default(),
        name: &facts.primary,
        next_seq: 1,
    };
    let verdict = timeout(shared.limits.login_timeout, dialogue.verdict()).await;
    let next_seq = dialogue.next_seq;
    let (up, down) = dialogue.into_ahead();
    let verdict = match verdict.unwrap_or(Err(Broken::Late)) {
        Ok(verdict) => verdict,
        Err(broken) => {
            pump.book.hand(flight, Instant::now(), false);
            if let Some((refusal, seq)) = broken.refusal(&shared.counters, &facts.primary, next_seq)
            {
                let _ = write_one(&mut pump.client, &refusal.as_packet(seq)).await;
            }
            return Err(End::Vanished);
        }
    };
    let granted = record(&mut flight, &verdict, &facts);
    pump.book.hand(flight, Instant::now(), true);
    match renewed {
        Some((renewed, _)) if granted => pump.book.renew(Arc::new(renewed)),
        None if granted => pump.become_tunnel("a change of user that cannot be read"),
        Some(_) | None => {}
    }
    write_one(&mut pump.client, &verdict)
        .await
        .map_err(|_| End::Vanished)?;
    pump.book.ring();
    pump.put_unseen(&up, &down);
    Ok(())
}

/// What the session's facts are if the primary grants the change; the plugin that it begins with.
fn renewed(facts: &Facts, flight: &Flight) -> Option<(Facts, Vec<u8>)> {
    let change = ChangeUser::parse(&flight.blank.command, facts.capabilities).ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let renewed = Facts {
        session: facts.session,
        login: facts.login.saturating_add(1),
        user: text(change.user),
        database: text(change.database),
        capabilities: facts.capabilities,
        collation: change.collation.unwrap_or(facts.collation),
        primary: Arc::clone(&facts.primary),
        thread_id: facts.thread_id,
        share: Arc::clone(&facts.share),
    };
    Some((renewed, change.auth_plugin.to_vec()))
}

/// Writes the verdict down as the command's answer; says whether it was granted.
fn record(flight: &mut Flight, verdict: &Packet, facts: &Facts) -> bool {
    let payload = verdict.payload();
    let answer = &mut flight.blank.answer;
    answer.bytes = verdict.bytes().len() as u64;
    answer.sample.extend_from_slice(verdict.bytes());
    answer.sample_whole = true;
    if reply::is_err(payload) {
        answer
            .results
            .push(Outcome::Error(reply::parse_err(payload)));
        return false;
    }
    let done = reply::parse_ok(payload, facts.capabilities).unwrap_or_default();
    answer.status = Some(done.status);
    answer.results.push(Outcome::Ok(done));
    true
}
