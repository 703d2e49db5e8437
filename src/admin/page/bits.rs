//! Small pieces that views are made of: moments, states, statements, numbers. Each escapes what it is given.

use crate::admin::Mirror;
use crate::words::{ago, brief, harmless};
use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::Value;

/// A text of an item; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_default()
}

/// A number of an item; 0 where there is none.
pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// Whether something is said to be so.
pub(super) fn is(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

/// A list of an item; empty where there is none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The texts of a list.
pub(super) fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    list(value, pointer).iter().filter_map(Value::as_str)
}

/// A moment as its age; the script keeps it true, and the exact time stands behind it.
pub(super) fn age(at: &str) -> Markup {
    let exact = exact(at);
    html! { time datetime=(at) title=(exact) data-age { (ago(at, Timestamp::now())) } }
}

/// A moment to the second.
pub(super) fn moment(at: &str) -> Markup {
    html! { time datetime=(at) { (exact(at)) } }
}

fn exact(at: &str) -> String {
    let parsed = at.parse::<Timestamp>();
    let written = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    parsed.map_or_else(|_| at.to_owned(), written)
}

/// A statement or a cell on one line, not longer than so many characters.
pub(super) fn code(text: &str, most: usize) -> Markup {
    html! { code { (harmless(&brief(text, most))) } }
}

/// A statement as it is, with its lines.
pub(super) fn block(text: &str) -> Markup {
    html! { pre tabindex="0" { code { (harmless(text)) } } }
}

/// How good or bad a word is, which decides its shape and its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Open,
    Busy,
    Calm,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "tag good",
            Self::Bad => "tag bad",
            Self::Open => "tag open",
            Self::Busy => "tag busy",
            Self::Calm => "tag calm",
        }
    }

    /// Told apart without colour.
    const fn shape(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✗",
            Self::Open => "●",
            Self::Busy => "◐",
            Self::Calm => "–",
        }
    }
}

/// A word with its shape.
pub(super) fn tag(tone: Tone, word: &str) -> Markup {
    html! { span class=(tone.class()) { span aria-hidden="true" { (tone.shape()) } " " (word) } }
}

/// How the mirror stands.
pub(super) fn mirror(mirror: &Mirror) -> Markup {
    let tone = match mirror.word() {
        "running" => Tone::Good,
        "off" => Tone::Calm,
        _ => Tone::Open,
    };
    tag(tone, mirror.word())
}

/// A spot in a server's colour, as its lines have it in charts, by the class of that.
pub(super) fn hue(class: &str) -> Markup {
    html! { span class={"hue " (class)} aria-hidden="true" {} }
}

/// A finding's state.
pub(super) fn state(word: &str) -> Markup {
    let tone = match word {
        "open" => Tone::Open,
        "regressed" => Tone::Bad,
        "fixed" => Tone::Good,
        "accepted" => Tone::Busy,
        _ => Tone::Calm,
    };
    tag(tone, word)
}

/// How a cutover or a verification ended, or that it lasts.
pub(super) fn outcome(word: &str) -> Markup {
    let tone = match word {
        "done" | "equal" => Tone::Good,
        "aborted" | "refused" | "different" | "failed" => Tone::Bad,
        "dry_run" | "idle" | "waiting" | "pending" => Tone::Calm,
        "unfinished" | "equal_in_part" => Tone::Open,
        _ => Tone::Busy,
    };
    tag(tone, &word.replace('_', " "))
}

/// A share of a whole as a bar, with its words for who cannot see it.
pub(super) fn progress(part: u64, whole: u64, label: &str) -> Markup {
    let whole = whole.max(part).max(1);
    html! { progress max=(whole) value=(part) aria-label=(label) {} }
}

/// The heads of a table whose rows are cards on a phone, by the stylesheet; the roles say that it is a table all the
/// same. Each with its class.
pub(super) fn heads(heads: &[(&str, &str)]) -> Markup {
    html! {
        thead role="rowgroup" { tr role="row" {
            @for (head, class) in heads { th scope="col" role="columnheader" class=(class) { (head) } }
        } }
    }
}

/// A table that scrolls by itself where it is wider than the screen, by keyboard too.
pub(super) fn wide(label: &str, table: &Markup) -> Markup {
    html! { div class="wide" role="region" aria-label=(label) tabindex="0" { (table) } }
}

/// A query with these fields, those left out that are empty.
pub(super) fn query(path: &str, fields: &[(&str, &str)]) -> String {
    let mut written = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        written.append_pair(name, value);
    }
    match written.finish() {
        none if none.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_wrote_stays_text() {
        let shown = code("SELECT '<script>alert(1)</script>'\u{202e}", 200).into_string();
        assert!(!shown.contains("<script"), "{shown}");
        assert!(
            shown.contains("&lt;script&gt;") && shown.contains('\u{fffd}'),
            "{shown}"
        );
    }

    #[test]
    fn a_link_says_what_is_asked_for_and_no_more() {
        assert_eq!(
            query("/ui/findings", &[("state", ""), ("table", "")]),
            "/ui/findings"
        );
        assert_eq!(
            query("/ui/findings", &[("state", "open"), ("search", "a b&c")]),
            "/ui/findings?state=open&search=a+b%26c"
        );
    }
}
