//! Statement ids of a session that another server has taken over: the client keeps the ids that
//! it knows, the server has its own. They are translated where they stand, four bytes for four;
//! nothing else is read or moved.
//!
//! Commands carry an id in EXECUTE, CLOSE, RESET, FETCH and SEND_LONG_DATA, answers only in that
//! to PREPARE; in both it is the four bytes behind the first of the payload. Where a read ends
//! within an id, its bytes wait for the rest.

use crate::wire::HEADER_LEN;
use crate::wire::answer::Failure;
use crate::wire::command::Command;
use crate::wire::reply;
use std::collections::BTreeMap;

/// The id that means the statement prepared last.
const PREPARED_LAST: u32 = u32::MAX;

/// An id that no server gives: statements are numbered from 1.
const NOBODYS: u32 = 0;

/// Where an id begins on the wire, from the packet's header on, and where it ends.
const ID_AT: usize = HEADER_LEN + 1;
const ID_END: usize = ID_AT + 4;

/// What a look at a piece found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// No id begins or goes on in it.
    Through,
    /// An id begins here.
    Id(usize),
    /// An id is cut off: only what stands before this may go on.
    Cut(usize),
}

/// The beginning of one command, or of one answer, as it arrives.
#[derive(Debug, Default)]
struct Window {
    /// Bytes that have been seen; [`ID_END`] once nothing more is to be found.
    at: usize,
    len: [u8; 3],
    first: u8,
}

impl Window {
    fn begin(&mut self) {
        *self = Self::default();
    }

    /// Looks at what comes next. `carries` says whether an id follows this first byte.
    fn look(&mut self, piece: &[u8], carries: impl Fn(u8) -> bool) -> Look {
        let mut used = 0_usize;
        while self.at < ID_AT {
            let Some(byte) = piece.get(used) else {
                return Look::Through;
            };
            match self.len.get_mut(self.at) {
                Some(place) => *place = *byte,
                None => self.first = *byte,
            }
            self.at = self.at.saturating_add(1);
            used = used.saturating_add(1);
            let too_short = self.at == HEADER_LEN && self.is_too_short();
            if too_short || self.at == ID_AT && !carries(self.first) {
                self.at = ID_END;
            }
        }
        if self.at == ID_END || used == piece.len() {
            return Look::Through;
        }
        let end = used.saturating_add(ID_END.saturating_sub(ID_AT));
        if end > piece.len() {
            return Look::Cut(used);
        }
        self.at = ID_END;
        Look::Id(used)
    }

    fn is_too_short(&self) -> bool {
        let [a, b, c] = self.len;
        let needed = ID_END.saturating_sub(HEADER_LEN);
        b == 0 && c == 0 && usize::from(a) < needed
    }
}

/// What stands in for a statement that the client has prepared and this server cannot prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandIn {
    /// Its text: the statement has no parameters and answers without rows, so that the answer to the
    /// text is the same, byte for byte.
    Text(Vec<u8>),
    /// The server's refusal to prepare it, which each execution is answered with.
    Error(Failure),
}

/// The ids of one session. See the module.
#[derive(Debug)]
pub(super) struct Statements {
    /// The client's ids and the server's.
    ids: BTreeMap<u32, u32>,
    /// The client's ids of what the server could not prepare.
    stand_ins: BTreeMap<u32, StandIn>,
    /// The client's id of the statement prepared last.
    last: Option<u32>,
    /// The next id that the client will be given.
    next: u32,
    up: Window,
    down: Window,
}

impl Statements {
    /// From here on the client's ids are these of the server's, or have these to stand in for them.
    pub(super) fn new(ids: &[(u32, u32)], stand_ins: &[(u32, StandIn)], last: Option<u32>) -> Self {
        let ids: BTreeMap<_, _> = ids.iter().copied().collect();
        let stand_ins: BTreeMap<_, _> = stand_ins.iter().cloned().collect();
        let largest = ids.keys().chain(stand_ins.keys()).max();
        let largest = largest.copied().unwrap_or_default();
        Self {
            ids,
            stand_ins,
            last,
            next: largest.wrapping_add(1),
            up: Window::default(),
            down: Window::default(),
        }
    }

