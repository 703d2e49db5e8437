//! The page as a browser meets it: what stands in the views, who gets in, what a form must carry.

mod fleet;
mod latency;
mod mirror;
mod queries;

use super::*;

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    /// A header's value, in lower case; empty where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(": ")).unwrap_or("")
    }

    pub(super) fn has(&self, part: &str) {
        assert!(self.body.contains(part), "no {part:?} in\n{}", self.body);
    }

    pub(super) fn lacks(&self, part: &str) {
        assert!(!self.body.contains(part), "{part:?} in\n{}", self.body);
    }

    /// The token of the first form.
    pub(super) fn form_token(&self) -> String {
        let (_, rest) = self
            .body
            .split_once("name=\"form_token\" value=\"")
            .expect("a form");
        rest.split('"').next().expect("a value").to_owned()
    }
}

pub(super) async fn asked(
    door: &Door,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let (length, at) = (body.len(), door.at);
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    let (status, head, body) = door.whole(&request).await;
    Answer { status, head, body }
}

pub(super) async fn seen(door: &Door, path: &str) -> Answer {
    asked(door, "GET", path, "", "").await
}

const VIEWS: [&str; 7] = [
    "/ui/",
    "/ui/findings",
    "/ui/latency",
    "/ui/queries",
    "/ui/cutover",
    "/ui/verification",
    "/ui/audit",
];

const TOKEN: &str = "token = \"hush-hush-hush\"\n";

async fn locked() -> Door {
    Door::open(&format!("[admin]\n{TOKEN}")).await
}

/// Logs in; the cookie, as a browser sends it back.
async fn logged_in(door: &Door) -> String {
    logged_in_by(door, "hush-hush-hush").await
}

/// The same by another token.
pub(super) async fn logged_in_by(door: &Door, token: &str) -> String {
    let form = seen(door, "/ui/login").await.form_token();
    let body = format!("form_token={form}&token={token}&to=%2Fui%2Ffindings");
    let (length, at) = (body.len(), door.at);
    let request = format!(
        "POST /ui/login HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(door.at).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(
        answer.contains("303") && answer.contains("location: /ui/findings"),
        "{answer}"
    );
    let line = answer.lines().find(|line| line.starts_with("set-cookie: "));
    let cookie = line.expect("a cookie").trim_start_matches("set-cookie: ");
    for word in ["HttpOnly", "SameSite=Strict", "Path=/ui"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    assert!(!cookie.contains(token), "never the token itself: {cookie}");
    assert!(!cookie.contains("Secure"), "plain HTTP: {cookie}");
    format!("cookie: {}\r\n", cookie.split(';').next().expect("a pair"))
}

#[tokio::test]
async fn every_answer_holds_the_browser_to_our_own_and_no_script_stands_in_a_document() {
    let door = Door::open("").await;
    door.fill().await;
    let first = seen(&door, "/").await;
    assert_eq!((first.status, first.header("location")), (303, "/ui/"));
    for path in VIEWS.into_iter().chain([
        "/ui/findings/1",
        "/ui/divergences/1",
        "/ui/nothing",
        "/ui/findings/x",
    ]) {
        let answer = seen(&door, path).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'self';") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        for (name, value) in [
            ("x-frame-options", "deny"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), value, "{path}: {name}");
        }
        // What the policy would refuse, and what would ask for something from elsewhere.
        for part in [
            " style=",
            "<style",
            " onclick=",
            "<script>",
            "http://",
            "https://",
        ] {
            answer.lacks(part);
        }
        for script in answer.body.split("<script").skip(1) {
            assert!(
                script.starts_with(" type=\"module\" src=\"/ui/assets/page-"),
                "{script}"
            );
        }
    }
}

