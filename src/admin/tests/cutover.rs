//! The cutover's routes, with a helm that does what each test says.

use super::page::{Answer, asked, seen};
use super::*;
use crate::cutover::machine::{Outcome, Plan, Rest};
use crate::cutover::{GUARDS, Judged, Order, Progress, Refused, Soon, State};
use crate::ledger::{Begun, Record, Records};
use crate::readiness::Guard;

/// What the helm says to an order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Says {
    #[default]
    Yes,
    Guards,
    NotNow,
    Unable,
}

struct Wheel {
    records: Records,
    says: Mutex<Says>,
    state: Mutex<State>,
    record: Mutex<Option<i64>>,
    orders: Mutex<Vec<Order>>,
    /// Who said that replication has stopped.
    stopped: Mutex<Vec<String>>,
    /// Its records cannot be read.
    unread: Mutex<bool>,
    /// What it waits for.
    progress: Mutex<Option<Progress>>,
}

impl Wheel {
    fn at(path: &std::path::Path) -> Arc<Self> {
        Arc::new(Self {
            records: Records::at(path),
            says: Mutex::default(),
            state: Mutex::new(State::Idle),
            record: Mutex::default(),
            orders: Mutex::default(),
            stopped: Mutex::default(),
            unread: Mutex::default(),
            progress: Mutex::default(),
        })
    }

    fn begin(&self, order: &Order) -> i64 {
        let begun = Begun {
            from: if order.to == "legacy" {
                "vitess"
            } else {
                "legacy"
            }
            .into(),
            to: order.to.clone(),
            dry_run: order.dry_run,
            is_back: false,
            forced: order.force.iter().map(|&one| one.into()).collect(),
            who: order.who.clone(),
        };
        let id = self.records.begin(&begun).expect("recorded");
        self.records.step_begins(id, "preparing").expect("recorded");
        id
    }
}

fn judged(name: &'static str, pass: bool, forced: bool) -> Judged {
    Judged {
        guard: Guard {
            name,
            pass,
            value: json!(1),
            limit: json!(0),
            why: format!("{name} says so"),
        },
        forced,
    }
}

impl Helm for Wheel {
    fn state(&self) -> State {
        *self.state.lock()
    }

    fn record(&self) -> Option<i64> {
        *self.record.lock()
    }

    fn progress(&self) -> Option<Progress> {
        self.progress.lock().clone()
    }

    fn records(&self, limit: usize) -> Result<Vec<Record>, String> {
        if *self.unread.lock() {
            return Err("the disk hangs".to_owned());
        }
        self.records
            .cutovers(limit)
            .map_err(|fault| fault.to_string())
    }

    fn kept(&self, id: i64) -> Result<Option<Record>, String> {
        self.records.cutover(id).map_err(|fault| fault.to_string())
    }

    fn last_switched(&self) -> Result<Option<Record>, String> {
        let last = self.records.last_switched();
        last.map_err(|fault| fault.to_string())
    }

    fn order(&self, order: Order) -> Soon<'_, Result<i64, Refused>> {
        Box::pin(async move {
            self.orders.lock().push(order.clone());
            let says = *self.says.lock();
            match says {
                Says::Yes => {
                    let id = self.begin(&order);
                    *self.record.lock() = Some(id);
                    let plan = Plan {
                        dry_run: order.dry_run,
                        is_back: false,
                        rest: Rest::Idle,
                    };
                    *self.state.lock() = State::Preparing(plan);
                    Ok(id)
                }
                Says::Guards => Err(Refused::Guards(vec![
                    judged("lag", false, false),
                    judged("taint", false, true),
                    judged("ddl", true, false),
                ])),
                Says::NotNow => Err(Refused::NotNow("a cutover is holding".into())),
                Says::Unable => Err(Refused::Unable("the ledger cannot be written".into())),
            }
        })
    }

    fn abort(&self, who: String) -> Soon<'_, Result<i64, Refused>> {
        Box::pin(async move {
            let id = self.record.lock().ok_or_else(|| {
                Refused::NotNow("nothing is under way that could be aborted".into())
            })?;
            let why = format!("aborted by {who}");
            let outcome = Outcome::Aborted.name();
            self.records.end(id, outcome, &why).expect("recorded");
            *self.state.lock() = State::Aborted;
            Ok(id)
        })
    }

    fn fleet(&self) -> Option<Arc<crate::cutover::Fleet>> {
        None
    }

    fn replication_stopped(&self, who: String) -> Soon<'_, Result<(), Refused>> {
        self.stopped.lock().push(who);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A door, and the helm behind it.
