//! The server's status flags.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/mysql__com_8h.html#a1d854e841086925be1883e4d7b4e8cad>

/// The status flags of an OK or EOF packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// A transaction is open.
    pub const IN_TRANS: u16 = 0x0001;
    /// Autocommit is on.
    pub const AUTOCOMMIT: u16 = 0x0002;
    /// Another result follows.
    pub const MORE_RESULTS: u16 = 0x0008;
    /// A read-only cursor was opened.
    pub const CURSOR_EXISTS: u16 = 0x0040;
    /// The cursor's last row was sent.
    pub const LAST_ROW_SENT: u16 = 0x0080;
    /// `NO_BACKSLASH_ESCAPES` is on.
    pub const NO_BACKSLASH_ESCAPES: u16 = 0x0200;
    /// The result holds the OUT parameters of a prepared CALL.
    pub const PS_OUT_PARAMS: u16 = 0x1000;
    /// The open transaction is read-only.
    pub const IN_TRANS_READONLY: u16 = 0x2000;
    /// Session state information follows in this OK packet.
    pub const SESSION_STATE_CHANGED: u16 = 0x4000;

    /// Whether the flag is set.
    #[must_use]
    pub const fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    /// Whether a transaction is open.
    #[must_use]
    pub const fn in_transaction(self) -> bool {
        self.has(Self::IN_TRANS)
    }
}
