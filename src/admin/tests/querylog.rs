//! The live log over a real socket.

use super::*;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};

/// Somebody who listens.
pub(super) struct Ear(Lines<BufReader<TcpStream>>);

impl Ear {
    /// Has asked for the live log, and read the head.
    async fn open(door: &Door, query: &str, headers: &str) -> (Self, Vec<String>) {
        Self::ask(door, &format!("/api/v1/querylog{query}"), headers).await
    }

    /// The same of an answer without an end at any path.
    pub(super) async fn ask(door: &Door, path: &str, headers: &str) -> (Self, Vec<String>) {
        let mut stream = TcpStream::connect(door.at).await.expect("connected");
        let at = door.at;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut ear = Self(BufReader::new(stream).lines());
        let mut head = Vec::new();
        loop {
            let line = ear.line().await.expect("a head");
            if line.is_empty() {
                return (ear, head);
            }
            head.push(line);
        }
    }

    async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(Duration::from_secs(60), self.0.next_line());
        line.await.expect("in time").expect("read")
    }

    /// The next that begins so.
    pub(super) async fn beginning(&mut self, with: &str) -> String {
        loop {
            let line = self.line().await.expect("more");
            if line.starts_with(with) {
                return line;
            }
        }
    }

    /// It has ended in order.
    pub(super) async fn until_its_end(mut self) {
        while self.line().await.is_some() {}
    }
}

#[tokio::test]
async fn commands_come_as_lines_while_others_are_served() {
    let door = Door::open("").await;
    let (mut ear, head) = Ear::open(&door, "", "").await;
    assert!(head[0].contains("200"), "{head:?}");
    let is = |text: &str| head.iter().any(|line| line == text);
    assert!(is("content-type: application/x-ndjson"), "{head:?}");
    door.ledger.record(observation(Verdict::Match));
    let line: Value = serde_json::from_str(&ear.beginning("{").await).expect("JSON");
    assert_eq!(line["fingerprint"], "SELECT `a` FROM `t`");
    assert_eq!(line["verdict"], "matched");
    assert_eq!(line["tables"], json!(["shop.t"]));
    assert_eq!(line["primary"]["latency_us"], 1000);
    assert_eq!(line["shadow"]["server"], "vitess");
    assert_eq!(door.get("/api/v1/status").await.0, 200);
    door.ledger
        .record(observation(Verdict::NotCompared(Reason::Race)));
    let line: Value = serde_json::from_str(&ear.beginning("{").await).expect("JSON");
    assert_eq!(line["reasons"], json!(["race"]));
    // It does not keep understudy from ending.
    door.stop.cancel();
    ear.until_its_end().await;
}

#[tokio::test]
async fn a_browser_is_given_events_and_only_what_it_asked_for() {
    let door = Door::open("").await;
    let accept = "accept: text/event-stream\r\n";
    let (mut ear, head) = Ear::open(&door, "?verdict=not_compared&table=shop.t", accept).await;
    let is = |text: &str| head.iter().any(|line| line == text);
    assert!(is("content-type: text/event-stream"), "{head:?}");
    door.ledger.record(observation(Verdict::Match));
    door.ledger
        .record(observation(Verdict::NotCompared(Reason::Race)));
    let line = ear.beginning("data: ").await;
    assert!(line.contains(r#""race""#), "{line}");
}

#[tokio::test]
async fn what_is_asked_wrongly_is_said() {
    let door = Door::open("").await;
    for (query, word) in [
        ("?verdict=good", "matched, tolerated"),
        ("?class=select", "locking_read"),
        ("?since=1", "since"),
    ] {
        let (status, body) = door.get(&format!("/api/v1/querylog{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(body.to_string().contains(word), "{query}: {body}");
    }
}

#[tokio::test]
async fn one_too_many_is_told_so_and_who_leaves_makes_room() {
    let door = Door::open("").await;
    let mut ears = Vec::new();
    for _ in 0..crate::ledger::LISTENERS_MAX {
        ears.push(Ear::open(&door, "", "").await.0);
    }
    let (status, body) = door.get("/api/v1/querylog").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.to_string().contains("listen already"), "{body}");
    ears.pop();
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let (_, head) = Ear::open(&door, "", "").await;
        if head[0].contains("200") {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "its place stays taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
