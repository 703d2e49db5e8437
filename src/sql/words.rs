//! The words of MySQL that mean something to us, in tables built at compile time.
//!
//! The reserved words are those of MySQL 5.6 and later alike: a word that only a newer server
//! reserves (`rank`, `system`, `window` …) may be a name on the older one and is left as written.

/// A set of upper-case words, looked up without regard to case.
pub(crate) struct Words<const N: usize> {
    slots: [&'static str; N],
    longest: usize,
}

impl<const N: usize> Words<N> {
    /// N is a power of two, at least twice the number of words.
    #[expect(
        clippy::indexing_slicing,
        reason = "evaluated by the compiler only: a wrong index does not build"
    )]
    pub(crate) const fn new(words: &[&'static str]) -> Self {
        let mut slots = [""; N];
        let mut longest = 0;
        let mut at = 0;
        while at < words.len() {
            let word = words[at];
            if word.len() > longest {
                longest = word.len();
            }
            let mut slot = hash(word.as_bytes()) & (N - 1);
            while !slots[slot].is_empty() {
                slot = (slot + 1) & (N - 1);
            }
            slots[slot] = word;
            at += 1;
        }
        Self { slots, longest }
    }

    /// The word as the table spells it, in upper case.
    pub(crate) fn find(&self, word: &[u8]) -> Option<&'static str> {
        if word.is_empty() || word.len() > self.longest {
            return None;
        }
        let mut slot = hash(word) & (N - 1);
        loop {
            let found = *self.slots.get(slot)?;
            if found.is_empty() {
                return None;
            }
            if found.as_bytes().eq_ignore_ascii_case(word) {
                return Some(found);
            }
            slot = (slot + 1) & (N - 1);
        }
    }

    pub(crate) fn has(&self, word: &[u8]) -> bool {
        self.find(word).is_some()
    }
}

