//! What the checks found, line by line, and how it is shown.

use crate::cli::words::table;
use serde_json::{Value, json};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// It works.
    Ok,
    /// It works, but somebody should know this.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One check.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) level: Level,
    /// Who is at fault, or is spoken of: a server's name, `both`, `understudy`.
    pub(super) who: String,
    pub(super) what: &'static str,
    pub(super) found: String,
    /// What to do; empty where nothing needs doing.
    pub(super) remedy: String,
}

/// All checks.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) lines: Vec<Line>,
}

impl Report {
    pub(super) fn ok(&mut self, who: &str, what: &'static str, found: impl Into<String>) {
        self.line(Level::Ok, who, what, found, "");
    }

    pub(super) fn warn(
        &mut self,
        who: &str,
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.line(Level::Warn, who, what, found, remedy);
    }

    pub(super) fn fail(
        &mut self,
        who: &str,
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.line(Level::Fail, who, what, found, remedy);
    }

    fn line(
        &mut self,
        level: Level,
        who: &str,
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.lines.push(Line {
            level,
            who: who.to_owned(),
            what,
            found: found.into(),
            remedy: remedy.into(),
        });
    }

    /// Whether nothing failed.
    pub(super) fn is_good(&self) -> bool {
        self.count(Level::Fail) == 0
    }

    fn count(&self, level: Level) -> usize {
        self.lines.iter().filter(|line| line.level == level).count()
    }

    pub(super) fn to_json(&self) -> Value {
        let checks: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                json!({
                    "level": line.level.name().to_lowercase(), "who": line.who, "check": line.what,
                    "found": line.found, "remedy": line.remedy,
                })
            })
            .collect();
        json!({"ok": self.is_good(), "checks": checks})
    }

    pub(super) fn to_table(&self) -> String {
        let mut table = table(&["", "who", "check", "found", "what to do"], &[]);
        for line in &self.lines {
            table.add_row([
                line.level.name(),
                &line.who,
                line.what,
                &line.found,
                &line.remedy,
            ]);
        }
        let verdict = if self.is_good() {
            "It will work"
        } else {
            "It will not work yet"
        };
        format!(
            "{}\n\n{verdict}: {} ok, {} to know, {} failed.",
            table.trim_fmt(),
            self.count(Level::Ok),
            self.count(Level::Warn),
            self.count(Level::Fail)
        )
    }
}

/// A list in words, cut after a few.
pub(super) fn few(names: &[String]) -> String {
    const FEW: usize = 8;
    let shown: Vec<&str> = names.iter().take(FEW).map(String::as_str).collect();
    let more = names.len().saturating_sub(FEW);
    if more > 0 {
        format!("{} and {more} more", shown.join(", "))
    } else {
        shown.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_the_whole() {
        let mut report = Report::default();
        report.ok("legacy", "login", "as understudy");
        report.warn("both", "time zone", "differs", "set it");
        assert!(report.is_good());
        report.fail("vitess", "reached", "connection refused", "start it");
        assert!(!report.is_good());
        assert_eq!(report.to_json()["checks"][2]["level"], "fail");
        assert!(
            report
                .to_table()
                .ends_with("It will not work yet: 1 ok, 1 to know, 1 failed.")
        );
    }
}
