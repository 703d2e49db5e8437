//! The guide (`docs/*.md` and the README) is true of the program: each block of code says whether it is run by
//! `tests/bin/docs-commands` or why not, and what is named in blocks and in code font is there: commands and their
//! flags, paths of the API and their parameters, keys of the configuration, metrics.

mod pages;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};
use pages::{Block, Page, pages, read, words};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use understudy::cli::Arguments;
use understudy::config::{Config, TokensFile};

/// Flags in code font that are other programs'.
const FOREIGN_FLAGS: &[&str] = &[
    "--ssl-mode",
    "--skip-ssl",
    "--no-routing-rules",
    "--proxy_protocol",
    "--percent",
    "--no-read-only",
    "--queryserver-config-olap-transaction-timeout",
];

/// `key = value` in code font that is another program's.
const FOREIGN_KEYS: &[&str] = &["gtid_mode", "read_only"];

/// What the program says of itself in its log.
const SAID: &[&str] = &["ended"];

/// What a line that somebody is to type begins with.
const TYPED: &[&str] = &[
    "cargo",
    "cp",
    "curl",
    "docker",
    "lab/up",
    "make",
    "mysql",
    "sudo",
    "systemctl",
];

fn none_of(wrong: &[String], what: &str) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

fn blocks() -> Vec<Block> {
    pages().iter().flat_map(Page::blocks).collect()
}

#[test]
fn every_block_is_run_or_says_why_not() {
    let marks = ["sh run", "sql run", "text", "toml config", "toml tokens"];
    let says = |block: &Block| marks.iter().any(|mark| block.is(mark)) || block.reason().is_some();
    let wrong: Vec<String> = blocks()
        .iter()
        .filter(|block| !says(block))
        .map(|block| format!("{}: ```{}", block.at, block.mark))
        .collect();
    let what = format!(
        "a block begins with ``` and one of {marks:?}, or with a language and `not-run: ` and why"
    );
    none_of(&wrong, &what);
}

#[test]
fn a_test_that_a_reason_names_is_there() {
    let mut wrong = Vec::new();
    for block in blocks() {
        let reason = block.reason().unwrap_or_default();
        for word in reason.split([' ', ',', ';']) {
            let is_path = word.starts_with("tests/") || word.starts_with("bench/");
            if is_path && !Path::new(env!("CARGO_MANIFEST_DIR")).join(word).exists() {
                wrong.push(format!("{}: {word}", block.at));
            }
        }
    }
    none_of(&wrong, "no such file");
}

#[test]
fn what_is_shown_as_text_is_nothing_to_type() {
    let subcommands = subcommands();
    let mut wrong = Vec::new();
    for block in blocks().iter().filter(|block| block.is("text")) {
        for line in &block.lines {
            let mut said = line.split_whitespace();
            let (first, second) = (
                said.next().unwrap_or_default(),
                said.next().unwrap_or_default(),
            );
            if TYPED.contains(&first) || (first == "understudy" && subcommands.contains(second)) {
                wrong.push(format!("{}: {line}", block.at));
            }
        }
    }
    none_of(&wrong, "commands in a block that is not run");
}

fn subcommands() -> BTreeSet<String> {
    let command = Arguments::command();
    let names = command.get_subcommands().map(Command::get_name);
    names.map(str::to_owned).collect()
}

/// A value in the place of what the reader is to put there.
fn meant(word: &str) -> String {
    match word {
        "ID" | "N" | "MS" => "1".to_owned(),
        _ => word.to_owned(),
    }
}

/// Every flag of this command and of what is below it.
fn flags(command: &Command, into: &mut BTreeSet<String>) {
    for argument in command.get_arguments() {
        into.extend(argument.get_long().map(|long| format!("--{long}")));
    }
    into.insert("--help".to_owned());
    for below in command.get_subcommands() {
        flags(below, into);
    }
}

