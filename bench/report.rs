//! What was measured, beside its goal: on the terminal, and as Markdown between the markers of RESULTS.md.

use crate::arguments::Form;
use crate::rounds::Spread;
use crate::workplace::{Workplace, root};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::process::Command;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// What is aimed at.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// None: it is told to know it.
    Known,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// What is measured, in a sentence's beginning.
    pub what: String,
    pub goal: Goal,
    /// What stands behind each figure: `×`, `ms`, `KB`.
    pub unit: &'static str,
    /// None where it could not be measured; then `note` says why.
    pub measured: Option<Spread>,
    /// What one must know to read it; empty for nothing.
    pub note: String,
}

/// Figures without a goal, a table of their own.
#[derive(Clone, Debug)]
pub struct Details {
    pub title: String,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

/// What a family of rows came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub lines: Vec<Line>,
    pub details: Vec<Details>,
}

impl Outcome {
    pub fn line(
        &mut self,
        what: impl Into<String>,
        goal: Goal,
        unit: &'static str,
        measured: Option<Spread>,
        note: Option<String>,
    ) {
        self.lines.push(Line {
            what: what.into(),
            goal,
            unit,
            measured,
            note: note.unwrap_or_default(),
        });
    }

    pub fn add(&mut self, other: Self) {
        self.lines.extend(other.lines);
        self.details.extend(other.details);
    }
}

impl Goal {
    fn words(self, unit: &str) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit} {unit}"),
            Self::AtLeast(limit) => format!("≥ {limit} {unit}"),
            Self::Known => "–".to_owned(),
        }
    }
}

impl Line {
    /// Whether the goal is met, and by how much.
    fn verdict(&self) -> (bool, String) {
        let Some(Spread { median, .. }) = self.measured else {
            return (false, "not measured".to_owned());
        };
        let (is_met, limit) = match self.goal {
            Goal::Known => return (true, "–".to_owned()),
            Goal::AtMost(limit) => (median <= limit, limit),
            Goal::AtLeast(limit) => (median >= limit, limit),
        };
        let apart = (median / limit - 1.0) * 100.0;
        let word = if is_met { "met" } else { "missed" };
        (is_met, format!("{word}, {apart:+.0} %"))
    }

    fn cells(&self) -> [String; 5] {
        let unit = self.unit;
        let measured = self.measured.map_or_else(String::new, |spread| {
            let Spread { median, low, high } = spread;
            format!("{} {unit} ({}–{})", short(median), short(low), short(high))
        });
        let (_, verdict) = self.verdict();
        let goal = self.goal.words(unit);
        [
            self.what.clone(),
            goal,
            measured,
            verdict,
            self.note.clone(),
        ]
    }
}

/// Three digits that count.
pub fn short(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 0.1 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

const HEAD: [&str; 5] = ["", "goal", "measured (lowest–highest)", "", "note"];

/// On the terminal: the lines of one family, then its details.
pub fn show(name: &str, outcome: &Outcome) {
    println!("\n== {name}");
    for line in &outcome.lines {
        let [what, goal, measured, verdict, note] = line.cells();
        println!("{what}: {measured}; goal {goal}: {verdict}");
        if !note.is_empty() {
            println!("    {note}");
        }
    }
    for details in &outcome.details {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(details.columns.iter().copied());
        for row in &details.rows {
            table.add_row(row);
        }
        println!("-- {}\n{table}", details.title);
    }
}

/// On the terminal: which goals are missed.
pub fn show_missed(outcome: &Outcome) {
    let missed = outcome.lines.iter().filter(|line| !line.verdict().0);
    let mut any = false;
    println!("\n== goals that are not met");
    for line in missed {
        any = true;
        println!("{}: {}", line.what, line.verdict().1);
    }
    if !any {
        println!("none");
    }
}

/// Into RESULTS.md, between its markers; around them is what people wrote.
pub fn write(outcome: &Outcome, workplace: &Workplace, form: Form) -> Result<()> {
    let file = root().join("bench/RESULTS.md");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("RESULTS.md has no begin marker")?;
    let (_, after) = rest
        .split_once(END)
        .context("RESULTS.md has no end marker")?;
    let mut middle = machine(workplace, form);
    middle.push('\n');
    let rows = outcome.lines.iter().map(|line| line.cells().to_vec());
    markdown(&mut middle, &HEAD, rows);
    for details in &outcome.details {
        let _ = writeln!(middle, "\n### {}\n", details.title);
        markdown(&mut middle, &details.columns, details.rows.iter().cloned());
    }
    std::fs::write(&file, format!("{before}{BEGIN}\n\n{middle}\n{END}{after}"))?;
    println!("\nwritten: bench/RESULTS.md");
    Ok(())
}

fn markdown(out: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(out, "| {} |", head.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
}

/// On what, with what, by which command.
fn machine(workplace: &Workplace, form: Form) -> String {
    let mut out = String::new();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let kernel = first_line(&["uname", "-sr"]);
    let _ = writeln!(out, "- machine: {processors} processors, {model}; {kernel}");
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let busy = busy.split_whitespace().next().unwrap_or("unknown");
    let _ = writeln!(
        out,
        "- load average at the end: {busy} (the bench itself keeps about 2 to 4 threads busy)"
    );
    let date = first_line(&["date", "-u", "+%Y-%m-%d"]);
    let commit = first_line(&[
        "git",
        "-C",
        &root().display().to_string(),
        "describe",
        "--always",
        "--dirty",
    ]);
    let _ = writeln!(
        out,
        "- understudy {} at {commit}, {date}",
        env!("CARGO_PKG_VERSION")
    );
    for (name, key, argument) in [
        ("HAProxy", "HAPROXY", "-v"),
        ("MySQL Router", "ROUTER", "--version"),
        ("sysbench", "SYSBENCH", "--version"),
    ] {
        let version = workplace.peer(key).map(|mut command| {
            command.push(argument.to_owned());
            first_line(&command.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let _ = writeln!(
            out,
            "- {name}: {}",
            version
                .as_deref()
                .unwrap_or("not to be had here, its rows are left out")
        );
    }
    let bench = if form == Form::Short {
        " BENCH=short"
    } else {
        ""
    };
    let _ = writeln!(out, "- again: `make bench{bench}`");
    out
}

fn first_line(command: &[&str]) -> String {
    let Some((program, arguments)) = command.split_first() else {
        return String::new();
    };
    let output = Command::new(program).args(arguments).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or_default().trim().to_owned()
}
