//! What the relay asks of whoever changes the primary: a session that is held gives its primary
//! away and waits to be told with which one it goes on. The relay knows no more of a cutover.

use super::statements::StandIn;
use crate::connect::{Packet, Stream, write_one};
use crate::task;
use crate::tee::Facts;
use crate::wire::command::Command;
use crate::wire::status::Status;
use std::pin::Pin;
use std::sync::Arc;

/// Says how held sessions go on.
pub trait Carry: Send + Sync + 'static {
    /// A session stands between two transactions: nothing is on its way, nothing of its client is
    /// read until this resolves. It is counted as held once this has been polled and waits.
    ///
    /// The future is dropped, with the primary's leg in it, when the proxy drains.
    fn held<'a>(&'a self, held: Held) -> Carrying<'a>;
}

/// A session on its way.
pub type Carrying<'a> = Pin<Box<dyn Future<Output = Then> + Send + 'a>>;

/// A held session.
#[derive(Debug)]
pub struct Held {
    /// Who it is. `primary` is the server that `primary` leads to.
    pub facts: Arc<Facts>,
    /// The number of the last command that was handed through the tee.
    pub seq: u64,
    /// The last status flags that the primary told.
    pub status: Status,
    /// The primary's leg, between two commands.
    pub primary: Stream,
    /// The primary's id of the session's connection; the client knows `facts.thread_id`.
    pub thread_id: u32,
    /// Prepared statements, the client's ids and the primary's; `None` where they are the same.
    pub statements: Option<Vec<(u32, u32)>>,
}

/// How a held session goes on.
#[derive(Debug)]
pub enum Then {
    /// As before, with the leg that it gave. It is held again when the gate holds anew.
    Back(Stream),
    /// With the leg that it gave, for one command; then it is held again, if the gate still holds.
    Once(Stream),
    /// With another server.
    Moved(Box<Leg>),
    /// Not at all: the client is told so, as an answer to its next command, and closed.
    End(String),
}

/// A leg to another server, between two commands, in the session's dialect and state.
#[derive(Debug)]
pub struct Leg {
    /// The leg. Nothing is read ahead of it.
    pub stream: Stream,
    /// The server's name.
    pub server: Arc<str>,
    /// The server's id of the connection.
    pub thread_id: u32,
    /// The last status flags that the server told.
    pub status: Status,
    /// Whether the server is a vtgate, which has neither KILL nor CHANGE_USER.
    pub vitess: bool,
    /// Prepared statements: the client's ids and the server's.
    pub statements: Vec<(u32, u32)>,
    /// Those that the server cannot prepare: the client's ids, and what stands in for them.
    pub stand_ins: Vec<(u32, StandIn)>,
    /// The client's id of the statement that it prepared last.
    pub last: Option<u32>,
}

/// Carries nobody: every session goes on as before.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCarry;

impl Carry for NoCarry {
    fn held<'a>(&'a self, held: Held) -> Carrying<'a> {
        Box::pin(std::future::ready(Then::Back(held.primary)))
    }
}

/// Says COM_QUIT on a leg that no session waits on any more, and closes it, in the background. For
/// the legs that sessions have left; to be called on a runtime.
pub fn part_with(leg: Stream) {
    // Its end is the goodbye's second; nobody waits for it.
    drop(task::spawn("quit", async move {
        let mut leg = leg;
        let quitting = async {
            let quit = Packet::new(0, &[Command::QUIT.0]);
            write_one(&mut leg, &quit).await
        };
        let said = tokio::time::timeout(super::refuse::GOODBYE, quitting).await;
        if matches!(said, Ok(Ok(()))) {
            super::refuse::close(leg, false).await;
        }
    }));
}
