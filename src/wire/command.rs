//! Commands: which there are, and how the answer to each one ends.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html>

use super::frame::Frames;

/// The first byte of a command's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Command(pub u8);

impl Command {
    /// End the session.
    pub const QUIT: Self = Self(0x01);
    /// Choose a database.
    pub const INIT_DB: Self = Self(0x02);
    /// Run statements as text.
    pub const QUERY: Self = Self(0x03);
    /// List a table's columns.
    pub const FIELD_LIST: Self = Self(0x04);
    /// Flush tables, logs and the like.
    pub const REFRESH: Self = Self(0x07);
    /// One line of statistics.
    pub const STATISTICS: Self = Self(0x09);
    /// List the server's threads, as rows.
    pub const PROCESS_INFO: Self = Self(0x0A);
    /// End another session.
    pub const PROCESS_KILL: Self = Self(0x0C);
    /// Dump debug information to the server's log.
    pub const DEBUG: Self = Self(0x0D);
    /// Is the server there?
    pub const PING: Self = Self(0x0E);
    /// Log in anew on this connection.
    pub const CHANGE_USER: Self = Self(0x11);
    /// Stream the binary log.
    pub const BINLOG_DUMP: Self = Self(0x12);
    /// Prepare a statement.
    pub const STMT_PREPARE: Self = Self(0x16);
    /// Run a prepared statement.
    pub const STMT_EXECUTE: Self = Self(0x17);
    /// Send a part of a long parameter.
    pub const STMT_SEND_LONG_DATA: Self = Self(0x18);
    /// Forget a prepared statement.
    pub const STMT_CLOSE: Self = Self(0x19);
    /// Reset a prepared statement's long data and cursor.
    pub const STMT_RESET: Self = Self(0x1A);
    /// Switch multi-statements on or off.
    pub const SET_OPTION: Self = Self(0x1B);
    /// Fetch rows from a cursor.
    pub const STMT_FETCH: Self = Self(0x1C);
    /// Reset the session's state.
    pub const RESET_CONNECTION: Self = Self(0x1F);

    /// How the answer to this command ends.
    #[must_use]
    pub const fn expect(self) -> Expect {
        match self {
            Self::QUERY | Self::PROCESS_INFO => Expect::Results { binary: false },
            Self::STMT_EXECUTE => Expect::Results { binary: true },
            Self::STMT_PREPARE => Expect::Prepared,
            Self::STMT_FETCH => Expect::Rows,
            Self::FIELD_LIST => Expect::Columns,
            Self::STATISTICS => Expect::Text,
            Self::PING
            | Self::REFRESH
            | Self::PROCESS_KILL
            | Self::INIT_DB
            | Self::RESET_CONNECTION
            | Self::SET_OPTION
            | Self::STMT_RESET
            | Self::DEBUG => Expect::One,
            Self::STMT_CLOSE | Self::STMT_SEND_LONG_DATA | Self::QUIT => Expect::Nothing,
            Self::CHANGE_USER => Expect::Login,
            _ => Expect::Tunnel,
        }
    }
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// OK, ERR, LOCAL INFILE or rows, repeated while MORE_RESULTS is set.
    Results {
        /// Rows in the binary protocol.
        binary: bool,
    },
    /// The header of a prepared statement with its parameters and columns, or ERR.
    Prepared,
    /// Binary rows up to EOF, OK or ERR (a cursor's FETCH).
    Rows,
    /// Column definitions up to EOF, OK or ERR.
    Columns,
    /// One raw string packet.
    Text,
    /// One OK, EOF or ERR.
    One,
    /// An authentication exchange up to OK or ERR; the client speaks in it too.
    Login,
    /// Nothing at all.
    Nothing,
    /// Not known: from here on the connection is piped.
    Tunnel,
}

/// What the client is about to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// A command.
    #[default]
    Command,
    /// One packet of a login, which may hold a password: nothing of it is copied.
    Login,
    /// Packets of a file, up to an empty one; nothing of it is copied.
    File,
}

/// What a piece of the client's bytes brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// All of the piece belongs to the command, which goes on.
    More,
    /// The command ended after `used` bytes of the piece.
    Ended {
        /// Bytes of the piece that belong to the command.
        used: usize,
    },
}

/// Finds where one connection's commands end. Sequence numbers are not judged.
#[derive(Clone, Debug)]
pub struct CommandScanner {
    payload_max: usize,
    frames: Frames,
    turn: Turn,
    ended: bool,
    kind: Option<Command>,
    payload_bytes: u64,
    wire_bytes: u64,
}

impl CommandScanner {
    /// A scanner for a connection in its command phase. At most `payload_max` bytes of each
    /// command are copied.
    #[must_use]
    pub const fn new(payload_max: usize) -> Self {
        Self {
            payload_max,
            frames: Frames::new(),
            turn: Turn::Command,
            ended: false,
            kind: None,
            payload_bytes: 0,
            wire_bytes: 0,
        }
    }

    /// Says what comes next from the client, once the server has asked for it; after that come
    /// commands again. Returns false, and changes nothing, where a command is under way: the
    /// client spoke out of turn, and the connection should be tunnelled.
    pub fn turn(&mut self, turn: Turn) -> bool {
        let between = self.between();
        if between {
            self.turn = turn;
        }
        between
    }