/// Why the command line would not take this; `is_whole` where all that it needs must stand there.
fn refused(said: &[String], comment: &str, is_whole: bool) -> Option<String> {
    let first = said.get(1)?;
    if first == "…" || SAID.contains(&first.as_str()) {
        return None;
    }
    let mut typed: Vec<String> = said.iter().map(|word| meant(word)).collect();
    let mut tried = Arguments::try_parse_from(&typed);
    let lacks = |error: &clap::Error| error.kind() == ErrorKind::InvalidValue;
    if !is_whole && tried.as_ref().is_err_and(lacks) {
        // A flag that is named without its value.
        typed.push("1".to_owned());
        tried = Arguments::try_parse_from(&typed);
    }
    if let Err(error) = tried {
        let only_named = matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument | ErrorKind::MissingSubcommand
        );
        let shows = matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        );
        if !shows && (is_whole || !only_named) {
            return Some(error.to_string());
        }
    }
    // A comment names further flags of the same command, or says another that does the same.
    let mut command = Arguments::command();
    command.build();
    let other = comment
        .split([' ', ',', ';'])
        .find(|word| command.find_subcommand(word).is_some());
    let first = other.unwrap_or(first);
    let mut known = BTreeSet::new();
    flags(command.find_subcommand(first)?, &mut known);
    let named = comment.split(|letter: char| !letter.is_ascii_lowercase() && letter != '-');
    named
        .filter(|word| word.len() > 2 && word.starts_with("--"))
        .find(|flag| !known.contains(*flag))
        .map(|flag| format!("there is no {flag}"))
}

/// Where `understudy` is called within a line of shell.
fn calls(line: &str) -> Vec<&str> {
    let starts = line.match_indices("understudy ").map(|(at, _)| at);
    let split = starts.map(|at| line.split_at(at));
    let is_call = |(before, _): &(&str, &str)| {
        let before = before.trim_end_matches("target/release/");
        before.is_empty() || before.ends_with([' ', '(', ';'])
    };
    split.filter(is_call).map(|(_, call)| call).collect()
}

#[test]
fn every_command_in_a_block_is_one() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for block in blocks() {
        let is_shell = block.mark.starts_with("sh ");
        for line in block.lines.iter().filter(|_| is_shell) {
            let code = line.split(" # ").next().unwrap_or_default();
            for call in calls(code) {
                let (said, _) = words(call);
                let (_, comment) = words(line);
                seen += 1;
                let why = refused(&said, comment, true);
                wrong.extend(why.map(|why| format!("{}: {call}\n{why}", block.at)));
            }
        }
    }
    none_of(&wrong, "the command line does not take");
    assert!(seen > 50, "only {seen} commands were seen");
}

#[test]
fn every_command_in_code_font_is_one() {
    let subcommands = subcommands();
    let mut ours = BTreeSet::new();
    flags(&Arguments::command(), &mut ours);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages() {
        for span in page.spans() {
            let (mut said, _) = words(&span);
            let Some(first) = said.first().cloned() else {
                continue;
            };
            let is_below = subcommands.contains(&first)
                && said.get(1).is_some_and(|word| word.starts_with("--"));
            if is_below {
                said.insert(0, "understudy".to_owned());
            }
            let why = if is_below || first == "understudy" {
                seen += 1;
                refused(&said, "", false)
            } else if first.starts_with("--") {
                let flag = first.split('=').next().unwrap_or_default();
                let known = ours.contains(flag) || FOREIGN_FLAGS.contains(&flag);
                (!known).then(|| format!("there is no {flag}"))
            } else {
                None
            };
            wrong.extend(why.map(|why| format!("{}: `{span}`\n{why}", page.name)));
        }
    }
    none_of(&wrong, "the command line does not take");
    assert!(seen > 50, "only {seen} commands were seen");
}

/// A path of the API, as a page names it.
struct Named {
    method: Option<String>,
    path: String,
    parameters: Vec<String>,
}

/// The paths in a piece of text, each with its method where one is said.
fn named(text: &str) -> Vec<Named> {
    let ends = |letter: char| !(letter.is_ascii_alphanumeric() || "/_{}.".contains(letter));
    let asks = |letter: char| !(letter.is_ascii_alphanumeric() || "=&_%:.-|…".contains(letter));
    let mut found = Vec::new();
    for (at, _) in text.match_indices("/api/v1/") {
        let (before, rest) = text.split_at(at);
        let end = rest.find(ends).unwrap_or(rest.len());
        let (path, rest) = rest.split_at(end);
        let asked = rest.strip_prefix('?').unwrap_or_default();
        let asked = asked.split(asks).next().unwrap_or_default();
        let parameters = asked
            .split('&')
            .filter_map(|one| one.split('=').next())
            .filter(|name| !name.is_empty());
        let is_method = |word: &&str| ["GET", "POST", "PATCH", "DELETE"].contains(word);
        let mut said = before.split_whitespace();
        let method = match before.rsplit_once("curl ") {
            Some((_, call)) => {
                let mut said = call.split_whitespace().skip_while(|word| *word != "-X");
                Some(said.nth(1).unwrap_or("GET"))
            }
            None => said
                .next_back()
                .map(|word| word.trim_matches('`'))
                .filter(is_method),
        };
        found.push(Named {
            method: method.map(str::to_lowercase),
            path: path.trim_end_matches(['.', '/']).to_owned(),
            parameters: parameters.map(str::to_owned).collect(),
        });
    }
    found
}

