//! A proxy or etcd that dies, hangs or is cut off at a step of a cutover that three proxies make together,
//! while clients write through all of them. Whatever happens: while it lasts the other proxies serve;
//! once it is over all name one primary, which is the one in etcd, and it holds each acknowledged write
//! once; the next cutover passes.
//!
//! `FLEET_FAULTS` times each at each step; without it `FEW`, once each. `FLEET_SEED` of the moments (1).

use super::scene::{Fleet, Settings};
use crate::lab::checker::{Report, assert_none};
use crate::lab::cutover::number;
use crate::lab::cutover::scene::{state, until};
use crate::lab::faults::{Continues, restart};
use crate::lab::{Lab, client, signal};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The places at which it happens. Two are no states. `whole`: every proxy has said its last word, and
/// nobody has switched. `switched`: the new primary is recorded, and no session is let go yet.
const PLACES: [&str; 8] = [
    "checking",
    "preparing",
    "holding",
    "catching_up",
    "switching",
    "whole",
    "switched",
    "soaking",
];

/// Every proxy stays at the place as long, so that all of them are there at some moment.
const PAUSE_MS: u32 = 1_500;

const CUTOVER: &str = "hold_ms_max = 3000";

/// It lasts past the bound of the hold, and some time in which the others must serve.
const LASTS: Duration = Duration::from_secs(6);

/// Until one that is shut has given up waiting, and has ended its sessions.
const LASTS_LONG: Duration = Duration::from_secs(10);

/// Clients of the other proxies may wait for the bound of the hold, and on a busy machine beyond it.
const LONGEST: Duration = Duration::from_millis(3_000 + 5_000);

/// One that is shut lets nobody in for as long.
const SHUT: Duration = Duration::from_secs(2);

/// Who is asked, and who is another.
const LEADER: usize = 0;
const FOLLOWER: usize = 1;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// `kill -9`, and a start later.
    Dies(usize),
    /// It stands still for a while.
    Hangs(usize),
    /// Its way to etcd is cut for a while.
    IsCutOff(usize),
    /// `kill -9`, and a start over its data later.
    EtcdDies,
    /// It stands still for a while.
    EtcdHangs,
}

const FAULTS: [Fault; 8] = [
    Fault::Dies(LEADER),
    Fault::Dies(FOLLOWER),
    Fault::Hangs(LEADER),
    Fault::Hangs(FOLLOWER),
    Fault::IsCutOff(LEADER),
    Fault::IsCutOff(FOLLOWER),
    Fault::EtcdDies,
    Fault::EtcdHangs,
];

/// What there is time for each time: around the switch, where it is decided.
const FEW: [(Fault, &str); 4] = [
    (Fault::Dies(LEADER), "whole"),
    (Fault::Hangs(FOLLOWER), "holding"),
    (Fault::IsCutOff(FOLLOWER), "whole"),
    (Fault::EtcdDies, "whole"),
];

impl Fault {
    /// The proxy that is hit; none where etcd is.
    const fn hits(self) -> Option<usize> {
        match self {
            Self::Dies(at) | Self::Hangs(at) | Self::IsCutOff(at) => Some(at),
            Self::EtcdDies | Self::EtcdHangs => None,
        }
    }