#[tokio::test]
async fn assets_are_named_by_their_content_and_kept_for_a_year() {
    let door = Door::open("").await;
    let page = seen(&door, "/ui/").await;
    let mut found = 0;
    for part in page.body.split("/ui/assets/").skip(1) {
        let name = part.split('"').next().expect("a name");
        let asset = seen(&door, &format!("/ui/assets/{name}")).await;
        assert_eq!(asset.status, 200, "{name}");
        assert!(
            asset.header("cache-control").contains("immutable"),
            "{name}"
        );
        assert_eq!(asset.header("x-content-type-options"), "nosniff");
        assert!(!asset.body.is_empty());
        found += 1;
    }
    assert_eq!(found, 3, "style, script, icon");
    assert_eq!(
        seen(&door, "/ui/assets/page-0000000000000000.css")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn the_overview_says_who_is_what_and_leaves_nothing_out_of_the_whole() {
    let door = Door::open("").await;
    door.fill().await;
    let page = seen(&door, "/ui/").await;
    assert_eq!(page.status, 200);
    for part in [
        "legacy-1",
        "vitess-1",
        "not looked at any more",
        "running",
        "5 B of 9 B",
        "2 commands, the first for 30 ms",
        "4 commands since the start",
        "Coverage: matched 25.00 %, diverged 25.00 %, not compared 25.00 %, pending 25.00 %",
        "race",
        "guards do not pass",
        "new finding",
    ] {
        page.has(part);
    }
    for guard in crate::readiness::GUARDS {
        page.has(guard);
    }
}

#[tokio::test]
async fn a_tainted_table_leads_to_the_verification_that_lifts_its_taint() {
    let door = Door::open("").await;
    seen(&door, "/ui/").await.has("No table is tainted");
    let table = Table {
        database: Some("shop".into()),
        name: "t".into(),
    };
    door.ledger.taint(&[table], &"a write was dropped".into());
    let page = seen(&door, "/ui/").await;
    page.has("role=\"rowheader\">shop.t</th>");
    page.has("a write was dropped");
    // In the column of the last hour, right below it.
    page.has("</section><section class=\"panel\" id=\"taints\"");
    page.has("href=\"/ui/verification?tables=shop.t#begin\"");
    let form = seen(&door, "/ui/verification?tables=shop.t").await;
    form.has("name=\"tables\" value=\"shop.t\"");
    assert_eq!(seen(&door, "/ui/verification?table=t").await.status, 400);
}

#[tokio::test]
async fn only_the_parts_that_are_asked_for_are_answered() {
    let door = Door::open("").await;
    let parts = asked(
        &door,
        "GET",
        "/ui/",
        "x-understudy-parts: mirror rates\r\n",
        "",
    )
    .await;
    for part in [
        "data-part=\"mirror\"",
        "data-part=\"rates\"",
        "data-part=\"head\"",
    ] {
        parts.has(part);
    }
    for part in ["<html", "data-part=\"readiness\"", "data-part=\"coverage\""] {
        parts.lacks(part);
    }
}

#[tokio::test]
async fn what_a_client_wrote_is_text_wherever_it_stands() {
    let door = Door::open("literals = \"keep\"\n").await;
    let evil = "SELECT '<script>alert(1)</script>' AS \"</pre><img src=x onerror=alert(2)>\"";
    let mut seen_so = observation(Verdict::Diverged(Divergence {
        kind: Kind::Value,
        also: Vec::new(),
        detail: "<script>detail</script>".into(),
        columns: None,
        examples: vec![Example {
            row: Some(0),
            columns: vec![0],
            names: vec!["<script>name</script>".into()],
            primary: vec![Some("<script>cell</script>".into())],
            shadow: vec![None],
        }],
    }));
    seen_so.fingerprint = evil.into();
    seen_so.statement = Some(evil.into());
    seen_so.user = "<script>user</script>".into();
    door.ledger.record(seen_so);
    while door.get("/api/v1/findings").await.1["items"] == json!([]) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for path in [
        "/ui/",
        "/ui/findings",
        "/ui/findings?by=fingerprint",
        "/ui/findings/1",
        "/ui/divergences/1",
        "/ui/findings?search=%3Cscript%3E",
    ] {
        let page = seen(&door, path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        page.has("&lt;script&gt;");
        for part in ["<script>", "<img"] {
            page.lacks(part);
        }
    }
    let wrong = seen(&door, "/ui/findings?kind=%3Cscript%3E").await;
    assert_eq!(wrong.status, 400);
    wrong.lacks("<script>");
}

#[tokio::test]
async fn the_list_is_its_address() {
    let door = Door::open("").await;
    door.fill().await;
    let all = seen(&door, "/ui/findings").await;
    all.has("href=\"/ui/findings/1\"");
    all.has("SELECT `a` FROM `t`");
    for (query, finds) in [
        ("?state=open&kind=value&table=t&sort=count", true),
        ("?search=FROM+%60T%60", true),
        ("?search=shop.", true),
        ("?search=nowhere", false),
        ("?state=noise", false),
        // As a browser's form sends what was left empty.
        ("?search=&kind=&table=&sort=impact", true),
        ("?by=table", true),
        ("?by=fingerprint", true),
        ("?before=50", false),
    ] {
        let list = seen(&door, &format!("/ui/findings{query}")).await;
        assert_eq!(list.status, 200, "{query}");
        assert_eq!(
            list.body.contains("<tr data-row"),
            finds,
            "{query}\n{}",
            list.body
        );
    }
    let wrong = seen(&door, "/ui/findings?state=lost").await;
    assert_eq!(wrong.status, 400);
    wrong.has("it is one of open, accepted");
    let other = seen(&door, "/ui/findings?by=table&search=t").await;
    other.has("/ui/findings?by=table&amp;state=open&amp;search=t");
}

#[tokio::test]
async fn a_triage_by_the_page_is_the_apis() {
    let door = Door::open("").await;
    door.fill().await;
    let token = seen(&door, "/ui/findings/1").await.form_token();
    let said = |fields: &str| format!("form_token={token}&{fields}");
    for (fields, status, words) in [
        ("who=dba", 400, "state: write one of"),
        (
            "state=accepted&who=dba",
            400,
            "why, until: a finding that is accepted needs them",
        ),
        (
            "state=accepted&who=dba&why=known",
            400,
            "until: a finding that is accepted needs it",
        ),
        ("state=fixed&who=understudy", 400, "this name is kept"),
    ] {
        let refused = asked(&door, "POST", "/ui/findings/1", "", &said(fields)).await;
        assert_eq!(refused.status, status, "{fields}");
        refused.has(words);
        refused.has("value=\"");
    }
    let accepted = said("state=accepted&who=Zo%C3%AB+%26+co&why=known+for+long&until=2100-01-31");
    let done = asked(&door, "POST", "/ui/findings/1", "", &accepted).await;
    assert_eq!(
        (done.status, done.header("location")),
        (303, "/ui/findings/1#history"),
        "{}",
        done.body
    );
    assert!(
        done.header("set-cookie")
            .starts_with("understudy_who=zo%c3%ab+%26+co"),
        "{}",
        done.head
    );
    let (_, finding) = door.get("/api/v1/findings/1").await;
    assert_eq!(
        (
            &finding["state"],
            &finding["who"],
            &finding["why"],
            &finding["until"]
        ),
        (
            &json!("accepted"),
            &json!("Zoë & co"),
            &json!("known for long"),
            &json!("2100-01-31T00:00:00Z")
        )
    );
    let page = seen(&door, "/ui/findings/1").await;
    page.has("Zoë &amp; co");
    page.has("known for long");
    // A day that was left in the form means nothing for what has no end.
    let fixed = said("state=fixed&who=dba&until=2100-01-31");
    assert_eq!(
        asked(&door, "POST", "/ui/findings/1", "", &fixed)
            .await
            .status,
        303
    );
    assert_eq!(door.get("/api/v1/findings/1").await.1["state"], "fixed");
    assert_eq!(
        asked(&door, "POST", "/ui/findings/99", "", &fixed)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_form_without_its_token_changes_nothing() {
    let door = Door::open("").await;
    door.fill().await;
    let other = Door::open("").await;
    let strange = seen(&other, "/ui/findings").await;
    strange.lacks("form_token");
    let of_another = seen(&other, "/ui/cutover").await.form_token();
    for token in [
        "",
        "form_token=&",
        "form_token=x&",
        &format!("form_token={of_another}&"),
    ] {
        for (path, fields) in [
            ("/ui/findings/1", "state=noise&who=dba"),
            (
                "/ui/cutover",
                "to=vitess&act=cutover&confirm=vitess&who=dba",
            ),
            ("/ui/mirror", "paused=yes&sure=yes&who=dba"),
            ("/ui/fleet/forget", "name=b&confirm=b&who=dba"),
            ("/ui/cutover/abort", ""),
            ("/ui/cutover/stopped", ""),
            ("/ui/verification", "who=dba"),
            ("/ui/verification/steer", "act=abort"),
            ("/ui/logout", ""),
        ] {
            let refused = asked(&door, "POST", path, "", &format!("{token}{fields}")).await;
            assert_eq!(refused.status, 403, "{path} {token}");
            refused.has("nothing was done");
        }
    }
    assert_eq!(door.get("/api/v1/findings/1").await.1["state"], "open");
    assert!(!door.cards.control.lock().paused);
    let token = seen(&door, "/ui/findings/1").await.form_token();
    let body = format!("form_token={token}&state=noise&who=dba");
    for origin in ["http://evil.example", "null"] {
        let headers = format!("origin: {origin}\r\n");
        let refused = asked(&door, "POST", "/ui/findings/1", &headers, &body).await;
        assert_eq!(refused.status, 403, "with the right token too");
    }
    let own = format!(
        "origin: http://{}\r\nsec-fetch-site: same-origin\r\n",
        door.at
    );
    assert_eq!(
        asked(&door, "POST", "/ui/findings/1", &own, &body)
            .await
            .status,
        303
    );
}

#[tokio::test]
async fn with_a_token_the_page_wants_a_login_and_the_api_the_token() {
    let door = locked().await;
    for path in VIEWS {
        let sent = seen(&door, path).await;
        assert_eq!(sent.status, 303);
        assert!(
            sent.header("location").starts_with("/ui/login?to=%2fui%2f"),
            "{}",
            sent.head
        );
    }
    assert_eq!(seen(&door, "/ui/events").await.status, 401);
    let login = seen(&door, "/ui/login?to=%2F%2Fevil.example").await;
    login.has("name=\"to\" value=\"/ui/\"");
    let form = login.form_token();
    for wrong in ["", "hush", "hush-hush-hush2"] {
        let refused = asked(
            &door,
            "POST",
            "/ui/login",
            "",
            &format!("form_token={form}&token={wrong}"),
        )
        .await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("set-cookie"), "");
        refused.has("The token is wrong.");
    }
    let cookie = logged_in(&door).await;
    for path in VIEWS {
        assert_eq!(
            asked(&door, "GET", path, &cookie, "").await.status,
            200,
            "{path}"
        );
    }
    // The cookie is the page's: it opens nothing of the API, so no page can be made to use it there.
    for path in ["/api/v1/status", "/metrics", "/api/v1/cutover"] {
        assert_eq!(
            asked(&door, "GET", path, &cookie, "").await.status,
            401,
            "{path}"
        );
    }
    let bearer = "authorization: Bearer hush-hush-hush\r\n";
    assert_eq!(asked(&door, "GET", "/ui/", bearer, "").await.status, 200);
    let began = tokio::time::Instant::now();
    for path in ["/ui/", "/api/v1/status"] {
        let refused = asked(&door, "GET", path, "authorization: Bearer no\r\n", "").await;
        assert_eq!(refused.status, 401, "{path}");
    }
    let waited = began.elapsed();
    assert!(waited.as_secs() >= 2, "a second for each guess: {waited:?}");
}

#[tokio::test]
async fn a_seats_forms_are_its_own_and_end_with_it() {
    let door = locked().await;
    let (one, other) = (logged_in(&door).await, logged_in(&door).await);
    assert_ne!(one, other);
    let token = asked(&door, "GET", "/ui/cutover", &one, "")
        .await
        .form_token();
    let body = format!("form_token={token}");
    assert_eq!(
        asked(&door, "POST", "/ui/logout", &other, &body)
            .await
            .status,
        403
    );
    let out = asked(&door, "POST", "/ui/logout", &one, &body).await;
    assert_eq!((out.status, out.header("location")), (303, "/ui/login"));
    assert!(
        out.header("set-cookie").contains("max-age=0"),
        "{}",
        out.head
    );
    assert_eq!(
        asked(&door, "GET", "/ui/", &one, "").await.status,
        303,
        "its seat is given back"
    );
    assert_eq!(asked(&door, "GET", "/ui/", &other, "").await.status, 200);
}

#[tokio::test]
async fn behind_tls_the_cookie_says_so() {
    let door = locked().await;
    let form = seen(&door, "/ui/login").await.form_token();
    let origin = format!("origin: https://{}\r\n", door.at);
    let body = format!("form_token={form}&token=hush-hush-hush");
    let done = asked(&door, "POST", "/ui/login", &origin, &body).await;
    assert_eq!(done.status, 303);
    assert!(
        done.header("set-cookie").ends_with("; secure"),
        "{}",
        done.head
    );
}

#[tokio::test]
async fn a_link_from_elsewhere_is_told_nothing_and_comes_again() {
    let door = locked().await;
    let link =
        "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n";
    let cookie = logged_in(&door).await;
    for headers in [link.to_owned(), format!("{link}{cookie}")] {
        let answer = asked(&door, "GET", "/ui/findings?state=open", &headers, "").await;
        assert_eq!(answer.status, 200);
        answer.has("http-equiv=\"refresh\"");
        answer.has("href=\"/ui/findings?state=open\"");
        answer.lacks("vitess");
    }
    // Nothing but a document that somebody asked for, and nothing of the API.
    let framed = link.replace("document", "iframe");
    assert_eq!(asked(&door, "GET", "/ui/", &framed, "").await.status, 403);
    assert_eq!(
        asked(&door, "POST", "/ui/logout", link, "").await.status,
        403
    );
    assert_eq!(
        asked(&door, "GET", "/api/v1/status", link, "").await.status,
        403
    );
}

#[tokio::test]
async fn without_a_token_the_page_is_for_loopback_alone() {
    let door = Door::open("").await;
    for path in VIEWS.into_iter().chain(["/", "/ui/login", "/ui/events"]) {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
        let (status, _, body) = door.whole(&request).await;
        assert_eq!(status, 403, "{path}");
        assert!(!body.contains("vitess"), "{body}");
    }
    assert_eq!(
        seen(&door, "/ui/login").await.status,
        303,
        "there is nothing to log in with"
    );
}

/// A stream of events that is open.
struct Listening(TcpStream);

impl Listening {
    async fn open(door: &Door, headers: &str) -> Self {
        Self::at(door, "/ui/events", headers).await
    }

    async fn at(door: &Door, path: &str, headers: &str) -> Self {
        let at = door.at;
        let mut stream = TcpStream::connect(at).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        Self(stream)
    }

    /// Reads until this stands there, or the end; what was read.
    async fn until(&mut self, part: &str) -> String {
        let mut read = String::new();
        let mut piece = [0; 4096];
        loop {
            let next = self.0.read(&mut piece);
            let next = tokio::time::timeout(std::time::Duration::from_secs(20), next).await;
            let n = next.expect("in time").unwrap_or(0);
            read.push_str(&String::from_utf8_lossy(&piece[..n]));
            if n == 0 || read.contains(part) {
                return read;
            }
        }
    }
}

#[tokio::test]
async fn the_stream_says_which_parts_have_changed() {
    let door = Door::open("").await;
    let mut stream = Listening::open(&door, "").await;
    let head = stream.until("readiness").await;
    assert!(
        head.contains("data: status roles cutover"),
        "all may have changed before it: {head}"
    );
    assert!(
        head.contains("text/event-stream") && head.contains("retry: "),
        "{head}"
    );
    door.fill().await;
    let read = stream.until("findings").await;
    assert!(read.contains("event: changed"), "{read}");
    assert!(read.contains("status"), "{read}");
    assert!(
        !read.contains("SELECT"),
        "what has changed is not in it: {read}"
    );
}

#[tokio::test]
async fn streams_leave_places_for_who_asks() {
    let door = Door::open("").await;
    let mut streams = Vec::new();
    let places = places::CONNECTIONS_MAX / 4;
    for _ in 0..places {
        let mut stream = Listening::open(&door, "").await;
        assert!(stream.until("retry: ").await.contains("200 OK"));
        streams.push(stream);
    }
    let mut more = Listening::open(&door, "connection: close\r\n").await;
    let refused = more.until("never").await;
    assert!(
        refused.contains("503") && refused.contains("retry-after"),
        "{refused}"
    );
    assert_eq!(seen(&door, "/ui/").await.status, 200);
    streams.pop();
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let mut again = Listening::open(&door, "connection: close\r\n").await;
        if again.until("retry").await.contains("200 OK") {
            return;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "a place that was left is free"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_seat_and_with_the_admin() {
    let door = locked().await;
    let cookie = logged_in(&door).await;
    let mut stream = Listening::open(&door, &cookie).await;
    stream.until("retry: ").await;
    let token = asked(&door, "GET", "/ui/cutover", &cookie, "")
        .await
        .form_token();
    asked(
        &door,
        "POST",
        "/ui/logout",
        &cookie,
        &format!("form_token={token}"),
    )
    .await;
    stream.until("never").await;
    let open = Door::open("").await;
    let mut stream = Listening::open(&open, "").await;
    stream.until("retry: ").await;
    open.stop.cancel();
    stream.until("never").await;
}
