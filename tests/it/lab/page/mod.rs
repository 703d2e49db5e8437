//! The operators' page in a real browser, over a real pair with the checker at work: every view with what is
//! really there, a triage by keyboard, a cutover and a rollback, a verification that finds a row, and the login.
//! Each view is kept as a picture (light, dark, on a phone) in `target/test-lab/screenshots`, and axe-core is
//! asked of each.

mod browser;
mod fleet;

use super::cutover::scene::{LIGHT, Scene, primary, setup, state, until};
use super::mirroring::{connect, table};
use super::proxy::Setup;
use super::{Lab, Proxy};
use browser::Browser;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::time::Duration;

/// What clients write is text: this would be seen in the console, or by what it does.
const EVIL: &str = "SELECT status AS `<script>document.title='broken'</script>`, COUNT(*) FROM orders GROUP BY status WITH ROLLUP";

/// A row that differs on the shadow, read through the proxy; and a statement that vtgate cannot.
async fn plant(scene: &Scene, table: &str) {
    let mut app = connect(&scene.proxy.address, "scratch").await;
    app.query_drop(format!(
        "INSERT INTO {table} (id, name) VALUES (1, 'Kettle'), (2, 'Teapot')"
    ))
    .await
    .unwrap();
    scene.proxy.settled();
    let mut shadow = connect(&scene.lab.shadow(), "scratch").await;
    shadow
        .query_drop(format!("UPDATE {table} SET name = 'Cattle' WHERE id = 1"))
        .await
        .unwrap();
    app.query_drop(format!("SELECT id, name FROM {table} WHERE id = 1"))
        .await
        .unwrap();
    app.query_drop("USE app").await.unwrap();
    app.query_drop(EVIL).await.unwrap();
    until(Duration::from_secs(60), || {
        let findings = scene.proxy.get("/api/v1/findings");
        let open = findings["items"].as_array().map_or(0, Vec::len);
        if open >= 2 { Ok(()) } else { Err(findings) }
    })
    .await;
}

