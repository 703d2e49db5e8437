//! A fleet of two, one of which is dead, by the page.

use super::browser::{Browser, Look};
use crate::lab::cutover::scene::setup;
use crate::lab::proxy::Setup;
use crate::lab::{Lab, Proxy};
use std::time::SystemTime;

fn member(lab: &Lab, name: &str, prefix: &str) -> Proxy {
    let mut setup: Setup = setup("fence = true");
    setup.more += &format!(
        "[fleet]\netcd = [\"http://127.0.0.1:{}\"]\nname = \"{name}\"\nprefix = \"{prefix}\"\n",
        lab.port("ETCD_PORT")
    );
    Proxy::start_with(lab, &setup)
}

#[tokio::test]
async fn a_fleet_is_seen_and_a_proxy_that_is_gone_is_forgotten_by_its_name() {
    let lab = Lab::get();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("the clock is past 1970").as_nanos();
    let prefix = format!("/understudy-test/page-{}-{now}/", std::process::id());
    let here = member(&lab, "here", &prefix);
    let gone = member(&lab, "gone", &prefix);
    let browser = Browser::open(&here.admin).await;
    browser.dress(Look::Light);
    browser.goto("/ui/").await;
    browser.press("gt").await;
    browser.until_at("/ui/fleet").await;
    browser.until("#fleet tbody", "gone").await;
    browser.until("#fleet", "etcd answers").await;
    gone.signal("KILL");
    browser.keep("fleet").await;
    browser.fill("#who", "a person").await;
    browser.fill("#confirm", "another").await;
    browser.click("#forget-it").await;
    browser.until("#wrong", "type gone to confirm").await;
    browser.fill("#confirm", "gone").await;
    browser.click("#forget-it").await;
    browser.until("#fleet", "Dark writes went with these").await;
    browser.until("#forget", "There is no other proxy").await;
    browser.keep("fleet-forgotten").await;
    let members = here.get("/api/v1/fleet")["members"].clone();
    assert_eq!(members.as_array().map(Vec::len), Some(1), "{members:#}");
    browser.goto("/ui/").await;
    browser.until("#recent", "fleet: gone forgotten").await;
    browser.no_errors(&["/ui/fleet/forget"]);
    browser.close().await;
}
