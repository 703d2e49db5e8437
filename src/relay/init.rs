//! The statements that the config wants on every connection of a server: run on the primary's leg
//! of a new client, before the client is told that it is in, and again wherever the server has
//! forgotten them (CHANGE_USER, RESET_CONNECTION). No client sees their answers.

use super::Shared;
use super::refuse::Refusal;
use crate::config::Server;
use crate::connect::{Packet, Stream, write_one};
use crate::wire::answer::{Answer, AnswerTracker, Failure, Progress};
use crate::wire::capability::Capabilities;
use crate::wire::command::{Command, Expect};
use crate::wire::status::Status;
use std::io;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

/// Why a leg is not as the config wants it.
#[derive(Debug)]
enum Uninit {
    /// The server refused one.
    Refused(String, Failure),
    /// The leg broke, or the answer cannot be read.
    Broken(io::Error),
}

impl From<io::Error> for Uninit {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Runs them all. The status flags after the last one; `None` where there are none. After an error
/// the leg can only be closed: it says what the client is to be told.
pub(super) async fn again(
    shared: &Shared,
    leg: &mut Stream,
    server: &Server,
    capabilities: Capabilities,
    deadline: Instant,
) -> Result<Option<Status>, Refusal> {
    let name = &server.name;
    match timeout_at(deadline, run(leg, server, capabilities)).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(Uninit::Refused(statement, failure))) => {
            tracing::warn!(primary = %name, %statement, code = failure.code, "init was refused");
            Err(Refusal::init(name, &statement, &failure))
        }
        Ok(Err(Uninit::Broken(error))) => {
            shared.counters.primary_lost.add(1);
            tracing::warn!(primary = %name, %error, "the primary broke off during its init");
            Err(Refusal::primary_lost(name))
        }
        Err(_) => {
            shared.counters.logins_timed_out.add(1);
            let why = "the statements of its init do not end in time";
            Err(Refusal::primary_down(name, why))
        }
    }
}

/// Runs them in turn. The status flags after the last one; `None` where there are none.
///
/// Not cancel-safe: after a time-out the leg can only be closed.
async fn run(
    leg: &mut Stream,
    server: &Server,
    capabilities: Capabilities,
) -> Result<Option<Status>, Uninit> {
    let mut status = None;
    for statement in &server.init {
        let mut command = vec![Command::QUERY.0];
        if capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
            // None of them, in one set.
            command.extend_from_slice(&[0, 1]);
        }
        command.extend_from_slice(statement.as_bytes());
        write_one(leg, &Packet::new(0, &command)).await?;
        let answer = answer(leg, capabilities).await?;
        if let Some(failure) = answer.error() {
            return Err(Uninit::Refused(statement.clone(), failure.clone()));
        }
        status = answer.status.or(status);
    }
    Ok(status)
}

async fn answer(leg: &mut Stream, capabilities: Capabilities) -> io::Result<Answer> {
    let mut tracker = AnswerTracker::new(capabilities, 0);
    let mut answer = Answer::default();
    tracker.begin(Expect::Results { binary: false });
    let mut space = [0; 1024];
    loop {
        let len = leg.read(&mut space).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let piece = space.get(..len).unwrap_or_default();
        match tracker.feed(piece, &mut answer) {
            Progress::More => {}
            Progress::Ended { used } if used == len => return Ok(answer),
            Progress::Ended { .. } | Progress::ClientTurn { .. } | Progress::Unsure => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "an answer to a statement of its init that cannot be placed",
                ));
            }
        }
    }
}
