//! The capability bits of greeting and login, by MySQL's names.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html>

/// A set of capability bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u32);

impl Capabilities {
    /// Use the improved version of old password authentication (obsolete).
    pub const LONG_PASSWORD: Self = Self(1);
    /// Send found rows instead of affected rows.
    pub const FOUND_ROWS: Self = Self(1 << 1);
    /// Get all column flags.
    pub const LONG_FLAG: Self = Self(1 << 2);
    /// A database may be named in the login.
    pub const CONNECT_WITH_DB: Self = Self(1 << 3);
    /// Compression protocol.
    pub const COMPRESS: Self = Self(1 << 5);
    /// LOAD DATA LOCAL.
    pub const LOCAL_FILES: Self = Self(1 << 7);
    /// The 4.1 protocol.
    pub const PROTOCOL_41: Self = Self(1 << 9);
    /// The client is interactive.
    pub const INTERACTIVE: Self = Self(1 << 10);
    /// TLS.
    pub const SSL: Self = Self(1 << 11);
    /// Status flags in EOF packets.
    pub const TRANSACTIONS: Self = Self(1 << 13);
    /// 4.1 authentication (was RESERVED2).
    pub const SECURE_CONNECTION: Self = Self(1 << 15);
    /// Several statements in one COM_QUERY.
    pub const MULTI_STATEMENTS: Self = Self(1 << 16);
    /// Several results for one COM_QUERY.
    pub const MULTI_RESULTS: Self = Self(1 << 17);
    /// Several results for one COM_STMT_EXECUTE.
    pub const PS_MULTI_RESULTS: Self = Self(1 << 18);
    /// Authentication plugins.
    pub const PLUGIN_AUTH: Self = Self(1 << 19);
    /// Connection attributes.
    pub const CONNECT_ATTRS: Self = Self(1 << 20);
    /// The authentication response has a length-encoded length.
    pub const PLUGIN_AUTH_LENENC_DATA: Self = Self(1 << 21);
    /// Expired passwords do not end the login.
    pub const CAN_HANDLE_EXPIRED_PASSWORDS: Self = Self(1 << 22);
    /// Session state changes in OK packets.
    pub const SESSION_TRACK: Self = Self(1 << 23);
    /// No EOF packets after column definitions; an OK packet ends the rows.
    pub const DEPRECATE_EOF: Self = Self(1 << 24);
    /// Result sets may come without metadata.
    pub const OPTIONAL_RESULTSET_METADATA: Self = Self(1 << 25);
    /// zstd compression.
    pub const ZSTD_COMPRESSION: Self = Self(1 << 26);
    /// Query attributes.
    pub const QUERY_ATTRIBUTES: Self = Self(1 << 27);
    /// Multi-factor authentication.
    pub const MULTI_FACTOR: Self = Self(1 << 28);

    /// All that give answers another form, or a statement another effect on its session: the *one
    /// dialect* that client, primary and shadow must share. The others concern the login, the
    /// client's program or one server alone.
    pub const DIALECT: Self = Self::FOUND_ROWS
        .with(Self::LONG_FLAG)
        .with(Self::TRANSACTIONS)
        .with(Self::MULTI_STATEMENTS)
        .with(Self::MULTI_RESULTS)
        .with(Self::SESSION_TRACK)
        .with(Self::DEPRECATE_EOF)
        .with(Self::QUERY_ATTRIBUTES);

    /// Whether every bit of `bits` is set.
    #[must_use]
    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// Both sets' bits.
    #[must_use]
    pub const fn with(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// These bits less those of `bits`.
    #[must_use]
    pub const fn without(self, bits: Self) -> Self {
        Self(self.0 & !bits.0)
    }

    /// The bits in both.
    #[must_use]
    pub const fn and(self, bits: Self) -> Self {
        Self(self.0 & bits.0)
    }
}
