//! Where sessions wait while a cutover holds them, and where they get their new primary from.
//!
//! The relay's sessions come here with their primary's connection and wait for one word. During a
//! hold the coordinator has them all in [`Carrier::seats`]; outside of one a session comes because
//! it logged in to a server that is not primary any more: it gets the new one at once. Refuses to
//! decide when a hold ends, and knows nothing of journals.

use crate::ask::ask_over;
use crate::config::{Account, Server};
use crate::connect::{self, Dial, Login, Stream, TlsContext};
use crate::relay::{Carry, Carrying, Held, Leg, Then, part_with};
use crate::roles::RolesWatch;
use crate::tee::Facts;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a session is told that stays behind.
const LEFT: &str = "the primary changed, and this session could not be carried across";

/// See the module.
pub struct Carrier {
    roles: RolesWatch,
    dial: Arc<dyn Dial>,
    hold: Mutex<Hold>,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Hold {
    on: bool,
    seats: BTreeMap<u64, Seat>,
    /// Sessions that were let go on for a command and have not come again. They are counted as held
    /// until they are awake.
    going: BTreeSet<u64>,
    /// Seats whose connections are being asked something.
    lent: usize,
}

/// A session that waits.
struct Seat {
    facts: Arc<Facts>,
    seq: u64,
    /// None where it was asked something and has not said all of its answer: no client can go on
    /// with such a connection.
    primary: Option<Stream>,
    answer: oneshot::Sender<Word>,
}

/// What a session that waits is told.
enum Word {
    Then(Then),
    /// It came when the others had been looked at, and has said nothing yet: it finds its way to the
    /// primary of now by itself.
    Late(Stream),
}

impl Seat {
    /// Lets the session go on with the connection that it came with.
    fn answer(self, with: impl FnOnce(Stream) -> Then) {
        let then = match self.primary {
            Some(primary) => with(primary),
            None => Then::End("the primary did not answer the proxy's own question".to_owned()),
        };
        // A session that does not wait any more needs no word.
        let _ = self.answer.send(Word::Then(then));
    }
}

impl Carrier {
    /// Nothing is held.
    #[must_use]
    pub fn new(roles: RolesWatch, dial: Arc<dyn Dial>) -> Self {
        Self {
            roles,
            dial,
            hold: Mutex::default(),
        }
    }

    /// From here on sessions that come wait.
    pub(super) fn begin(&self) {
        self.hold.lock().on = true;
    }

    /// The sessions that wait, each with the number of its last command that went through the tee.
    pub(super) fn seats(&self) -> Vec<(Arc<Facts>, u64)> {
        let hold = self.hold.lock();
        let waiting = |seat: &Seat| (Arc::clone(&seat.facts), seat.seq);
        hold.seats.values().map(waiting).collect()
    }

    /// How many sessions wait that are not in [`Carrier::seats`], as an earlier hold's question to
    /// their connections has not been answered yet.
    pub(super) fn lent(&self) -> usize {
        self.hold.lock().lent
    }

    /// A session's connection, to ask it something; it is back in its seat once this is dropped. Where
    /// the hold is over by then, the session goes on at once.
    pub(super) fn lend(self: &Arc<Self>, session: u64) -> Option<Lent> {
        let mut hold = self.hold.lock();
        let seat = hold.seats.remove(&session)?;
        hold.lent += 1;
        drop(hold);
        Some(Lent {
            seat: Some(seat),
            carrier: Arc::clone(self),
        })
    }

    /// Lets a session go on for one command, by which it may let go what it holds.
    pub(super) fn let_once(&self, session: u64) {
        let mut hold = self.hold.lock();
        let Some(seat) = hold.seats.remove(&session) else {
            return;
        };
        hold.going.insert(session);
        drop(hold);
        seat.answer(Then::Once);
    }

    /// The sessions that were let go on for a command and have not come again; some may have ended.
    pub(super) fn going(&self) -> BTreeSet<u64> {
        self.hold.lock().going.clone()
    }

    /// Ends a session that cannot be moved.
    pub(super) fn end_one(&self, session: u64, why: &str) {
        let seat = self.hold.lock().seats.remove(&session);
        if let Some(seat) = seat {
            let _ = seat.answer.send(Word::Then(Then::End(why.to_owned())));
            if let Some(primary) = seat.primary {
                part_with(primary);
            }
        }
    }

    /// Lets every session go on as before.
    pub(super) fn let_go(&self) {
        for seat in self.end_hold().into_values() {
            seat.answer(Then::Back);
        }
    }

    /// Lets every session go on with the leg that it is given. One without a leg opens its own where
    /// it has said nothing yet (its login ended when the legs were being made), and is ended else.
    /// Says how many were moved, and which were ended. To be called on a runtime, once the roles are
    /// what they are to be.
    pub(super) fn move_all(&self, mut legs: BTreeMap<u64, Leg>) -> (usize, Vec<u64>) {
        let (mut moved, mut ended) = (0, Vec::new());
        let mut left = Vec::new();
        for (session, mut seat) in self.end_hold() {
            let is_new = seat.seq == 0 && seat.facts.login == 0;
            let word = match (legs.remove(&session), seat.primary.take()) {
                (Some(leg), primary) => {
                    left.extend(primary);
                    moved += 1;
                    Word::Then(Then::Moved(Box::new(leg)))
                }
                (None, Some(primary)) if is_new => Word::Late(primary),
                (None, primary) => {
                    left.extend(primary);
                    ended.push(session);
                    Word::Then(Then::End(LEFT.to_owned()))
                }
            };
            let _ = seat.answer.send(word);
        }
        left.into_iter().for_each(part_with);
        (moved, ended)
    }

