//! What a call says about a statement: the clock, chance, locks, functions that we do not know.

use super::lexer::Kind;
use super::statements::Statement;
use super::words::{RESERVED, Words};

/// Functions that MySQL or MariaDB bring along. A call to any other may run a stored function,
/// which may read and write any table.
#[rustfmt::skip]
pub(crate) static BUILTIN: Words<2048> = Words::new(&[
    "ABS", "ACOS", "ADDDATE", "ADDTIME", "ADD_MONTHS", "AES_DECRYPT", "AES_ENCRYPT", "ANY_VALUE",
    "ASCII", "ASIN", "ATAN", "ATAN2", "AVG", "BENCHMARK", "BIN", "BINLOG_GTID_POS", "BIN_TO_UUID",
    "BIT_AND", "BIT_COUNT", "BIT_LENGTH", "BIT_OR", "BIT_XOR", "CAST", "CEIL", "CEILING",
    "CHAR_LENGTH", "CHARACTER_LENGTH", "CHARSET", "CHR", "COALESCE", "COERCIBILITY", "COLLATION",
    "COMPRESS", "CONCAT", "CONCAT_WS", "CONNECTION_ID", "CONV", "CONVERT_TZ", "COS", "COT", "COUNT",
    "CRC32", "CRC32C", "CUME_DIST", "CURDATE", "CURRENT_ROLE", "CURTIME", "DATE", "DATEDIFF",
    "DATE_ADD", "DATE_FORMAT", "DATE_SUB", "DAY", "DAYNAME", "DAYOFMONTH", "DAYOFWEEK", "DAYOFYEAR",
    "DECODE", "DECODE_HISTOGRAM", "DEGREES", "DENSE_RANK", "DES_DECRYPT", "DES_ENCRYPT", "ELT",
    "ENCODE", "ENCRYPT", "EXP", "EXPORT_SET", "EXTRACT", "EXTRACTVALUE", "FIELD", "FIND_IN_SET",
    "FIRST_VALUE", "FLOOR", "FORMAT", "FORMAT_BYTES", "FORMAT_PICO_TIME", "FOUND_ROWS",
    "FROM_BASE64", "FROM_DAYS", "FROM_UNIXTIME", "GET_FORMAT", "GET_LOCK", "GREATEST", "GROUPING",
    "GROUP_CONCAT", "GTID_SUBSET", "GTID_SUBTRACT", "HEX", "HOUR", "IFNULL", "INET6_ATON",
    "INET6_NTOA", "INET_ATON", "INET_NTOA", "INSTR", "ISNULL", "IS_FREE_LOCK", "IS_IPV4",
    "IS_IPV4_COMPAT", "IS_IPV4_MAPPED", "IS_IPV6", "IS_USED_LOCK", "IS_UUID", "JSON_ARRAY",
    "JSON_ARRAYAGG", "JSON_ARRAY_APPEND", "JSON_ARRAY_INSERT", "JSON_COMPACT", "JSON_CONTAINS",
    "JSON_CONTAINS_PATH", "JSON_DEPTH", "JSON_DETAILED", "JSON_EQUALS", "JSON_EXISTS",
    "JSON_EXTRACT", "JSON_INSERT", "JSON_KEYS", "JSON_LENGTH", "JSON_LOOSE", "JSON_MERGE",
    "JSON_MERGE_PATCH", "JSON_MERGE_PRESERVE", "JSON_NORMALIZE", "JSON_OBJECT", "JSON_OBJECTAGG",
    "JSON_OVERLAPS", "JSON_PRETTY", "JSON_QUERY", "JSON_QUOTE", "JSON_REMOVE", "JSON_REPLACE",
    "JSON_SCHEMA_VALID", "JSON_SCHEMA_VALIDATION_REPORT", "JSON_SEARCH", "JSON_SET",
    "JSON_STORAGE_FREE", "JSON_STORAGE_SIZE", "JSON_TABLE", "JSON_TYPE", "JSON_UNQUOTE",
    "JSON_VALID", "JSON_VALUE", "LAG", "LAST_DAY", "LAST_INSERT_ID", "LAST_VALUE", "LCASE", "LEAD",
    "LEAST", "LENGTH", "LENGTHB", "LN", "LOAD_FILE", "LOCATE", "LOG", "LOG10", "LOG2", "LOWER",
    "LPAD", "LTRIM", "MAKEDATE", "MAKETIME", "MAKE_SET", "MASTER_GTID_WAIT", "MASTER_POS_WAIT",
    "MAX", "MD5", "MEDIAN", "MICROSECOND", "MID", "MIN", "MINUTE", "MONTH", "MONTHNAME",
    "NAME_CONST", "NATURAL_SORT_KEY", "NOW", "NTH_VALUE", "NTILE", "NULLIF", "NVL", "NVL2", "OCT",
    "OCTET_LENGTH", "OLD_PASSWORD", "ORD", "PASSWORD", "PERCENTILE_CONT", "PERCENTILE_DISC",
    "PERCENT_RANK", "PERIOD_ADD", "PERIOD_DIFF", "PI", "POSITION", "POW", "POWER",
    "PS_CURRENT_THREAD_ID", "PS_THREAD_ID", "QUARTER", "QUOTE", "RADIANS", "RAND", "RANDOM_BYTES",
    "RANK", "REGEXP_INSTR", "REGEXP_LIKE", "REGEXP_REPLACE", "REGEXP_SUBSTR", "RELEASE_ALL_LOCKS",
    "RELEASE_LOCK", "REVERSE", "ROUND", "ROW_COUNT", "ROW_NUMBER", "RPAD", "RTRIM", "SECOND",
    "SEC_TO_TIME", "SESSION_USER", "SHA", "SHA1", "SHA2", "SIGN", "SIN", "SLEEP", "SOUNDEX",
    "SPACE", "SQRT", "STATEMENT_DIGEST", "STATEMENT_DIGEST_TEXT", "STD", "STDDEV", "STDDEV_POP",
    "STDDEV_SAMP", "STRCMP", "STR_TO_DATE", "SUBDATE", "SUBSTR", "SUBSTRING", "SUBSTRING_INDEX",
    "SUBTIME", "SUM", "SYSDATE", "SYSTEM_USER", "TAN", "TIME", "TIMEDIFF", "TIMESTAMP",
    "TIMESTAMPADD", "TIMESTAMPDIFF", "TIME_FORMAT", "TIME_TO_SEC", "TO_BASE64", "TO_CHAR",
    "TO_DAYS", "TO_SECONDS", "TRIM", "TRUNCATE", "UCASE", "UNCOMPRESS", "UNCOMPRESSED_LENGTH",
    "UNHEX", "UNIX_TIMESTAMP", "UPDATEXML", "UPPER", "USER", "UUID", "UUID_SHORT", "UUID_TO_BIN",
    "VALIDATE_PASSWORD_STRENGTH", "VARIANCE", "VAR_POP", "VAR_SAMP", "VERSION",
    "WAIT_FOR_EXECUTED_GTID_SET", "WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS", "WEEK", "WEEKDAY",
    "WEEKOFYEAR", "WEIGHT_STRING", "YEAR", "YEARWEEK", "AREA", "ASBINARY", "ASTEXT", "ASWKB",
    "ASWKT", "BOUNDARY", "BUFFER", "CENTROID", "CONTAINS", "CONVEXHULL", "CROSSES", "DIMENSION",
    "DISJOINT", "DISTANCE", "ENDPOINT", "ENVELOPE", "EQUALS", "EXTERIORRING", "GEOMCOLLFROMTEXT",
    "GEOMETRYCOLLECTION", "GEOMETRYFROMTEXT", "GEOMETRYN", "GEOMETRYTYPE", "GEOMFROMTEXT",
    "GEOMFROMWKB", "GLENGTH", "INTERIORRINGN", "INTERSECTS", "ISCLOSED", "ISEMPTY", "ISSIMPLE",
    "LINEFROMTEXT", "LINESTRING", "MBRCONTAINS", "MBRCOVEREDBY", "MBRCOVERS", "MBRDISJOINT",
    "MBREQUAL", "MBREQUALS", "MBRINTERSECTS", "MBROVERLAPS", "MBRTOUCHES", "MBRWITHIN",
    "MULTILINESTRING", "MULTIPOINT", "MULTIPOLYGON", "NUMGEOMETRIES", "NUMINTERIORRINGS",
    "NUMPOINTS", "OVERLAPS", "POINT", "POINTFROMTEXT", "POINTN", "POLYFROMTEXT", "POLYGON", "SRID",
    "STARTPOINT", "TOUCHES", "WITHIN", "X", "Y", "ST_AREA", "ST_ASBINARY", "ST_ASGEOJSON",
    "ST_ASTEXT", "ST_ASWKB", "ST_ASWKT", "ST_BUFFER", "ST_BUFFER_STRATEGY", "ST_CENTROID",
    "ST_COLLECT", "ST_CONTAINS", "ST_CONVEXHULL", "ST_CROSSES", "ST_DIFFERENCE", "ST_DIMENSION",
    "ST_DISJOINT", "ST_DISTANCE", "ST_DISTANCE_SPHERE", "ST_ENDPOINT", "ST_ENVELOPE", "ST_EQUALS",
    "ST_EXTERIORRING", "ST_FRECHETDISTANCE", "ST_GEOHASH", "ST_GEOMCOLLFROMTEXT", "ST_GEOMETRYN",
    "ST_GEOMETRYTYPE", "ST_GEOMFROMGEOJSON", "ST_GEOMFROMTEXT", "ST_GEOMFROMWKB",
    "ST_GEOMETRYFROMTEXT", "ST_HAUSDORFFDISTANCE", "ST_INTERIORRINGN", "ST_INTERSECTION",
    "ST_INTERSECTS", "ST_ISCLOSED", "ST_ISEMPTY", "ST_ISSIMPLE", "ST_ISVALID", "ST_LATFROMGEOHASH",
    "ST_LATITUDE", "ST_LENGTH", "ST_LINEFROMTEXT", "ST_LINEINTERPOLATEPOINT", "ST_LONGFROMGEOHASH",
    "ST_LONGITUDE", "ST_MAKEENVELOPE", "ST_NUMGEOMETRIES", "ST_NUMINTERIORRING",
    "ST_NUMINTERIORRINGS", "ST_NUMPOINTS", "ST_OVERLAPS", "ST_POINTFROMGEOHASH", "ST_POINTFROMTEXT",
    "ST_POINTN", "ST_POLYFROMTEXT", "ST_SIMPLIFY", "ST_SRID", "ST_STARTPOINT", "ST_SWAPXY",
    "ST_SYMDIFFERENCE", "ST_TOUCHES", "ST_TRANSFORM", "ST_UNION", "ST_VALIDATE", "ST_WITHIN",
    "ST_X", "ST_Y", "GEOMCOLLFROMWKB", "ST_GEOMCOLLFROMWKB", "GEOMETRYCOLLECTIONFROMTEXT",
    "ST_GEOMETRYCOLLECTIONFROMTEXT", "GEOMETRYCOLLECTIONFROMWKB", "ST_GEOMETRYCOLLECTIONFROMWKB",
    "GEOMETRYFROMWKB", "ST_GEOMETRYFROMWKB", "LINEFROMWKB", "ST_LINEFROMWKB", "LINESTRINGFROMTEXT",
    "ST_LINESTRINGFROMTEXT", "LINESTRINGFROMWKB", "ST_LINESTRINGFROMWKB", "MLINEFROMTEXT",
    "ST_MLINEFROMTEXT", "MLINEFROMWKB", "ST_MLINEFROMWKB", "MULTILINESTRINGFROMTEXT",
    "ST_MULTILINESTRINGFROMTEXT", "MULTILINESTRINGFROMWKB", "ST_MULTILINESTRINGFROMWKB",
    "MPOINTFROMTEXT", "ST_MPOINTFROMTEXT", "MPOINTFROMWKB", "ST_MPOINTFROMWKB",
    "MULTIPOINTFROMTEXT", "ST_MULTIPOINTFROMTEXT", "MULTIPOINTFROMWKB", "ST_MULTIPOINTFROMWKB",
    "MPOLYFROMTEXT", "ST_MPOLYFROMTEXT", "MPOLYFROMWKB", "ST_MPOLYFROMWKB", "MULTIPOLYGONFROMTEXT",
    "ST_MULTIPOLYGONFROMTEXT", "MULTIPOLYGONFROMWKB", "ST_MULTIPOLYGONFROMWKB", "POINTFROMWKB",
    "ST_POINTFROMWKB", "POLYFROMWKB", "ST_POLYFROMWKB", "POLYGONFROMTEXT", "ST_POLYGONFROMTEXT",
    "POLYGONFROMWKB", "ST_POLYGONFROMWKB", "ST_GEOMCOLLFROMTXT", "ST_BOUNDARY", "ST_ISRING",
    "ISRING", "ST_POINTONSURFACE", "POINTONSURFACE", "ST_RELATE", "ST_LINEINTERPOLATEPOINTS",
    "ST_POINTATDISTANCE", "AS_WKB", "AS_WKT", "COLUMN_ADD", "COLUMN_CHECK", "COLUMN_CREATE",
    "COLUMN_DELETE", "COLUMN_EXISTS", "COLUMN_GET", "COLUMN_JSON", "COLUMN_LIST",
    "JSON_ARRAY_INTERSECT", "JSON_KEY_VALUE", "JSON_OBJECT_FILTER_KEYS", "JSON_OBJECT_TO_ARRAY",
    "JSON_DUALITY_OBJECT", "SFORMAT", "KDF", "TO_DATE", "TO_NUMBER", "SYS_GUID", "UUID_V4",
    "UUID_V7", "ROWNUM", "CONCAT_OPERATOR_ORACLE", "DECODE_ORACLE", "LPAD_ORACLE", "LTRIM_ORACLE",
    "REPLACE_ORACLE", "RPAD_ORACLE", "RTRIM_ORACLE", "SUBSTR_ORACLE", "TRIM_ORACLE",
    "WSREP_LAST_SEEN_GTID", "WSREP_LAST_WRITTEN_GTID", "VEC_DISTANCE", "VEC_DISTANCE_COSINE",
    "VEC_DISTANCE_EUCLIDEAN", "VEC_FROMTEXT", "VEC_TOTEXT", "VECTOR_DIM", "VECTOR_DISTANCE",
    "VECTOR_TO_STRING", "STRING_TO_VECTOR", "TO_VECTOR", "FROM_VECTOR", "ICU_VERSION",
    "ROLES_GRAPHML", "ETAG", "CAN_ACCESS_TABLE", "CAN_ACCESS_DATABASE", "CAN_ACCESS_COLUMN",
    "CAN_ACCESS_VIEW", "CAN_ACCESS_USER", "LIKE_RANGE_MIN", "LIKE_RANGE_MAX",
]);

