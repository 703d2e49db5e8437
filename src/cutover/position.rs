//! Where a primary stands, by its GTIDs, and whether its shadow has come there: the shadow is told to wait for
//! them, or, where it is no server that can be told (a vtgate), a command of the operators says so. Refuses to guess:
//! a primary that gives its transactions no GTIDs stands nowhere, and what is not known in time is an error.

use super::hooks;
use crate::ask::{AskError, Asker, Manner, Row};
use crate::config::Server;
use crate::connect::Dial;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// MySQL's numbers for a variable that a server does not know (MariaDB), and for a function (MySQL 5.6).
pub(super) const UNKNOWN_VARIABLE: u16 = 1193;
pub(super) const UNKNOWN_FUNCTION: u16 = 1305;

const STANDS: &str = "SELECT @@GLOBAL.gtid_mode, @@GLOBAL.log_bin, @@GLOBAL.gtid_executed";

/// How a server is told to wait: since MySQL 5.7, and before.
const WAITS: [&str; 2] = [
    "WAIT_FOR_EXECUTED_GTID_SET",
    "WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS",
];

/// What was committed on a primary: a set of GTIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position(String);

impl Position {
    /// Of the primary behind this connection, of this name.
    ///
    /// # Errors
    /// It has none to tell, and what would help; or it does not answer.
    pub(super) async fn of(primary: &mut Asker, name: &str) -> Result<Self, Unplaced> {
        let told = primary.ask(STANDS).await;
        if let Err(AskError::Refused { code, .. }) = &told
            && *code == UNKNOWN_VARIABLE
        {
            return Err(Unplaced::Never(format!(
                "{name} has no GTIDs of MySQL's, by which the shadow could be waited for (MariaDB's, such as 0-1-100, are others); take --mode chunks"
            )));
        }
        let rows = told.map_err(|fault| {
            Unplaced::NotNow(format!("where {name} stands cannot be asked: {fault}"))
        })?;
        read(&rows).ok_or_else(|| {
            Unplaced::Never(format!(
                "{name} gives its transactions no GTIDs, by which the shadow could be waited for (gtid_mode is off, or log_bin is): set gtid_mode = ON there, or take --mode chunks"
            ))
        })
    }
}

/// Why it is not known where a primary stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unplaced {
    /// It may be at another time.
    NotNow(String),
    /// It never is.
    Never(String),
}

fn read(rows: &[Row]) -> Option<Position> {
    let cell = |at: usize| rows.first()?.get(at)?.as_deref();
    // The permissive one lets others have none, but gives them to whoever asks for nothing.
    let gives = matches!(cell(0)?, "ON" | "ON_PERMISSIVE") && cell(1)? == "1";
    let set = gtids(cell(2)?)?;
    gives.then_some(Position(set))
}

/// A set of GTIDs as it can stand in a statement; none where it is empty, or is none of MySQL's: each is of a source
/// and numbers behind a colon, which MariaDB's (`0-1-100`) are not.
pub(super) fn gtids(told: &str) -> Option<String> {
    let set: String = told.split_whitespace().collect();
    let is_one = |one: &str| {
        one.split_once(':')
            .is_some_and(|(of, numbers)| !of.is_empty() && !numbers.is_empty())
    };
    (!set.contains('\'') && set.split(',').all(is_one)).then_some(set)
}

/// Who says whether the shadow has come to a position.
pub(super) enum Follower<'a> {
    /// Itself.
    Asked(Box<Asker>, &'a str),
    /// `verify.position_command`.
    Command(&'a [String]),
}

impl<'a> Follower<'a> {
    /// Of this shadow; whoever has a command is not to ask the shadow itself.
    ///
    /// # Errors
    /// It cannot be known where it is, and what would help.
    pub(super) async fn of(
        dial: &dyn Dial,
        shadow: &'a Server,
        command: &'a [String],
    ) -> Result<Self, Unplaced> {
        if !command.is_empty() {
            return Ok(Self::Command(command));
        }
        let name = &shadow.name;
        let none = || Unplaced::Never(format!("the proxy has no account on {name}"));
        let account = shadow.account.as_ref().ok_or_else(none)?;
        let opened = Asker::open(dial, shadow, account, &Manner::default()).await;
        let asker = opened.map_err(|fault| Unplaced::NotNow(format!("{name}: {fault}")))?;
        let version = asker.version();
        let other = ["Vitess", "MariaDB"]
            .into_iter()
            .find(|one| version.contains(one));
        if let Some(other) = other {
            return Err(Unplaced::Never(format!(
                "{name} ({other}) cannot be told to wait for GTIDs of MySQL's: set verify.position_command to a command that ends with 0 once {name} has them, or take --mode chunks"
            )));
        }
        Ok(Self::Asked(Box::new(asker), name))
    }

    /// Which server is asked, by its `server_uuid`; none where none is.
    ///
    /// # Errors
    /// It does not say.
    pub(super) async fn identity(&mut self) -> Result<Option<String>, Unplaced> {
        match self {
            Self::Asked(shadow, name) => {
                let told = shadow.ask("SELECT @@GLOBAL.server_uuid").await;
                let rows = told.map_err(|fault| {
                    Unplaced::NotNow(format!("which server {name} is cannot be asked: {fault}"))
                })?;
                Ok(first(&rows).map(str::to_owned))
            }
            Self::Command(_) => Ok(None),
        }
    }

    /// Resolves once the shadow has come to this position, of this table.
    ///
    /// # Errors
    /// It has not in time, or nobody can say.
    pub(super) async fn comes_to(
        &mut self,
        position: &Position,
        table: &str,
        until: Instant,
    ) -> Result<(), String> {
        let left = until.saturating_duration_since(Instant::now());
        match self {
            Self::Asked(shadow, name) => {
                let came = timeout_at(until, wait(shadow, position, left)).await;
                match came {
                    Ok(Ok(true)) => Ok(()),
                    Ok(Ok(false)) | Err(_) => Err(format!(
                        "{name} did not have what the primary had committed within {} ms: replication is behind or stopped",
                        left.as_millis()
                    )),
                    Ok(Err(fault)) => Err(format!("{name} cannot wait for GTIDs: {fault}")),
                }
            }
            Self::Command(command) => told(command, position, table, left).await,
        }
    }

    /// What part of a hold it may take: of what is asked a quarter, so that the hold outlasts a slower time, of a
    /// command half, which is a process that has to be started, too.
    pub(super) const fn share(&self) -> u32 {
        match self {
            Self::Asked(..) => 4,
            Self::Command(_) => 2,
        }
    }
}

/// The server waits for whole seconds, and ends it by itself; whoever asks may go sooner.
async fn wait(shadow: &mut Asker, position: &Position, left: Duration) -> Result<bool, AskError> {
    let s = whole_seconds(left);
    let [newer, older] = WAITS.map(|wait| format!("SELECT {wait}('{}', {s})", position.0));
    let rows = match shadow.ask(&newer).await {
        Err(AskError::Refused { code, .. }) if code == UNKNOWN_FUNCTION => {
            // It tells a number of events; -1 where it was not in time, nothing where replication is stopped.
            let rows = shadow.ask(&older).await?;
            return Ok(first(&rows).is_some_and(|told| !told.starts_with('-')));
        }
        told => told?,
    };
    Ok(came(&rows))
}

/// A server's bound for so long: 0 would be for ever, or none.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    let more = u64::from(time.subsec_nanos() > 0);
    (time.as_secs() + more).max(1)
}

