//! Who may do what: the roles of the tokens' file, the names that stand in records, and seats that end with their token.

use super::page::{asked, logged_in_by};
use super::querylog::Ear;
use super::*;

pub(super) const ALICE: &str = "authorization: Bearer alice-alice-alice\r\n";
pub(super) const GRAFANA: &str = "authorization: Bearer grafana-grafana-1\r\n";
pub(super) const FILE: &str = "[alice]\nrole = \"operator\"\ntoken = \"alice-alice-alice\"\n\n[grafana]\nrole = \"viewer\"\ntoken = \"grafana-grafana-1\"\n";

/// Every request that changes something.
const CHANGES: [(&str, &str); 14] = [
    ("PATCH", "/api/v1/findings/1"),
    ("POST", "/api/v1/rules"),
    ("DELETE", "/api/v1/rules/1"),
    ("POST", "/api/v1/taints/clear"),
    ("POST", "/api/v1/cutover"),
    ("POST", "/api/v1/cutover/abort"),
    ("POST", "/api/v1/cutover/replication_stopped"),
    ("POST", "/api/v1/verify"),
    ("POST", "/api/v1/verify/pause"),
    ("POST", "/api/v1/verify/resume"),
    ("POST", "/api/v1/verify/abort"),
    ("POST", "/api/v1/fleet/forget"),
    ("PATCH", "/api/v1/mirror"),
    ("POST", "/api/v1/config/reload"),
];

/// An admin with a tokens' file, and that file.
pub(super) async fn named() -> (Door, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), FILE).expect("written");
    let door = Door::open(&format!("[admin]\ntokens_file = {:?}\n", file.path())).await;
    (door, file)
}

