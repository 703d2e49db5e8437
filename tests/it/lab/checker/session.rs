//! A client's connection, and the state that it has set there and must find again after every flip.

use super::client::Fault;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row, Statement};
use std::time::Duration;

/// What every session sets: neither is a default of either server.
const SQL_MODE: &str = "STRICT_TRANS_TABLES,NO_ZERO_DATE";
const TIME_ZONE: &str = "+05:30";

/// As every application's pool has one.
const LOGIN_MAX: Duration = Duration::from_secs(20);

/// Statements prepared at the login, and run for as long as the session lives.
pub struct Prepared {
    pub mark: Statement,
    pub row: Statement,
    pub count: Statement,
    pub counted: Statement,
}

/// See the module.
pub struct Session {
    pub conn: Conn,
    pub prepared: Prepared,
    /// What was last set.
    pub mark: i64,
    /// The last generated key.
    pub last_id: Option<u64>,
}

impl Session {
    /// Logs in, sets what a session sets, prepares what it will run.
    pub async fn open(opts: Opts) -> Result<Self, Fault> {
        // One that came while the listener died is never answered, and never told.
        let opened = tokio::time::timeout(LOGIN_MAX, Conn::new(opts)).await;
        let mut conn = opened.map_err(|_| Fault::Broken("no login in time".to_owned()))??;
        for statement in [
            "USE scratch".to_owned(),
            "SET NAMES utf8".to_owned(),
            format!("SET SESSION sql_mode = '{SQL_MODE}'"),
            format!("SET time_zone = '{TIME_ZONE}'"),
            "SET @mark = 0".to_owned(),
        ] {
            conn.query_drop(statement).await?;
        }
        let prepared = Prepared {
            mark: conn
                .prep("INSERT INTO checker_marks (client, n) VALUES (?, ?)")
                .await?,
            row: conn
                .prep("INSERT INTO app.checker_rows (id, client, n) VALUES (?, ?, ?)")
                .await?,
            count: conn
                .prep("UPDATE checker_counters SET n = n + 1 WHERE client = ?")
                .await?,
            counted: conn
                .prep("SELECT n FROM checker_counters WHERE client = ?")
                .await?,
        };
        Ok(Self {
            conn,
            prepared,
            mark: 0,
            last_id: None,
        })
    }

    /// Sets a user variable to another value.
    pub async fn set_mark(&mut self, mark: i64) -> Result<(), Fault> {
        self.conn.query_drop(format!("SET @mark = {mark}")).await?;
        self.mark = mark;
        Ok(())
    }

    /// What of the session's state is not as it was set; empty is right.
    pub async fn lost(&mut self) -> Result<Vec<String>, Fault> {
        let due = [
            ("@mark", self.mark.to_string()),
            ("sql_mode", SQL_MODE.to_owned()),
            ("time_zone", TIME_ZONE.to_owned()),
            ("the database", "scratch".to_owned()),
        ];
        let asked = "SELECT @mark, @@sql_mode, @@time_zone, DATABASE()";
        let row: Option<Row> = self.conn.query_first(asked).await?;
        let said: Vec<Option<String>> = row
            .map(|row| row.unwrap())
            .unwrap_or_default()
            .into_iter()
            .map(text)
            .collect();
        let mut lost = Vec::new();
        for (at, (what, due)) in due.iter().enumerate() {
            let said = said.get(at).cloned().flatten();
            let mut words: Vec<&str> = said.as_deref().unwrap_or("NULL").split(',').collect();
            let mut due_words: Vec<&str> = due.split(',').collect();
            words.sort_unstable();
            due_words.sort_unstable();
            if words != due_words {
                lost.push(format!("{what} is {said:?}, and was {due}"));
            }
        }
        Ok(lost)
    }

    /// What LAST_INSERT_ID() should have said, and what it says, where these differ.
    pub async fn lost_last_id(&mut self) -> Result<Option<String>, Fault> {
        let Some(due) = self.last_id else {
            return Ok(None);
        };
        let said: Option<u64> = self.conn.query_first("SELECT LAST_INSERT_ID()").await?;
        let wrong = || format!("LAST_INSERT_ID() is {said:?}, and was {due}");
        Ok((said != Some(due)).then(wrong))
    }
}

fn text(cell: mysql_async::Value) -> Option<String> {
    match cell {
        mysql_async::Value::NULL => None,
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}
