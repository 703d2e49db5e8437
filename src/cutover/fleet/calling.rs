//! How a cutover is called, and how the proxies wait for each other's word in it.

use super::board::{Board, Call, Phase, RefusedGuard, Said, Sessions, Word};
use super::deciding::{Decision, EMPTIED, decided, left_behind};
use super::store::Change;
use super::{Fleet, FleetError, LOOK, LOOK_AGAIN, TRIES, busy, json, unique};
use crate::cutover::helm::Order;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks before.
const LOOK_EARLY: Duration = Duration::from_millis(40);

impl Fleet {
    /// Calls every proxy to a cutover, and leads it.
    ///
    /// # Errors
    /// One is under way; dark writes were lost with a proxy; etcd has another primary, or does not answer.
    pub(in crate::cutover) async fn call(
        &self,
        order: &Order,
        from: &str,
        is_back: bool,
    ) -> Result<Call, FleetError> {
        let id = unique(&self.name);
        let called = self.call_as(&id, order, from, is_back).await;
        if matches!(called, Err(FleetError::Down(_))) {
            // Its answer may be lost, and nobody would lead it.
            self.withdrawn.lock().insert(id);
        }
        called
    }

    async fn call_as(
        &self,
        id: &str,
        order: &Order,
        from: &str,
        is_back: bool,
    ) -> Result<Call, FleetError> {
        for _ in 0..TRIES {
            let board = self.board().await?;
            if let Some(call) = board.call_of(id) {
                return Ok(call.clone());
            }
            if let Some(call) = board.under_way() {
                return Err(FleetError::No(format!(
                    "a cutover is under way: {} leads it to {}, for {}",
                    call.leader, call.to, call.who
                )));
            }
            self.may_take_part(&board, from)?;
            if !order.force.contains(&"taint")
                && let Some(why) = board.why_lost()
            {
                return Err(FleetError::No(why));
            }
            // Of two servers the other one was primary before a switch.
            let switched = board.primary.as_ref();
            let is_undone = switched.is_some_and(|told| told.cutover.is_some() && !told.is_back);
            let members = board.members.iter();
            let call = Call {
                id: id.to_owned(),
                leader: self.name.clone(),
                from: from.to_owned(),
                to: order.to.clone(),
                who: order.who.clone(),
                dry_run: order.dry_run,
                is_back: is_back || is_undone,
                force: order.force.iter().map(|name| (*name).to_owned()).collect(),
                members: members
                    .map(|(name, member)| (name.clone(), member.instance.clone()))
                    .collect(),
                at: jiff::Timestamp::now(),
                phase: Phase::Called,
                why: String::new(),
            };
            let change = Change {
                seen: vec![
                    (self.keys.cutover(), board.call_at),
                    (self.keys.members(), board.members_at),
                    (self.keys.primary(), board.primary_at),
                ],
                puts: vec![(self.keys.cutover(), json(&call))],
                clears: vec![self.keys.all_said(), self.keys.all_sessions()],
            };
            if self.change(change).await? {
                return Ok(call);
            }
        }
        Err(busy())
    }

    /// Whether this proxy is one of the fleet, and of one mind with it.
    fn may_take_part(&self, board: &Board, primary: &str) -> Result<(), FleetError> {
        let name = &self.name;
        match board.members.get(name) {
            Some(member) if member.instance == self.instance => {}
            Some(_) => {
                return Err(FleetError::No(format!(
                    "another proxy has come to the fleet as {name}: give each a name of its own (fleet.name), and start this one again"
                )));
            }
            None => {
                return Err(FleetError::No(format!(
                    "this proxy, {name}, was forgotten by the fleet, and is about to join it again: ask again in a moment"
                )));
            }
        }
        match &board.primary {
            Some(told) if told.name == primary => Ok(()),
            Some(told) => Err(FleetError::No(format!(
                "etcd says that {} is primary, and here it is {primary}: start this proxy again, it then learns its primary from etcd",
                told.name
            ))),
            None => Err(FleetError::No(
                "etcd has no primary: was its data lost? Start every proxy of the fleet again"
                    .to_owned(),
            )),
        }
    }