/// Whether a path is one of this pattern.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) =
        (pattern.split('/').collect(), path.split('/').collect());
    let is_like = |(at, part): (usize, &&str)| {
        let said = path[at];
        let is_id = said == "ID" || said == "{id}" || said.bytes().all(|b| b.is_ascii_digit());
        *part == said || (part.starts_with('{') && is_id)
    };
    pattern.len() == path.len() && pattern.iter().enumerate().all(is_like)
}

/// Why there is no such thing in the API.
fn unknown(paths: &serde_json::Map<String, Value>, named: &Named) -> Option<String> {
    if named.path == "/api/v1" {
        return None;
    }
    let Some((_, methods)) = paths
        .iter()
        .find(|(pattern, _)| matches(pattern, &named.path))
    else {
        return Some(format!("there is no {}", named.path));
    };
    let methods = methods.as_object().expect("methods");
    if let Some(method) = &named.method
        && !methods.contains_key(method)
    {
        return Some(format!("there is no {method} {}", named.path));
    }
    let known: BTreeSet<&str> = methods
        .values()
        .flat_map(|told| told["parameters"].as_array().into_iter().flatten())
        .filter_map(|parameter| parameter["name"].as_str())
        .collect();
    let stranger = named
        .parameters
        .iter()
        .find(|name| !known.contains(name.as_str()));
    stranger.map(|name| format!("{} has no parameter {name}", named.path))
}

#[test]
fn every_path_of_the_api_is_there() {
    let document: Value = serde_json::from_str(&read("src/admin/openapi.json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let blocks = page.blocks();
        let shell = blocks.iter().flat_map(|block| block.lines.iter().cloned());
        let texts = shell.chain(page.spans()).flat_map(|text| {
            // Of several commands in one line each has its own method.
            let parts: Vec<String> = text.split(" # ").map(str::to_owned).collect();
            parts
        });
        for one in texts.flat_map(|text| named(&text)) {
            seen += 1;
            let absent = format!("There is no `GET {}`", one.path);
            let why = unknown(paths, &one).filter(|_| !page.text.contains(&absent));
            wrong.extend(why.map(|why| format!("{}: {why}", page.name)));
        }
    }
    none_of(&wrong, "src/admin/openapi.json does not describe");
    assert!(seen > 60, "only {seen} paths were seen");
}

/// Every key by its section, those without a default included.
fn keys() -> BTreeMap<String, BTreeSet<String>> {
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in read("config/understudy.toml").lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            keys.entry(section.clone()).or_default();
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
            && is_key(key)
        {
            let section = keys.get_mut(&section).expect("one was begun");
            section.insert(key.to_owned());
        }
    }
    keys
}

fn is_key(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The keys that a piece of text names, each with its section where one is said.
fn named_keys(text: &str, sections: &BTreeSet<String>) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    let is_part =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    // section.key, and section.key.other for a section below one.
    for word in text.split(|letter: char| !is_part(letter) && letter != '.' && letter != '/') {
        let word = word.trim_end_matches('.');
        if let Some((section, key)) = word.rsplit_once('.')
            && sections.contains(section)
            && !["md", "rs", "toml", "db", "html", "jsonl", "yaml"].contains(&key)
        {
            found.push((Some(section.to_owned()), key.to_owned()));
        }
    }
    // [section] key
    for (at, _) in text.match_indices('[') {
        let rest = text.split_at(at + 1).1;
        if let Some((section, after)) = rest.split_once("] ")
            && is_key(&section.replace('.', "_"))
        {
            let key = after.split(|letter: char| !is_part(letter)).next();
            found.push((Some(section.to_owned()), key.unwrap_or_default().to_owned()));
        }
    }
    // key = value, as TOML writes it.
    if let Some((key, value)) = text.split_once(" = ")
        && is_key(key)
        && value.starts_with(|first: char| {
            first == '"' || first == '[' || first.is_ascii_alphanumeric()
        })
    {
        found.push((None, key.to_owned()));
    }
    found
}

