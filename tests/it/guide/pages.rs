//! The guide's pages as text, blocks of code, and words in code font.

use std::path::Path;

/// A page of the guide, or the README.
pub struct Page {
    /// Its path in the project.
    pub name: String,
    pub text: String,
}

/// A block of code.
pub struct Block {
    /// Page and line of its fence.
    pub at: String,
    /// What the fence says of it: the language, and what becomes of it.
    pub mark: String,
    pub lines: Vec<String>,
}

impl Block {
    /// The language and what follows it.
    pub fn is(&self, mark: &str) -> bool {
        self.mark == mark
    }

    /// Why it is not run, where it says so.
    pub fn reason(&self) -> Option<&str> {
        let (language, reason) = self.mark.split_once(" not-run: ")?;
        (!language.contains(' ') && !reason.trim().is_empty()).then_some(reason)
    }

    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// A file of the project.
pub fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The README, and everything in `docs/`.
pub fn pages() -> Vec<Page> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut names: Vec<String> = std::fs::read_dir(docs)
        .expect("docs/")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| format!("docs/{}", name.to_string_lossy()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    names.push("README.md".to_owned());
    names.sort();
    let page = |name: String| Page {
        text: read(&name),
        name,
    };
    names.into_iter().map(page).collect()
}

impl Page {
    /// Its blocks of code.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut is_inside = false;
        for (number, line) in self.text.lines().enumerate() {
            if let Some(mark) = line.trim_start().strip_prefix("```") {
                if !is_inside {
                    blocks.push(Block {
                        at: format!("{}:{}", self.name, number + 1),
                        mark: mark.trim().to_owned(),
                        lines: Vec::new(),
                    });
                }
                is_inside = !is_inside;
            } else if is_inside {
                let block = blocks.last_mut().expect("one was begun");
                block.lines.push(line.trim_start().to_owned());
            }
        }
        assert!(!is_inside, "{}: a block of code has no end", self.name);
        blocks
    }

    /// Its text without blocks of code and comments, a paragraph (or a row of a table) each.
    pub fn paragraphs(&self) -> Vec<String> {
        let mut paragraphs = vec![String::new()];
        let (mut is_code, mut is_comment) = (false, false);
        for line in self.text.lines() {
            let is_fence = line.trim_start().starts_with("```");
            is_comment |= line.starts_with("<!--");
            if is_fence || is_code || is_comment || line.trim().is_empty() || line.starts_with('|')
            {
                paragraphs.push(String::new());
            }
            if !is_fence && !is_code && !is_comment {
                let last = paragraphs.last_mut().expect("there is one");
                last.push_str(line.trim_start());
                last.push(' ');
            }
            is_code ^= is_fence && !is_comment;
            is_comment &= !line.contains("-->");
        }
        paragraphs.retain(|text| !text.is_empty());
        paragraphs
    }

    /// What stands in code font within its text.
    pub fn spans(&self) -> Vec<String> {
        let mut spans = Vec::new();
        for text in self.paragraphs() {
            let parts: Vec<&str> = text.split('`').collect();
            assert!(
                parts.len() % 2 == 1,
                "{}: a ` that has no other: {text}",
                self.name
            );
            let inner = parts.into_iter().skip(1).step_by(2);
            spans.extend(inner.map(|span| span.replace("\\|", "|")));
        }
        spans
    }
}

/// The words of one shell command, up to its end or its comment; and the comment.
pub fn words(command: &str) -> (Vec<String>, &str) {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for (at, letter) in command.char_indices() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => return (words, command.split_at(at).1),
            (None, '|' | ';' | '&' | '>' | '<' | ')') => {
                // What stands before a `>` is the number of what it redirects.
                words.extend(word.take().filter(|word| letter != '>' || word.len() > 1));
                let comment = command.split_at(at).1.split_once(" # ");
                return (words, comment.map_or("", |(_, comment)| comment));
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    (words, "")
}
