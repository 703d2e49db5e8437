//! Proxies of one fleet, each with its way to etcd and a checker at work on it.

use super::etcd::Etcd;
use crate::lab::checker::{self, Checker, Load, Report, assert_none};
use crate::lab::cutover::scene::{ask, primary, setup, state, until};
use crate::lab::proxy::Setup;
use crate::lab::way::Way;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use serde_json::{Value, json};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

/// A fleet's proxies are called so, in turn.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// What a cutover may take, with what is planted in it.
const OVER: Duration = Duration::from_secs(90);

/// The clients of each proxy.
const EACH: Load = Load {
    clients: 6,
    guests: 0,
    rate: 15,
    reconnects: false,
};

/// How a test's fleet differs from the usual.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// More lines below `[cutover]`.
    pub cutover: &'static str,
    /// Where every proxy pauses: `Setup::pause`.
    pub pause: String,
    /// Whether the fence holds back the application. Where it does not, what a proxy writes to the wrong
    /// side arrives there, and is seen.
    pub is_fenced: bool,
    /// Whether clients whose connection broke log in again.
    pub reconnects: bool,
    /// Those of `NAMES` that are not there from the beginning.
    pub late: usize,
}

/// One proxy.
pub struct Member {
    pub name: &'static str,
    pub proxy: Proxy,
    /// Its way to etcd.
    pub way: Way,
    /// It is dead, hung or gone, so that nobody asks it.
    pub is_away: bool,
    checker: Option<Checker>,
}

/// See the module.
pub struct Fleet {
    pub lab: Lab,
    pub etcd: Etcd,
    pub members: Vec<Member>,
    settings: Settings,
    prefix: String,
    /// What clients remember that were stopped before the others, by their first number.
    stopped: Vec<(i64, Report)>,
}

impl Fleet {
    /// Tables anew, a prefix that was never used, the proxies, the checkers at work, and every guard of
    /// readiness content.
    pub async fn open(settings: &Settings) -> Self {
        let lab = Lab::get();
        as_root(
            &lab,
            if settings.is_fenced {
                NO_RIGHTS
            } else {
                RIGHTS
            },
        )
        .await;
        let clients = EACH.clients * i64::try_from(NAMES.len()).expect("few");
        checker::set_up(&lab, Load { clients, ..EACH }).await;
        let prefix = prefix();
        let mut fleet = Self {
            etcd: Etcd::new(&lab, &prefix),
            lab,
            members: Vec::new(),
            settings: settings.clone(),
            prefix,
            stopped: Vec::new(),
        };
        for _ in settings.late..NAMES.len() {
            fleet.join().await;
        }
        fleet.until_ready().await;
        fleet
    }

    /// The next of `NAMES` starts, and clients of its own with it.
    pub async fn join(&mut self) {
        let name = NAMES[self.members.len()];
        let way = self.way().await;
        let proxy = Proxy::start_with(&self.lab, &self.setup(name, &way));
        self.members.push(Member {
            name,
            proxy,
            way,
            is_away: false,
            checker: None,
        });
        self.work(self.members.len() - 1).await;
    }