async fn manned() -> (Door, Arc<Wheel>) {
    let kept: Mutex<Option<Arc<Wheel>>> = Mutex::default();
    let door = Door::open_with(
        "",
        Some(&|path| {
            let wheel = Wheel::at(path);
            *kept.lock() = Some(Arc::clone(&wheel));
            wheel
        }),
    )
    .await;
    let wheel = kept.lock().take().expect("a helm");
    (door, wheel)
}

async fn post(door: &Door, path: &str, body: &str) -> (u16, Value) {
    let path = format!("/api/v1/cutover{path}");
    door.ask("POST", &path, "", body).await
}

#[tokio::test]
async fn before_the_first_cutover_there_is_no_record() {
    let (door, _wheel) = manned().await;
    let (status, body) = door.get("/api/v1/cutover").await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({"state": "idle", "primary": "legacy", "way_back": null, "progress": null, "record": null, "history": []})
    );
}

#[tokio::test]
async fn what_counts_is_told_however_much_was_refused_since() {
    let (door, wheel) = manned().await;
    let order = |to: &str| Order {
        to: to.into(),
        dry_run: false,
        force: Vec::new(),
        who: "dba".into(),
    };
    let there = wheel.begin(&order("vitess"));
    wheel.records.switch(there).expect("recorded");
    let (_, seen) = door.get("/api/v1/cutover").await;
    let legacy_is_primary = &seen["primary"] == "legacy";
    assert!(
        legacy_is_primary && seen["way_back"].is_null(),
        "somebody has said otherwise since: {seen}"
    );
    let switched = wheel.begin(&order("legacy"));
    wheel.records.switch(switched).expect("recorded");
    *wheel.record.lock() = Some(switched);
    for _ in 0..30 {
        let refused = wheel.begin(&order("vitess"));
        wheel.records.end(refused, "refused", "lag").expect("ended");
    }
    let (_, seen) = door.get("/api/v1/cutover").await;
    assert_eq!(seen["history"].as_array().map(Vec::len), Some(20));
    assert_eq!(seen["record"]["id"], switched, "it soaks");
    assert_eq!(seen["way_back"], "vitess", "{seen}");
}