    /// Says a word in a call. Said again it stays as it is.
    ///
    /// # Errors
    /// etcd does not answer: whether it is said is not known.
    pub(in crate::cutover) async fn say(
        &self,
        call: &Call,
        word: Word,
        refused: Vec<RefusedGuard>,
    ) -> Result<(), FleetError> {
        self.change(self.saying(call, word, refused)).await?;
        Ok(())
    }

    /// Says that this proxy has heard a call, and which sessions are its own.
    ///
    /// # Errors
    /// As [`Fleet::say`].
    pub(in crate::cutover) async fn here(
        &self,
        call: &Call,
        own: &Sessions,
    ) -> Result<(), FleetError> {
        let mut change = self.saying(call, Word::Here, Vec::new());
        let sessions = self.keys.sessions(&call.id, &self.name);
        change.puts.push((sessions, json(own)));
        self.change(change).await?;
        Ok(())
    }

    fn saying(&self, call: &Call, word: Word, refused: Vec<RefusedGuard>) -> Change {
        let said = Said {
            word,
            instance: self.instance.clone(),
            refused,
        };
        let mut change = Change {
            puts: vec![(self.keys.said(&call.id, &self.name), json(&said))],
            ..Change::default()
        };
        if word > Word::Checked {
            // All have judged their guards by then, and what stands there is read at every look.
            change.clears.push(self.keys.all_sessions());
        }
        change
    }

    /// Waits until every proxy of the call has said the word.
    ///
    /// # Errors
    /// It was aborted, somebody has not said it by then, or etcd has not answered; in words.
    pub(in crate::cutover) async fn all(
        &self,
        call: &Call,
        word: Word,
        until: Instant,
    ) -> Result<Everybody, String> {
        loop {
            let board = self.board().await;
            let late = Instant::now() >= until;
            match board {
                Ok(board) => {
                    match decided(&board, call) {
                        Some(Decision::Aborted(why)) => return Err(why),
                        Some(Decision::Lost(primary)) => return Err(left_behind(&primary)),
                        // A dry run that the leader has ended: all had come so far.
                        Some(Decision::Ended) => return Ok(Everybody(board)),
                        Some(Decision::Switched) => {
                            return Err("it has switched already".to_owned());
                        }
                        None if board.call_of(&call.id).is_none() => return Err(EMPTIED.to_owned()),
                        None => {}
                    }
                    let missing = board.missing(word);
                    if missing.is_empty() {
                        return Ok(Everybody(board));
                    }
                    if late {
                        return Err(silent(&missing, word));
                    }
                    let pause = if word < Word::Held { LOOK_EARLY } else { LOOK };
                    tokio::time::sleep(pause).await;
                }
                Err(error) if late => return Err(error.to_string()),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The guards that refuse at other proxies, each with its proxy's name.
    pub(in crate::cutover) async fn refused(&self, call: &Call) -> Vec<(String, RefusedGuard)> {
        let Ok(board) = self.board().await else {
            return Vec::new();
        };
        if board.call_of(&call.id).is_none() {
            return Vec::new();
        }
        let said = board.said.into_iter();
        let of = |(name, (said, _)): (String, (Said, _))| {
            let refused = said.refused.into_iter();
            refused.map(move |guard| (name.clone(), guard))
        };
        said.flat_map(of).collect()
    }
}

/// A look at which everybody had said the word that was waited for.
pub(in crate::cutover) struct Everybody(pub(super) Board);

impl Everybody {
    /// The sessions of all of them.
    pub(in crate::cutover) fn sessions(&self) -> Sessions {
        self.0.all_sessions()
    }
}

fn silent(missing: &[&str], word: Word) -> String {
    let names = missing.join(", ");
    let undone = word.undone();
    match word {
        Word::Here => format!(
            "of the fleet {names} {undone}; a proxy that is gone for good is taken out by `understudy fleet forget NAME`"
        ),
        _ => format!("of the fleet {names} {undone} in time"),
    }
}
