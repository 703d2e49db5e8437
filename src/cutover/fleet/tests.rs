use super::memory::{Line, Manner, Memory};
use super::*;
use crate::cutover::helm::Order;
use tokio::time::Instant;

/// Three proxies that have joined, and legacy as their primary.
pub(in crate::cutover) struct Three {
    pub(in crate::cutover) memory: Arc<Mutex<Memory>>,
    pub(in crate::cutover) proxies: Vec<Arc<Fleet>>,
    pub(in crate::cutover) lines: Vec<Arc<Mutex<Manner>>>,
}

impl Three {
    pub(in crate::cutover) async fn new(seed: u64) -> Self {
        let memory = Arc::default();
        let mut three = Self {
            memory,
            proxies: Vec::new(),
            lines: Vec::new(),
        };
        for name in ["a", "b", "c"] {
            three.start(name, seed).await;
        }
        three
    }

    /// One more, or one anew.
    pub(in crate::cutover) async fn start(&mut self, name: &str, seed: u64) -> Joined {
        self.start_as(name, seed, "legacy").await
    }

    /// The same, with this server as its primary.
    async fn start_as(&mut self, name: &str, seed: u64, primary: &str) -> Joined {
        let number = u64::try_from(self.proxies.len()).unwrap();
        let (line, manner) = Line::to(&self.memory, seed * 100 + number);
        let fleet = Fleet::with(name, Keys::below("/understudy"), Arc::new(line));
        let joined = fleet.join(Duration::from_secs(1)).await.unwrap();
        fleet.declare(primary, false).await.unwrap();
        self.proxies.push(Arc::new(fleet));
        self.lines.push(manner);
        joined
    }

    pub(in crate::cutover) async fn call(&self) -> Call {
        self.proxies[0]
            .call(&order(), "legacy", false)
            .await
            .unwrap()
    }

    /// What stands there, past every line.
    pub(in crate::cutover) async fn board(&self) -> Board {
        let (line, _) = Line::to(&self.memory, 0);
        let fleet = Fleet::with("looker", Keys::below("/understudy"), Arc::new(line));
        fleet.board().await.unwrap()
    }
}

