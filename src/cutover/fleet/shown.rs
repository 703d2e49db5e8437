//! What operators are told of a fleet.

use super::Fleet;
use super::board::{Board, Call, Lost, Word};
use serde::Serialize;
use std::collections::BTreeMap;

/// What is told of a fleet.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// This proxy's name.
    pub name: String,
    /// Whether etcd answers.
    pub etcd: Reachable,
    /// The primary, as etcd has it.
    pub primary: Option<String>,
    /// All proxies.
    pub members: Vec<ShownMember>,
    /// The last cutover that they were called to.
    pub cutover: Option<Call>,
    /// Proxies that took dark writes with them, and how.
    pub lost: BTreeMap<String, Lost>,
}

/// Whether etcd answers.
#[derive(Clone, Debug, Serialize)]
pub struct Reachable {
    /// It does.
    pub reachable: bool,
    /// Why not.
    pub why: Option<String>,
}

/// A proxy, and what it said last.
#[derive(Clone, Debug, Serialize)]
pub struct ShownMember {
    /// Its name.
    pub name: String,
    /// The run of its process.
    pub instance: String,
    /// Since when it has been running.
    pub at: jiff::Timestamp,
    /// Its last word in the cutover; none where it is not in it, or has said nothing.
    pub said: Option<Word>,
}

impl Fleet {
    /// What is told.
    ///
    /// # Errors
    /// Nothing: where etcd does not answer, that is told.
    pub async fn shown(&self) -> Shown {
        let (board, why) = match self.board().await {
            Ok(board) => (board, None),
            Err(error) => (Board::default(), Some(error.to_string())),
        };
        let said = |name: &str| board.said.get(name).map(|(said, _)| said.word);
        let members = board.members.iter().map(|(name, member)| ShownMember {
            name: name.clone(),
            instance: member.instance.clone(),
            at: member.at,
            said: said(name),
        });
        Shown {
            name: self.name.clone(),
            etcd: Reachable {
                reachable: why.is_none(),
                why,
            },
            primary: board.primary.as_ref().map(|primary| primary.name.clone()),
            members: members.collect(),
            cutover: board.call.clone(),
            lost: board.lost.clone(),
        }
    }
}