#[test]
fn every_key_of_the_configuration_is_there() {
    let keys = keys();
    let sections: BTreeSet<String> = keys.keys().cloned().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    // The configuration's own page is written from the file itself.
    let read = pages()
        .into_iter()
        .filter(|page| page.name != "docs/configuration.md");
    for page in read {
        for span in page.spans() {
            for (section, key) in named_keys(&span, &sections) {
                seen += 1;
                let is_known = match &section {
                    // A line for each user or database, or kind.
                    Some(section) if section.contains('.') => sections.contains(section),
                    Some(section) => keys.get(section).is_some_and(|keys| {
                        key.is_empty()
                            || keys.contains(&key)
                            || (key.ends_with('_') && keys.iter().any(|one| one.starts_with(&key)))
                            || sections.contains(&format!("{section}.{key}"))
                    }),
                    None => {
                        FOREIGN_KEYS.contains(&key.as_str())
                            || keys.values().any(|keys| keys.contains(&key))
                    }
                };
                if !is_known {
                    wrong.push(format!("{}: `{span}`: {section:?} {key}", page.name));
                }
            }
        }
    }
    none_of(&wrong, "config/understudy.toml has no such key");
    assert!(seen > 100, "only {seen} keys were seen");
}

#[test]
fn every_config_that_is_shown_is_one() {
    for block in blocks() {
        if block.is("toml config") {
            let config = Config::parse(&block.text(), &[]);
            assert!(config.is_ok(), "{}: {:?}", block.at, config.err());
        }
        if block.is("toml tokens") {
            let dir = tempfile::tempdir().expect("a directory");
            let file = dir.path().join("tokens.toml");
            let text = block.text().replace('…', &"0123456789abcdef".repeat(4));
            std::fs::write(&file, text).expect("written");
            let read = TokensFile::read(&file, None);
            assert!(read.is_ok(), "{}: {:?}", block.at, read.err());
        }
    }
}

#[test]
fn every_metric_is_one_of_those_that_the_guide_tells() {
    let told = read("docs/metrics.md");
    let mut wrong = Vec::new();
    for page in pages() {
        for (at, _) in page.text.match_indices("understudy_") {
            let rest = page.text.split_at(at).1;
            let ends = |letter: char| !letter.is_ascii_lowercase() && letter != '_';
            let name = rest.split(ends).next().unwrap_or_default();
            // `understudy_verification_…` are all that begin so.
            let needle = if name.ends_with('_') {
                format!("| `{name}")
            } else {
                format!("| `{name}`")
            };
            if !told.contains(&needle) && name != "understudy_" {
                wrong.push(format!("{}: {name}", page.name));
            }
        }
    }
    none_of(&wrong, "docs/metrics.md does not tell of");
}

#[test]
fn a_command_ends_where_the_shell_ends_it() {
    let (said, comment) = words("understudy rules add 'a b' --why \"c|d\" | jq . # then --state");
    assert_eq!(said, ["understudy", "rules", "add", "a b", "--why", "c|d"]);
    assert_eq!(comment, "then --state");
    let (said, comment) = words("understudy fleet    # who is there");
    assert_eq!((said.len(), comment), (2, "# who is there"));
}

#[test]
fn what_is_not_there_is_seen() {
    let said = |text: &str| words(text).0;
    assert!(refused(&said("understudy status"), "", true).is_none());
    assert!(refused(&said("understudy states"), "", false).is_some());
    assert!(refused(&said("understudy verify --now"), "", false).is_some());
    assert!(refused(&said("understudy serve"), "", false).is_none());
    assert!(refused(&said("understudy serve"), "", true).is_some());
    assert!(refused(&said("understudy verify"), "# or --wait", true).is_some());
    let document: Value = serde_json::from_str(&read("src/admin/openapi.json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let is_there = |text: &str| unknown(paths, &named(text)[0]).is_none();
    assert!(is_there("GET /api/v1/findings/7"));
    assert!(!is_there("POST /api/v1/findings/7"));
    assert!(!is_there("curl -X POST localhost:8306/api/v1/mirror"));
    assert!(is_there(
        "curl -s 'localhost:8306/api/v1/findings?by=table'"
    ));
    assert!(!is_there(
        "curl -s 'localhost:8306/api/v1/findings?of=table'"
    ));
    let sections = keys().keys().cloned().collect();
    let found = |text: &str| named_keys(text, &sections);
    let key = |section: &str, key: &str| (Some(section.to_owned()), key.to_owned());
    assert_eq!(found("mirror.queue_bytes"), [key("mirror", "queue_bytes")]);
    assert_eq!(
        found("[shadow] fed_by = \"mirror\""),
        [key("shadow", "fed_by")]
    );
    assert!(found("cutover.md").is_empty());
}