/// Words before a `(` that are no functions, wherever calls are looked for: not in the definition
/// of a table.
#[rustfmt::skip]
static NO_FUNCTIONS: Words<128> = Words::new(&[
    "ROW", "OVER", "ANALYSE", "AGAINST", "ANY", "SOME", "VALUE", "LATERAL", "OF", "COLUMNS",
    "ESCAPE", "OFFSET", "WINDOW", "DATETIME", "TIME", "SIGNED", "NCHAR", "NVARCHAR", "ROLLUP",
    "END", "EXCEPT", "INTERSECT", "MINUS", "BEGIN", "DUPLICATE", "TEXT", "BIT", "RETURNING",
    "VECTOR", "SQL_NO_CACHE", "SQL_CACHE", "SQL_BUFFER_RESULT", "OJ", "CUBE", "QUALIFY",
]);

/// Reading the clock, by call.
#[rustfmt::skip]
static CLOCK: Words<64> = Words::new(&[
    "NOW", "SYSDATE", "CURDATE", "CURTIME", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "LOCALTIME", "LOCALTIMESTAMP", "UTC_DATE", "UTC_TIME", "UTC_TIMESTAMP", "UNIX_TIMESTAMP",
]);

/// Values that differ from server to server, or from call to call, by nature.
#[rustfmt::skip]
static CHANCE: Words<128> = Words::new(&[
    "UUID", "UUID_SHORT", "RAND", "RANDOM_BYTES", "CONNECTION_ID", "LAST_INSERT_ID", "IS_USED_LOCK",
    "IS_FREE_LOCK", "VERSION", "USER", "CURRENT_USER", "SESSION_USER", "SYSTEM_USER",
    "CURRENT_ROLE", "LOAD_FILE", "ENCRYPT", "PS_CURRENT_THREAD_ID", "PS_THREAD_ID", "UUID_V4",
    "UUID_V7", "SYS_GUID", "ICU_VERSION", "SLEEP",
]);

