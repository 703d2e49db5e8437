//! `healthy.txt`: statements that say the same on both servers, or differ in what is tolerated.

use super::faults::Said;
use super::run::{Doors, persist, route};
use crate::lab::Lab;
use mysql_async::prelude::Queryable;

/// The file, with a place for the session's number in each statement.
pub struct Healthy {
    /// Said to both servers before the traffic.
    set_up: Vec<String>,
    said: Vec<Said>,
}

/// Reads the file.
pub fn read() -> Healthy {
    let mut healthy = Healthy {
        set_up: Vec::new(),
        said: Vec::new(),
    };
    let text = super::file("healthy.txt");
    for line in text.lines().skip_while(|line| !line.starts_with('!')) {
        match line.split_once(' ') {
            Some(("!", rest)) => healthy.set_up.push(rest.to_owned()),
            Some((">", rest)) => healthy.said.push(Said::Text(rest.to_owned())),
            Some(("?", rest)) => healthy.said.push(prepared(rest)),
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
        }
    }
    healthy
}

fn prepared(line: &str) -> Said {
    let (statement, parameters) = line.split_once(" | ").unwrap_or((line, ""));
    let parameters = parameters.split(", ").filter(|one| !one.is_empty());
    Said::Prepared(
        statement.to_owned(),
        parameters.map(str::to_owned).collect(),
    )
}

impl Healthy {
    /// How many statements there are.
    pub fn said(&self) -> usize {
        self.said.len()
    }

    /// The statements of one session, on tables of its own.
    pub fn of(&self, session: usize) -> Vec<Said> {
        let own = |text: &str| text.replace("{w}", &session.to_string());
        let of = |said: &Said| match said {
            Said::Text(text) => Said::Text(own(text)),
            Said::Prepared(text, parameters) => Said::Prepared(own(text), parameters.clone()),
            Said::Later(text) => Said::Later(own(text)),
        };
        self.said.iter().map(of).collect()
    }
}

/// Makes the tables of each session on both servers.
pub async fn set_up(lab: &Lab, healthy: &Healthy, sessions: usize) {
    let mut doors = Doors::open(lab, false).await;
    for session in 0..sessions {
        for statement in &healthy.set_up {
            let statement = statement.replace("{w}", &session.to_string());
            let said = doors.legacy.query_drop(&statement).await;
            said.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
            persist(&mut doors.vtgate, &statement).await;
            let made = statement.strip_prefix("create table ");
            let table = made.and_then(|rest| rest.split(' ').next());
            if let Some(table) = table.and_then(|name| name.strip_prefix("app.")) {
                route(&mut doors.vtgate, table, true).await;
            }
            if let Some(table) = table {
                persist(&mut doors.vtgate, &format!("select * from {table}")).await;
            }
        }
    }
}
