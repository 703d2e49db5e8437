//! What a comparison may say, with every name as it stands in metrics, API and ledger.

/// How an exchange diverged: one kind, the first that holds in this order; others stand in `also`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The shadow does not support the statement (1235, VT12001 and the like).
    Unsupported,
    /// One side failed, the other did not.
    Error,
    /// The shadow refused or cut by a limit of its own: row caps, time-outs, packet sizes.
    ShadowLimit,
    /// Both failed, with different errors.
    OtherError,
    /// Column count, a column's type class, or the name of a table's column.
    Columns,
    /// The number of rows.
    Rows,
    /// NULL on one side, a value on the other.
    Null,
    /// A value.
    Value,
    /// The order of rows that the statement ordered.
    Order,
    /// Rows changed, by an OK packet; and whether a transaction is open, or autocommit on.
    AffectedRows,
    /// The generated key of an INSERT.
    LastInsertId,
    /// Slower, by statistics over many exchanges.
    Latency,
}

impl Kind {
    /// All of them, in the order in which they stand in the documentation.
    pub const ALL: [Self; 12] = [
        Self::Unsupported,
        Self::Error,
        Self::ShadowLimit,
        Self::OtherError,
        Self::Columns,
        Self::Rows,
        Self::Null,
        Self::Value,
        Self::Order,
        Self::AffectedRows,
        Self::LastInsertId,
        Self::Latency,
    ];

    /// The name in metrics, API and ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsupported => "unsupported",
            Self::Error => "error",
            Self::ShadowLimit => "shadow_limit",
            Self::OtherError => "other_error",
            Self::Columns => "columns",
            Self::Rows => "rows",
            Self::Null => "null",
            Self::Value => "value",
            Self::Order => "order",
            Self::AffectedRows => "affected_rows",
            Self::LastInsertId => "last_insert_id",
            Self::Latency => "latency",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// A difference that is tolerated by default, each counted under its name and switchable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tolerance {
    /// The OK packet's info text.
    Info,
    /// The number of warnings.
    Warnings,
    /// Status flags other than AUTOCOMMIT and MORE_RESULTS; IN_TRANS too while autocommit is off.
    StatusFlags,
    /// A column's display length.
    ColumnLength,
    /// A column's number of decimals.
    Decimals,
    /// A column's flags, and the schema and table that it says it comes from.
    ColumnFlags,
    /// A column's charset, or the charset of the same text.
    Charset,
    /// A column's type within one class of types.
    TypeCode,
    /// The name of a column that is an expression.
    ExpressionName,
    /// Rows in another order where the statement asked for none.
    Unordered,
    /// Rows that are equal by the statement's sort keys, in another order.
    Ties,
    /// FLOAT and DOUBLE, equal to the digits that both print.
    FloatText,
    /// DECIMAL, equal by value.
    DecimalScale,
    /// Temporal values, equal but for fractional digits that one side does not print.
    TemporalFraction,
    /// Trailing pad spaces.
    Padding,
    /// A column filled by the clock, within `compare.clock_ms`.
    Clock,
}

impl Tolerance {
    /// All of them, in the order in which they stand in the documentation.
    pub const ALL: [Self; 16] = [
        Self::Info,
        Self::Warnings,
        Self::StatusFlags,
        Self::ColumnLength,
        Self::Decimals,
        Self::ColumnFlags,
        Self::Charset,
        Self::TypeCode,
        Self::ExpressionName,
        Self::Unordered,
        Self::Ties,
        Self::FloatText,
        Self::DecimalScale,
        Self::TemporalFraction,
        Self::Padding,
        Self::Clock,
    ];

    /// The name in metrics, API and ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warnings => "warnings",
            Self::StatusFlags => "status_flags",
            Self::ColumnLength => "column_length",
            Self::Decimals => "decimals",
            Self::ColumnFlags => "column_flags",
            Self::Charset => "charset",
            Self::TypeCode => "type_code",
            Self::ExpressionName => "expression_name",
            Self::Unordered => "unordered",
            Self::Ties => "ties",
            Self::FloatText => "float_text",
            Self::DecimalScale => "decimal_scale",
            Self::TemporalFraction => "temporal_fraction",
            Self::Padding => "padding",
            Self::Clock => "clock",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Why an exchange was not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Mirroring of this class of command is switched off, or something else was run in its place:
    /// its plan, or a ROLLBACK for the COMMIT of writes that must not stay.
    Off,
    /// An operator paused the mirror.
    Paused,
    /// The breaker suspended the mirror.
    Suspended,
    /// The sample did not take it.
    SampledOut,
    /// Over budget.
    Dropped,
    /// Never replayed: not on the list of what is.
    NotMirrored,
    /// The primary failed in a way that says nothing about the statement (a deadlock, a time-out, a kill).
    PrimaryError,
    /// The answer differs by nature: UUID(), RAND(), CONNECTION_ID() and the like.
    Nondeterministic,
    /// A write to the same tables was in flight while the read ran.
    Race,
    /// The shadow had not yet caught up.
    Lag,
    /// The two sides' snapshots were opened at different moments.
    Snapshot,
    /// LIMIT without a total order.
    UnstableLimit,
    /// It waited for its turn longer than `mirror.order_wait_ms`.
    OrderWait,
    /// Equal rows in another order, and the sort keys or the rows are not all in the sample.
    OrderNotJudged,
    /// Different digests, and the sample shows no difference that is not tolerated.
    BeyondSample,
    /// The command or the answer is over its limit.
    TooLarge,
    /// The tables were tainted by an earlier lost or diverged write.
    Tainted,
    /// A cursor, or a FETCH from one.
    Cursor,
    /// A character set whose bytes cannot be read safely.
    Charset,
    /// A database name that cannot be mapped.
    Database,
    /// The shadow could not be reached, or went away before it answered.
    ShadowDown,
    /// A fault of understudy's own.
    Internal,
}

