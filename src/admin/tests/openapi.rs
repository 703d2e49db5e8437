//! The API's description is true: what it tells is there, and nothing else is.

use super::*;
use crate::admin::openapi::TEXT;
use std::collections::BTreeSet;

/// All that a path might take.
const METHODS: [&str; 5] = ["GET", "POST", "PATCH", "PUT", "DELETE"];

fn described() -> Value {
    serde_json::from_str(TEXT).expect("JSON")
}

/// Each path with its method and what is told of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().expect("methods").clone();
        let path = path.clone();
        methods
            .into_iter()
            .map(move |(method, told)| (path.clone(), method.to_uppercase(), told))
    };
    paths.iter().flat_map(of_path).collect()
}

/// A path that can be asked.
fn concrete(path: &str) -> String {
    path.replace("{id}", "1")
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// The names that a refusal of an unknown one tells: `expected one of `a`, `b``, or none.
fn known(message: &str) -> BTreeSet<String> {
    let (_, expected) = message.split_once("unknown field").expect(message);
    names(expected.split('`').skip(3).step_by(2))
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().expect("a message")
}

#[test]
fn every_route_is_described_and_no_other() {
    let source = include_str!("../mod.rs");
    let (_, begun) = source.split_once("fn router(").expect("the routes");
    let (routes, _) = begun.split_once(".fallback(").expect("their end");
    let routes = routes.split('"').skip(1).step_by(2);
    let described = described();
    let paths = described["paths"].as_object().expect("paths");
    assert_eq!(names(routes), names(paths.keys().map(String::as_str)));
}

#[tokio::test]
async fn each_path_takes_the_methods_that_are_described_and_no_other() {
    let door = Door::open("").await;
    let document = described();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if ["/api/v1/querylog", "/api/v1/events"].contains(&&**path) {
            // Their answers have no end; their method is asked for below, by an unknown parameter.
            continue;
        }
        for method in METHODS {
            let described = methods.get(method.to_lowercase()).is_some();
            let (status, answer) = door.ask(method, &concrete(path), "", "").await;
            assert_eq!(status != 405, described, "{method} {path}: {answer}");
            let nowhere = status == 404 && answer.to_string().contains("there is nothing at");
            assert!(!nowhere, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn each_query_takes_the_parameters_that_are_described_and_no_other() {
    let door = Door::open("").await;
    for (path, method, told) in operations(&described()) {
        let asks_nothing = ["/healthz", "/readyz", "/metrics"].contains(&&*path);
        let has_body = told.get("requestBody").is_some();
        if asks_nothing || has_body || path.ends_with("/repro") {
            continue;
        }
        let parameters = told["parameters"].as_array().cloned().unwrap_or_default();
        let of_query = parameters.iter().filter(|one| one["in"] == "query");
        let described = names(of_query.map(|one| one["name"].as_str().expect("a name")));
        let (status, answer) = door
            .ask(&method, &format!("{}?zzz=1", concrete(&path)), "", "")
            .await;
        assert_eq!(status, 400, "{method} {path}: {answer}");
        assert_eq!(known(message(&answer)), described, "{method} {path}");
    }
}

#[tokio::test]
async fn each_body_takes_the_keys_that_are_described_and_no_other() {
    let door = Door::open("").await;
    for (path, method, told) in operations(&described()) {
        let Some(body) = told.get("requestBody") else {
            continue;
        };
        let keys = &body["content"]["application/json"]["schema"]["properties"];
        let mut described = names(keys.as_object().expect("keys").keys().map(String::as_str));
        if path == "/api/v1/verify" {
            // Taken out before the rest is read.
            assert!(described.remove("who"));
        }
        let (status, answer) = door
            .ask(&method, &concrete(&path), "", r#"{"zzz": 1}"#)
            .await;
        assert_eq!(status, 400, "{method} {path}: {answer}");
        assert_eq!(known(message(&answer)), described, "{method} {path}");
    }
}

/// Each key of an answer is described, at every depth that is.
fn compare(document: &Value, schema: &Value, answer: &Value, at: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(to) => document.pointer(to.trim_start_matches('#')).expect(to),
        None => schema,
    };
    if answer.is_null() {
        let types = schema["type"].as_array();
        assert!(
            types.is_some_and(|all| all.contains(&json!("null"))),
            "{at} is null"
        );
        return;
    }
    if let Some(properties) = schema["properties"].as_object() {
        let answer = answer
            .as_object()
            .unwrap_or_else(|| panic!("{at} is no object"));
        let (told, is) = (properties.keys(), answer.keys());
        let (told, is) = (
            names(told.map(String::as_str)),
            names(is.map(String::as_str)),
        );
        assert_eq!(is, told, "{at}");
        for (key, schema) in properties {
            compare(document, schema, &answer[key], &format!("{at}/{key}"));
        }
    }
    for item in answer.as_array().into_iter().flatten() {
        compare(document, &schema["items"], item, &format!("{at}[]"));
    }
}

#[tokio::test]
async fn each_answer_has_the_keys_that_are_described() {
    let door = Door::open("").await;
    door.fill().await;
    let tainted = Table {
        database: Some("app".into()),
        name: "t".into(),
    };
    door.ledger.taint(&[tainted], &"a write was lost".into());
    let document = described();
    let mut compared = 0;
    for (path, method, told) in operations(&document) {
        let schema = &told["responses"]["200"]["content"]["application/json"]["schema"];
        if method != "GET" || schema.is_null() || path == "/api/v1/openapi.json" {
            continue;
        }
        let (status, answer) = door.get(&concrete(&path)).await;
        if status == 200 {
            compare(&document, schema, &answer, &path);
            compared += 1;
        }
    }
    assert!(compared >= 9, "only {compared} were answered");
    let (status, answer) = door.get("/api/v1/openapi.json").await;
    assert_eq!((status, answer), (200, document));
}
