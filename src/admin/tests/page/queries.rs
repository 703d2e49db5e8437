//! The live queries: rows of the first moment, and rows as they come.

use super::*;
use std::time::Duration;

/// A command with a literal in its text, and a shape of its own.
fn ran(door: &Door, shape: &str, verdict: Verdict) {
    let mut one = observation(verdict);
    one.fingerprint = shape.into();
    one.statement = Some("SELECT a FROM t WHERE b = 'a secret'".into());
    door.ledger.record(one);
}

#[tokio::test]
async fn the_document_has_what_came_in_its_first_moment() {
    let door = Door::open("").await;
    let work = async {
        for _ in 0..60 {
            ran(&door, "SELECT '<script>' FROM `t`", Verdict::Match);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (page, ()) = tokio::join!(seen(&door, "/ui/queries?user=app"), work);
    assert_eq!(page.status, 200, "{}", page.body);
    for part in [
        "&lt;script&gt;",
        "matched",
        "1.00 ms",
        "2.00 ms",
        "href=\"/ui/queries?fingerprint=000000000000002a&amp;user=app\"",
        "data-tail=\"/ui/queries/stream?user=app\"",
        "<noscript>",
    ] {
        page.has(part);
    }
    for part in ["a secret", "<script>"] {
        page.lacks(part);
    }
    let others = seen(&door, "/ui/queries?user=nobody&verdict=&table=").await;
    assert_eq!(others.status, 200, "{}", others.body);
    others.lacks("<tr data-row");
}

#[tokio::test]
async fn rows_come_as_they_run_and_only_those_that_are_wanted() {
    let door = Door::open("").await;
    let path = "/ui/queries/stream?verdict=not_compared&table=shop.t&user=";
    let mut stream = Listening::at(&door, path, "").await;
    assert!(stream.until("retry: ").await.contains("text/event-stream"));
    ran(&door, "SELECT matched", Verdict::Match);
    ran(&door, "SELECT raced", Verdict::NotCompared(Reason::Race));
    let read = stream.until("SELECT raced").await;
    assert!(read.contains("event: rows\ndata: <tr"), "{read}");
    assert!(
        read.contains("not compared") && read.contains(">race<"),
        "{read}"
    );
    for part in ["SELECT matched", "a secret"] {
        assert!(!read.contains(part), "{part}: {read}");
    }
}

#[tokio::test]
async fn what_is_too_much_to_read_is_counted() {
    let door = Door::open("").await;
    let mut stream = Listening::at(&door, "/ui/queries/stream", "").await;
    stream.until("retry: ").await;
    for n in 0..70 {
        ran(&door, &format!("SELECT {n} FROM t"), Verdict::Match);
    }
    let read = stream.until("</tr>\n\n").await;
    assert!(read.contains("event: passed\ndata: 50\n"), "{read}");
    assert_eq!(read.matches("<tr ").count(), 20, "{read}");
    let at = |shape: &str| {
        read.find(shape)
            .unwrap_or_else(|| panic!("{shape}: {read}"))
    };
    assert!(at("SELECT 69 ") < at("SELECT 50 "), "the newest first");
}

#[tokio::test]
async fn a_page_that_finds_no_place_to_listen_says_so() {
    let door = Door::open("").await;
    let mut streams = Vec::new();
    for _ in 0..crate::ledger::LISTENERS_MAX {
        let mut stream = Listening::at(&door, "/ui/queries/stream", "").await;
        stream.until("retry: ").await;
        streams.push(stream);
    }
    let page = seen(&door, "/ui/queries").await;
    assert_eq!(page.status, 200);
    page.has("others listen already");
    let refused = seen(&door, "/ui/queries/stream").await;
    assert_eq!(refused.status, 503);
    for query in ["verdict=good", "class=select", "since=1"] {
        let wrong = seen(&door, &format!("/ui/queries?{query}")).await;
        assert_eq!(wrong.status, 400, "{query}");
    }
}

#[tokio::test]
async fn who_has_no_seat_sees_no_query_and_who_leaves_hears_no_more() {
    let door = locked().await;
    let refused = seen(&door, "/ui/queries/stream").await;
    assert_eq!(refused.status, 401);
    let cookie = logged_in(&door).await;
    let mut stream = Listening::at(&door, "/ui/queries/stream", &cookie).await;
    stream.until("retry: ").await;
    let token = asked(&door, "GET", "/ui/cutover", &cookie, "")
        .await
        .form_token();
    let body = format!("form_token={token}");
    asked(&door, "POST", "/ui/logout", &cookie, &body).await;
    stream.until("never").await;
}