/// In lower case, as `Statement::nondeterministic` names them.
#[rustfmt::skip]
const CHANCE_NAMES: &[&str] = &[
    "uuid", "uuid_short", "rand", "random_bytes", "connection_id", "last_insert_id", "is_used_lock",
    "is_free_lock", "version", "user", "current_user", "session_user", "system_user",
    "current_role", "load_file", "encrypt", "ps_current_thread_id", "ps_thread_id", "uuid_v4",
    "uuid_v7", "sys_guid", "icu_version", "sleep",
];

/// System variables of a server, not of the data.
#[rustfmt::skip]
const SERVER_VARIABLES: &[&str] = &[
    "@@server_id", "@@server_uuid", "@@hostname", "@@port", "@@socket", "@@pid_file", "@@datadir",
    "@@basedir", "@@tmpdir", "@@version", "@@version_comment", "@@version_compile_os",
    "@@version_compile_machine", "@@pseudo_thread_id", "@@last_insert_id", "@@identity",
    "@@rand_seed1", "@@rand_seed2", "@@gtid_executed", "@@gtid_purged", "@@uptime", "@@error_count",
    "@@warning_count", "@@log_error", "@@general_log_file", "@@slow_query_log_file", "@@license",
    "@@proxy_user",
];

/// Functions that hold locks, wait for replication or draw from a sequence: never run twice.
#[rustfmt::skip]
static NEVER_TWICE: Words<64> = Words::new(&[
    "GET_LOCK", "RELEASE_LOCK", "RELEASE_ALL_LOCKS", "MASTER_POS_WAIT", "SOURCE_POS_WAIT",
    "MASTER_GTID_WAIT", "WAIT_FOR_EXECUTED_GTID_SET", "WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS",
    "NEXTVAL", "SETVAL", "LASTVAL", "SYS_EXEC", "SYS_EVAL", "SYS_SET", "SERVICE_GET_WRITE_LOCKS",
    "SERVICE_GET_READ_LOCKS", "SERVICE_RELEASE_LOCKS", "WSREP_SYNC_WAIT_UPTO_GTID",
]);