    /// Those that can be asked.
    fn there(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_away)
    }

    /// A way to the lab's etcd.
    pub async fn way(&self) -> Way {
        Way::to(format!("127.0.0.1:{}", self.lab.port("ETCD_PORT"))).await
    }

    /// The setup of a proxy of this fleet.
    pub fn setup(&self, name: &str, way: &Way) -> Setup {
        let cutover = format!("fence = true\nsoak_s = 3600\n{}", self.settings.cutover);
        let mut setup = setup(&cutover);
        setup.pause.clone_from(&self.settings.pause);
        setup.more += &format!(
            "[fleet]\netcd = [\"http://{}\"]\nname = \"{name}\"\nprefix = \"{}\"\ntimeout_ms = 1000\n",
            way.address, self.prefix
        );
        setup
    }

    /// The clients of one proxy begin.
    async fn work(&mut self, at: usize) {
        let load = Load {
            reconnects: self.settings.reconnects,
            ..EACH
        };
        let member = &mut self.members[at];
        let first = first_client(at);
        member.checker = Some(Checker::start_from(first, &member.proxy.address, load).await);
    }

    /// The clients of one proxy end.
    pub async fn rest(&mut self, at: usize) {
        if let Some(checker) = self.members[at].checker.take() {
            self.stopped.push((first_client(at), checker.stop().await));
        }
    }

    /// Waits until the guards of readiness would let every proxy pass.
    pub async fn until_ready(&self) {
        for member in self.there() {
            until(OVER, || {
                let readiness = member.proxy.get("/api/v1/readiness");
                let ready = readiness["ready"] == true;
                ready.then_some(()).ok_or(readiness)
            })
            .await;
        }
    }

    /// Asks one proxy for a cutover: the HTTP status, and the answer.
    pub fn ask(&self, leader: usize, to: &str) -> (u16, Value) {
        ask(&self.members[leader].proxy, &json!({"to": to}))
    }

    /// Makes the server primary by asking one proxy, and waits until it serves through all of them; each
    /// one's record, in their order.
    pub async fn flip(&self, leader: usize, to: &str) -> Vec<Value> {
        let (status, answer) = self.ask(leader, to);
        let leading = &self.members[leader].proxy;
        assert_eq!(status, 202, "{answer:#}\n{}", leading.log());
        let agreed = self.until_agreed().await;
        assert_eq!(agreed, to, "{}", self.standing());
        let record = |member: &Member| {
            let cutover = member.proxy.get("/api/v1/cutover");
            let record = cutover["record"].clone();
            assert_eq!(record["to"], to, "{}: {cutover:#}", member.name);
            record
        };
        self.there().map(record).collect()
    }

    /// Waits until nothing is under way at any proxy, and all of them name the primary that etcd names.
    pub async fn until_agreed(&self) -> String {
        let rests = ["idle", "soaking", "done", "aborted"];
        until(OVER, || {
            let named = self.etcd.primary().unwrap_or_default();
            let agrees = |member: &Member| {
                primary(&member.proxy) == named
                    && rests.contains(&state(&member.proxy).as_str())
                    && is_over(&member.proxy.get("/api/v1/fleet")["cutover"])
            };
            let all = self.there().all(agrees);
            all.then_some(named).ok_or_else(|| self.standing())
        })
        .await
    }

    /// What etcd and every proxy say.
    pub fn standing(&self) -> Value {
        let of = |member: &Member| {
            let said = |path: &str| member.proxy.try_get(path).unwrap_or_else(|fault| fault);
            json!({
                "name": member.name,
                "fleet": serde_json::from_str::<Value>(&said("/api/v1/fleet")).ok(),
                "cutover": serde_json::from_str::<Value>(&said("/api/v1/cutover"))
                    .ok()
                    .map(|cutover| json!({"state": cutover["state"], "primary": cutover["primary"], "record": cutover["record"]})),
            })
        };
        let proxies: Vec<Value> = self.there().map(of).collect();
        json!({"etcd": self.etcd.primary(), "proxies": proxies})
    }

    /// The place of the proxy of that name.
    pub fn at(&self, name: &str) -> usize {
        let place = self.members.iter().position(|member| member.name == name);
        place.unwrap_or_else(|| panic!("no proxy is called {name}"))
    }

    /// `understudy` with these arguments, at one proxy's door.
    pub fn understudy(&self, at: usize, arguments: &[&str]) -> (Output, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(arguments)
            .args(["--admin", &self.members[at].proxy.admin])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output, said)
    }

    /// All clients end; what each proxy's remember, in the order of the proxies. Then nothing waits for
    /// the shadow any more.
    pub async fn stop_working(&mut self) -> Vec<Report> {
        for at in 0..self.members.len() {
            self.rest(at).await;
        }
        for member in self.there() {
            member.proxy.settled();
        }
        let mut stopped = std::mem::take(&mut self.stopped);
        stopped.sort_by_key(|(first, _)| *first);
        let reports = stopped.into_iter().map(|(_, report)| report);
        reports.inspect(Report::print).collect()
    }

    /// What any proxy's ledger says may differ.
    pub fn tainted(&self) -> Vec<String> {
        let of = |member: &Member| {
            let taints = member.proxy.get("/api/v1/taints")["items"].clone();
            let taints = taints.as_array().expect("items").clone();
            let named = |taint: &Value| format!("{}: {taint}", member.name);
            taints.iter().map(named).collect::<Vec<_>>()
        };
        self.there().flat_map(of).collect()
    }

    /// The address of a server, by its name.
    pub fn address(&self, server: &str) -> String {
        match server {
            "legacy" => self.lab.legacy(),
            "vitess" => self.lab.shadow(),
            other => panic!("no server is called {other}"),
        }
    }

    /// The load ends; all name one primary, which holds what was acknowledged, and both sides are equal.
    pub async fn close_in_order(mut self) -> Report {
        let primary = self.until_agreed().await;
        let report = Report::joined(self.stop_working().await);
        let wrong = report.verify(&self.address(&primary)).await;
        assert_none(&format!("{primary}, the primary, is wrong"), &wrong);
        assert_none("a client had a wrong answer", &report.wrong());
        assert_none("tables are tainted", &self.tainted());
        let (legacy, vitess) = (self.lab.legacy(), self.lab.shadow());
        let differences = report.differences(&legacy, &vitess).await;
        assert_none("legacy and vitess differ", &differences);
        self.leave().await;
        report
    }

    /// An operator puts the rows right after writes were lost with a proxy, and says so to all; clients
    /// begin anew.
    pub async fn repair(&mut self, primary: &str) {
        self.make_equal(primary).await;
        checker::begin_anew(&self.lab, self.whole()).await;
        for at in 0..self.members.len() {
            self.work(at).await;
        }
        self.until_ready().await;
    }

    /// Nobody writes: the primary's rows are copied to the other side, and every taint is cleared.
    pub async fn make_equal(&self, primary: &str) {
        let other = if primary == "legacy" {
            "vitess"
        } else {
            "legacy"
        };
        let (from, to) = (self.address(primary), self.address(other));
        checker::copy(&from, &to, self.whole().clients).await;
        for member in self.there() {
            let body = json!({"tables": ["*"], "who": "a test", "why": "copied from the primary"});
            member.proxy.send("POST", "/api/v1/taints/clear", &body);
        }
    }

    /// All clients.
    fn whole(&self) -> Load {
        let clients = EACH.clients * i64::try_from(self.members.len()).expect("few");
        Load { clients, ..EACH }
    }

    /// The next test finds the servers as this one found them.
    pub async fn leave(self) {
        let lab = self.lab.clone();
        drop(self);
        as_root(&lab, NO_RIGHTS).await;
    }
}

