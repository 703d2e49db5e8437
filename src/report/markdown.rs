//! Blocks as Markdown (GitHub's tables). Every text is escaped, so that no statement becomes a link, an
//! image, HTML or a heading.

use super::{Block, Look, Table, Text, chart};
use crate::words::share;
use std::fmt::Write as _;

/// Characters of the bar.
const WIDTH: u64 = 60;

pub(super) fn page(title: &str, blocks: &[Block<'_>]) -> String {
    let mut out = format!("# {}\n", escaped(title));
    for block in blocks {
        out.push('\n');
        write_block(&mut out, block);
    }
    out
}

fn write_block(out: &mut String, block: &Block<'_>) {
    // Writing to a string cannot fail.
    let _ = match block {
        Block::Section(name) => writeln!(out, "## {}", escaped(name)),
        Block::Part(texts) => writeln!(out, "### {}", run(texts)),
        Block::Paragraph(texts) => writeln!(out, "{}", run(texts)),
        Block::Verdict(_, words) => writeln!(out, "**{}**", escaped(words)),
        Block::Facts(facts) => {
            for (name, texts) in facts {
                let _ = writeln!(out, "- **{}:** {}", escaped(name), run(texts));
            }
            Ok(())
        }
        Block::Code(text) => writeln!(out, "{}", fenced(text)),
        Block::Table(table) => {
            write_table(out, table);
            Ok(())
        }
        Block::Bar(parts) => writeln!(out, "{}", fenced(&bar(parts))),
        Block::Curves(curves, servers) => {
            let charts: Vec<String> = curves
                .iter()
                .map(|curve| chart::plain(curve, servers.names()))
                .collect();
            writeln!(out, "{}", fenced(&charts.join("\n\n")))
        }
    };
}

fn write_table(out: &mut String, table: &Table) {
    out.push('|');
    for name in &table.head {
        let _ = write!(out, " {} |", escaped(name));
    }
    out.push_str("\n|");
    for at in 0..table.head.len() {
        out.push_str(if table.right.contains(&at) {
            " ---: |"
        } else {
            " --- |"
        });
    }
    out.push('\n');
    for row in &table.rows {
        out.push('|');
        for cell in row {
            let _ = write!(out, " {} |", run(std::slice::from_ref(cell)));
        }
        out.push('\n');
    }
}

/// Each part as so many marks, at least one where it is not nothing.
fn bar(parts: &[(&'static str, u64, Look)]) -> String {
    let whole: u64 = parts.iter().map(|(_, n, _)| n).sum();
    let mark = |look: Look| match look {
        Look::Match => '█',
        Look::Tolerated => '▓',
        Look::Diverged => '!',
        Look::NotCompared => '·',
    };
    let (mut bar, mut legend) = (String::new(), Vec::new());
    for (name, n, look) in parts {
        let wide = u128::from(*n) * u128::from(WIDTH) / u128::from(whole.max(1));
        let wide = usize::try_from(wide).unwrap_or(0).max(usize::from(*n > 0));
        bar.extend(std::iter::repeat_n(mark(*look), wide));
        legend.push(format!("{} {name} {}", mark(*look), share(*n, whole)));
    }
    format!("{bar}\n{}", legend.join("   "))
}

fn run(texts: &[Text]) -> String {
    texts
        .iter()
        .map(|text| match text {
            Text::Plain(text) => escaped(text),
            Text::Code(text) => code(text),
            Text::Strong(text) => format!("**{}**", escaped(text)),
            Text::Mark(true, word) => (*word).to_owned(),
            Text::Mark(false, word) => format!("**{}**", word.to_uppercase()),
        })
        .collect()
}

/// Text in a line or in a table's cell.
fn escaped(text: impl AsRef<str>) -> String {
    let mut out = String::new();
    for c in text.as_ref().chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '@' => {
                out.push('\\');
                out.push(c);
            }
            c if crate::words::is_misleading(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A code span, also within a table, whose bars count even there.
fn code(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if crate::words::is_misleading(c) => '\u{fffd}',
            c => c,
        })
        .collect();
    if line.trim().is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run(&line) + 1);
    format!("{fence} {} {fence}", line.replace('|', "\\|"))
}

fn fenced(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if crate::words::is_misleading(c) => '\u{fffd}',
            c => c,
        })
        .collect();
    let fence = "`".repeat((longest_run(&clean) + 1).max(3));
    format!("{fence}text\n{clean}\n{fence}")
}

/// The longest run of backticks.
fn longest_run(text: &str) -> usize {
    let runs = text.split(|c| c != '`').map(str::len);
    runs.max().unwrap_or(0)
}