impl Reason {
    /// All of them, in the order in which they stand in the documentation.
    pub const ALL: [Self; 22] = [
        Self::Off,
        Self::Paused,
        Self::Suspended,
        Self::SampledOut,
        Self::Dropped,
        Self::NotMirrored,
        Self::PrimaryError,
        Self::Nondeterministic,
        Self::Race,
        Self::Lag,
        Self::Snapshot,
        Self::UnstableLimit,
        Self::OrderWait,
        Self::OrderNotJudged,
        Self::BeyondSample,
        Self::TooLarge,
        Self::Tainted,
        Self::Cursor,
        Self::Charset,
        Self::Database,
        Self::ShadowDown,
        Self::Internal,
    ];

    /// The name in metrics, API and ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::SampledOut => "sampled_out",
            Self::Dropped => "dropped",
            Self::NotMirrored => "not_mirrored",
            Self::PrimaryError => "primary_error",
            Self::Nondeterministic => "nondeterministic",
            Self::Race => "race",
            Self::Lag => "lag",
            Self::Snapshot => "snapshot",
            Self::UnstableLimit => "unstable_limit",
            Self::OrderWait => "order_wait",
            Self::OrderNotJudged => "order_not_judged",
            Self::BeyondSample => "beyond_sample",
            Self::TooLarge => "too_large",
            Self::Tainted => "tainted",
            Self::Cursor => "cursor",
            Self::Charset => "charset",
            Self::Database => "database",
            Self::ShadowDown => "shadow_down",
            Self::Internal => "internal",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// A set of tolerances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tolerances(u32);

impl Tolerances {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Every one of them: the default of the config.
    #[must_use]
    pub fn all() -> Self {
        Tolerance::ALL.into_iter().fold(Self::NONE, Self::with)
    }

    /// This set and `one`.
    #[must_use]
    pub const fn with(self, one: Tolerance) -> Self {
        Self(self.0 | 1 << one as u32)
    }

    /// This set less `one`.
    #[must_use]
    pub const fn without(self, one: Tolerance) -> Self {
        Self(self.0 & !(1 << one as u32))
    }

    /// Whether `one` is in the set.
    #[must_use]
    pub const fn has(self, one: Tolerance) -> bool {
        self.0 & (1 << one as u32) != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members, in documentation order.
    pub fn iter(self) -> impl Iterator<Item = Tolerance> {
        Tolerance::ALL.into_iter().filter(move |one| self.has(*one))
    }
}

/// What became of one command. Every command ends in exactly one.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The answers are equal.
    Match,
    /// The answers differ in nothing but these.
    Tolerated(Tolerances),
    /// The answers differ.
    Diverged(Divergence),
    /// Not compared, and why.
    NotCompared(Reason),
}

/// How two answers differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// The kind: the first that holds.
    pub kind: Kind,
    /// Other kinds that hold too.
    pub also: Vec<Kind>,
    /// What differs, in words without literals (`column 3: type class string against integer`).
    pub detail: String,
    /// The names of the tables' columns that differ, where it is known that nothing else does:
    /// every row was seen, and each has its partner.
    pub columns: Option<Vec<String>>,
    /// The first differing rows, side by side, capped; literals as they are (the ledger redacts).
    pub examples: Vec<Example>,
}

/// One differing row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// The row's number in the primary's answer, from 0; `None` where the row is the shadow's alone.
    pub row: Option<u64>,
    /// Numbers of the differing columns, from 0.
    pub columns: Vec<u16>,
    /// The columns' names; empty for an expression, whose name is its text and may hold literals.
    pub names: Vec<String>,
    /// The primary's cells as text, in the order of `columns`; `None` is NULL. Empty for no row.
    pub primary: Vec<Option<String>>,
    /// The shadow's cells, likewise.
    pub shadow: Vec<Option<String>>,
}
