//! One client, from login to close.

use super::Shared;
use super::auth::{Broken, Dialogue};
use super::book::{Book, Flight};
use super::ear::Ear;
use super::held;
use super::login::{self, Legs};
use super::pump::{Event, Pump};
use super::refuse::{Refusal, close};
use crate::connect::{Packet, PacketReader, Stream, write_one};
use crate::tee::{End, Facts};
use crate::wire::answer::Outcome;
use crate::wire::login::ChangeUser;
use crate::wire::reply;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::{Instant, timeout};

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
        status,
        ahead,
    } = legs;
    let counters = Arc::clone(&shared.counters);
    let seat = shared.roster.enter(&facts);
    let book = Book::new(
        facts,
        shared.tee.clone(),
        shared.limits.book,
        status,
        Arc::clone(&counters),
    );
    let at_gate = (seat, shared.gate.word_never());
    (Pump::new(client, primary, book, counters, at_gate), ahead)
}

async fn run(shared: &Arc<Shared>, pump: &mut Pump, ahead: Vec<u8>) -> End {
    let mut ear = Ear::new(&shared.drain, &shared.gate, &shared.bell);
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
    let (client, primary, seat) = pump.into_legs();
    // The primary first: what it holds for this session (locks, a transaction) goes at once.
    close(primary, true).await;
    // Nothing more can come to the primary.
    drop(seat);
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
    let verdict = tokio::select! {
        biased;
        // Who is in the middle of a login cannot be held.
        why = shared.gate.ended() => Err(Broken::Ended(Refusal::ended(&why))),
        verdict = timeout(shared.limits.login_timeout, dialogue.verdict()) => {
            verdict.unwrap_or(Err(Broken::Late))
        }
    };
    let next_seq = dialogue.next_seq;
    let (up, down) = dialogue.into_ahead();
    let verdict = match verdict {
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
        Some((renewed, _)) if granted => pump.renew(Arc::new(renewed)),
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
