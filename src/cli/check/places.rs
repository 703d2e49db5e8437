//! Where understudy writes: can it, and is what stands there a ledger?

use super::report::Report;
use crate::config::Config;
use crate::ledger;
use rustix::fs::{Access, access};
use std::path::Path;

const US: &str = "understudy";

pub(super) fn check(config: &Config, report: &mut Report) {
    let path = &config.ledger.path;
    if let Err(wrong) = writable(path) {
        report.fail(US, "ledger", wrong, "name a place that can be written");
    } else if let Err(wrong) = ledger::inspect(path) {
        report.fail(US, "ledger", wrong.to_string(), "");
    } else {
        report.ok(US, "ledger", path.display().to_string());
    }
    if let Some(path) = &config.ledger.log {
        match writable(path) {
            Ok(()) => report.ok(US, "divergence log", path.display().to_string()),
            Err(wrong) => report.fail(
                US,
                "divergence log",
                wrong,
                "name a place that can be written",
            ),
        }
    }
}

/// Whether this process may write the file, and others beside it: SQLite's, rotated logs.
fn writable(path: &Path) -> Result<(), String> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let may = |place: &Path, how| {
        access(place, how).map_err(|error| format!("{}: {error}", place.display()))
    };
    may(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    if path.exists() {
        may(path, Access::READ_OK | Access::WRITE_OK)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger_line(path: &Path) -> (bool, String) {
        let text = format!("[ledger]\npath = {path:?}\nlog = \"\"\n");
        let config = Config::parse(&text, &[]).unwrap();
        let mut report = Report::default();
        check(&config, &mut report);
        let line = report.lines[0].found.clone();
        (report.is_good(), line)
    }

    #[test]
    fn a_ledger_that_could_not_be_opened_is_told_beforehand() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        assert!(ledger_line(&path).0, "it will be made");
        assert!(!path.exists(), "nothing was written");
        std::fs::write(&path, vec![b'x'; 5000]).unwrap();
        let (good, line) = ledger_line(&path);
        assert!(!good && line.contains("cannot be read"), "{line}");
        assert!(!ledger_line(&dir.path().join("missing/ledger.db")).0);
    }
}