#[tokio::test]
async fn a_viewer_may_look_and_change_nothing() {
    let (door, _file) = named().await;
    for path in [
        "/api/v1/status",
        "/api/v1/findings",
        "/api/v1/readiness",
        "/metrics",
        "/ui/",
        "/ui/findings",
        "/ui/cutover",
    ] {
        assert_eq!(door.ask("GET", path, GRAFANA, "").await.0, 200, "{path}");
        assert_ne!(door.ask("GET", path, "", "").await.0, 200, "{path}");
    }
    for (method, path) in CHANGES {
        let (status, body) = door.ask(method, path, GRAFANA, "{}").await;
        assert_eq!(status, 403, "{method} {path}");
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(
            message.contains("needs the role operator")
                && message.contains("grafana has the role viewer"),
            "{message}"
        );
        // Whatever else is wrong with it, an operator is let through to where that is said.
        assert_ne!(
            door.ask(method, path, ALICE, "{}").await.0,
            403,
            "{method} {path}"
        );
        assert_eq!(
            door.ask(method, path, "", "{}").await.0,
            401,
            "{method} {path}"
        );
    }
    let paused = door.ask("PATCH", "/api/v1/mirror", GRAFANA, r#"{"paused": true}"#);
    assert_eq!(paused.await.0, 403);
    assert!(!door.cards.control.lock().paused);
    let paused = door.ask("PATCH", "/api/v1/mirror", ALICE, r#"{"paused": true}"#);
    assert_eq!(paused.await.0, 200);
    assert!(door.cards.control.lock().paused);
}

#[tokio::test]
async fn the_tokens_name_signs_and_another_one_stands_beside_it() {
    let (door, _file) = named().await;
    let filled = async {
        door.ledger
            .record(observation(Verdict::Diverged(Divergence {
                kind: Kind::Value,
                also: vec![],
                detail: String::new(),
                columns: None,
                examples: vec![],
            })));
        while door.ask("GET", "/api/v1/findings", ALICE, "").await.1["items"] == json!([]) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    filled.await;
    for (body, who) in [
        (r#"{"state": "fixed"}"#, "alice"),
        (r#"{"state": "fixed", "who": "alice"}"#, "alice"),
        (r#"{"state": "fixed", "who": "bob"}"#, "bob (token: alice)"),
    ] {
        let (status, finding) = door.ask("PATCH", "/api/v1/findings/1", ALICE, body).await;
        assert_eq!((status, &finding["who"]), (200, &json!(who)), "{body}");
    }
    let rule = r#"{"name": "r", "table": "app.t", "state": "noise", "why": "w"}"#;
    let (status, rule) = door.ask("POST", "/api/v1/rules", ALICE, rule).await;
    assert_eq!((status, &rule["who"]), (201, &json!("alice")));
    let clear = r#"{"tables": ["*"], "why": "copied"}"#;
    assert_eq!(
        door.ask("POST", "/api/v1/taints/clear", ALICE, clear)
            .await
            .0,
        200
    );
    // Where nobody has a name of their own the body's counts, and must be there where it was always wanted.
    let open = Door::open("").await;
    assert_eq!(
        open.ask("POST", "/api/v1/taints/clear", "", clear).await.0,
        400
    );
}

#[tokio::test]
async fn a_viewer_of_the_page_is_shown_no_form() {
    let (door, _file) = named().await;
    let viewer = logged_in_by(&door, "grafana-grafana-1").await;
    let operator = logged_in_by(&door, "alice-alice-alice").await;
    for path in ["/ui/cutover", "/ui/verification"] {
        let shown = asked(&door, "GET", path, &viewer, "").await;
        shown.has("grafana<span class=\"rank\">, viewer</span>");
        shown.has("this is for operators");
        let forms = shown.body.matches("<form method=\"post\"").count();
        assert_eq!(forms, 1, "the way out alone: {}", shown.body);
        let shown = asked(&door, "GET", path, &operator, "").await;
        shown.has("alice<span class=\"rank\">, operator</span>");
        shown.has("name=\"who\"");
        // Who is named need not say who they are.
        shown.has("value=\"alice\"");
        shown.lacks("this is for operators");
    }
    let form = asked(&door, "GET", "/ui/cutover", &viewer, "")
        .await
        .form_token();
    let body = format!("form_token={form}&act=dry_run&to=vitess&who=grafana");
    let refused = asked(&door, "POST", "/ui/cutover", &viewer, &body).await;
    assert_eq!(refused.status, 403);
    refused.has("needs the role operator");
    let out = asked(
        &door,
        "POST",
        "/ui/logout",
        &viewer,
        &format!("form_token={form}"),
    )
    .await;
    assert_eq!(out.status, 303);
}

#[tokio::test]
async fn a_seat_ends_with_the_token_that_it_was_taken_by() {
    let (door, file) = named().await;
    let viewer = logged_in_by(&door, "grafana-grafana-1").await;
    let operator = logged_in_by(&door, "alice-alice-alice").await;
    let left = FILE.split("\n\n").next().expect("alice alone");
    std::fs::write(file.path(), left).expect("written");
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while asked(&door, "GET", "/ui/", &viewer, "").await.status == 200 {
        assert!(tokio::time::Instant::now() < end, "it never ended");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let away = asked(&door, "GET", "/ui/", &viewer, "").await;
    assert!(
        away.header("location").starts_with("/ui/login"),
        "{}",
        away.head
    );
    assert_eq!(asked(&door, "GET", "/ui/", &operator, "").await.status, 200);
    assert_eq!(door.ask("GET", "/api/v1/status", GRAFANA, "").await.0, 401);
}

#[tokio::test]
async fn viewers_take_no_place_at_what_lasts_that_is_kept_for_operators() {
    let (door, _file) = named().await;
    let seat = logged_in_by(&door, "grafana-grafana-1").await;
    let operators = logged_in_by(&door, "alice-alice-alice").await;
    for (path, viewer, operator, places) in [
        ("/api/v1/querylog", GRAFANA, ALICE, 8),
        ("/api/v1/events", GRAFANA, ALICE, 8),
        ("/ui/events", seat.as_str(), operators.as_str(), 16),
    ] {
        let mut ears = Vec::new();
        for (headers, places) in [(viewer, places / 4 * 3), (operator, places / 4)] {
            for nth in 0..places {
                let (ear, head) = Ear::ask(&door, path, headers).await;
                assert!(head[0].contains("200"), "{path}, {nth}: {head:?}");
                ears.push(ear);
            }
            let (status, body) = door.ask("GET", path, headers, "").await;
            assert_eq!(status, 503, "{path}: {body}");
        }
        if path == "/api/v1/querylog" {
            // The page's live queries are among them.
            let page = asked(&door, "GET", "/ui/queries", &seat, "").await;
            page.has("the last 2 of the 8 places are for operators");
        }
    }
}

#[tokio::test]
async fn viewers_keep_no_operator_out_of_the_door() {
    let (door, _file) = named().await;
    let mut kept = Vec::new();
    for nth in 0..2 * places::CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(door.at).await.expect("connected");
        assert_eq!(asked_on(&mut stream, door.at, GRAFANA).await, 200, "{nth}");
        kept.push(stream);
    }
    let mut operator = TcpStream::connect(door.at).await.expect("connected");
    assert_eq!(asked_on(&mut operator, door.at, ALICE).await, 200);
    for _ in 0..places::CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(door.at).await.expect("connected");
        assert_eq!(asked_on(&mut stream, door.at, GRAFANA).await, 200);
        kept.push(stream);
    }
    let again = asked_on(&mut operator, door.at, ALICE).await;
    assert_eq!(again, 200, "it keeps its place");
    assert_eq!(asked_on(&mut kept[0], door.at, GRAFANA).await, 200);
}