fn order() -> Order {
    Order {
        to: "vitess".into(),
        dry_run: false,
        force: vec!["taint"],
        who: "dba".into(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

#[tokio::test(start_paused = true)]
async fn who_joins_is_a_member_and_learns_the_primary_and_who_leaves_is_none() {
    let mut three = Three::new(1).await;
    let board = three.board().await;
    let names: Vec<_> = board.members.keys().cloned().collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(board.primary.unwrap().name, "legacy");
    let joined = three.start("b", 2).await;
    assert_eq!(joined.primary.unwrap().name, "legacy");
    // Another run of b has its place: the first one leaves nothing behind.
    three.proxies[1].leave().await.unwrap();
    assert!(three.proxies[3].is_in(&three.board().await));
    assert!(!three.proxies[1].is_in(&three.board().await));
    three.proxies[3].leave().await.unwrap();
    assert_eq!(three.board().await.members.len(), 2);
    let gone = three.proxies[0].forget("b", None).await.unwrap_err();
    assert!(gone.to_string().contains("its proxies are a, c"), "{gone}");
    let itself = three.proxies[0].forget("a", None).await.unwrap_err();
    assert!(itself.to_string().contains("SIGTERM"), "{itself}");
    three.proxies[0].forget("c", None).await.unwrap();
    assert_eq!(three.board().await.members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_call_at_a_time_and_only_of_those_who_agree() {
    let three = Three::new(1).await;
    let [a, b, ..] = &three.proxies[..] else {
        panic!("three")
    };
    let call = three.call().await;
    assert_eq!(call.force, ["taint"]);
    let second = b.call(&order(), "legacy", false).await.unwrap_err();
    assert!(
        second.to_string().contains("a leads it to vitess, for dba"),
        "{second}"
    );
    b.abort(&call, "an operator said so").await.unwrap();
    let told = a.all(&call, Word::Here, soon()).await.err().unwrap();
    assert_eq!(told, "the proxy b: an operator said so");
    let other = b.call(&order(), "vitess", false).await.unwrap_err();
    assert!(
        other
            .to_string()
            .contains("etcd says that legacy is primary"),
        "{other}"
    );
    let call = b.call(&order(), "legacy", false).await.unwrap();
    assert_eq!(three.board().await.said.len(), 0, "earlier words are gone");
    assert!(b.leads(&call) && !a.leads(&call) && a.is_called(&call));
}

#[tokio::test(start_paused = true)]
async fn who_has_judged_its_guards_knows_the_sessions_of_all() {
    let three = Three::new(1).await;
    let call = three.call().await;
    for (at, proxy) in three.proxies.iter().enumerate() {
        let thread = u32::try_from(at).unwrap();
        let own = Sessions {
            newest: Some(100 - thread),
            threads: [thread].into(),
        };
        proxy.here(&call, &own).await.unwrap();
    }
    // One that is quick does not take its sessions from one that is slow.
    let quick = &three.proxies[0];
    quick.say(&call, Word::Checked, Vec::new()).await.unwrap();
    let slow = &three.proxies[2];
    let all = slow.all(&call, Word::Here, soon()).await.ok().unwrap();
    let all = all.sessions();
    assert_eq!((all.newest, all.threads), (Some(98), [0, 1, 2].into()));
    // They are looked at no more.
    quick.say(&call, Word::Prepared, Vec::new()).await.unwrap();
    assert_eq!(three.board().await.sessions.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_proxy_is_named() {
    let three = Three::new(1).await;
    let call = three.call().await;
    for proxy in &three.proxies[..2] {
        proxy.say(&call, Word::Checked, Vec::new()).await.unwrap();
    }
    let why = three.proxies[0]
        .all(&call, Word::Here, soon())
        .await
        .err()
        .unwrap();
    assert!(why.starts_with("of the fleet c does not answer"), "{why}");
    let why = three.proxies[0]
        .all(&call, Word::Prepared, soon())
        .await
        .err()
        .unwrap();
    assert!(why.contains("a, b, c has not prepared"), "{why}");
    *three.lines[0].lock() = Manner::Cut;
    let why = three.proxies[0]
        .all(&call, Word::Here, soon())
        .await
        .err()
        .unwrap();
    assert_eq!(why, "the line is cut");
}

#[tokio::test(start_paused = true)]
async fn a_switch_needs_every_word_as_it_was_seen() {
    let mut three = Three::new(1).await;
    let call = three.call().await;
    for proxy in &three.proxies {
        proxy.say(&call, Word::Whole, Vec::new()).await.unwrap();
    }
    let a = Arc::clone(&three.proxies[0]);
    let everybody = a.all(&call, Word::Whole, soon()).await.ok().unwrap();
    // It starts anew between the look and the switch: what it said before does not count.
    three.start("c", 2).await;
    let decided = a.switch(&call, &everybody).await.unwrap();
    assert_eq!(
        decided,
        Decision::Aborted("the proxy c: started in its midst".into())
    );
    assert_eq!(three.board().await.primary.unwrap().name, "legacy");
    // Nor does a new proxy come late.
    let call = three.call().await;
    for proxy in [&three.proxies[0], &three.proxies[1], &three.proxies[3]] {
        proxy.say(&call, Word::Whole, Vec::new()).await.unwrap();
    }
    let everybody = a.all(&call, Word::Whole, soon()).await.ok().unwrap();
    let decided = a.switch(&call, &everybody).await.unwrap();
    assert_eq!(decided, Decision::Switched);
    let board = three.board().await;
    assert_eq!(board.primary.as_ref().unwrap().name, "vitess");
    let late = three.proxies[1].abort(&call, "too late").await.unwrap();
    assert_eq!(late, Decision::Switched);
    let joined = three.start("d", 3).await;
    assert_eq!(joined.primary.unwrap().name, "vitess");
}

#[tokio::test(start_paused = true)]
async fn a_start_without_etcd_fails_and_says_what_to_do() {
    let memory = Arc::default();
    let (line, manner) = Line::to(&memory, 1);
    *manner.lock() = Manner::Cut;
    let fleet = Fleet::with("a", Keys::below("/understudy"), Arc::new(line));
    let error = fleet.join(Duration::from_secs(5)).await.unwrap_err();
    assert!(error.to_string().contains("--primary NAME"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_none_of_ours_in_etcd_is_said() {
    let three = Three::new(1).await;
    let change = Change {
        puts: vec![("/understudy/members".into(), b"[1]".to_vec())],
        ..Change::default()
    };
    three.proxies[0].change(change).await.unwrap();
    let error = three.proxies[0].board().await.unwrap_err();
    assert!(error.to_string().contains("fleet.prefix"), "{error}");
    let shown = three.proxies[0].shown().await;
    assert!(!shown.etcd.reachable);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_slept_through_another_cutover_is_told_that_it_was_left_behind() {
    let three = Three::new(1).await;
    let [a, b, c] = &three.proxies[..] else {
        panic!("three")
    };
    let slept = three.call().await;
    a.abort(&slept, "c does not answer").await.unwrap();
    assert_eq!(c.has_gone_on(&slept).await, None);
    a.forget("c", None).await.unwrap();
    let next = three.call().await;
    let still = c.decision(&slept, soon()).await.unwrap();
    assert_eq!(still, Decision::Aborted("another cutover followed".into()));
    for proxy in [a, b] {
        proxy.say(&next, Word::Whole, Vec::new()).await.unwrap();
    }
    let everybody = a.all(&next, Word::Whole, soon()).await.ok().unwrap();
    a.switch(&next, &everybody).await.unwrap();
    let lost = c.decision(&slept, soon()).await.unwrap();
    assert_eq!(lost, Decision::Lost("vitess".into()));
    assert_eq!(c.has_gone_on(&slept).await, Some("vitess".into()));
    assert!(c.is_absent(&three.board().await));
}

#[tokio::test(start_paused = true)]
async fn who_took_dark_writes_along_bars_the_next_cutover_until_an_operator_has_put_it_right() {
    let three = Three::new(1).await;
    let [a, b, c] = &three.proxies[..] else {
        panic!("three")
    };
    let careful = || Order {
        force: Vec::new(),
        ..order()
    };
    c.takes_along("was stopped before 7 commands had come to the shadow");
    c.leave().await.unwrap();
    let refused = a.call(&careful(), "legacy", false).await.unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains("c was stopped before 7 commands"),
        "{refused}"
    );
    assert!(a.shown().await.lost.contains_key("c"));
    // Overridden by name.
    let call = a.call(&order(), "legacy", false).await.unwrap();
    a.abort(&call, "enough").await.unwrap();
    b.forgive().await.unwrap();
    a.call(&careful(), "legacy", false).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_etcd_that_lost_its_data_is_no_agreement_and_who_serves_says_who_is_primary() {
    let mut three = Three::new(1).await;
    let call = three.call().await;
    for proxy in &three.proxies {
        proxy.say(&call, Word::Whole, Vec::new()).await.unwrap();
    }
    *three.memory.lock() = Memory::default();
    let a = Arc::clone(&three.proxies[0]);
    let why = a.all(&call, Word::Whole, soon()).await.err().unwrap();
    assert!(why.contains("was its data lost?"), "{why}");
    let unknown = a.decision(&call, soon()).await.unwrap_err();
    assert!(unknown.to_string().contains("--primary NAME"), "{unknown}");
    // One that starts now would say what its config says; those that serve know better.
    a.join_now().await.unwrap();
    let serving = Arc::clone(&a);
    let said = crate::task::spawn("declares", async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        serving.declare("vitess", true).await.unwrap()
    });
    three.start_as("d", 4, "legacy").await;
    assert_eq!(said.await.unwrap().name, "vitess");
    assert_eq!(three.board().await.primary.unwrap().name, "vitess");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_answer_was_lost_is_known_for_one_that_nobody_leads() {
    let three = Three::new(1).await;
    *three.lines[0].lock() = Manner::Deaf;
    let a = &three.proxies[0];
    let error = a.call(&order(), "legacy", false).await.unwrap_err();
    assert!(matches!(error, FleetError::Down(_)), "{error:?}");
    *three.lines[0].lock() = Manner::Whole;
    // What was heard of it: the look before the change failed, so nothing stands there.
    assert_eq!(three.board().await.call, None);
    // A look takes its time, and so does the change behind it.
    let (asked, mut withdrawn) = (order(), 0);
    for wait in 1..60 {
        let line = Arc::clone(&three.lines[0]);
        let goes_deaf = async move {
            tokio::time::sleep(Duration::from_micros(wait * 200)).await;
            *line.lock() = Manner::Deaf;
        };
        let ((), called) = tokio::join!(goes_deaf, a.call(&asked, "legacy", false));
        *three.lines[0].lock() = Manner::Whole;
        let Some(call) = three
            .board()
            .await
            .call
            .filter(|call| call.phase == Phase::Called)
        else {
            continue;
        };
        assert_eq!(called.is_err(), a.is_withdrawn(&call), "{called:?}");
        withdrawn += u32::from(called.is_err());
        a.abort(&call, "enough").await.unwrap();
    }
    assert!(withdrawn > 0);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_name_another_has_taken_says_so() {
    let mut three = Three::new(1).await;
    assert_eq!(three.proxies[1].replaced(&three.board().await), None);
    three.start("b", 2).await;
    let why = three.proxies[1].replaced(&three.board().await).unwrap();
    assert!(why.contains("fleet.name"), "{why}");
    let refused = three.proxies[1].call(&order(), "legacy", false).await;
    assert!(refused.is_err());
}
