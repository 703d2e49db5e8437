//! The statements that the config wants on every connection of a server: run on the primary's leg
//! of a new client, before the client is told that it is in.

use crate::config::Server;
use crate::connect::{Packet, Stream, write_one};
use crate::wire::answer::{Answer, AnswerTracker, Failure, Progress};
use crate::wire::capability::Capabilities;
use crate::wire::command::{Command, Expect};
use crate::wire::status::Status;
use std::io;
use tokio::io::AsyncReadExt;

/// Why a leg is not as the config wants it.
#[derive(Debug)]
pub(super) enum Uninit {
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

/// Runs them in turn. The status flags after the last one; `None` where there are none.
///
/// Not cancel-safe: after a time-out the leg can only be closed.
pub(super) async fn run(
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