#[tokio::test]
async fn a_cutover_that_has_left_rest_is_answered_with_its_record() {
    let (door, wheel) = manned().await;
    let body =
        r#"{"to": "vitess", "dry_run": true, "force": ["lag", "taint", "lag"], "who": "dba"}"#;
    let (status, body) = post(&door, "", body).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(body["state"], "preparing");
    let record = &body["record"];
    for key in [
        "id", "from", "to", "started", "ended", "outcome", "hold_us", "steps",
    ] {
        assert!(record.get(key).is_some(), "{key}: {record}");
    }
    assert_eq!(
        (&record["from"], &record["to"], &record["ended"]),
        (&json!("legacy"), &json!("vitess"), &Value::Null)
    );
    let step = &record["steps"][0];
    assert_eq!(keys(step), ["at", "outcome", "step", "took_us", "why"]);
    assert_eq!(step["step"], "preparing");
    let order = wheel.orders.lock()[0].clone();
    assert_eq!(
        order,
        Order {
            to: "vitess".into(),
            dry_run: true,
            force: vec!["lag", "taint"],
            who: "dba".into(),
        }
    );
    let (_, seen) = door.get("/api/v1/cutover").await;
    assert_eq!(seen["record"], *record);
    assert_eq!(seen["history"], json!([record]));
    let (_, metrics) = door.get("/metrics").await;
    let metrics = metrics.as_str().expect("text");
    for line in [
        "understudy_cutover_state{state=\"preparing\"} 1",
        "understudy_cutover_state{state=\"idle\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn what_was_done_is_said_though_its_record_cannot_be_read() {
    let (door, wheel) = manned().await;
    *wheel.unread.lock() = true;
    assert_eq!(door.get("/api/v1/cutover").await.0, 503);
    let (status, told) = post(&door, "", r#"{"to": "vitess"}"#).await;
    let id = wheel.record.lock().expect("a record");
    assert_eq!(
        (status, &told["state"], &told["record"]),
        (202, &json!("preparing"), &json!({"id": id})),
        "{told}"
    );
    let (status, told) = post(&door, "/abort", "").await;
    assert_eq!(
        (status, &told["state"], &told["record"]),
        (200, &json!("aborted"), &json!({"id": id}))
    );
    let (status, told) = post(&door, "/replication_stopped", "").await;
    assert_eq!((status, &told["record"]), (200, &Value::Null));
    let unread = told["unread"].as_str().expect("a word");
    assert!(
        unread.contains("was done") && unread.contains("the disk hangs"),
        "{unread}"
    );
    *wheel.unread.lock() = false;
    let (_, told) = door.get("/api/v1/cutover").await;
    assert_eq!(told["record"]["outcome"], "aborted");
    assert_eq!(told.get("unread"), None);
}

#[tokio::test]
async fn guards_that_refuse_are_told_with_a_409() {
    let (door, wheel) = manned().await;
    *wheel.says.lock() = Says::Guards;
    let (status, body) = post(&door, "", r#"{"to": "vitess"}"#).await;
    assert_eq!(status, 409);
    assert_eq!(body["error"]["code"], "refused");
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("the guards refuse: lag;"),
        "those that refuse alone: {message}"
    );
    let guards = body["guards"].as_array().expect("guards");
    assert_eq!(guards.len(), 3, "all of them");
    assert_eq!(
        guards[1],
        json!({"name": "taint", "pass": false, "value": 1, "limit": 0, "why": "taint says so", "forced": true})
    );
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_before_the_helm_is_asked() {
    let (door, wheel) = manned().await;
    for (body, status, words) in [
        (r#"{"to": "vites"}"#, 400, "vitess can be"),
        (r#"{"to": "legacy"}"#, 409, "legacy is the primary already"),
        (r#"{"to": "vitess", "force": ["luck"]}"#, 400, GUARDS[13]),
        (r#"{"to": "vitess", "dry_runs": true}"#, 400, "dry_runs"),
        (r#"{"to": "vitess", "who": ""}"#, 400, "who"),
        (r#"{"to": 5}"#, 400, "the body is wrong"),
        ("{}", 400, "to"),
        ("", 400, "the body is wrong"),
    ] {
        let (told, answer) = post(&door, "", body).await;
        let message = answer["error"]["message"].as_str().expect("a message");
        assert_eq!(told, status, "{body}: {answer}");
        assert!(message.contains(words), "{words:?} in {message:?}");
    }
    assert_eq!(wheel.orders.lock().len(), 0);
    assert_eq!(door.ask("DELETE", "/api/v1/cutover", "", "").await.0, 405);
}

#[tokio::test]
async fn what_cannot_be_done_now_or_at_all_says_so() {
    let (door, wheel) = manned().await;
    for (says, status, code) in [
        (Says::NotNow, 409, "conflict"),
        (Says::Unable, 503, "unavailable"),
    ] {
        *wheel.says.lock() = says;
        let (told, body) = post(&door, "", r#"{"to": "vitess"}"#).await;
        assert_eq!((told, &body["error"]["code"]), (status, &json!(code)));
    }
    let unmanned = Door::open("").await;
    let (status, body) = post(&unmanned, "", r#"{"to": "vitess"}"#).await;
    assert_eq!(status, 503);
    assert_eq!(
        body["error"]["message"],
        "there can be no cutover: nobody is here"
    );
    let (status, body) = unmanned.get("/api/v1/cutover").await;
    assert_eq!((status, &body["state"]), (200, &json!("idle")));
}

#[tokio::test]
async fn an_abort_is_answered_once_it_is_over() {
    let (door, wheel) = manned().await;
    let (status, body) = post(&door, "/abort", "").await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("conflict")));
    post(&door, "", r#"{"to": "vitess"}"#).await;
    let (status, body) = post(&door, "/abort", r#"{"who": "dba"}"#).await;
    assert_eq!(status, 200, "{body}");
    let record = &body["record"];
    assert_eq!(
        (&body["state"], &record["outcome"], &record["why"]),
        (
            &json!("aborted"),
            &json!("aborted"),
            &json!("aborted by dba")
        )
    );
    assert_eq!(wheel.orders.lock()[0].who, "operator");
    assert_eq!(post(&door, "/abort", "[]").await.0, 400);
}

#[tokio::test]
async fn an_operators_word_that_replication_has_stopped_needs_no_body() {
    let (door, wheel) = manned().await;
    for (body, status) in [
        ("", 200),
        (r#"{"who": "dba"}"#, 200),
        (r#"{"whom": "dba"}"#, 400),
    ] {
        let (told, answer) = post(&door, "/replication_stopped", body).await;
        assert_eq!(told, status, "{answer}");
    }
    assert_eq!(*wheel.stopped.lock(), ["operator", "dba"]);
}

/// A form of the page's.
async fn form(door: &Door, path: &str, fields: &str) -> (u16, String) {
    let (_, page) = door.ask("GET", "/ui/cutover", "", "").await;
    let page = page.as_str().expect("a page").to_owned();
    let (_, rest) = page
        .split_once("name=\"form_token\" value=\"")
        .expect("a form");
    let token = rest.split('"').next().expect("a token").to_owned();
    let body = format!("form_token={token}&{fields}");
    let (status, answer) = door.ask("POST", path, "", &body).await;
    (status, answer.as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn by_the_page_a_cutover_wants_the_servers_name_typed() {
    let (door, wheel) = manned().await;
    for (fields, words) in [
        ("to=vitess&who=dba&act=cutover", "type vitess to confirm"),
        (
            "to=vitess&who=dba&act=cutover&confirm=Vitess",
            "type vitess to confirm",
        ),
        (
            "to=vitess&who=dba&confirm=vitess",
            "press one of the two buttons",
        ),
        (
            "to=legacy&who=dba&act=cutover&confirm=legacy",
            "legacy is the primary already",
        ),
        (
            "to=vitess&who=dba&act=dry_run&force=luck",
            "there is no guard",
        ),
    ] {
        let (status, page) = form(&door, "/ui/cutover", fields).await;
        assert!((400..500).contains(&status), "{fields}: {status}");
        assert!(page.contains(words), "{words}\n{page}");
    }
    assert_eq!(wheel.orders.lock().len(), 0, "the helm was not asked");
    let (status, _) = form(
        &door,
        "/ui/cutover",
        "to=vitess&who=dba&act=dry_run&force=lag&force=taint",
    )
    .await;
    assert_eq!(status, 303);
    let (status, _) = form(
        &door,
        "/ui/cutover",
        "to=vitess&who=dba&act=cutover&confirm=vitess",
    )
    .await;
    assert_eq!(status, 303);
    let orders = wheel.orders.lock().clone();
    assert_eq!(
        (orders[0].dry_run, &*orders[0].force),
        (true, &["lag", "taint"][..])
    );
    assert_eq!((orders[1].dry_run, orders[1].who.as_str()), (false, "dba"));
}

#[tokio::test]
async fn the_page_shows_its_steps_and_ends_it() {
    let (door, wheel) = manned().await;
    form(
        &door,
        "/ui/cutover",
        "to=vitess&who=dba&act=cutover&confirm=vitess",
    )
    .await;
    let (_, page) = door.ask("GET", "/ui/cutover", "", "").await;
    let page = page.as_str().expect("a page");
    for part in [
        "preparing",
        "aria-current=\"step\"",
        "action=\"/ui/cutover/abort\"",
        "legacy → vitess",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    // What an old page says of another cutover is not of this one.
    for (fields, refused) in [("record=77", 409), ("", 400)] {
        for path in ["/ui/cutover/abort", "/ui/cutover/stopped"] {
            assert_eq!(form(&door, path, fields).await.0, refused, "{path}");
        }
    }
    assert_ne!(wheel.state().name(), "aborted");
    let record = wheel.record().expect("a record");
    let of_it = format!("record={record}");
    assert!(page.contains(&format!("name=\"record\" value=\"{record}\"")));
    let (status, _) = form(&door, "/ui/cutover/abort", &of_it).await;
    assert_eq!(status, 303);
    assert_eq!(wheel.state().name(), "aborted");
    let (status, _) = form(&door, "/ui/cutover/stopped", &of_it).await;
    assert_eq!(status, 303);
    assert_eq!(*wheel.stopped.lock(), ["operator"]);
    let (status, page) = door.ask("GET", "/ui/cutover/1", "", "").await;
    assert_eq!(status, 200);
    assert!(
        page.as_str()
            .is_some_and(|page| page.contains("aborted by operator")),
        "{page}"
    );
    assert_eq!(door.ask("GET", "/ui/cutover/77", "", "").await.0, 404);
}

#[tokio::test]
async fn guards_that_refuse_are_shown_to_be_overridden() {
    let (door, wheel) = manned().await;
    *wheel.says.lock() = Says::Guards;
    let (status, page) = form(
        &door,
        "/ui/cutover",
        "to=vitess&who=dba&act=cutover&confirm=vitess&force=taint",
    )
    .await;
    assert_eq!(status, 409);
    for part in [
        "The guards refuse: lag.",
        "overridden",
        "value=\"taint\" checked",
        "lag says so",
        "value=\"dba\"",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
}

/// Finding: a hold said that no transaction waited, and not what it waited for itself.
#[tokio::test]
async fn what_a_step_waits_for_stands_on_the_page_and_in_the_api() {
    let (door, wheel) = manned().await;
    let order = r#"{"to": "vitess", "who": "dba"}"#;
    post(&door, "", order).await;
    seen(&door, "/ui/cutover").await.lacks("id=\"progress\"");
    let id = wheel.record().expect("a record");
    wheel.records.step_begins(id, "holding").expect("recorded");
    *wheel.progress.lock() = Some(Progress {
        words: "waits for session 7; for 1.20 s of 5.00 s (cutover.hold_ms_max)".into(),
        passed_ms: 1_200,
        limit_ms: Some(5_000),
        limit_key: Some("cutover.hold_ms_max"),
        missing: 1,
        sessions: Vec::new(),
        behind: None,
        soak: None,
    });
    let page = seen(&door, "/ui/cutover").await;
    for part in [
        "waits for session 7; for 1.20 s of 5.00 s (cutover.hold_ms_max)",
        "<progress max=\"5000\" value=\"1200\"",
        "new transactions are waiting now",
    ] {
        page.has(part);
    }
    let (_, standing) = door.get("/api/v1/cutover").await;
    let (_, status) = door.get("/api/v1/status").await;
    assert_eq!(standing["progress"]["limit_ms"], 5_000);
    assert_eq!(
        keys(&standing["progress"]),
        [
            "behind",
            "limit_key",
            "limit_ms",
            "missing",
            "passed_ms",
            "sessions",
            "soak",
            "words"
        ]
    );
    assert_eq!(
        status["cutover"],
        json!({"state": "preparing", "progress": standing["progress"]})
    );
    let title = "<h1 data-part=\"record-title\" data-by=\"cutover\">";
    seen(&door, &format!("/ui/cutover/{id}")).await.has(title);
}

/// Finding: readiness stood red beside a rollback that none of its guards bars.
#[tokio::test]
async fn the_way_back_is_judged_by_what_is_asked_on_the_way_back() {
    let (door, wheel) = manned().await;
    let (_, told) = door.get("/api/v1/readiness").await;
    assert_eq!(
        (&told["ready"], &told["way_back"]),
        (&json!(false), &Value::Null)
    );
    let switched = wheel.begin(&Order {
        to: "legacy".into(),
        dry_run: false,
        force: Vec::new(),
        who: "dba".into(),
    });
    wheel.records.switch(switched).expect("recorded");
    let (_, told) = door.get("/api/v1/readiness").await;
    assert_eq!(
        told["way_back"],
        json!({"to": "vitess", "open": true, "barred_by": []})
    );
    assert_eq!(told["ready"], false, "that is of another cutover");
    for path in ["/ui/", "/ui/cutover"] {
        let page = seen(&door, path).await;
        page.has("The way back to vitess");
        page.has("Readiness for a cutover forward: not ready");
    }
    door.cards.control.lock().paused = true;
    let (_, told) = door.get("/api/v1/readiness").await;
    let bars = told["way_back"]["barred_by"].as_array().expect("bars");
    let why = bars[0]["why"].as_str().expect("why");
    assert_eq!((bars.len(), &bars[0]["name"]), (1, &json!("lag")), "{told}");
    assert!(
        why.contains("nothing feeds vitess: mirroring is paused"),
        "{why}"
    );
    let page = seen(&door, "/ui/").await;
    page.has("barred");
    page.has("nothing feeds vitess");
}

/// Finding: the ticks of a dry run were gone when the cutover behind it was asked for.
#[tokio::test]
async fn what_a_dry_run_overrides_is_ticked_for_the_cutover_behind_it() {
    let (door, wheel) = manned().await;
    let token = seen(&door, "/ui/cutover").await.form_token();
    let sent = |act: &str, force: &str| {
        format!("form_token={token}&to=vitess&who=dba&act={act}&confirm=vitess{force}")
    };
    let dry = sent("dry_run", "&force=lag&force=taint");
    let done: Answer = asked(&door, "POST", "/ui/cutover", "", &dry).await;
    let run = wheel.record().expect("a record");
    let to = format!("/ui/cutover?rehearsed={run}");
    assert_eq!((done.status, done.header("location")), (303, &*to));
    let page = seen(&door, &to).await;
    for part in [
        "value=\"lag\" checked",
        "value=\"taint\" checked",
        "Ticked as in the dry run",
        "details open",
    ] {
        page.has(part);
    }
    page.lacks("value=\"ddl\" checked");
    let go = sent("cutover", "&force=lag&force=taint");
    let done = asked(&door, "POST", "/ui/cutover", "", &go).await;
    assert_eq!((done.status, done.header("location")), (303, "/ui/cutover"));
    let orders = wheel.orders.lock().clone();
    assert_eq!(orders[0].force, orders[1].force);
    // One that overrode nothing leaves nothing to be ticked.
    let done = asked(&door, "POST", "/ui/cutover", "", &sent("dry_run", "")).await;
    assert_eq!((done.status, done.header("location")), (303, "/ui/cutover"));
}

/// Finding: a link could tick overrides in the form of whoever followed it.
#[tokio::test]
async fn no_address_ticks_what_the_newest_dry_run_did_not_override() {
    let (door, wheel) = manned().await;
    let begin = |to: &str, dry_run: bool| {
        wheel.begin(&Order {
            to: to.into(),
            dry_run,
            force: vec!["lag"],
            who: "dba".into(),
        })
    };
    let untouched = |page: &Answer| {
        for guard in GUARDS {
            page.lacks(&format!("value=\"{guard}\" checked"));
        }
    };
    let older = begin("vitess", true);
    let run = begin("vitess", true);
    for query in [
        String::new(),
        "?force=lag&force=taint".to_owned(),
        "?rehearsed=".to_owned(),
        "?rehearsed=lag".to_owned(),
        format!("?rehearsed={older}"),
        format!("?rehearsed={}&force=lag", run + 1),
    ] {
        untouched(&seen(&door, &format!("/ui/cutover{query}")).await);
    }
    let rehearsed = format!("/ui/cutover?rehearsed={run}");
    let page = seen(&door, &format!("{rehearsed}&force=taint")).await;
    page.has("value=\"lag\" checked");
    page.lacks("value=\"taint\" checked");
    // A cutover is no dry run, and what is newer counts.
    let real = begin("vitess", false);
    untouched(&seen(&door, &format!("/ui/cutover?rehearsed={real}")).await);
    untouched(&seen(&door, &rehearsed).await);
    // The way back is another one.
    let back = begin("legacy", true);
    untouched(&seen(&door, &format!("/ui/cutover?rehearsed={back}")).await);
}
