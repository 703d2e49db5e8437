//! The fleet.

use super::*;
use crate::cutover::Fleet;

/// A proxy of a fleet whose etcd is not there.
async fn cut_off() -> Door {
    let text = "[fleet]\netcd = [\"http://127.0.0.1:1\"]\nname = \"a\"\ntimeout_ms = 200\n[cutover]\nfence = true\n";
    let config = config::Config::parse(text, &[]).expect("sound");
    let fleet = Fleet::of(&config).expect("it can be asked");
    let helm = Unmanned::new("nobody is here", None, fleet);
    Door::open_with("", Some(&|_| Arc::new(helm.clone()))).await
}

#[tokio::test]
async fn a_proxy_that_is_alone_says_so_and_has_no_way_there() {
    let door = Door::open("").await;
    let page = seen(&door, "/ui/fleet").await;
    assert_eq!(page.status, 200);
    page.has("this proxy is alone");
    page.lacks("<form method=\"post\" action=\"/ui/fleet/forget\"");
    seen(&door, "/ui/").await.lacks("href=\"/ui/fleet\"");
    let token = seen(&door, "/ui/cutover").await.form_token();
    let body = format!("form_token={token}&name=b&confirm=b&who=dba");
    let refused = asked(&door, "POST", "/ui/fleet/forget", "", &body).await;
    assert_eq!(refused.status, 404);
}

#[tokio::test]
async fn where_etcd_does_not_answer_that_is_told_and_nobody_is_forgotten() {
    let door = cut_off().await;
    let page = seen(&door, "/ui/fleet").await;
    assert_eq!(page.status, 200);
    page.has("etcd does not answer");
    seen(&door, "/ui/").await.has("href=\"/ui/fleet\"");
    let token = seen(&door, "/ui/cutover").await.form_token();
    for (fields, status, words) in [
        ("name=b&confirm=b", 400, "write who says so"),
        ("name=b&confirm=c&who=dba", 400, "type b to confirm"),
        ("name=b&confirm=b&who=dba", 503, "etcd"),
    ] {
        let body = format!("form_token={token}&{fields}");
        let refused = asked(&door, "POST", "/ui/fleet/forget", "", &body).await;
        assert_eq!(refused.status, status, "{fields}: {}", refused.body);
        refused.has(words);
        refused.has("id=\"wrong\"");
    }
}
