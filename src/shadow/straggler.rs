//! What holds the shadow up: of all that the primary has acknowledged and that is not done there, the first.
//! For who asks now and then, such as a cutover that waits; it decides nothing.

use super::judge::NOBODY;
use super::line::Line;
use super::order::{Request, Scope};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Tables that are named at most.
const TABLES_MAX: usize = 5;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Straggler {
    /// Its session; none where it is understudy's own, such as a repair.
    pub session: Option<u64>,
    /// Its statement without literals, where it has one.
    pub statement: Option<Arc<str>>,
    /// The first tables that it touches, with their databases; none where they are not known.
    pub tables: Vec<String>,
    /// For how long the primary has had it done.
    pub age: Duration,
    /// It runs on the shadow; else it waits for its turn.
    pub runs: bool,
}

impl Straggler {
    fn of(request: &Request, runs: bool, now: Instant) -> Self {
        let tables = match &request.scope {
            Scope::Known(tables) => tables.iter().take(TABLES_MAX).map(|table| {
                let database = table.database.iter().map(|database| format!("{database}."));
                database.chain([table.name.clone()]).collect()
            }),
            Scope::All => return Self::anywhere(request, runs, now),
        };
        Self {
            tables: tables.collect(),
            ..Self::anywhere(request, runs, now)
        }
    }

    fn anywhere(request: &Request, runs: bool, now: Instant) -> Self {
        Self {
            session: (request.session != NOBODY).then_some(request.session),
            statement: request.statement.clone(),
            tables: Vec::new(),
            age: now.saturating_duration_since(request.acked),
            runs,
        }
    }
}

impl Line {
    /// The first of those that stand here; see [`Straggler`]. Its words are made once the line has been let go.
    pub(super) fn straggler(&self, now: Instant) -> Option<Straggler> {
        let (request, runs) = self.look(|order| {
            let (request, runs) = order.foremost()?;
            Some((request.clone(), runs))
        })?;
        Some(Straggler::of(&request, runs, now))
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::Part;
    use super::*;
    use crate::sql::Table;

    fn request(session: u64, acked: Instant, scope: Scope) -> Request {
        Request {
            session,
            part: Part::Commit,
            scope,
            writes: Scope::none(),
            began: acked,
            acked,
            statement: Some(Arc::from("UPDATE `t` SET `a` = ?")),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_is_not_done_is_named_whether_it_runs_or_waits() {
        let (line, start) = (Arc::<Line>::default(), Instant::now());
        assert_eq!(line.straggler(start), None);
        let table = Table {
            database: Some("app".into()),
            name: "t".into(),
        };
        let first = line.join(request(7, start, Scope::Known([table].into())));
        let second = line.join(request(NOBODY, start + Duration::from_secs(1), Scope::All));
        let now = start + Duration::from_secs(3);
        let named = line.straggler(now).expect("one");
        assert_eq!((named.session, named.runs), (Some(7), false));
        assert_eq!(named.tables, ["app.t"]);
        assert_eq!(named.age, Duration::from_secs(3));
        assert_eq!(named.statement.as_deref(), Some("UPDATE `t` SET `a` = ?"));
        first.start();
        assert!(line.straggler(now).is_some_and(|one| one.runs));
        drop(first);
        let named = line.straggler(now).expect("the other");
        assert_eq!((named.session, named.tables.len()), (None, 0));
        drop(second);
        assert_eq!(line.straggler(now), None);
    }
}