/// What the names of functions begin with that administer a server: no more for the shadow than
/// the statements that do.
const ADMINISTER: &[&str] = &[
    "group_replication_",
    "asynchronous_connection_failover_",
    "audit_log_",
    "keyring_",
    "version_tokens_",
    "mysql_firewall_",
    "mysql_query_attribute_",
    "mysqlx_",
    "rotate_system_key",
];

/// What a statement's calls and variables say.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) nondeterministic: Vec<&'static str>,
    pub(crate) clock: bool,
    /// LAST_INSERT_ID(expression).
    pub(crate) sets_last_insert_id: bool,
    /// Holds a lock or the like.
    pub(crate) never_twice: bool,
    /// Calls a function that the server did not bring along.
    pub(crate) unknown: bool,
    /// Reads a `@@variable`.
    pub(crate) system_variable: bool,
    /// `@a := …`
    pub(crate) assigns: bool,
}

/// Looks at every token. `named` are the tokens that are names of tables, which a `(` may follow.
pub(crate) fn calls(statement: Statement<'_>, named: &[usize]) -> Calls {
    let mut calls = Calls::default();
    for (at, token) in statement.tokens.iter().enumerate() {
        match token.kind {
            Kind::Word | Kind::Name => call(statement, at, named, &mut calls),
            Kind::SystemVariable => variable(statement, at, &mut calls),
            Kind::Operator if statement.op(at, b":=") => calls.assigns = true,
            _ => {}
        }
    }
    calls
}

