//! Verification by HTTP: what is asked for comes to the inspector as it was written, and what it says is told.

use super::*;
use crate::ledger::RunRecord;
use crate::verify::{Figures, Inspector, Refused, Wish};

/// Says what the test says, and keeps what it was asked.
#[derive(Default)]
struct Scripted {
    refuses: Mutex<Option<Refused>>,
    asked: Mutex<Vec<String>>,
    wishes: Mutex<Vec<Wish>>,
    /// Its records cannot be read.
    unread: Mutex<bool>,
}

impl Scripted {
    fn heard(&self, what: String) -> Result<i64, Refused> {
        self.asked.lock().push(what);
        match self.refuses.lock().clone() {
            Some(refused) => Err(refused),
            None => Ok(3),
        }
    }
}

impl Inspector for Scripted {
    fn start(&self, wish: &Wish, who: &str) -> Result<i64, Refused> {
        self.wishes.lock().push(wish.clone());
        self.heard(format!("start for {who}"))
    }

    fn pause(&self) -> Result<i64, Refused> {
        self.heard("pause".into())
    }

    fn resume(&self) -> Result<i64, Refused> {
        self.heard("resume".into())
    }

    fn abort(&self, who: &str) -> Result<i64, Refused> {
        self.heard(format!("abort by {who}"))
    }

    fn standing(&self, whole: bool) -> Value {
        json!({"state": "running", "run": {"id": 3, "whole": whole}})
    }

    fn figures(&self) -> Figures {
        let mut figures = Figures::idle();
        figures.tables[1].1 = 4;
        Figures {
            state: "running",
            waits: true,
            rows: 1_234,
            different: 5,
            ..figures
        }
    }

    fn history(&self, limit: usize) -> Result<Vec<RunRecord>, String> {
        if *self.unread.lock() {
            return Err("the disk hangs".to_owned());
        }
        Ok(vec![RunRecord {
            id: 2,
            primary: "legacy".into(),
            shadow: "vitess".into(),
            who: format!("at most {limit}"),
            wish: json!({"tables": ["a.b"]}),
            condition: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
            outcome: Some("equal".into()),
            why: None,
            paused: false,
            resumed: 0,
            instants: Value::Null,
        }])
    }
}

async fn opened() -> (Door, Arc<Scripted>) {
    let scripted = Arc::new(Scripted::default());
    let door = Door::open_to(Arc::clone(&scripted) as Arc<dyn Inspector>).await;
    (door, scripted)
}

async fn post(door: &Door, path: &str, body: &str) -> (u16, Value) {
    let path = format!("/api/v1/verify{path}");
    door.ask("POST", &path, "", body).await
}

#[tokio::test]
async fn how_it_stands_is_told_with_the_newest_runs() {
    let (door, _) = opened().await;
    let (status, told) = door.get("/api/v1/verify").await;
    assert_eq!(
        (status, &told["state"], &told["run"]["id"]),
        (200, &json!("running"), &json!(3))
    );
    assert_eq!(told["history"][0]["wish"]["tables"][0], "a.b");
    assert_eq!(told["history"][0]["who"], "at most 20");
    assert_eq!(door.get("/api/v1/verify?x=1").await.0, 400);
}

/// Finding: the statements of a plan hold what rows hold, and were told to whoever may look.
#[tokio::test]
async fn only_an_operator_is_told_all_of_it() {
    use super::roles::{ALICE, FILE, GRAFANA};
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), FILE).expect("written");
    let config = format!("[admin]\ntokens_file = {:?}\n", file.path());
    let door = Door::open_for(&config, None, Arc::new(Scripted::default())).await;
    for (token, whole) in [(ALICE, true), (GRAFANA, false)] {
        let (status, told) = door.ask("GET", "/api/v1/verify", token, "").await;
        assert_eq!(
            (status, &told["run"]["whole"]),
            (200, &json!(whole)),
            "{token}"
        );
    }
}

#[tokio::test]
async fn a_run_is_begun_as_it_was_asked_for() {
    let (door, scripted) = opened().await;
    let body = r#"{"who": "dba", "tables": ["a.b", "c.*"], "sample": "1%", "where": "id > 5", "jobs": 2, "rows_per_second": 9, "repair": "plan"}"#;
    let (status, told) = post(&door, "", body).await;
    assert_eq!((status, &told["run"]["id"]), (202, &json!(3)), "{told}");
    let wish = scripted.wishes.lock().remove(0);
    assert_eq!(wish.tables, ["a.b", "c.*"]);
    assert_eq!(
        (wish.sample.as_deref(), wish.condition.as_deref()),
        (Some("1%"), Some("id > 5"))
    );
    assert_eq!((wish.jobs, wish.rows_per_second), (Some(2), Some(9)));
    assert_eq!(wish.repair.as_deref(), Some("plan"));
    // No body asks for everything.
    assert_eq!(post(&door, "", "").await.0, 202);
    assert_eq!(scripted.wishes.lock().remove(0), Wish::default());
    assert_eq!(
        *scripted.asked.lock(),
        ["start for dba", "start for operator"]
    );
}

