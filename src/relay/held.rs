//! A session at the gate: gives its primary away, and goes on as it is told. Not on the hot path;
//! its futures are boxed by their caller.

use super::Shared;
use super::carry::Then;
use super::drain::Phase;
use super::ear::Ear;
use super::pump::{Event, Pump};
use crate::tee::End;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// Before a session's first command: it is held where the gate holds, or where the primary has
/// changed since its login began; what the client sent ahead waits as long.
pub(super) async fn arrive(
    shared: &Arc<Shared>,
    pump: &mut Pump,
    ear: &mut Ear<'_>,
    ahead: Vec<u8>,
) -> Result<(), End> {
    loop {
        let event = poll_fn(|context| {
            ear.listen(context);
            Poll::Ready(pump.look_at_gate(&shared.gate, context))
        });
        match event.await {
            None => break,
            Some(Event::Over(end)) => return Err(end),
            Some(Event::Held | Event::Login | Event::Own) => wait(shared, pump, ear).await,
        }
        if pump.is_ending() {
            return Ok(());
        }
    }
    pump.put_unseen(&ahead, &[]);
    Ok(())
}

/// Waits until the session is told how to go on, or the proxy drains.
pub(super) async fn wait(shared: &Arc<Shared>, pump: &mut Pump, ear: &mut Ear<'_>) {
    if shared.drain.phase() != Phase::Running {
        pump.shut_down();
        return;
    }
    shared.counters.held.add(1);
    let held = pump.part();
    let mut carrying = shared.carry.held(held);
    let mut waiting = None;
    let then = poll_fn(|context| {
        ear.listen(context);
        if shared.drain.phase() != Phase::Running {
            return Poll::Ready(None);
        }
        if let Poll::Ready(then) = carrying.as_mut().poll(context) {
            return Poll::Ready(Some(then));
        }
        // Whoever carries it knows it by now.
        waiting.get_or_insert_with(|| pump.seat().hold());
        Poll::Pending
    })
    .await;
    drop(carrying);
    drop(waiting);
    match then {
        None => pump.shut_down(),
        Some(Then::Back(primary)) => pump.go_back(primary),
        Some(Then::Once(primary)) => pump.go_once(primary),
        Some(Then::Moved(mut leg)) => {
            if let Err(error) = leg.stream.come_home() {
                tracing::debug!(%error, "a session's new leg stays with another thread");
            }
            shared.counters.moved.add(1);
            let has_init = !shared.server(&leg.server).init.is_empty();
            pump.go_over(*leg, has_init);
        }
        Some(Then::End(why)) => {
            shared.counters.ended.add(1);
            pump.say_and_close(&why);
        }
    }
}