/// Whether a server that waited for GTIDs has them.
pub(super) fn came(rows: &[Row]) -> bool {
    first(rows) == Some("0")
}

fn first(rows: &[Row]) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}

/// The command is told by its last words, and the same by its environment.
async fn told(
    command: &[String],
    position: &Position,
    table: &str,
    left: Duration,
) -> Result<(), String> {
    let ms = left.as_millis().to_string();
    let mut words = command.to_vec();
    words.extend([position.0.clone(), table.to_owned(), ms.clone()]);
    let named = [
        ("GTID_SET", position.0.as_str()),
        ("TABLE", table),
        ("LEFT_MS", &ms),
    ];
    let ran = hooks::run(&words, &named, left).await;
    ran.map_err(|fault| format!("verify.position_command: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 3]) -> Vec<Row> {
        vec![cells.map(|cell| Some(cell.to_owned())).into()]
    }

    #[test]
    fn a_primary_stands_where_its_gtids_say_and_without_them_nowhere() {
        let told = read(&row(["ON", "1", "a-b:1-5,\nc-d:1"]));
        assert_eq!(told, Some(Position("a-b:1-5,c-d:1".to_owned())));
        assert!(read(&row(["ON_PERMISSIVE", "1", "a:1"])).is_some());
        for none in [
            ["OFF", "1", "a:1-5"],
            ["OFF_PERMISSIVE", "1", "a:1-5"],
            // Without a binary log a client's transactions get none.
            ["ON", "0", "a:1-5"],
            ["ON", "1", ""],
            ["ON", "1", "a' OR 'b"],
            ["ON", "1", "a:1' OR 'b:2"],
            // MariaDB's.
            ["ON", "1", "0-1-100"],
            ["ON", "1", "a:1-5,0-1-100"],
            ["ON", "1", "a:"],
        ] {
            assert_eq!(read(&row(none)), None, "{none:?}");
        }
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_server_is_never_told_to_wait_for_ever() {
        let ms = Duration::from_millis;
        let told = [0, 1, 999, 1_000, 1_001, 10_000].map(|time| whole_seconds(ms(time)));
        assert_eq!(told, [1, 1, 1, 1, 2, 10]);
    }

    #[tokio::test]
    async fn a_command_is_told_where_the_primary_stands_and_is_heard_by_its_exit_code() {
        let position = Position("a-b:1-5".to_owned());
        let script = "test \"$1\" = a-b:1-5 && test \"$2\" = app.t && test \"$3\" -gt 5000 \
             && test $UNDERSTUDY_GTID_SET = a-b:1-5 && test $UNDERSTUDY_TABLE = app.t && test $UNDERSTUDY_LEFT_MS = \"$3\"";
        let shell = |script: &str| ["sh", "-c", script, "sh"].map(str::to_owned);
        let ask = async |script: &str, at_most: Duration| {
            let command = shell(script);
            let mut follower = Follower::Command(&command);
            let until = Instant::now() + at_most;
            follower.comes_to(&position, "app.t", until).await
        };
        let long = Duration::from_secs(30);
        assert_eq!(ask(script, long).await, Ok(()));
        let failed = ask("echo no such stream >&2; exit 3", long).await;
        let failed = failed.unwrap_err();
        assert!(
            failed.contains("verify.position_command") && failed.contains("no such stream"),
            "{failed}"
        );
        let late = ask("sleep 600", Duration::from_millis(200)).await;
        let late = late.unwrap_err();
        assert!(late.contains("killed"), "{late}");
    }
}
