//! `docs/api.md` and `docs/configuration.md` are written from what the program itself holds: the API's description,
//! and the config file with every key at its default. Each is compared here; with `UNDERSTUDY_WRITE_DOCS=1` in the
//! environment it is written.

use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use understudy::config::Config;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares a page with what it is to be, or writes it.
fn is_current(name: &str, page: &str) {
    if std::env::var_os("UNDERSTUDY_WRITE_DOCS").is_some_and(|word| word == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        std::fs::write(path, page).expect("written");
    }
    assert!(
        read(name) == page,
        "{name} is not current: UNDERSTUDY_WRITE_DOCS=1 cargo test --features simulation --test it reference writes it"
    );
}

/// One line of text, as it stands in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// What a schema says a value is.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let mut kind = match &schema["type"] {
        Value::Array(types) => {
            let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
            types.join(" or ")
        }
        one => one.as_str().unwrap_or("any").to_owned(),
    };
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("`{}`", word.as_str().unwrap()))
            .collect();
        kind = words.join(", ");
    }
    if kind == "array" {
        kind = format!("list of {}", self::kind(&schema["items"]));
    }
    kind
}

fn properties(page: &mut String, schema: &Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (key, one) in schema["properties"].as_object().into_iter().flatten() {
        let needed = if required.contains(&Value::from(key.as_str())) {
            ", needed"
        } else {
            ""
        };
        let told = cell(text(one, "description"));
        writeln!(page, "- `{key}` ({}{needed}) {told}", kind(one)).unwrap();
    }
}

fn operation(page: &mut String, method: &str, path: &str, told: &Value) {
    writeln!(
        page,
        "\n### {} `{path}`\n\n{}",
        method.to_uppercase(),
        text(told, "summary")
    )
    .unwrap();
    let more = text(told, "description");
    if !more.is_empty() {
        writeln!(page, "{more}").unwrap();
    }
    for parameter in told["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "query" {
            let name = text(parameter, "name");
            let about = cell(text(parameter, "description"));
            writeln!(
                page,
                "- `?{name}=` ({}) {about}",
                kind(&parameter["schema"])
            )
            .unwrap();
        }
    }
    let body = &told["requestBody"]["content"]["application/json"]["schema"];
    if body.is_object() {
        writeln!(page, "\nBody: {}\n", text(body, "description")).unwrap();
        properties(page, body);
    }
    writeln!(page).unwrap();
    for (status, answer) in told["responses"].as_object().into_iter().flatten() {
        for (form, content) in answer["content"].as_object().into_iter().flatten() {
            let schema = &content["schema"];
            let shape = if schema["$ref"].is_string() {
                format!(" {}", kind(schema))
            } else {
                String::new()
            };
            let more = text(schema, "description");
            let about = text(answer, "description");
            writeln!(page, "{status}, `{form}`: {about}{shape} {more}").unwrap();
            properties(page, schema);
        }
    }
    let refusals = told["responses"].as_object().into_iter().flatten();
    let refusals = refusals.filter(|(_, answer)| answer["$ref"].is_string());
    let refusals: Vec<&str> = refusals.map(|(status, _)| status.as_str()).collect();
    if !refusals.is_empty() {
        writeln!(page, "\nRefusals: {}.", refusals.join(", ")).unwrap();
    }
}

#[test]
fn the_apis_reference_is_current() {
    let document: Value = serde_json::from_str(&read("src/admin/openapi.json")).expect("JSON");
    let mut page = format!(
        "# The API\n\nWritten from the API's own description, which `GET /api/v1/openapi.json` answers with.\n\n{}\n\nA refusal is `{{\"error\": {{\"code\", \"message\"}}}}`:\n\n",
        text(&document["info"], "description")
    );
    let refusals = document["components"]["responses"]
        .as_object()
        .expect("refusals");
    for (status, name) in [
        ("400", "Wrong"),
        ("401", "NoToken"),
        ("403", "NotYou"),
        ("404", "Missing"),
        ("409", "NotNow"),
        ("503", "Unable"),
    ] {
        writeln!(page, "- {status}: {}", text(&refusals[name], "description")).unwrap();
    }
    let paths = document["paths"].as_object().expect("paths");
    let mut tags: Vec<&str> = Vec::new();
    let operations: Vec<(&str, &String, &String, &Value)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods");
            methods.iter().map(move |(method, told)| {
                (told["tags"][0].as_str().expect("a tag"), path, method, told)
            })
        })
        .collect();
    for (tag, ..) in &operations {
        if !tags.contains(tag) {
            tags.push(tag);
        }
    }
    for tag in tags {
        writeln!(page, "\n## {tag}").unwrap();
        for (_, path, method, told) in operations.iter().filter(|(of, ..)| *of == tag) {
            operation(&mut page, method, path, told);
        }
    }
    page.push_str("\n## Shapes\n");
    for (name, schema) in document["components"]["schemas"]
        .as_object()
        .expect("shapes")
    {
        writeln!(page, "\n### {name}\n\n{}\n", text(schema, "description")).unwrap();
        properties(&mut page, schema);
    }
    is_current("docs/api.md", &page);
}

/// `key = value`, or one that is commented out because it has no default.
fn assignment(line: &str) -> Option<(&str, &str, bool)> {
    let has_default = !line.starts_with('#');
    let (key, value) = line.trim_start_matches("# ").split_once(" = ")?;
    let is_key = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_key.then_some((key, value, has_default))
}

#[test]
fn the_configurations_reference_is_current() {
    let file = read("config/understudy.toml");
    let (head, _) = file.split_once("\n\n").expect("a head");
    let head: Vec<&str> = head
        .lines()
        .map(|line| line.trim_start_matches(['#', ' ']))
        .collect();
    let mut page = format!(
        "# The configuration\n\nWritten from `config/understudy.toml`, which has every key at its default.\n\n{}\n\nA key that is *live* changes in a process that runs, when it reads the file again: `understudy reload`, SIGHUP ([upgrade.md](upgrade.md#a-new-config-without-a-restart)). The others need a restart.\n",
        head.join("\n").replace("\n\n", "\n")
    );
    let mut told: Vec<&str> = Vec::new();
    let mut name = "";
    let reload = |key: &str| {
        if Config::is_live(key) {
            "live"
        } else {
            "restart"
        }
    };
    for line in file.lines().skip(head.len()) {
        if let Some(section) = line.strip_prefix('[') {
            let mut about = told.join(" ");
            told.clear();
            name = section.trim_end_matches(']');
            if name.contains('.') {
                about = format!("{about} Reload: {}.", reload(name));
            }
            write!(page, "\n## [{section}\n\n").unwrap();
            if !about.is_empty() {
                write!(page, "{about}\n\n").unwrap();
            }
            page.push_str("| key | default | reload | what it means |\n|---|---|---|---|\n");
        } else if let Some((key, value, has_default)) = assignment(line) {
            let (value, means) = (cell(value), cell(&told.join(" ")));
            let default = if has_default {
                format!("`{value}`")
            } else {
                format!("none; for instance `{value}`")
            };
            let reload = reload(&format!("{name}.{key}"));
            writeln!(page, "| `{key}` | {default} | {reload} | {means} |").unwrap();
            told.clear();
        } else if let Some(words) = line.strip_prefix("# ") {
            told.push(words);
        } else {
            told.clear();
        }
    }
    is_current("docs/configuration.md", &page);
}
