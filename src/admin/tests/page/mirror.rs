//! The mirror's switches, on the overview.

use super::*;

async fn posted(door: &Door, fields: &str) -> Answer {
    let token = seen(door, "/ui/").await.form_token();
    let body = format!("form_token={token}&{fields}");
    asked(door, "POST", "/ui/mirror", "", &body).await
}

#[tokio::test]
async fn the_switches_are_set_and_who_did_is_written_down() {
    let door = Door::open("").await;
    let page = seen(&door, "/ui/").await;
    page.has("name=\"sample\" required value=\"100\"");
    page.has("<option value=\"apply\" selected>");
    let done = posted(
        &door,
        "paused=no&reads=no&writes=apply&sample=12%2C5&who=Zo%C3%AB",
    )
    .await;
    assert_eq!(
        (done.status, done.header("location")),
        (303, "/ui/#switches"),
        "{}",
        done.body
    );
    let control = *door.cards.control.lock();
    assert!(!control.reads && !control.paused);
    assert!((control.sample - 0.125).abs() < 1e-9, "{control:?}");
    let (status, _) = door
        .ask(
            "PATCH",
            "/api/v1/mirror",
            "",
            r#"{"reads": true, "who": "a script"}"#,
        )
        .await;
    assert_eq!(status, 200);
    let page = seen(&door, "/ui/").await;
    for part in [
        "mirror: reads on → off, sample 1 → 0.125",
        "by Zoë</span>",
        "mirror: reads off → on",
        "by a script</span>",
        "value=\"12.5\"",
    ] {
        page.has(part);
    }
}

#[tokio::test]
async fn a_mirror_that_mirrors_nothing_is_off_and_one_that_is_paused_is_no_good_news() {
    let door = Door::open("").await;
    let running = "<span class=\"tag good\"><span aria-hidden=\"true\">✓</span> running</span>";
    seen(&door, "/ui/").await.has(running);
    let (status, _) = door
        .ask(
            "PATCH",
            "/api/v1/mirror",
            "",
            r#"{"reads": false, "writes": "off"}"#,
        )
        .await;
    assert_eq!(status, 200);
    let page = seen(&door, "/ui/").await;
    page.has("<span class=\"tag calm\"><span aria-hidden=\"true\">–</span> off</span>");
    page.lacks(running);
    let mirror = door.get("/api/v1/status").await.1["mirror"].clone();
    assert_eq!(
        (&mirror["state"], &mirror["mirrors"]),
        (&json!("running"), &json!(false))
    );
    door.ask("PATCH", "/api/v1/mirror", "", r#"{"paused": true}"#)
        .await;
    let page = seen(&door, "/ui/").await;
    page.has("<span class=\"tag open\"><span aria-hidden=\"true\">●</span> paused</span>");
}

#[tokio::test]
async fn dark_writes_stop_only_where_that_is_meant() {
    let door = Door::open("").await;
    for fields in [
        "paused=yes&reads=yes&writes=apply&sample=100&who=dba",
        "paused=no&reads=yes&writes=plan&sample=100&who=dba",
    ] {
        let refused = posted(&door, fields).await;
        assert_eq!(refused.status, 409, "{fields}");
        refused.has("nothing was changed: dark writes would stop");
        refused.has("value=\"dba\"");
    }
    let control = *door.cards.control.lock();
    assert!(!control.paused && control.writes.name() == "apply");
    let sure = "paused=yes&reads=yes&writes=apply&sample=100&who=dba&sure=yes";
    assert_eq!(posted(&door, sure).await.status, 303);
    assert!(door.cards.control.lock().paused);
    // While it is paused anyway, there is nothing to be warned of.
    seen(&door, "/ui/").await.lacks("name=\"sure\"");
    let plan = "paused=yes&reads=yes&writes=plan&sample=100&who=dba";
    assert_eq!(posted(&door, plan).await.status, 303);
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words_and_changes_nothing() {
    let door =
        Door::open("[shadow]\nfed_by = \"replication\"\n[mirror]\nwrites = \"rollback\"\n").await;
    seen(&door, "/ui/").await.lacks("name=\"sure\"");
    for (fields, status, words) in [
        ("writes=apply&who=dba", 409, "would write every row twice"),
        ("writes=all&who=dba", 400, "it is one of apply, rollback"),
        (
            "sample=much&who=dba",
            400,
            "a number of percent from 0 to 100",
        ),
        (
            "sample=101&who=dba",
            400,
            "a number of percent from 0 to 100",
        ),
        (
            "sample=nan&who=dba",
            400,
            "a number of percent from 0 to 100",
        ),
        ("reads=perhaps&who=dba", 400, "it is yes or no"),
        ("reads=no", 400, "write who says so"),
        ("reads=no&who=understudy", 400, "this name is kept"),
    ] {
        let refused = posted(&door, fields).await;
        assert_eq!(refused.status, status, "{fields}: {}", refused.body);
        refused.has(words);
        refused.has("id=\"wrong\"");
    }
    let control = *door.cards.control.lock();
    assert!(control.reads && control.writes.name() == "rollback");
}

#[tokio::test]
async fn a_form_that_is_older_than_the_switches_changes_nothing() {
    let door = Door::open("").await;
    let was = format!("{:?}", *door.cards.control.lock());
    let was: String = form_urlencoded::byte_serialize(was.as_bytes()).collect();
    let (status, _) = door
        .ask("PATCH", "/api/v1/mirror", "", r#"{"paused": true}"#)
        .await;
    assert_eq!(status, 200);
    let stale = format!("paused=no&reads=yes&writes=apply&sample=50&who=dba&was={was}");
    let refused = posted(&door, &stale).await;
    assert_eq!(refused.status, 409);
    refused.has("somebody else has set the switches");
    assert!(door.cards.control.lock().paused);
}

/// Finding: after a refused switch the address was one that answered nothing but JSON.
#[tokio::test]
async fn the_address_of_a_refused_switch_leads_to_the_overview_and_moves_like_it() {
    let door = Door::open("").await;
    let page = seen(&door, "/ui/mirror").await;
    assert_eq!(
        (page.status, page.header("location")),
        (303, "/ui/#switches")
    );
    let parts = "x-understudy-parts: servers\r\n";
    let part = asked(&door, "GET", "/ui/mirror", parts, "").await;
    assert_eq!(part.status, 200);
    part.has("data-part=\"servers\"");
    part.lacks("<html");
}