/// FNV-1a over the upper-cased bytes.
#[expect(
    clippy::indexing_slicing,
    reason = "the index is below the length; iterators are not const"
)]
const fn hash(word: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < word.len() {
        hash = (hash ^ word[at].to_ascii_uppercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize
}

/// Reserved in every MySQL from 5.6 on.
#[rustfmt::skip]
pub(crate) static RESERVED: Words<1024> = Words::new(&[
    "ACCESSIBLE", "ADD", "ALL", "ALTER", "ANALYZE", "AND", "AS", "ASC", "ASENSITIVE", "BEFORE",
    "BETWEEN", "BIGINT", "BINARY", "BLOB", "BOTH", "BY", "CALL", "CASCADE", "CASE", "CHANGE",
    "CHAR", "CHARACTER", "CHECK", "COLLATE", "COLUMN", "CONDITION", "CONSTRAINT", "CONTINUE",
    "CONVERT", "CREATE", "CROSS", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "CURRENT_USER", "CURSOR", "DATABASE", "DATABASES", "DAY_HOUR", "DAY_MICROSECOND", "DAY_MINUTE",
    "DAY_SECOND", "DEC", "DECIMAL", "DECLARE", "DEFAULT", "DELAYED", "DELETE", "DESC", "DESCRIBE",
    "DETERMINISTIC", "DISTINCT", "DISTINCTROW", "DIV", "DOUBLE", "DROP", "DUAL", "EACH", "ELSE",
    "ELSEIF", "ENCLOSED", "ESCAPED", "EXISTS", "EXIT", "EXPLAIN", "FALSE", "FETCH", "FLOAT",
    "FLOAT4", "FLOAT8", "FOR", "FORCE", "FOREIGN", "FROM", "FULLTEXT", "GRANT", "GROUP", "HAVING",
    "HIGH_PRIORITY", "HOUR_MICROSECOND", "HOUR_MINUTE", "HOUR_SECOND", "IF", "IGNORE", "IN",
    "INDEX", "INFILE", "INNER", "INOUT", "INSENSITIVE", "INSERT", "INT", "INT1", "INT2", "INT3",
    "INT4", "INT8", "INTEGER", "INTERVAL", "INTO", "IS", "ITERATE", "JOIN", "KEY", "KEYS", "KILL",
    "LEADING", "LEAVE", "LEFT", "LIKE", "LIMIT", "LINEAR", "LINES", "LOAD", "LOCALTIME",
    "LOCALTIMESTAMP", "LOCK", "LONG", "LONGBLOB", "LONGTEXT", "LOOP", "LOW_PRIORITY", "MATCH",
    "MAXVALUE", "MEDIUMBLOB", "MEDIUMINT", "MEDIUMTEXT", "MIDDLEINT", "MINUTE_MICROSECOND",
    "MINUTE_SECOND", "MOD", "MODIFIES", "NATURAL", "NOT", "NO_WRITE_TO_BINLOG", "NULL", "NUMERIC",
    "ON", "OPTIMIZE", "OPTION", "OPTIONALLY", "OR", "ORDER", "OUT", "OUTER", "OUTFILE", "PARTITION",
    "PRECISION", "PRIMARY", "PROCEDURE", "PURGE", "RANGE", "READ", "READS", "READ_WRITE", "REAL",
    "REFERENCES", "REGEXP", "RELEASE", "RENAME", "REPEAT", "REPLACE", "REQUIRE", "RESIGNAL",
    "RESTRICT", "RETURN", "REVOKE", "RIGHT", "RLIKE", "SCHEMA", "SCHEMAS", "SECOND_MICROSECOND",
    "SELECT", "SENSITIVE", "SEPARATOR", "SET", "SHOW", "SIGNAL", "SMALLINT", "SPATIAL", "SPECIFIC",
    "SQL", "SQLEXCEPTION", "SQLSTATE", "SQLWARNING", "SQL_BIG_RESULT", "SQL_CALC_FOUND_ROWS",
    "SQL_SMALL_RESULT", "SSL", "STARTING", "STRAIGHT_JOIN", "TABLE", "TERMINATED", "THEN",
    "TINYBLOB", "TINYINT", "TINYTEXT", "TO", "TRAILING", "TRIGGER", "TRUE", "UNDO", "UNION",
    "UNIQUE", "UNLOCK", "UNSIGNED", "UPDATE", "USAGE", "USE", "USING", "UTC_DATE", "UTC_TIME",
    "UTC_TIMESTAMP", "VALUES", "VARBINARY", "VARCHAR", "VARCHARACTER", "VARYING", "WHEN", "WHERE",
    "WHILE", "WITH", "WRITE", "XOR", "YEAR_MONTH", "ZEROFILL",
]);

/// Reserved words that are read as a value or a function: a `(` belongs to them, a sign after
/// them is an operator.
#[rustfmt::skip]
pub(crate) static OPERANDS: Words<128> = Words::new(&[
    "CHAR", "CHARACTER", "CONVERT", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "CURRENT_USER", "DATABASE", "DEC", "DECIMAL", "DEFAULT", "DOUBLE", "FALSE", "FLOAT", "BIGINT",
    "BINARY", "IF", "INSERT", "INT", "INTEGER", "LEFT", "LOCALTIME", "LOCALTIMESTAMP", "MAXVALUE",
    "MEDIUMINT", "MOD", "NULL", "NUMERIC", "REPEAT", "REPLACE", "RIGHT", "SCHEMA", "SMALLINT",
    "TINYINT", "TRUE", "UTC_DATE", "UTC_TIME", "UTC_TIMESTAMP", "VARBINARY", "VARCHAR",
]);

/// Behind these words NULL, TRUE and FALSE are values; elsewhere (`IS NULL`, `NOT NULL`,
/// `DEFAULT NULL`) they are part of the shape.
#[rustfmt::skip]
pub(crate) static BEFORE_VALUES: Words<64> = Words::new(&[
    "SELECT", "DISTINCT", "THEN", "ELSE", "WHEN", "CASE", "AND", "OR", "XOR", "BETWEEN", "LIKE",
    "WHERE", "HAVING", "ON", "RETURN", "INTERVAL", "LIMIT",
]);

/// What ends the keys of ORDER BY or GROUP BY.
#[rustfmt::skip]
pub(crate) static AFTER_KEYS: Words<64> = Words::new(&[
    "LIMIT", "HAVING", "ORDER", "FOR", "LOCK", "INTO", "UNION", "SEPARATOR", "PROCEDURE", "WITH",
    "RANGE", "ON", "SELECT", "FROM", "WHERE", "ROWS", "WINDOW", "EXCEPT", "INTERSECT", "OFFSET",
    "RETURNING",
]);

/// Words that are no reserved ones, yet clearly keywords in the statements that begin with BEGIN,
/// START, COMMIT, ROLLBACK, SET.
#[rustfmt::skip]
pub(crate) static SOFT: Words<64> = Words::new(&[
    "CHAIN", "CHARSET", "COMMITTED", "CONSISTENT", "GLOBAL", "ISOLATION", "LEVEL", "LOCAL", "NAMES",
    "NO", "ONLY", "PASSWORD", "PERSIST", "PERSIST_ONLY", "REPEATABLE", "ROLE", "SAVEPOINT",
    "SERIALIZABLE", "SESSION", "SNAPSHOT", "TRANSACTION", "UNCOMMITTED", "WORK",
]);

/// Words of SHOW that are no reserved ones.
#[rustfmt::skip]
pub(crate) static SHOWN: Words<128> = Words::new(&[
    "AUTHORS", "BINLOG", "CHARSET", "COLLATION", "COLUMNS", "COUNT", "ENGINE", "ENGINES", "ERRORS",
    "EVENTS", "EXTENDED", "FIELDS", "FULL", "FUNCTION", "GLOBAL", "GRANTS", "HOSTS", "INDEXES",
    "INNODB", "KEYSPACES", "LOCAL", "LOGS", "MASTER", "MUTEX", "OPEN", "PLUGINS", "PRIVILEGES",
    "PROCESSLIST", "PROFILE", "PROFILES", "RELAYLOG", "REPLICA", "REPLICAS", "SESSION", "SLAVE",
    "STATUS", "STORAGE", "TABLES", "TRIGGERS", "VARIABLES", "VSCHEMA", "WARNINGS",
]);

/// Words that hold a space before their `(`.
#[rustfmt::skip]
pub(crate) static APART: Words<16> = Words::new(&[
    "AGAINST", "COLUMNS", "LATERAL", "OVER", "VALUE",
]);

/// The charsets that an introducer may name, without those that are never read here.
#[rustfmt::skip]
pub(crate) static CHARSETS: Words<128> = Words::new(&[
    "ARMSCII8", "ASCII", "BIG5", "BINARY", "CP1250", "CP1251", "CP1256", "CP1257", "CP850", "CP852",
    "CP866", "CP932", "DEC8", "EUCJPMS", "EUCKR", "GB18030", "GB2312", "GBK", "GEOSTD8", "GREEK",
    "HEBREW", "HP8", "KEYBCS2", "KOI8R", "KOI8U", "LATIN1", "LATIN2", "LATIN5", "LATIN7", "MACCE",
    "MACROMAN", "SJIS", "SWE7", "TIS620", "UCS2", "UJIS", "UTF16", "UTF16LE", "UTF32", "UTF8",
    "UTF8MB3", "UTF8MB4",
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_case_and_others_are_not() {
        for word in ["select", "SELECT", "SeLeCt", "utc_timestamp", "zerofill"] {
            assert_eq!(
                RESERVED.find(word.as_bytes()).map(str::to_lowercase),
                Some(word.to_lowercase())
            );
        }
        for word in [
            "",
            "rank",
            "selec",
            "selectt",
            "a_word_longer_than_any_reserved_word",
            "id",
            "status",
        ] {
            assert!(!RESERVED.has(word.as_bytes()), "{word}");
        }
    }
}