/// Whether nothing of a call is to come.
fn is_over(call: &Value) -> bool {
    call.is_null() || call["phase"] != "called"
}

/// The first of the clients of the proxy at this place.
fn first_client(at: usize) -> i64 {
    EACH.clients * i64::try_from(at).expect("few")
}

/// A prefix that no fleet had before.
fn prefix() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("the clock is past 1970").as_nanos();
    format!("/understudy-test/{}-{now}/", std::process::id())
}

/// A fence that holds back nobody, and one that holds back the application; nobody is fenced yet.
const RIGHTS: [&str; 2] = [
    "GRANT SUPER ON *.* TO 'app'@'%'",
    "SET GLOBAL read_only = 0",
];
const NO_RIGHTS: [&str; 2] = [
    "REVOKE SUPER ON *.* FROM 'app'@'%'",
    "SET GLOBAL read_only = 0",
];

async fn as_root(lab: &Lab, statements: [&str; 2]) {
    let opts = OptsBuilder::default()
        .socket(Some(lab.value("LEGACY_ROOT_SOCKET")))
        .user(Some("root"));
    let mut root = Conn::new(opts).await.expect("the login");
    for statement in statements {
        let done = root.query_drop(statement).await;
        done.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
    }
    root.disconnect().await.expect("the end");
}
