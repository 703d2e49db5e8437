//! Who may name whom (design: "The house"). Reads every `crate::…` path in `src/` and holds it
//! against the table below, so that an arrow against the grain fails here and not in a review.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each part and the parts that it may name. `config`, `task` and `clock`-like leaves are named
/// where they are used, so that the table shows everything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("config", &["compare", "sql"]),
    ("roles", &["config"]),
    ("task", &[]),
    ("words", &[]),
    ("planted", &[]),
    ("connect", &["wire", "config"]),
    ("ask", &["wire", "connect", "config", "task"]),
    ("tee", &["wire", "planted"]),
    (
        "relay",
        &[
            "wire", "connect", "tee", "roles", "metrics", "config", "task", "planted",
        ],
    ),
    ("sql", &["wire"]),
    ("compare", &["wire", "sql", "config"]),
    (
        "ledger",
        &["compare", "sql", "config", "task", "planted", "words"],
    ),
    (
        "shadow",
        &[
            "wire", "connect", "tee", "roles", "metrics", "config", "task", "sql", "compare",
            "ledger", "planted", "ask",
        ],
    ),
    // A verdict on figures: it takes values and returns values.
    (
        "readiness",
        &["ledger", "compare", "config", "sql", "words"],
    ),
    ("report", &["ledger", "readiness", "sql", "words"]),
    // The only writer of roles: it knows both sides, and neither knows it.
    (
        "cutover",
        &[
            "relay",
            "shadow",
            "ledger",
            "readiness",
            "roles",
            "ask",
            "connect",
            "config",
            "tee",
            "wire",
            "task",
            "planted",
            "words",
        ],
    ),
    // It reads both servers with the proxy's own account, and knows neither relay nor mirror: what it
    // needs of a running understudy it is given. Nobody but app, admin and cli knows it.
    (
        "verify",
        &[
            "ask", "connect", "wire", "config", "roles", "ledger", "sql", "task", "words",
        ],
    ),
    // It reads what the operators' door reads, through the same parts.
    ("metrics", &["admin", "ledger", "readiness", "cutover"]),
];

/// Parts that wire the others together and may name any of them.
const ANY: &[&str] = &["app", "admin", "cli", "main", "lib", "runtime"];

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn part(path: &Path, src: &Path) -> String {
    let below = path.strip_prefix(src).expect("below src");
    let first = below
        .components()
        .next()
        .expect("a file")
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The parts that a source names: what stands behind `crate::`, tests and comments left out.
fn named(source: &str) -> BTreeSet<String> {
    // Tests in the file stand last; a `mod tests;` only names a file of theirs.
    let code = source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let mut parts = BTreeSet::new();
    for line in code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
    {
        for (at, _) in line.match_indices("crate::") {
            let rest = line.get(at + "crate::".len()..).unwrap_or_default();
            if let Some(group) = rest.strip_prefix('{') {
                let names = group
                    .split(',')
                    .map(|name| name.trim().split([':', '}']).next().unwrap_or_default());
                parts.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
            } else {
                parts.insert(
                    rest.chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect(),
                );
            }
        }
    }
    parts
}

#[test]
fn no_part_names_another_against_the_house_rules() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "src has its files");
    let mut wrong = Vec::new();
    for file in files {
        let from = part(&file, &src);
        if ANY.contains(&from.as_str()) {
            continue;
        }
        let source = std::fs::read_to_string(&file).expect("a source is readable");
        let may = allowed.get(from.as_str()).copied();
        for to in named(&source) {
            let fine = to == from || may.is_some_and(|may| may.contains(&to.as_str()));
            if !fine {
                wrong.push(format!("{}: {from} names {to}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "the house rules of ARCHITECTURE.md are broken:\n{}",
        wrong.join("\n")
    );
}

/// What the operators' page may name: it words what the admin's handlers compute. Neither the hot path nor
/// the mirror is among it, and nobody but the admin knows the page.
const PAGE: &[&str] = &[
    "admin",
    "compare",
    "config",
    "cutover",
    "ledger",
    "readiness",
    "report",
    "verify",
    "words",
];

#[test]
fn the_page_words_what_the_admin_computes_and_escapes_all_of_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let page = src.join("admin/page");
    let mut views = 0;
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source is readable");
        let at = file.display();
        if file.starts_with(&page) {
            views += 1;
            for to in named(&source) {
                assert!(PAGE.contains(&to.as_str()), "{at}: the page names {to}");
            }
            assert!(
                !source.contains("PreEscaped"),
                "{at}: it writes unescaped HTML"
            );
        } else if !file.starts_with(src.join("admin")) {
            assert!(!source.contains("admin::page"), "{at} names the page");
        }
    }
    assert!(views > 10, "the page has its files");
}

#[test]
fn the_reader_of_paths_sees_groups_and_ignores_comments() {
    let source = "use crate::{wire, tee::Tee};\n// crate::shadow\nlet x = crate::sql::f();\n";
    let expected: Vec<_> = ["sql", "tee", "wire"].map(str::to_owned).into();
    assert_eq!(named(source).into_iter().collect::<Vec<_>>(), expected);
}