fn call(statement: Statement<'_>, at: usize, named: &[usize], calls: &mut Calls) {
    let called = statement.op(at + 1, b"(") && !named.contains(&at);
    if at > 0 && statement.op(at - 1, b".") {
        calls.unknown |= called && !is_of_sys(statement, at);
        return;
    }
    let quoted = statement.kind(at) == Some(Kind::Name);
    let name = super::names::unquote(statement.bytes(at));
    let word = name.as_ref();
    let bare = matches!(RESERVED.find(word), Some(name) if CLOCK.has(name.as_bytes()) || name == "CURRENT_USER");
    if statement.is(at, "NEXT") && statement.is(at + 1, "VALUE") {
        calls.never_twice = true;
    }
    if !called && (quoted || !bare) {
        return;
    }
    let of_an_argument = statement.is(at, "UNIX_TIMESTAMP") && !statement.op(at + 2, b")");
    if CLOCK.has(word) && !of_an_argument {
        calls.clock = true;
    }
    let sets = word.eq_ignore_ascii_case(b"LAST_INSERT_ID") && !statement.op(at + 2, b")");
    calls.sets_last_insert_id |= sets;
    if CHANCE.has(word) && !sets {
        push(&mut calls.nondeterministic, CHANCE_NAMES, word);
    }
    let never_twice = NEVER_TWICE.has(word) || administers(word);
    calls.never_twice |= never_twice;
    // Quotes around a name do not hide a function of the server's own, but they make a keyword a
    // name like any other.
    let keyword = !quoted && (RESERVED.has(word) || NO_FUNCTIONS.has(word));
    let known = never_twice || keyword || BUILTIN.has(word);
    calls.unknown |= !known && !is_alias(statement, at);
}