    /// Who must be primary after it, where only one can be.
    fn expected(self, place: &str) -> Option<&'static str> {
        match (place, self.hits()) {
            ("switched" | "soaking", _) => Some("vitess"),
            // The others' time is over before it comes back.
            ("holding" | "catching_up" | "switching", _) => Some("legacy"),
            // One that is asked, and is dead, cannot switch; one that has said all that is needed of it can
            // be dead.
            ("whole", Some(LEADER)) => Some("legacy"),
            ("whole", Some(_)) => Some("vitess"),
            ("whole", None) => None,
            // One that comes back in time goes on; a new run of it does not.
            _ => matches!(self, Self::Dies(_)).then_some("legacy"),
        }
    }

    /// Whether proxies that are not hit close their doors too: each has said `whole`, and nobody can tell
    /// them what became of it.
    fn shuts_all(self, place: &str) -> bool {
        self.hits().is_none() && ["whole", "switched"].contains(&place)
    }

    /// So long.
    fn lasts(self, place: &str) -> Duration {
        if self.shuts_it(place) {
            LASTS_LONG
        } else {
            LASTS
        }
    }

    /// Whether the one that is hit is shut meanwhile: it has said `whole`, and cannot ask.
    fn shuts_it(self, place: &str) -> bool {
        matches!(self, Self::IsCutOff(_)) && place == "whole"
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_away_at_a_step_all_end_with_the_one_right_primary() {
    let times = number("FLEET_FAULTS", 0);
    let mut random = StdRng::seed_from_u64(u64::from(number("FLEET_SEED", 1)));
    let all = || {
        FAULTS
            .iter()
            .flat_map(|fault| PLACES.map(|place| (*fault, place)))
    };
    let cases: Vec<(Fault, &str)> = match times {
        0 => FEW.into(),
        _ => all().collect(),
    };
    for turn in 0..times.max(1) {
        for (number, (fault, place)) in cases.iter().enumerate() {
            let jitter = Duration::from_millis(random.random_range(0..400));
            let began = Instant::now();
            println!(
                "{fault:?} at {place}, {jitter:?} into it (turn {}, {} of {})",
                turn + 1,
                number + 1,
                cases.len()
            );
            happens(*fault, place, jitter).await;
            println!("  took {:?}", began.elapsed());
        }
    }
}

/// One cutover in whose midst it happens, what comes after, and the next one, which passes.
async fn happens(fault: Fault, place: &str, jitter: Duration) {
    let mut fleet = Fleet::open(&Settings {
        cutover: CUTOVER,
        pause: format!("{place}:{PAUSE_MS}"),
        reconnects: true,
        ..Settings::default()
    })
    .await;
    let body = json!({"to": "vitess"});
    let leader = &fleet.members[LEADER].proxy;
    leader.ask_aside("/api/v1/cutover", &body);
    reached(&fleet, place).await;
    tokio::time::sleep(jitter).await;
    let away = Away::begin(fault, &mut fleet);
    others_serve(&fleet, fault, place).await;
    away.end(&mut fleet, fault.lasts(place)).await;
    let primary = fleet.until_agreed().await;
    println!("  all with {primary}");
    if let Some(expected) = fault.expected(place) {
        assert_eq!(primary, expected, "{:#}", fleet.standing());
    }
    // Clients come back, and write on.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fleet.until_agreed().await, primary);
    is_right(&mut fleet, fault, place, &primary).await;
    let other = if primary == "legacy" {
        "vitess"
    } else {
        "legacy"
    };
    fleet.repair(&primary).await;
    for member in &mut fleet.members {
        assert!(member.proxy.alive(), "{}", member.proxy.log());
    }
    fleet.flip(2, other).await;
    let report = fleet.close_in_order().await;
    assert_none("clients saw errors", &report.errors());
}

/// Waits until the cutover is at the place at every proxy.
async fn reached(fleet: &Fleet, place: &str) {
    let is_there = || match place {
        "whole" => all_whole(&fleet.members[LEADER].proxy.get("/api/v1/fleet")),
        "switched" => fleet.etcd.primary().as_deref() == Some("vitess"),
        place => fleet
            .members
            .iter()
            .all(|member| state(&member.proxy) == place),
    };
    until(Duration::from_secs(60), || {
        is_there().then_some(()).ok_or_else(|| fleet.standing())
    })
    .await;
}

fn all_whole(fleet: &Value) -> bool {
    let members = fleet["members"].as_array().expect("members");
    members.iter().all(|member| member["said"] == "whole")
}

/// What is away, until it comes back.
struct Away {
    fault: Fault,
    since: Instant,
    /// Lets it go on, also where the test fails.
    goes_on: Option<Continues>,
}

impl Away {
    fn begin(fault: Fault, fleet: &mut Fleet) -> Self {
        let lab = Lab::get();
        let mut goes_on = None;
        let mut hang = |pid: i32| {
            goes_on = Some(Continues(pid));
            signal(pid, "STOP");
        };
        match fault {
            Fault::Dies(at) => fleet.members[at].proxy.signal("KILL"),
            Fault::Hangs(at) => hang(fleet.members[at].proxy.pid().cast_signed()),
            Fault::IsCutOff(at) => fleet.members[at].way.cut(true),
            Fault::EtcdDies => signal(lab.pid("ETCD_PID"), "KILL"),
            Fault::EtcdHangs => hang(lab.pid("ETCD_PID")),
        }
        if let Some(at) = fault.hits() {
            fleet.members[at].is_away = true;
        }
        Self {
            fault,
            since: Instant::now(),
            goes_on,
        }
    }

    async fn end(self, fleet: &mut Fleet, lasts: Duration) {
        let lasted = self.since.elapsed();
        tokio::time::sleep(lasts.saturating_sub(lasted)).await;
        drop(self.goes_on);
        match self.fault {
            Fault::Dies(at) => {
                let proxy = &mut fleet.members[at].proxy;
                proxy.pause_at("");
                proxy.start_again();
            }
            Fault::IsCutOff(at) => fleet.members[at].way.cut(false),
            Fault::EtcdDies => restart("etcd"),
            Fault::Hangs(_) | Fault::EtcdHangs => {}
        }
        if let Some(at) = self.fault.hits() {
            fleet.members[at].is_away = false;
        }
    }
}

/// While it lasts, production through the other proxies goes on: a new session writes.
async fn others_serve(fleet: &Fleet, fault: Fault, place: &str) {
    if fault.shuts_all(place) {
        return;
    }
    for (at, member) in fleet.members.iter().enumerate() {
        if fault.hits() == Some(at) && !fault.shuts_it(place) {
            continue;
        }
        let opts = client(&member.proxy.address, "scratch");
        let writes = async {
            let mut app = Conn::new(opts).await?;
            // A row that is not there: of the checkers' own only their clients may tell.
            app.query_drop("UPDATE checker_counters SET n = n + 1 WHERE client = -1")
                .await?;
            app.disconnect().await
        };
        let most = if fault.hits() == Some(at) {
            SHUT
        } else {
            LONGEST
        };
        let done = tokio::time::timeout(most, writes).await;
        let serves = matches!(done, Ok(Ok(())));
        let (name, log) = (member.name, member.proxy.log());
        let should = fault.hits() != Some(at);
        assert_eq!(serves, should, "whether {name} serves: {done:?}\n{log}");
    }
}

/// The primary holds each acknowledged write once, and what differs between the sides is known to.
async fn is_right(fleet: &mut Fleet, fault: Fault, place: &str, primary: &str) {
    let reports = fleet.stop_working().await;
    for (at, report) in reports.iter().enumerate() {
        if fault.hits() == Some(at) || fault.shuts_all(place) {
            continue;
        }
        let name = fleet.members[at].name;
        assert_none(&format!("clients of {name} saw errors"), &report.errors());
        let longest = report.times().into_iter().max().unwrap_or_default();
        assert!(
            longest < LONGEST,
            "a client of {name} waited for {longest:?}"
        );
    }
    let ends = matches!(fault, Fault::Dies(_)) || fault.shuts_it(place);
    if let Some(at) = fault.hits().filter(|_| ends) {
        assert!(reports[at].broken() > 0, "its sessions ended");
    }
    let report = Report::joined(reports);
    let wrong = report.verify(&fleet.address(primary)).await;
    assert_none(&format!("{fault:?} at {place}: {primary} is wrong"), &wrong);
    assert_none("a client had a wrong answer", &report.wrong());
    let tainted = fleet.tainted();
    println!("  tainted: {} tables", tainted.len());
    if tainted.is_empty() {
        let (legacy, vitess) = (fleet.lab.legacy(), fleet.lab.shadow());
        let differences = report.differences(&legacy, &vitess).await;
        assert_none("they differ, and no proxy says so", &differences);
    }
}

#[test]
fn only_etcd_shuts_those_that_are_not_hit() {
    assert!(Fault::EtcdHangs.shuts_all("whole"));
    assert!(!Fault::EtcdHangs.shuts_all("switching"));
    assert!(!Fault::Hangs(LEADER).shuts_all("whole"));
    assert_eq!(Fault::Dies(FOLLOWER).expected("holding"), Some("legacy"));
    assert_eq!(Fault::Dies(FOLLOWER).expected("whole"), Some("vitess"));
    assert_eq!(Fault::EtcdDies.expected("whole"), None);
}
