//! What happens, told over a real socket.

use super::querylog::Ear;
use super::*;

const EVENTS: &str = "/api/v1/events";

const NDJSON: &str = "accept: application/x-ndjson\r\n";

/// The next line of this event.
async fn next(ear: &mut Ear, name: &str) -> Value {
    loop {
        let line: Value = serde_json::from_str(&ear.beginning("{").await).expect("JSON");
        if line["event"] == name {
            return line;
        }
    }
}

#[tokio::test]
async fn everything_stands_first_and_then_what_changes_is_told() {
    let door = Door::open("").await;
    // What was found before is no event.
    door.fill().await;
    let (mut ear, head) = Ear::ask(&door, EVENTS, NDJSON).await;
    assert!(head[0].contains("200"), "{head:?}");
    for (name, key, value) in [
        ("cutover", "state", json!("idle")),
        ("ledger", "ok", json!(true)),
        ("mirror", "state", json!("running")),
        ("readiness", "ready", json!(false)),
        ("roles", "primary", json!("legacy")),
        ("serving", "ready", json!(true)),
        ("taints", "count", json!(0)),
    ] {
        let line = next(&mut ear, name).await;
        assert_eq!(line[key], value, "{line}");
        assert!(line["at"].is_string(), "{line}");
    }
    door.ask("PATCH", "/api/v1/mirror", "", r#"{"paused": true}"#)
        .await;
    let line = next(&mut ear, "mirror").await;
    assert_eq!(line["state"], "paused", "{line}");
    assert_eq!(line["mirrors"], false, "{line}");
    door.cards.ready.lock().draining = true;
    assert_eq!(next(&mut ear, "serving").await["ready"], false);
    // It does not keep understudy from ending.
    door.stop.cancel();
    ear.until_its_end().await;
}

/// Finding: a mirror that runs and mirrors nothing was `running` in the events, and `off` everywhere else.
#[tokio::test]
async fn the_mirror_is_told_as_the_status_tells_it() {
    let door = Door::open("").await;
    let (mut ear, _) = Ear::ask(&door, EVENTS, NDJSON).await;
    let line = next(&mut ear, "mirror").await;
    assert_eq!(line["mirrors"], true, "{line}");
    let off = r#"{"reads": false, "writes": "off"}"#;
    door.ask("PATCH", "/api/v1/mirror", "", off).await;
    let line = next(&mut ear, "mirror").await;
    assert_eq!(line["state"], "running", "{line}");
    assert_eq!(line["mirrors"], false, "{line}");
    let (_, status) = door.get("/api/v1/status").await;
    for (key, said) in line.as_object().expect("an object") {
        if !["event", "at"].contains(&key.as_str()) {
            assert_eq!(status["mirror"].get(key), Some(said), "{key}");
        }
    }
}

#[tokio::test]
async fn a_finding_is_told_once_and_so_is_a_word_on_it() {
    let door = Door::open("").await;
    let (mut ear, head) = Ear::ask(&door, EVENTS, "").await;
    let is = |text: &str| head.iter().any(|line| line == text);
    assert!(is("content-type: text/event-stream"), "{head:?}");
    ear.beginning("event: taints").await;
    door.fill().await;
    ear.beginning("event: finding").await;
    let line = ear.beginning("data: ").await;
    let finding: Value = serde_json::from_str(line.trim_start_matches("data: ")).expect("JSON");
    assert_eq!(finding["kind"], "value", "{finding}");
    assert_eq!(finding["state"], "open", "{finding}");
    let path = format!("/api/v1/findings/{}", finding["id"]);
    let body = r#"{"state": "noise", "who": "me", "why": "known"}"#;
    assert_eq!(door.ask("PATCH", &path, "", body).await.0, 200);
    // Of the finding nothing more is told before the word.
    let line = loop {
        let line = ear.beginning("event: ").await;
        assert_ne!(line, "event: finding");
        if line == "event: said" {
            break ear.beginning("data: ").await;
        }
    };
    assert!(line.contains(r#""who":"me""#), "{line}");
}

#[tokio::test]
async fn one_too_many_is_told_so() {
    let door = Door::open("").await;
    let mut ears = Vec::new();
    for _ in 0..8 {
        ears.push(Ear::ask(&door, EVENTS, "").await.0);
    }
    let (status, body) = door.get(EVENTS).await;
    assert_eq!(status, 503, "{body}");
    assert!(body.to_string().contains("listen already"), "{body}");
}