fn administers(word: &[u8]) -> bool {
    ADMINISTER.iter().any(|begin| {
        word.get(..begin.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(begin.as_bytes()))
    })
}

/// The functions of the `sys` database, which every server brings along, only read.
fn is_of_sys(statement: Statement<'_>, at: usize) -> bool {
    let database = at.checked_sub(2).map(|at| statement.bytes(at));
    database.is_some_and(|name| super::names::unquote(name).eq_ignore_ascii_case(b"sys"))
}

/// `WITH name (…)`, `) AS name (…)`, `WINDOW name AS (…)`, `USE INDEX name`.
fn is_alias(statement: Statement<'_>, at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else {
        return false;
    };
    ["AS", "WITH", "RECURSIVE", "INDEX", "KEY", "CONSTRAINT"]
        .iter()
        .any(|word| statement.is(before, word))
        || statement.op(before, b")")
}

fn variable(statement: Statement<'_>, at: usize, calls: &mut Calls) {
    calls.system_variable = true;
    let scope = ["@@GLOBAL", "@@SESSION", "@@LOCAL"]
        .iter()
        .any(|s| s.as_bytes().eq_ignore_ascii_case(statement.bytes(at)));
    let name = if scope {
        statement.bytes(at + 2)
    } else {
        statement.bytes(at).get(2..).unwrap_or_default()
    };
    let name = super::names::unquote(name);
    if name.eq_ignore_ascii_case(b"timestamp") {
        calls.clock = true;
    }
    for known in SERVER_VARIABLES {
        if known
            .as_bytes()
            .get(2..)
            .is_some_and(|k| k.eq_ignore_ascii_case(&name))
            && !calls.nondeterministic.contains(known)
        {
            calls.nondeterministic.push(known);
        }
    }
}

fn push(into: &mut Vec<&'static str>, names: &'static [&'static str], word: &[u8]) {
    if let Some(name) = names
        .iter()
        .find(|name| name.as_bytes().eq_ignore_ascii_case(word))
        && !into.contains(name)
    {
        into.push(name);
    }
}