async fn looks(browser: &Browser, table: &str) {
    browser.goto("/").await;
    browser.until_at("/ui/").await;
    browser.until("#servers", "5.6.24").await;
    browser.until("#coverage", "matched").await;
    browser.until("#recent", "new finding").await;
    browser.until("#readiness", "divergences").await;
    // It moves by itself.
    let before = browser.text("#coverage h2").await;
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while browser.text("#coverage h2").await == before {
        assert!(std::time::Instant::now() < end, "still {before}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    browser.keep("overview").await;
    browser.goto("/ui/findings").await;
    browser.until("table.list", table).await;
    assert_eq!(
        browser.run("return document.title").await,
        "Findings · understudy"
    );
    browser.keep("findings").await;
    browser.goto("/ui/findings?by=table").await;
    browser.keep("findings-by-table").await;
}

/// By keys alone: search, the row, the word, the name, the button.
async fn triage(browser: &Browser, proxy: &Proxy, table: &str) {
    browser.goto("/ui/findings").await;
    browser.press("/").await;
    browser.press(table).await;
    browser.enter().await;
    browser
        .until_at(&format!("/ui/findings?search={table}&sort=impact"))
        .await;
    browser.press("j").await;
    browser.enter().await;
    browser.until("h1", "Finding").await;
    browser.until("table.cells", "Cattle").await;
    let marked = browser
        .run(
            "return [...document.querySelectorAll('table.cells mark')].map((it) => it.textContent)",
        )
        .await;
    assert_eq!(marked, json!(["Ke", "Ca"]), "what differs is marked");
    browser.keep("finding").await;
    let path = browser.place().await;
    browser.press("x").await;
    browser.press("a person").await;
    browser.fill("#why", "planted by a test").await;
    browser.click("#triage button").await;
    browser.until("#history", "planted by a test").await;
    browser.until("h1", "fixed").await;
    let id = path.trim_start_matches("/ui/findings/");
    let found = proxy.get(&format!("/api/v1/findings/{id}"));
    assert_eq!(
        (&found["state"], &found["who"]),
        (&json!("fixed"), &json!("a person"))
    );
    // The name is remembered; the list is one key away; help is another.
    browser.goto(&path).await;
    let who = browser
        .run("return document.querySelector('#who').value")
        .await;
    assert_eq!(who, "a person");
    browser.press("?").await;
    assert_eq!(
        browser
            .run("return document.querySelector('#keys').open")
            .await,
        true
    );
    browser.click("#keys button").await;
    browser.press("u").await;
    browser.until_at("/ui/findings").await;
}

/// Another document of the view is asked for, as after a time without a stream: every part of it.
async fn all_anew(browser: &Browser, witness: &str) {
    let mark = format!("document.querySelector('{witness}').dataset.old = 'yes';");
    browser.run(&mark).await;
    browser
        .run("dispatchEvent(new Event('pagehide')); dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
        .await;
    let is_old = format!("return document.querySelector('{witness}').dataset.old === 'yes'");
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while browser.run(&is_old).await == true {
        assert!(std::time::Instant::now() < end, "{witness} stays as it was");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The guards refuse while findings are open: what they said stays, whatever else moves; and Enter orders nothing.
async fn refused(browser: &Browser, proxy: &Proxy) {
    browser.goto("/ui/cutover").await;
    browser.until("#readiness", "divergences").await;
    browser.fill("#who", "a person").await;
    browser.click("#confirm").await;
    browser.press("vitess").await;
    browser.enter().await;
    let focused = "return document.activeElement.id";
    assert_eq!(browser.run(focused).await, "go", "it leads to the button");
    assert_eq!(proxy.get("/api/v1/cutover")["record"], Value::Null);
    browser.enter().await;
    browser.until("#wrong", "The guards refuse").await;
    browser.keep("cutover-refused").await;
    all_anew(browser, "#standing").await;
    browser.until("#wrong", "The guards refuse").await;
    let who = "return document.querySelector('#who').value";
    assert_eq!(browser.run(who).await, "a person");
}

/// The switches: what is refused is said, what is typed stays while the page moves, what is set is told with a name.
async fn switches(browser: &Browser, proxy: &Proxy) {
    browser.goto("/ui/").await;
    browser.fill("#switch-who", "a person").await;
    browser
        .run("document.querySelector('#paused').value = 'yes'")
        .await;
    browser.click("#switch").await;
    browser.until("#wrong", "dark writes would stop").await;
    assert_eq!(proxy.get("/api/v1/status")["mirror"]["state"], "running");
    browser.goto("/ui/").await;
    browser.fill("#sample", "99.5").await;
    all_anew(browser, "#mirror").await;
    let typed = "return document.querySelector('#sample').value";
    assert_eq!(browser.run(typed).await, "99.5");
    browser.click("#switch").await;
    browser.until("#mirror", "sample 99.5 %").await;
    browser
        .until("#recent", "sample 1 → 0.995 by a person")
        .await;
    browser.keep("switches").await;
    browser.fill("#sample", "100").await;
    browser.click("#switch").await;
    browser.until("#mirror", "sample 100 %").await;
}

async fn latency(browser: &Browser) {
    browser.goto("/ui/").await;
    browser.press("gl").await;
    browser.until_at("/ui/latency").await;
    browser.until("#curve table", "p99").await;
    // The second chart comes by itself, minute by minute.
    let charts = "return document.querySelectorAll('#curve svg.chart').length";
    let end = std::time::Instant::now() + Duration::from_secs(200);
    while browser.run(charts).await != json!(2) {
        assert!(std::time::Instant::now() < end, "no course is drawn");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    browser.keep("latency").await;
    browser.goto("/ui/latency?class=write&byte=first").await;
    browser.until("#curve", "first byte").await;
    browser.keep("latency-first-byte").await;
    browser.goto("/ui/latency?sort=count").await;
    browser.press("j").await;
    browser.enter().await;
    browser.until("h1", "of a statement").await;
    browser.until("#curve table", "p99").await;
    browser.keep("latency-statement").await;
    browser.press("u").await;
    browser.until("h1", "Latency").await;
}

async fn queries(browser: &Browser) {
    browser.press("gq").await;
    browser.until_at("/ui/queries").await;
    browser.until("#tail-state", "Live").await;
    let rows = "return document.querySelectorAll('#tail tr').length";
    let more = |most: u64| async move {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while browser.run(rows).await.as_u64().unwrap_or(0) <= most {
            assert!(std::time::Instant::now() < end, "no row comes after {most}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    more(20).await;
    browser.press("p").await;
    browser.until("#tail-state", "Paused").await;
    let now = browser.run(rows).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(browser.run(rows).await, now, "it is paused");
    browser.keep("queries").await;
    browser.click("#pause").await;
    browser.until("#tail-state", "Live").await;
    more(now.as_u64().unwrap_or(0)).await;
    // Its address is its filter.
    browser
        .goto("/ui/queries?class=write&verdict=matched")
        .await;
    more(2).await;
    let words = browser
        .run("return [...new Set([...document.querySelectorAll('#tail tr td:nth-child(2)')].map((it) => it.textContent.trim()))]")
        .await;
    assert_eq!(words, json!(["✓ matched"]));
    let kept =
        "const it = document.querySelector('#tail'); it.dataset.most = '5'; return it.dataset.most";
    browser.run(kept).await;
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while browser.run(rows).await != json!(5) {
        assert!(std::time::Instant::now() < end, "rows are let go");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Everything else that is open says nothing here.
fn judge_the_rest(proxy: &Proxy) {
    let findings = proxy.get("/api/v1/findings?limit=500");
    for one in findings["items"].as_array().expect("items") {
        let is_open = matches!(one["state"].as_str(), Some("open" | "regressed"));
        if is_open && one["follows"] != true && one["rule"].is_null() {
            let word = json!({"state": "noise", "who": "a test"});
            proxy.send("PATCH", &format!("/api/v1/findings/{}", one["id"]), &word);
        }
    }
}

async fn verification(browser: &Browser, table: &str) {
    browser.goto("/ui/verification").await;
    browser.fill("#who", "a person").await;
    browser.fill("#tables", &format!("scratch.{table}")).await;
    browser
        .run("document.querySelector('#repair').value = 'plan'")
        .await;
    browser.click("#begin button").await;
    browser.until_at("/ui/verification").await;
    // Without a reload: the stream says that it moved.
    browser.until("#run", "1 changed").await;
    browser.until("#runs", "different").await;
    browser.keep("verification").await;
}

async fn cutovers(browser: &Browser, scene: &Scene) {
    browser.goto("/ui/cutover").await;
    browser.until("#readiness", "verification").await;
    browser.keep("cutover").await;
    // Not before the name is typed.
    assert_eq!(
        browser
            .run("return document.querySelector('#go').disabled")
            .await,
        true
    );
    browser.click("#dry-run").await;
    browser.until("#records", "dry run").await;
    assert_eq!(primary(&scene.proxy), "legacy", "a dry run changes nothing");
    for (to, left) in [("vitess", "legacy"), ("legacy", "vitess")] {
        scene.until_ready().await;
        browser.goto("/ui/cutover").await;
        browser.until("#order", to).await;
        let back = browser.text("#order h2").await;
        assert_eq!(back.starts_with("Roll back to"), to == "legacy", "{back}");
        browser.fill("#confirm", to).await;
        browser.click("#go").await;
        browser
            .until("#standing", &format!("{to} is the primary"))
            .await;
        browser.until("#head", &format!("primary {to}")).await;
        // The form turns round by itself: it never offers what is so already.
        browser.until("#order h2", left).await;
        browser.keep(&format!("cutover-to-{to}")).await;
        until(Duration::from_secs(60), || match state(&scene.proxy) {
            state if state == "done" => Ok(()),
            state => Err(json!(state)),
        })
        .await;
        browser.until("#standing", "done").await;
        browser.until("#records", &format!("{left} → {to}")).await;
        let record = scene.proxy.get("/api/v1/cutover")["record"].clone();
        assert_eq!(
            (&record["outcome"], &record["who"]),
            (&json!("done"), &json!("a person")),
            "{record:#}"
        );
    }
    browser.click("#records tbody a").await;
    browser.until("h1", "Cutover").await;
    browser.keep("cutover-record").await;
}

#[tokio::test]
async fn the_page_shows_what_is_there_and_does_what_is_asked() {
    let scene = Scene::open(
        &Setup {
            ledger: "literals = \"keep\"",
            ..setup("soak_s = 4")
        },
        LIGHT,
    )
    .await;
    let table = table(&scene.lab).await;
    plant(&scene, &table).await;
    let browser = Browser::open(&scene.proxy.admin).await;
    browser.dress(browser::Look::Light);
    looks(&browser, &table).await;
    triage(&browser, &scene.proxy, &table).await;
    refused(&browser, &scene.proxy).await;
    judge_the_rest(&scene.proxy);
    switches(&browser, &scene.proxy).await;
    latency(&browser).await;
    queries(&browser).await;
    verification(&browser, &table).await;
    let mut shadow = connect(&scene.lab.shadow(), "scratch").await;
    let mend = format!("UPDATE {table} SET name = 'Kettle' WHERE id = 1");
    shadow.query_drop(mend).await.unwrap();
    cutovers(&browser, &scene).await;
    browser.goto("/ui/nothing").await;
    browser.until("h1", "Not Found").await;
    browser.no_errors(&["/ui/nothing", "/ui/cutover", "/ui/mirror"]);
    browser.close().await;
    scene.close_in_order().await;
}

#[tokio::test]
async fn with_a_token_one_logs_in_once() {
    let lab = Lab::get();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "a-long-and-secret-token\n").expect("written");
    let proxy = Proxy::start_with(
        &lab,
        &Setup {
            admin: format!("token_file = \"{}\"", file.display()),
            ..Setup::default()
        },
    );
    let browser = Browser::open(&proxy.admin).await;
    browser.dress(browser::Look::Light);
    browser.goto("/ui/findings?state=open").await;
    browser.until("h1", "understudy").await;
    browser.keep("login").await;
    browser.fill("#token", "another").await;
    browser.enter().await;
    browser.until("#wrong", "The token is wrong").await;
    browser.fill("#token", "a-long-and-secret-token").await;
    browser.enter().await;
    browser.until_at("/ui/findings?state=open").await;
    assert_eq!(
        browser.run("return document.cookie").await,
        Value::from(""),
        "no script sees it"
    );
    // A link in a colleague's message leads here too, though a browser keeps the cookie from it at first.
    browser.follow_from_elsewhere("/ui/findings?by=table").await;
    browser.until_at("/ui/findings?by=table").await;
    browser.until("h1", "Findings").await;
    // The stream of events is let in too: it would be told of in the console.
    browser.goto("/ui/").await;
    browser.until("#servers", "legacy").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Where it does not answer, a screen on a wall does not say that all is well.
    let is_hidden = "return document.querySelector('#lost').hidden";
    for (signal, hidden) in [("STOP", false), ("CONT", true)] {
        proxy.signal(signal);
        let end = std::time::Instant::now() + Duration::from_secs(120);
        while browser.run(is_hidden).await != hidden {
            assert!(std::time::Instant::now() < end, "{signal}: still {hidden}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    browser.goto("/ui/queries").await;
    browser.until("#tail-state", "Live").await;
    browser.click(".way-out form button").await;
    browser.until_at("/ui/login").await;
    browser.goto("/ui/").await;
    browser.until("#token", "").await;
    browser.no_errors(&["/ui/login"]);
    browser.close().await;
    assert!(!proxy.log().contains("a-long-and-secret-token"));
}