    /// Scans the next piece; copies the command's payload, without headers, into `payload`, which
    /// must be empty where a command begins. Empty pieces bring nothing.
    pub fn feed(&mut self, piece: &[u8], payload: &mut Vec<u8>) -> Scanned {
        if self.ended {
            self.ended = false;
            self.kind = None;
            self.payload_bytes = 0;
            self.wire_bytes = 0;
        }
        let mut rest = piece;
        while let Some(part) = self.frames.next(&mut rest) {
            if part.first && self.turn == Turn::Command {
                self.kind = part.data.first().copied().map(Command);
            }
            self.payload_bytes += part.data.len() as u64;
            if self.turn == Turn::Command {
                let room = self.payload_max.saturating_sub(payload.len());
                payload.extend_from_slice(part.data.get(..room).unwrap_or(part.data));
            }
            let empty = part.first && part.data.is_empty();
            if part.last && (self.turn != Turn::File || empty) {
                let used = piece.len() - rest.len();
                self.wire_bytes += used as u64;
                self.ended = true;
                self.turn = Turn::Command;
                return Scanned::Ended { used };
            }
        }
        self.wire_bytes += piece.len() as u64;
        Scanned::More
    }

    /// The command under way, or the one that just ended; `None` before its first byte and for an
    /// empty packet, which no client sends and whose answer cannot be told.
    #[must_use]
    pub const fn kind(&self) -> Option<Command> {
        self.kind
    }

    /// How the answer to the command ends.
    #[must_use]
    pub fn expect(&self) -> Expect {
        self.kind.map_or(Expect::Tunnel, Command::expect)
    }

    /// Length of the command's payload so far, copied or not.
    #[must_use]
    pub const fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Bytes of the command on the wire so far, headers included.
    #[must_use]
    pub const fn wire_bytes(&self) -> u64 {
        self.wire_bytes
    }

    /// Whether no command is under way.
    #[must_use]
    pub const fn between(&self) -> bool {
        self.ended || (self.wire_bytes == 0 && self.frames.at_boundary())
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{CHUNK_MAX, write_packet};
    use super::*;

    fn scan(stream: &[u8], piece_len: usize) -> Vec<(Vec<u8>, u64)> {
        let mut scanner = CommandScanner::new(8);
        let (mut payload, mut commands) = (Vec::new(), Vec::new());
        for mut piece in stream.chunks(piece_len) {
            while !piece.is_empty() {
                match scanner.feed(piece, &mut payload) {
                    Scanned::More => break,
                    Scanned::Ended { used } => {
                        piece = &piece[used..];
                        commands.push((std::mem::take(&mut payload), scanner.payload_bytes()));
                    }
                }
            }
        }
        assert!(scanner.between());
        commands
    }

    #[test]
    fn pipelined_commands_come_apart_whatever_the_pieces() {
        let mut stream = Vec::new();
        for payload in [&b"\x03select 1"[..], b"\x0E", b"\x19\x01\x00\x00\x00", b""] {
            write_packet(&mut stream, 0, payload);
        }
        let expected = [
            (b"\x03select ".to_vec(), 9),
            (b"\x0E".to_vec(), 1),
            (b"\x19\x01\x00\x00\x00".to_vec(), 5),
            (Vec::new(), 0),
        ];
        for piece_len in 1..=stream.len() {
            assert_eq!(scan(&stream, piece_len), expected, "pieces of {piece_len}");
        }
    }

    #[test]
    fn a_command_of_several_chunks_is_one_and_its_tail_names_no_command() {
        let mut stream = Vec::new();
        let mut payload = vec![Command::QUIT.0; CHUNK_MAX + 10];
        payload[0] = Command::QUERY.0;
        write_packet(&mut stream, 0, &payload);
        let commands = scan(&stream, 0x4000);
        assert_eq!(commands, [(payload[..8].to_vec(), payload.len() as u64)]);
    }

    #[test]
    fn a_file_ends_with_an_empty_packet_that_is_no_chunks_tail() {
        let mut scanner = CommandScanner::new(100);
        let (mut stream, mut payload) = (Vec::new(), Vec::new());
        write_packet(&mut stream, 2, b"a,b\n");
        write_packet(&mut stream, 3, &vec![b'x'; CHUNK_MAX]);
        assert!(scanner.turn(Turn::File));
        assert_eq!(scanner.feed(&stream, &mut payload), Scanned::More);
        assert_eq!(scanner.kind(), None);
        assert!(!scanner.turn(Turn::Login));
        assert_eq!(
            scanner.feed(&[0, 0, 0, 5, 1, 0, 0, 0, 0x0E], &mut payload),
            Scanned::Ended { used: 4 }
        );
        assert!(payload.is_empty());
        assert_eq!(
            scanner.feed(&[1, 0, 0, 0, 0x0E], &mut payload),
            Scanned::Ended { used: 5 }
        );
        assert_eq!(
            (scanner.kind(), payload.as_slice()),
            (Some(Command::PING), &[0x0E][..])
        );
    }

    #[test]
    fn a_password_is_not_copied() {
        let mut scanner = CommandScanner::new(100);
        let (mut stream, mut payload) = (Vec::new(), Vec::new());
        write_packet(&mut stream, 3, b"secret\0");
        assert!(scanner.turn(Turn::Login));
        assert_eq!(
            scanner.feed(&stream, &mut payload),
            Scanned::Ended { used: stream.len() }
        );
        assert!(payload.is_empty());
    }
}
