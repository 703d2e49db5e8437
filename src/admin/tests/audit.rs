//! The audit as it is told: who, from where, what, and how it was answered; and no secret in it.

use super::page::{asked, logged_in_by, seen};
use super::roles::named;
use super::*;

const ALICE: &str = "authorization: Bearer alice-alice-alice\r\n";
const GRAFANA: &str = "authorization: Bearer grafana-grafana-1\r\n";

/// The audit once so many stand in it: an answer does not wait for a slow disk.
async fn written(door: &Door, so_many: usize) -> Value {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let (_, told) = door.ask("GET", "/api/v1/audit", GRAFANA, "").await;
        if told["items"]
            .as_array()
            .is_some_and(|items| items.len() >= so_many)
        {
            return told;
        }
        assert!(tokio::time::Instant::now() < end, "{told}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_would_change_something_is_written_down_whoever_asked() {
    let (door, _file) = named().await;
    // Who only asks leaves nothing.
    for path in ["/api/v1/status", "/ui/", "/metrics"] {
        door.ask("GET", path, ALICE, "").await;
    }
    let (status, none) = door.ask("GET", "/api/v1/audit", GRAFANA, "").await;
    assert_eq!((status, &none["items"]), (200, &json!([])));
    let pause = r#"{"paused": true}"#;
    door.ask("PATCH", "/api/v1/mirror", ALICE, pause).await;
    door.ask("PATCH", "/api/v1/mirror", GRAFANA, pause).await;
    door.ask("PATCH", "/api/v1/mirror", "", pause).await;
    let abort = r#"{"who": "bob"}"#;
    door.ask("POST", "/api/v1/cutover/abort", ALICE, abort)
        .await;
    let clear = r#"{"tables": ["app.t"], "who": "alice", "why": "card 4111"}"#;
    door.ask("POST", "/api/v1/taints/clear", ALICE, clear).await;
    door.ask("DELETE", "/api/v1/rules/7?who=bob&why=gone", ALICE, "")
        .await;
    let told = written(&door, 6).await;
    let items = told["items"].as_array().expect("items");
    let line = |item: &Value| {
        let text = |field: &str| match &item[field] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        ["who", "said", "what", "body", "status"]
            .map(text)
            .join("|")
    };
    let lines: Vec<String> = items.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "alice|bob|DELETE /api/v1/rules/7|why=…|404",
            "alice|alice|POST /api/v1/taints/clear|tables=app.t why=…|200",
            "alice|bob|POST /api/v1/cutover/abort||503",
            "null|null|PATCH /api/v1/mirror||401",
            "grafana|null|PATCH /api/v1/mirror||403",
            "alice|null|PATCH /api/v1/mirror|paused=true|200",
        ]
    );
    for item in items {
        let from = item["from"].as_str().expect("an address");
        assert!(from.starts_with("127.0.0.1:"), "{from}");
        assert!(
            item["at"].as_str().is_some_and(|at| at.starts_with("20")),
            "{item}"
        );
    }
    for secret in ["4111", "alice-alice", "grafana-grafana-1"] {
        assert!(!told.to_string().contains(secret), "{told}");
    }
    let page = "/api/v1/audit?limit=2&before=3";
    let (_, page) = door.ask("GET", page, ALICE, "").await;
    assert_eq!(
        (&page["items"][0]["id"], &page["next"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(
        door.ask("GET", "/api/v1/audit?limit=0", ALICE, "").await.0,
        400
    );
    let shown = asked(&door, "GET", "/ui/audit", GRAFANA, "").await;
    for part in [
        "DELETE /api/v1/rules/7",
        "as bob",
        "nobody known",
        "403",
        "paused=true",
    ] {
        shown.has(part);
    }
    let older = asked(&door, "GET", "/ui/audit?before=3", GRAFANA, "").await;
    older.has("Newest");
    older.lacks("/api/v1/rules/7");
}

#[tokio::test]
async fn logins_and_what_the_pages_forms_send_are_in_it() {
    let (door, _file) = named().await;
    let form = seen(&door, "/ui/login").await.form_token();
    let wrong = format!("form_token={form}&token=wrong-wrong-wrong-wrong&to=%2Fui%2F");
    assert_eq!(
        asked(&door, "POST", "/ui/login", "", &wrong).await.status,
        401
    );
    let cookie = logged_in_by(&door, "alice-alice-alice").await;
    let form = asked(&door, "GET", "/ui/cutover", &cookie, "")
        .await
        .form_token();
    let body = format!("form_token={form}&to=vitess&act=dry_run&force=taint&who=bob");
    asked(&door, "POST", "/ui/cutover", &cookie, &body).await;
    let told = written(&door, 3).await;
    let of = |at: usize| {
        let item = &told["items"][at];
        json!([item["who"], item["said"], item["what"], item["body"]])
    };
    assert_eq!(
        of(0),
        json!([
            "alice",
            "bob",
            "POST /ui/cutover",
            "to=vitess act=dry_run force=taint"
        ])
    );
    assert_eq!(of(1), json!(["alice", null, "POST /ui/login", "to=…"]));
    assert_eq!(of(2), json!([null, null, "POST /ui/login", "to=…"]));
    assert_eq!(told["items"][2]["status"], 401);
    assert!(!told.to_string().contains("wrong-wrong"), "{told}");
    assert!(!told.to_string().contains(&form), "{told}");
}
