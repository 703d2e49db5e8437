//! Blocks as one HTML file: its style in it, nothing from elsewhere, no script. Every text is escaped.

use super::{Block, Look, Table, Text, chart};
use crate::words::{count, share};
use std::fmt::Write as _;

pub(super) fn page(title: &str, blocks: &[Block<'_>]) -> String {
    let mut out = String::new();
    let title = escaped(title);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
        include_str!("report.css")
    );
    for block in blocks {
        write_block(&mut out, block);
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn write_block(out: &mut String, block: &Block<'_>) {
    // Writing to a string cannot fail.
    let _ = match block {
        Block::Section(name) => writeln!(out, "<h2>{}</h2>", escaped(name)),
        Block::Part(texts) => writeln!(out, "<h3>{}</h3>", run(texts)),
        Block::Paragraph(texts) => writeln!(out, "<p>{}</p>", run(texts)),
        Block::Verdict(good, words) => writeln!(
            out,
            "<p class=\"verdict {}\">{}</p>",
            if *good { "good" } else { "bad" },
            escaped(words)
        ),
        Block::Facts(facts) => {
            out.push_str("<dl>\n");
            for (name, texts) in facts {
                let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escaped(name), run(texts));
            }
            writeln!(out, "</dl>")
        }
        Block::Code(text) => writeln!(out, "<pre><code>{}</code></pre>", escaped(text)),
        Block::Table(table) => {
            write_table(out, table);
            Ok(())
        }
        Block::Bar(parts) => {
            write_bar(out, parts);
            Ok(())
        }
        Block::Curves(curves, servers) => {
            out.push_str("<div class=\"charts\">\n");
            for curve in *curves {
                let name = chart::name(curve);
                let svg = chart::curve(curve, &name, *servers).into_string();
                let _ = writeln!(out, "<figure>{svg}</figure>");
            }
            writeln!(out, "</div>")
        }
    };
}

fn write_table(out: &mut String, table: &Table) {
    let side = |at: usize| {
        if table.right.contains(&at) {
            " class=\"number\""
        } else {
            ""
        }
    };
    out.push_str("<div class=\"wide\"><table>\n<thead><tr>");
    for (at, name) in table.head.iter().enumerate() {
        let _ = write!(out, "<th{}>{}</th>", side(at), escaped(name));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let _ = write!(
                out,
                "<td{}>{}</td>",
                side(at),
                run(std::slice::from_ref(cell))
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

fn write_bar(out: &mut String, parts: &[(&'static str, u64, Look)]) {
    let whole: u64 = parts.iter().map(|(_, n, _)| n).sum();
    out.push_str("<div class=\"bar\" role=\"img\" aria-label=\"coverage\">");
    for (name, n, look) in parts.iter().filter(|(_, n, _)| *n > 0) {
        let _ = write!(
            out,
            "<span class=\"{}\" style=\"flex-grow:{n}\" title=\"{name}: {} ({})\"></span>",
            class(*look),
            count(*n),
            share(*n, whole)
        );
    }
    out.push_str("</div>\n<p class=\"legend\">");
    for (name, n, look) in parts {
        let _ = write!(
            out,
            "<span><i class=\"{}\"></i>{name} {}</span> ",
            class(*look),
            share(*n, whole)
        );
    }
    out.push_str("</p>\n");
}

const fn class(look: Look) -> &'static str {
    match look {
        Look::Match => "match",
        Look::Tolerated => "tolerated",
        Look::Diverged => "diverged",
        Look::NotCompared => "skipped",
    }
}

fn run(texts: &[Text]) -> String {
    texts
        .iter()
        .map(|text| match text {
            Text::Plain(text) => escaped(text),
            Text::Code(text) => format!("<code>{}</code>", escaped(text)),
            Text::Strong(text) => format!("<strong>{}</strong>", escaped(text)),
            Text::Mark(good, word) => {
                let class = if *good { "good" } else { "bad" };
                format!("<span class=\"mark {class}\">{word}</span>")
            }
        })
        .collect()
}

/// Safe as text and in a quoted attribute. What the reader's eye could be led astray by (control
/// characters, marks that turn the direction of writing) is shown as a box.
pub(super) fn escaped(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if crate::words::is_misleading(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
