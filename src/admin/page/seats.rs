//! Who has shown a token once: seats, each with a random id for its cookie and a token for its forms.
//!
//! A seat's id is no secret of the operators': who has it has the page until the seat ends, and never the
//! token itself. Seats are few, live in memory alone, end by themselves, and with the token that they were taken by.

use crate::admin::holders::{Holders, Shown};
use crate::admin::who::Caller;
use crate::config::Role;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

/// Seats at once; one more takes the place of the one that was not seen for longest.
pub(super) const SEATS_MAX: usize = 64;

/// A seat ends when nothing was asked from it for so long. A page that is open asks every few minutes.
pub(super) const IDLE: Duration = Duration::from_secs(12 * 3600);

/// And after this time whatever was asked: a screen on a wall wants the token once a week.
pub(super) const LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Random bytes of an id, and of a token.
const BYTES: usize = 32;

/// Who asks for a page, as its handlers need to know.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Visitor {
    /// What its forms must carry.
    pub(super) form_token: Arc<str>,
    /// Whether it has logged in, so that it can log out.
    pub(super) seated: bool,
    /// Who it is.
    pub(in crate::admin) caller: Caller,
}

impl Visitor {
    /// Whether it is shown forms: it may change something.
    pub(super) fn may_change(&self) -> bool {
        self.caller.role() == Role::Operator
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::admin) struct Seats {
    taken: Mutex<Vec<Seat>>,
    holders: Arc<Holders>,
    /// Of those who need no seat: callers of loopback where there is no token, and the login form.
    unseated: Option<Arc<str>>,
}

#[derive(Debug)]
struct Seat {
    id: [u8; BYTES],
    form_token: Arc<str>,
    /// By which token it was taken.
    by: Shown,
    since: Instant,
    seen: Instant,
}

impl Seat {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= LIFE || now.duration_since(self.seen) >= IDLE
    }
}

impl Seats {
    pub(super) fn new(holders: Arc<Holders>) -> Self {
        let unseated = random().map(|bytes| written(&bytes).into());
        if unseated.is_none() {
            tracing::error!(
                "this machine gives no random bytes: the page shows, and takes no form"
            );
        }
        Self {
            taken: Mutex::default(),
            holders,
            unseated,
        }
    }

    /// Somebody without a seat.
    pub(in crate::admin) fn visitor(&self, caller: Caller) -> Visitor {
        Visitor {
            // An empty token is never right.
            form_token: self.unseated.clone().unwrap_or_default(),
            seated: false,
            caller,
        }
    }

    /// Somebody who has shown no token yet, and may do nothing but that.
    pub(in crate::admin) fn stranger(&self) -> Visitor {
        self.visitor(Caller::known("".into(), Role::Viewer, None))
    }

    /// Who has tokens.
    pub(super) const fn holders(&self) -> &Arc<Holders> {
        &self.holders
    }

    /// A new seat's id, as it stands in the cookie, for who has shown this token; none where the machine gives no
    /// random bytes.
    pub(super) fn take(&self, by: Shown) -> Option<String> {
        let (id, token) = (random()?, random()?);
        let now = Instant::now();
        let mut taken = self.taken.lock();
        taken.retain(|seat| !seat.is_over(now));
        if taken.len() >= SEATS_MAX {
            // Of the token that has most, so that nobody drives all others out.
            let has = |one: &Seat| taken.iter().filter(|seat| seat.by.is(&one.by)).count();
            let all = taken.iter().enumerate();
            let oldest = all.max_by_key(|(_, seat)| (has(seat), Reverse(seat.seen)));
            if let Some(at) = oldest.map(|(at, _)| at) {
                taken.swap_remove(at);
            }
        }
        taken.push(Seat {
            id,
            form_token: written(&token).into(),
            by,
            since: now,
            seen: now,
        });
        Some(written(&id))
    }

    /// Who sits there, by the id of a cookie, as what their token is worth now.
    pub(in crate::admin) fn at(&self, id: &str) -> Option<Visitor> {
        let id = read(id)?;
        let now = Instant::now();
        let mut taken = self.taken.lock();
        taken.retain(|seat| !seat.is_over(now));
        // All are compared, each in constant time.
        let mut found = None;
        for seat in taken.iter_mut() {
            if bool::from(seat.id.ct_eq(&id)) {
                found = Some(seat);
            }
        }
        let seat = found?;
        let Some(caller) = self.holders.still(&seat.by) else {
            let by = seat.by;
            taken.retain(|seat| !seat.by.is(&by));
            return None;
        };
        seat.seen = now;
        Some(Visitor {
            form_token: Arc::clone(&seat.form_token),
            seated: true,
            caller,
        })
    }

    /// Gives a seat back.
    pub(super) fn leave(&self, id: &str) {
        let Some(id) = read(id) else { return };
        self.taken
            .lock()
            .retain(|seat| !bool::from(seat.id.ct_eq(&id)));
    }
}

fn random() -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut bytes).ok().map(|()| bytes)
}

fn written(bytes: &[u8; BYTES]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read(id: &str) -> Option<[u8; BYTES]> {
    URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const TOKEN: &str = "hush-hush-hush-hush";

    fn seats() -> Seats {
        let text = format!("[admin]\ntoken = {TOKEN:?}\n");
        let admin = Config::parse(&text, &[]).unwrap().admin;
        Seats::new(Holders::new(&admin, &Arc::default()))
    }

    fn by(seats: &Seats) -> Shown {
        let caller = seats.holders().whose(TOKEN.as_bytes());
        caller.unwrap().token().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_seat_ends_when_it_is_idle_and_at_the_latest_after_a_week() {
        let seats = seats();
        let id = seats.take(by(&seats)).unwrap();
        assert!(seats.at(&id).unwrap().seated);
        let mut left = LIFE;
        while left > IDLE {
            tokio::time::advance(IDLE - Duration::from_secs(1)).await;
            left -= IDLE - Duration::from_secs(1);
            assert!(seats.at(&id).is_some(), "{left:?} before its end");
        }
        tokio::time::advance(left).await;
        assert!(seats.at(&id).is_none(), "its week is over");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_seat_is_over() {
        let seats = seats();
        let id = seats.take(by(&seats)).unwrap();
        tokio::time::advance(IDLE).await;
        assert!(seats.at(&id).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn seats_are_bounded_and_the_one_unseen_for_longest_goes() {
        let seats = seats();
        let mut ids = Vec::new();
        for _ in 0..SEATS_MAX {
            ids.push(seats.take(by(&seats)).unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(seats.at(&ids[0]).is_some(), "seen again");
        let more = seats.take(by(&seats)).unwrap();
        assert!(seats.at(&more).is_some() && seats.at(&ids[0]).is_some());
        assert!(seats.at(&ids[1]).is_none());
        assert_eq!(seats.taken.lock().len(), SEATS_MAX);
    }

    #[tokio::test]
    async fn nobody_sits_where_nobody_sat_down() {
        let seats = seats();
        let id = seats.take(by(&seats)).unwrap();
        for wrong in ["", "x", &"A".repeat(43), &format!("{id}A")] {
            assert!(seats.at(wrong).is_none(), "{wrong:?}");
        }
        seats.leave(&id);
        assert!(seats.at(&id).is_none());
        assert_ne!(
            seats.take(by(&seats)).unwrap(),
            seats.take(by(&seats)).unwrap()
        );
    }
}