    /// Takes the place of another session's leg: ids that the client was given stay taken.
    pub(super) fn after(mut self, before: &Self) -> Self {
        self.next = self.next.max(before.next);
        self
    }

    /// All of them: the client's ids and the server's.
    pub(super) fn pairs(&self) -> Vec<(u32, u32)> {
        self.ids
            .iter()
            .map(|(client, server)| (*client, *server))
            .collect()
    }

    /// Whether the server lacks a statement that the client has prepared.
    pub(super) fn has_stand_ins(&self) -> bool {
        !self.stand_ins.is_empty()
    }

    /// What stands in for the statement that the client means.
    pub(super) fn stand_in(&self, client: u32) -> Option<&StandIn> {
        let client = match client {
            PREPARED_LAST => self.last?,
            client => client,
        };
        self.stand_ins.get(&client)
    }

    /// A command begins.
    pub(super) fn command_begins(&mut self) {
        self.up.begin();
    }

    /// Looks at bytes of a command.
    pub(super) fn look_up(&mut self, piece: &[u8]) -> Look {
        self.up.look(piece, |first| carries_id(Command(first)))
    }

    /// Puts the server's id in the place of the client's, in the command under way. `preparing`
    /// says whether a PREPARE is unanswered: what was prepared last only the server knows then.
    pub(super) fn put_servers(&mut self, id: &mut [u8], preparing: bool) {
        let Some(client) = read(id) else { return };
        let server = match client {
            PREPARED_LAST if preparing => PREPARED_LAST,
            PREPARED_LAST => self
                .last
                .and_then(|last| self.ids.get(&last).copied())
                .unwrap_or(PREPARED_LAST),
            _ => self.ids.get(&client).copied().unwrap_or(NOBODYS),
        };
        id.copy_from_slice(&server.to_le_bytes());
        if Command(self.up.first) == Command::STMT_CLOSE {
            self.ids.remove(&client);
            self.stand_ins.remove(&client);
        }
    }

    /// The answer to a PREPARE begins.
    pub(super) fn prepared_begins(&mut self) {
        self.down.begin();
    }

    /// Looks at bytes of the answer to a PREPARE.
    pub(super) fn look_down(&mut self, piece: &[u8]) -> Look {
        self.down.look(piece, |first| first == reply::OK)
    }

    /// Puts an id of the client's own in the place of the server's.
    pub(super) fn put_clients(&mut self, id: &mut [u8]) {
        let Some(server) = read(id) else { return };
        let client = self.fresh();
        self.ids.insert(client, server);
        self.last = Some(client);
        id.copy_from_slice(&client.to_le_bytes());
    }

    /// The server refused to prepare. What counts as prepared last now is for the server to say.
    pub(super) fn refused(&mut self) {
        self.last = None;
    }

    /// The server has forgotten all statements.
    pub(super) fn forget(&mut self) {
        self.ids.clear();
        self.stand_ins.clear();
        self.last = None;
    }

    fn fresh(&mut self) -> u32 {
        loop {
            let id = self.next;
            self.next = self.next.wrapping_add(1);
            let known = self.ids.contains_key(&id) || self.stand_ins.contains_key(&id);
            let taken = known || id == NOBODYS || id == PREPARED_LAST;
            if !taken {
                return id;
            }
        }
    }
}

fn carries_id(command: Command) -> bool {
    matches!(
        command,
        Command::STMT_EXECUTE
            | Command::STMT_CLOSE
            | Command::STMT_RESET
            | Command::STMT_FETCH
            | Command::STMT_SEND_LONG_DATA
    )
}

fn read(id: &[u8]) -> Option<u32> {
    id.try_into().ok().map(u32::from_le_bytes)
}