#[tokio::test]
async fn what_was_done_is_said_though_the_runs_before_cannot_be_read() {
    let (door, scripted) = opened().await;
    *scripted.unread.lock() = true;
    assert_eq!(door.get("/api/v1/verify").await.0, 503);
    for (path, status) in [
        ("", 202),
        ("/pause", 200),
        ("/resume", 200),
        ("/abort", 200),
    ] {
        let (told, answer) = post(&door, path, "").await;
        assert_eq!(told, status, "{path}: {answer}");
        assert_eq!(
            (&answer["state"], &answer["history"]),
            (&json!("running"), &json!([]))
        );
        let unread = answer["unread"].as_str().expect("a word");
        assert!(unread.contains("the disk hangs"), "{unread}");
    }
}

#[tokio::test]
async fn what_nobody_understands_is_400_and_reaches_nobody() {
    let (door, scripted) = opened().await;
    for body in [
        r#"{"table": ["a.b"]}"#,
        r#"{"tables": "a.b"}"#,
        r#"{"jobs": -1}"#,
        "nonsense",
        r#"{"who": 7}"#,
    ] {
        let (status, told) = post(&door, "", body).await;
        assert_eq!(status, 400, "{body}: {told}");
    }
    assert_eq!(post(&door, "/pause", r#"{"tables": []}"#).await.0, 400);
    assert!(scripted.asked.lock().is_empty());
}

#[tokio::test]
async fn a_run_is_paused_let_go_on_and_ended() {
    let (door, scripted) = opened().await;
    for (path, body) in [
        ("/pause", ""),
        ("/resume", "{}"),
        ("/abort", r#"{"who": "dba"}"#),
    ] {
        let (status, told) = post(&door, path, body).await;
        assert_eq!((status, &told["run"]["id"]), (200, &json!(3)), "{path}");
    }
    assert_eq!(*scripted.asked.lock(), ["pause", "resume", "abort by dba"]);
}

#[tokio::test]
async fn a_refusal_says_whose_fault_it_is() {
    let (door, scripted) = opened().await;
    for (refused, status) in [
        (Refused::Wrong("no such mode".into()), 400),
        (Refused::NotNow("one is under way".into()), 409),
        (Refused::Unable("the disk is full".into()), 503),
    ] {
        *scripted.refuses.lock() = Some(refused.clone());
        let (told_status, told) = post(&door, "", "").await;
        assert_eq!(told_status, status, "{told}");
        assert!(
            told["error"]["message"]
                .as_str()
                .unwrap()
                .contains(&refused.to_string()),
            "{told}"
        );
        assert_eq!(post(&door, "/abort", "").await.0, status);
    }
}

#[tokio::test]
async fn metrics_have_its_figures() {
    let (door, _) = opened().await;
    let (_, metrics) = door.get("/metrics").await;
    let metrics = metrics.as_str().expect("text");
    for line in [
        "understudy_verification_state{state=\"running\"} 1",
        "understudy_verification_state{state=\"idle\"} 0",
        "understudy_verification_waiting 1",
        "understudy_verification_rows 1234",
        "understudy_verification_rows_different 5",
        "understudy_verification_tables{outcome=\"equal\"} 4",
        "understudy_verification_tables{outcome=\"pending\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn without_a_ledger_nobody_verifies() {
    let door = Door::open("").await;
    assert_eq!(door.get("/api/v1/verify").await.1["state"], "idle");
    let (status, told) = post(&door, "", "").await;
    assert_eq!(status, 503, "{told}");
}

#[tokio::test]
async fn by_the_page_a_run_is_begun_and_steered() {
    let (door, scripted) = opened().await;
    let (status, page) = door.ask("GET", "/ui/verification", "", "").await;
    let page = page.as_str().expect("a page");
    assert_eq!(status, 200);
    assert!(
        page.contains("at most 20") && page.contains("Run 3"),
        "{page}"
    );
    let (_, rest) = page
        .split_once("name=\"form_token\" value=\"")
        .expect("a form");
    let token = rest.split('"').next().expect("a token").to_owned();
    let send = async |path: &str, fields: &str| {
        let body = format!("form_token={token}&{fields}");
        door.ask("POST", path, "", &body).await
    };
    let fields =
        "who=dba&tables=a.b%2C+c.*&mode=snapshot&repair=plan&sample=5%25&jobs=2&rows_per_second=";
    assert_eq!(send("/ui/verification", fields).await.0, 303);
    let wish = scripted.wishes.lock().remove(0);
    assert_eq!(wish.tables, ["a.b", "c.*"]);
    assert_eq!(
        (wish.mode.as_deref(), wish.repair.as_deref()),
        (Some("snapshot"), Some("plan"))
    );
    assert_eq!(
        (wish.sample.as_deref(), wish.jobs, wish.rows_per_second),
        (Some("5%"), Some(2), None)
    );
    for act in ["pause", "resume", "abort"] {
        assert_eq!(
            send("/ui/verification/steer", &format!("act={act}"))
                .await
                .0,
            303
        );
    }
    assert_eq!(send("/ui/verification/steer", "act=dance").await.0, 400);
    let (status, page) = send("/ui/verification", "who=dba&jobs=many").await;
    assert_eq!(status, 400);
    assert!(
        page.as_str()
            .is_some_and(|page| page.contains("it is a whole number")),
        "{page}"
    );
    assert_eq!(
        *scripted.asked.lock(),
        ["start for dba", "pause", "resume", "abort by operator"]
    );
}