    fn end_hold(&self) -> BTreeMap<u64, Seat> {
        let mut hold = self.hold.lock();
        hold.on = false;
        hold.going.clear();
        std::mem::take(&mut hold.seats)
    }

    /// Waits for the coordinator's word.
    async fn wait(&self, held: Held) -> Then {
        let (answer, word) = oneshot::channel();
        let session = held.facts.session;
        let (facts, seq) = (Arc::clone(&held.facts), held.seq);
        let seat = Seat {
            facts: held.facts,
            seq,
            primary: Some(held.primary),
            answer,
        };
        let not_held = {
            let mut hold = self.hold.lock();
            if hold.on {
                hold.going.remove(&session);
                hold.seats.insert(session, seat);
                None
            } else {
                Some(seat)
            }
        };
        if let Some(Seat {
            primary: Some(primary),
            ..
        }) = not_held
        {
            return self.late(&facts, seq, primary).await;
        }
        match word.await {
            Ok(Word::Then(then)) => then,
            Ok(Word::Late(primary)) => self.late(&facts, seq, primary).await,
            Err(_) => Then::End("the cutover broke off".to_owned()),
        }
    }

    /// A session that was not there when the primary changed: one that was logging in.
    async fn late(&self, facts: &Facts, seq: u64, primary: Stream) -> Then {
        let server = Arc::clone(&self.roles.borrow().primary);
        if *facts.primary == *server.name {
            return Then::Back(primary);
        }
        part_with(primary);
        if seq > 0 {
            return Then::End("the primary changed, and this session was not ready".to_owned());
        }
        match open(&*self.dial, &server, facts).await {
            Ok(leg) => Then::Moved(Box::new(leg)),
            Err(why) => Then::End(format!("the primary changed to {}: {why}", server.name)),
        }
    }
}

impl Carry for Carrier {
    fn held<'a>(&'a self, held: Held) -> Carrying<'a> {
        Box::pin(self.wait(held))
    }
}

/// A session whose connection was taken from its seat for a moment. Back it goes when this is
/// dropped, whatever became of the question.
pub(super) struct Lent {
    seat: Option<Seat>,
    carrier: Arc<Carrier>,
}

impl Lent {
    /// Its primary's connection, to be asked. Until it is given back whole nobody can go on with it.
    pub(super) fn take(&mut self) -> Option<Stream> {
        self.seat.as_mut()?.primary.take()
    }

    /// The whole answer was read.
    pub(super) fn give_back(&mut self, stream: Stream) {
        if let Some(seat) = &mut self.seat {
            seat.primary = Some(stream);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let mut hold = self.carrier.hold.lock();
        hold.lent = hold.lent.saturating_sub(1);
        if hold.on {
            hold.seats.insert(seat.facts.session, seat);
            return;
        }
        drop(hold);
        let is_primary = *seat.facts.primary == *self.carrier.roles.borrow().primary.name;
        seat.answer(|primary| {
            if is_primary {
                return Then::Back(primary);
            }
            Then::End(LEFT.to_owned())
        });
    }
}

/// The login of the same name by which a user's sessions are carried to a server: its own in
/// `users`, or the proxy's account where that has its name.
pub(super) fn login_of<'a>(server: &'a Server, user: &str) -> Option<&'a Account> {
    let account = server.users.get(user).or(server.account.as_ref());
    account.filter(|account| account.user == user)
}

/// A leg for a session that has done nothing yet.
async fn open(dial: &dyn Dial, server: &Server, facts: &Facts) -> Result<Leg, String> {
    let account = login_of(server, &facts.user).ok_or_else(|| {
        format!(
            "no login for the user {} is known: name it in the config's users of {}",
            facts.user, server.name
        )
    })?;
    let login = Login {
        user: account.user.clone(),
        password: account.password.clone(),
        database: (!facts.database.is_empty()).then(|| facts.database.clone()),
        capabilities: facts.capabilities,
        collation: facts.collation,
        client: facts.client.as_deref().copied(),
    };
    let tls = TlsContext::new(server).map_err(|error| error.to_string())?;
    let opened = connect::open(dial, server, &tls, &login).await;
    let mut connection = opened.map_err(|error| error.to_string())?;
    for statement in &server.init {
        let stream = &mut connection.stream;
        let asked = ask_over(stream, connection.capabilities, statement).await;
        let answer = asked.map_err(|error| error.to_string())?;
        if let Some(failure) = answer.error() {
            return Err(format!(
                "{statement:?} was refused with error {}",
                failure.code
            ));
        }
    }
    let vitess = connection.is_vitess();
    Ok(Leg {
        stream: connection.stream,
        server: Arc::from(server.name.as_str()),
        thread_id: connection.thread_id,
        status: connection.status,
        vitess,
        statements: Vec::new(),
        stand_ins: Vec::new(),
        last: None,
    })
}

#[cfg(test)]
mod tests;
