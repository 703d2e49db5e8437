//! How far the shadow is behind, and what holds it up, in words: while a cutover waits for it, and where it
//! has waited in vain.

use crate::shadow::{Mirror, Straggler};
use crate::words::{brief, count, micros};
use serde::Serialize;
use std::time::Duration;

/// Characters of a statement.
const STATEMENT_CHARS: usize = 120;

/// How far the shadow is behind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Behind {
    /// Commands that wait for it or run there.
    pub commands: u64,
    /// For how long the first of them has been waiting for its turn, in milliseconds.
    pub oldest_ms: u64,
    /// What the primary had done first of all that is not done there.
    pub first: Option<First>,
}

/// The command that holds it up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct First {
    /// Its session; null where it is understudy's own.
    pub session: Option<u64>,
    /// Its statement without literals.
    pub statement: Option<String>,
    /// Its tables, as far as they are known.
    pub tables: Vec<String>,
    /// For how long the primary has had it done, in milliseconds.
    pub age_ms: u64,
    /// It runs there; else it waits for its turn.
    pub runs: bool,
}

impl Behind {
    /// As it is now.
    pub(super) fn of(mirror: &Mirror) -> Self {
        let figures = mirror.figures();
        Self {
            commands: figures.waiting,
            oldest_ms: millis(figures.oldest),
            first: mirror.straggler().map(First::of),
        }
    }

    /// In words that follow `the shadow`.
    pub(super) fn words(&self) -> String {
        if self.commands == 0 {
            return "has all that the mirror had for it".to_owned();
        }
        let first = self.first.as_ref().map(First::words);
        format!(
            "is behind by {} commands, the oldest {} ms old{}",
            count(self.commands),
            self.oldest_ms,
            first.map_or_else(String::new, |first| format!(": {first}"))
        )
    }
}

impl First {
    fn of(one: Straggler) -> Self {
        Self {
            session: one.session,
            statement: one.statement.map(|text| brief(&text, STATEMENT_CHARS)),
            tables: one.tables,
            age_ms: millis(one.age),
            runs: one.runs,
        }
    }

    fn words(&self) -> String {
        let whose = match self.session {
            Some(session) => format!("of session {session}"),
            None => "of understudy's own".to_owned(),
        };
        let statement = self.statement.as_deref().unwrap_or("a command");
        let tables = match self.tables.as_slice() {
            [] => String::new(),
            tables => format!(" on {}", tables.join(", ")),
        };
        let age = micros(self.age_ms.saturating_mul(1_000));
        let does = if self.runs {
            "runs there"
        } else {
            "waits for its turn there"
        };
        format!("{statement}{tables}, {whose}, {does}, {age} after the primary had done it")
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_it_up_is_named_without_literals() {
        let straggler = Straggler {
            session: Some(12),
            statement: Some("UPDATE `t` SET `a` = ? WHERE `id` = ?".into()),
            tables: vec!["app.t".into()],
            age: Duration::from_millis(5_080),
            runs: true,
        };
        let behind = Behind {
            commands: 11,
            oldest_ms: 4_900,
            first: Some(First::of(straggler)),
        };
        assert_eq!(
            behind.words(),
            "is behind by 11 commands, the oldest 4900 ms old: UPDATE `t` SET `a` = ? WHERE `id` = ? on app.t, of session 12, runs there, 5.08 s after the primary had done it"
        );
        let unread = Behind {
            first: None,
            ..behind
        };
        assert_eq!(
            unread.words(),
            "is behind by 11 commands, the oldest 4900 ms old"
        );
        let nothing = Behind {
            commands: 0,
            ..unread
        };
        assert_eq!(nothing.words(), "has all that the mirror had for it");
    }
}
