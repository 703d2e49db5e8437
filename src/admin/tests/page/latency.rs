//! The view of latency.

use super::*;
use crate::ledger::{Look, Pace, Quantiles, Slow};

/// So many commands of this shape, on the shadow of so many µs.
fn ran(door: &Door, shape: &str, digest: u64, shadow_us: u64, times: u32) {
    for _ in 0..times {
        let mut one = observation(Verdict::Match);
        one.fingerprint = shape.into();
        one.digest = digest;
        one.shadow.as_mut().expect("it ran").latency_us = Some(shadow_us);
        door.ledger.record(one);
    }
}

#[tokio::test]
async fn latency_is_curves_and_a_table_of_the_same_figures() {
    let door = Door::open("").await;
    let none = seen(&door, "/ui/latency").await;
    none.has("Too few of these commands were timed");
    ran(&door, "SELECT `a` FROM `t`", 42, 2_000, 200);
    for path in ["/ui/latency", "/ui/latency?class=read&byte="] {
        let page = seen(&door, path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        for part in [
            "role=\"img\"",
            ": legacy and vitess\"",
            "200 timed on both",
            "99 %",
            "×2.0",
            "href=\"/ui/latency?fingerprint=000000000000002a&amp;protocol=text\"",
        ] {
            page.has(part);
        }
        // What 200 commands do not tell.
        page.lacks("99.99 %");
    }
    let first = seen(&door, "/ui/latency?byte=first").await;
    first.has("byte=first\">read</a>");
    first.has("first byte, of commands");
    let none = seen(&door, "/ui/latency?class=ddl").await;
    assert_eq!(none.status, 200);
    none.has("Too few of these commands");
}

#[tokio::test]
async fn a_statement_has_a_curve_of_its_own_and_is_text() {
    let door = Door::open("").await;
    let evil = "SELECT '<script>alert(1)</script>'";
    ran(&door, evil, 0xabc, 9_000, 50);
    let path = "/ui/latency?fingerprint=0000000000000abc&protocol=text";
    let page = seen(&door, path).await;
    assert_eq!(page.status, 200, "{}", page.body);
    for part in [
        "50 timed on both",
        "&lt;script&gt;alert(1)",
        "href=\"/ui/findings?fingerprint=0000000000000abc\"",
        "rel=\"up\" href=\"/ui/latency\"",
    ] {
        page.has(part);
    }
    page.lacks("<script>");
    seen(&door, "/ui/latency").await.lacks("<script>");
    let prepared = seen(
        &door,
        "/ui/latency?fingerprint=0000000000000abc&protocol=prepared",
    )
    .await;
    prepared.has("has not been timed since");
    let gone = seen(&door, "/ui/latency?fingerprint=00000000000000ff").await;
    gone.has("has not been timed since");
}

#[tokio::test]
async fn what_has_become_slower_stands_first_and_leads_to_its_finding() {
    let door = Door::open("").await;
    ran(&door, "SELECT slow", 1, 1_500, 30);
    ran(&door, "SELECT fast", 2, 4_000, 40);
    let order = |page: &Answer| {
        let at = |shape: &str| {
            page.body
                .rfind(shape)
                .unwrap_or_else(|| panic!("no {shape}: {}", page.body))
        };
        at("SELECT slow") < at("SELECT fast")
    };
    assert!(!order(&seen(&door, "/ui/latency").await), "by its ratio");
    let times = Quantiles {
        p50: 1_000,
        p99: 9_000,
        ..Quantiles::default()
    };
    let look = Look {
        at: jiff::Timestamp::now(),
        pace: Pace {
            fingerprint: Some("SELECT slow".into()),
            shape: Some((1, Protocol::Text)),
            class: Class::Read,
            tables: vec!["shop.t".into()],
            samples: 500,
            primary: Quantiles::default(),
            shadow: times,
        },
        servers: ["legacy".into(), "vitess".into()],
        slow: Some(Slow {
            more: 7,
            detail: "p99".into(),
        }),
    };
    assert!(door.ledger.looked(look));
    while door.get("/api/v1/findings?kind=latency").await.1["items"] == json!([]) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let page = seen(&door, "/ui/latency").await;
    page.has("href=\"/ui/findings/1\">finding #1</a>");
    assert!(order(&page), "{}", page.body);
    assert!(!order(&seen(&door, "/ui/latency?sort=count").await));
    let of = seen(&door, "/ui/latency?fingerprint=0000000000000001").await;
    of.has("finding #1");
    let finding = seen(&door, "/ui/findings/1").await;
    finding.has("href=\"/ui/latency?fingerprint=0000000000000001&amp;protocol=text\"");
}

#[tokio::test]
async fn the_list_of_statements_is_searched_and_paged() {
    let door = Door::open("").await;
    for n in 0..60 {
        ran(&door, &format!("SELECT {n} FROM t"), n + 1, 2_000, 1);
    }
    let rows = |page: &Answer| page.body.matches("<tr data-row").count();
    let page = seen(&door, "/ui/latency").await;
    assert_eq!(rows(&page), 50);
    page.has("rel=\"next\" href=\"/ui/latency?before=50\"");
    let next = seen(&door, "/ui/latency?before=50").await;
    assert_eq!(rows(&next), 10);
    next.has("rel=\"prev\" href=\"/ui/latency\"");
    for (query, found) in [
        ("search=select+7+from", 1),
        ("search=SHOP.T&sort=p99", 50),
        ("search=nothing", 0),
        ("class=write", 0),
        ("before=9999", 0),
    ] {
        let page = seen(&door, &format!("/ui/latency?{query}")).await;
        assert_eq!((page.status, rows(&page)), (200, found), "{query}");
    }
}

#[tokio::test]
async fn a_word_that_is_not_known_is_said_and_only_the_asked_part_is_answered() {
    let door = Door::open("").await;
    for (query, words) in [
        ("byte=middle", "it is one of first, last"),
        ("class=select", "locking_read"),
        ("fingerprint=SELECT", "16 hexadecimal digits"),
        (
            "fingerprint=000000000000002a&protocol=pigeon",
            "text, prepared",
        ),
        (
            "fingerprint=000000000000002a&class=read",
            "ask for one of them",
        ),
        ("sort=fastest", "slower, count, p99"),
    ] {
        let page = seen(&door, &format!("/ui/latency?{query}")).await;
        assert_eq!(page.status, 400, "{query}");
        page.has(words);
        if !query.starts_with("sort") {
            let (status, body) = door.get(&format!("/api/v1/latency/course?{query}")).await;
            assert_eq!(status, 400, "{query}");
            assert!(body.to_string().contains(words), "{body}");
        }
    }
    let (status, body) = door.get("/api/v1/latency/course?class=read").await;
    assert_eq!((status, body), (200, json!({"items": []})));
    let part = asked(
        &door,
        "GET",
        "/ui/latency",
        "x-understudy-parts: curve\r\n",
        "",
    )
    .await;
    part.has("data-part=\"curve\"");
    part.lacks("<form");
    part.lacks("<html");
}
