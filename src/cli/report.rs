//! `understudy report`: one document for a team; on a terminal, its summary.

use super::words::{number, text};
use super::{Client, Door, Trouble, readiness, say};
use crate::words::{brief, count};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    door: Door,
    /// The document's form; by the file's ending where there is one, else a table for the terminal.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file to write, instead of printing.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A short summary for the terminal.
    Table,
    /// For programs.
    Json,
    /// For a wiki or an issue.
    Markdown,
    /// For a browser: one file, nothing else is needed.
    Html,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let format = arguments
        .format
        .unwrap_or_else(|| meant(arguments.output.as_deref()));
    let client = Client::behind(&arguments.door)?;
    let document = |name: &str| client.text("/api/v1/report", &[("format", name.to_owned())]);
    let words = match format {
        Format::Table => shown(&client.get("/api/v1/report", &[])?),
        Format::Json => format!("{:#}", client.get("/api/v1/report", &[])?),
        Format::Markdown => document("markdown")?,
        Format::Html => document("html")?,
    };
    match &arguments.output {
        None => say(&words),
        Some(path) => write(path, &words)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, words: &str) -> Result<(), Trouble> {
    std::fs::write(path, format!("{}\n", words.trim_end()))
        .map_err(|error| Trouble::usage(format!("--output {}: {error}", path.display())))
}

/// The form that goes with a file's name; without a file, the terminal's.
fn meant(output: Option<&Path>) -> Format {
    let Some(output) = output else {
        return Format::Table;
    };
    let ending = output.extension().map(|one| one.to_ascii_lowercase());
    match ending.as_ref().and_then(|one| one.to_str()) {
        Some("html" | "htm") => Format::Html,
        Some("json") => Format::Json,
        Some("txt") => Format::Table,
        _ => Format::Markdown,
    }
}

fn shown(report: &Value) -> String {
    let findings = report
        .get("findings")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut lines = vec![
        format!(
            "{} → {}, {} commands observed",
            text(report, "/primary/name"),
            text(report, "/shadow/name"),
            count(number(report, "/evidence/ever/commands"))
        ),
        readiness::shown(report.get("readiness").unwrap_or(&Value::Null)),
    ];
    if !findings.is_empty() {
        let mut table =
            super::words::table(&["finding", "state", "kind", "count", "statement"], &[0, 3]);
        for found in findings.iter().take(SHOWN) {
            table.add_row([
                number(found, "/finding/id").to_string(),
                text(found, "/finding/state").to_owned(),
                text(found, "/finding/kind").to_owned(),
                count(number(found, "/finding/count")),
                brief(text(found, "/finding/fingerprint"), 90),
            ]);
        }
        lines.push(table.trim_fmt());
    }
    lines.push("the whole: understudy report --output report.html (or .md)".to_owned());
    lines.join("\n\n")
}

/// Findings of the summary.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_says_which_form_it_wants() {
        for (name, format) in [
            ("r.html", Format::Html),
            ("r.HTM", Format::Html),
            ("r.md", Format::Markdown),
            ("r", Format::Markdown),
            ("r.json", Format::Json),
        ] {
            assert_eq!(meant(Some(Path::new(name))), format, "{name}");
        }
        assert_eq!(meant(None), Format::Table);
    }

    #[test]
    fn the_summary_has_the_verdict_and_the_findings() {
        let report = json!({
            "primary": {"name": "legacy"}, "shadow": {"name": "vitess"},
            "evidence": {"ever": {"commands": 1234}},
            "readiness": {"ready": true, "guards": []},
            "findings": [{"finding": {"id": 7, "state": "open", "kind": "value", "count": 3, "fingerprint": "SELECT ?"}}],
        });
        let shown = shown(&report);
        for words in [
            "legacy → vitess, 1,234 commands",
            "ready: every guard",
            "SELECT ?",
            "--output",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
    }
}
