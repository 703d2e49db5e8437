//! One real process takes over from another under load: clients that come and go, and others that stay, notice
//! nothing; what all of them wrote is on the shadow; and where the new process fails, the old one goes on.

mod ending;
mod failing;

pub mod elder;
pub mod played;
pub mod process;
pub mod server;

use played::Played;
use process::{House, until};
use serde_json::{Value, json};
use server::Client;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Clients, each with a thread and a table of its own.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Load {
    fn start(
        clients: usize,
        run: fn(&str, usize, &AtomicUsize, &AtomicBool) -> io::Result<()>,
        house: &House,
    ) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = |number| {
            let (address, stop, done) =
                (house.address.clone(), Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || run(&address, number, &done, &stop))
        };
        let threads = (0..clients).map(client).collect();
        Self {
            stop,
            done,
            threads,
        }
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Lets so many more rounds be.
    fn goes_on(&self, rounds: usize) {
        let until_then = self.done() + rounds;
        until("clients go on", || {
            self.threads.iter().any(JoinHandle::is_finished) || self.done() >= until_then
        });
    }

    /// Has all of them leave; none has seen an error.
    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no panic").expect("no error");
        }
    }
}

/// Connects, writes and reads, and leaves, again and again.
fn comes_and_goes(
    address: &str,
    number: usize,
    done: &AtomicUsize,
    stop: &AtomicBool,
) -> io::Result<()> {
    while !stop.load(Ordering::SeqCst) {
        let mut client = Client::connect(address)?;
        for _ in 0..3 {
            let n = done.fetch_add(1, Ordering::SeqCst);
            client.query(&format!("INSERT INTO app.short{number} VALUES ({n})"))?;
        }
        client.query(&format!("SELECT n FROM app.short{number}"))?;
        client.quit()?;
        // As much as a shadow on a busy machine keeps up with.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Stays for as long as it may.
fn stays(address: &str, number: usize, done: &AtomicUsize, stop: &AtomicBool) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    while !stop.load(Ordering::SeqCst) {
        let n = done.fetch_add(1, Ordering::SeqCst);
        client.query("BEGIN")?;
        client.query(&format!("INSERT INTO app.long{number} VALUES ({n})"))?;
        client.query("COMMIT")?;
        std::thread::sleep(Duration::from_millis(5));
    }
    client.quit()
}

fn sorted(mut written: Vec<String>) -> Vec<String> {
    written.sort();
    written
}

/// Everything that clients wrote is on the shadow, each once.
fn same_on_both(house: &House) {
    let primary = sorted(house.primary.written());
    until("the shadow has everything", || {
        house.shadow.written().len() >= primary.len()
    });
    assert!(sorted(house.shadow.written()) == primary);
}

/// The new process is the one that answers, and owns the ledger.
fn is_owner(house: &House, process: u32) {
    until("the new process has the ledger", || {
        house.owner() == format!("pid {process}")
    });
    until("it is ready", || house.get("/readyz").is_ok());
}

#[test]
fn a_process_takes_over_under_load_and_no_client_notices() {
    let house = House::new("");
    let mut old = house.serving();
    let short = Load::start(4, comes_and_goes, &house);
    let long = Load::start(3, stays, &house);
    short.goes_on(100);
    long.goes_on(30);

    let mut new = house.start("new", &["--take-over"]);
    old.says(&format!("process {} has taken over", new.id()));
    new.says("clients are served on");
    short.goes_on(200);
    long.goes_on(30);
    // The old one answers operators, and begins nothing.
    let status = house.get("/api/v1/status").expect("the status");
    assert_eq!(status["handover"]["to"], new.id());
    house.get("/readyz").expect("the machine serves");
    let (code, said) = house.post("/api/v1/cutover", &json!({"to": "vitess"}));
    assert_eq!(code, 409, "{said}");
    let words = said["error"]["message"].as_str().unwrap_or_default();
    assert!(words.contains("hands over"), "{said}");
    until("it is written down beside whom the old one serves", || {
        house.owner().starts_with("lent ")
    });
    // A third is told that it comes too late.
    let mut third = house.start("third", &["--take-over"]);
    assert_eq!(third.exit_code(), Some(1));
    assert!(
        third.log().contains("has taken over already"),
        "{}",
        third.log()
    );

    // The config is the new one's to read again: the old one says so, and the new one does it once it has the ledger.
    old.signal("HUP");
    old.says("has taken over: it is the one to ask");
    new.signal("HUP");

    long.end();
    assert_eq!(old.exit_code(), Some(0), "{}", old.log());
    is_owner(&house, new.id());
    new.says("the config was read again; config: nothing new");
    short.goes_on(100);
    short.end();
    let coverage = house.settled();
    same_on_both(&house);
    assert_eq!(coverage["diverged"], 0, "{coverage}");
    assert_eq!(house.taints(), Vec::<Value>::new());
    new.signal("TERM");
    assert_eq!(new.exit_code(), Some(0));
    assert_eq!(house.owner(), "clean");
    assert!(!new.log().contains("suspended"), "{}", new.log());
}

#[test]
fn what_both_processes_wrote_in_another_order_is_tainted() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    let mut new = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    let mut comes = Client::connect(&house.address).expect("a session");
    // The shadow has the second of them first.
    for (in_new, text) in [
        (true, "INSERT INTO app.both VALUES (1)"),
        (false, "INSERT INTO app.both VALUES (2)"),
        (false, "INSERT INTO app.old VALUES (3)"),
        (true, "INSERT INTO app.new VALUES (4)"),
    ] {
        let client = if in_new { &mut comes } else { &mut stays };
        client.query(text).expect("it is done");
    }
    stays.quit().expect("it leaves");
    assert_eq!(old.exit_code(), Some(0));
    is_owner(&house, new.id());
    house.settled();
    let taints = house.taints();
    let tables: Vec<&Value> = taints.iter().map(|taint| &taint["table"]).collect();
    assert_eq!(tables.len(), 1, "{taints:?}");
    assert!(taints[0].to_string().contains("both"), "{taints:?}");
    assert!(taints[0].to_string().contains("hand-over"), "{taints:?}");
    new.signal("TERM");
    assert_eq!(new.exit_code(), Some(0));
}

/// Finding: what an operator had switched off was written to the shadow from the hand-over on.
#[test]
fn what_was_switched_in_the_old_process_is_so_in_the_new_one() {
    let house = House::new("");
    let mut old = house.serving();
    let (code, said) = house.patch("/api/v1/mirror", &json!({"paused": true}));
    assert_eq!(code, 200, "{said}");
    let stays = Client::connect(&house.address).expect("a session");
    let mut new = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    new.says(&format!("as they were set in process {}", old.id()));
    let mut comes = Client::connect(&house.address).expect("a session");
    let mut writes = |n: u8| {
        let done = comes.query(&format!("INSERT INTO app.t VALUES ({n})"));
        done.expect("it is done");
    };
    writes(1);
    stays.quit().expect("it leaves");
    assert_eq!(old.exit_code(), Some(0));
    is_owner(&house, new.id());
    writes(2);
    house.settled();
    let status = house.get("/api/v1/status").expect("the status");
    assert_eq!(status["mirror"]["state"], "paused", "{status}");
    assert_eq!(house.primary.written().len(), 2);
    assert_eq!(house.shadow.written(), Vec::<String>::new());
    assert!(!house.taints().is_empty());
    new.signal("TERM");
    assert_eq!(new.exit_code(), Some(0));
}

/// Finding: a pause between the offer and the old one's word was lost, and what was switched behind it was answered 200.
/// And a reload in between changed what had been offered.
#[test]
fn what_is_switched_or_read_again_while_it_is_handed_over_is_not_lost() {
    let house = House::new("");
    let mut old = house.serving();
    let _stays = Client::connect(&house.address).expect("a session");
    let mut played = Played::hello(&house);
    let offer = played.hears();
    assert!(offer["offer"].is_object(), "{offer}");
    let pause = json!({"paused": true});
    let reload = json!({"dry_run": false});
    let (code, said) = house.post("/api/v1/config/reload", &reload);
    assert_eq!(code, 409, "{said}");
    assert!(said.to_string().contains("about to take over"), "{said}");
    let (code, said) = house.patch("/api/v1/mirror", &pause);
    assert_eq!(code, 200, "{said}");
    played.says(&json!("ready"));
    let yours = played.hears();
    assert_eq!(yours["yours"]["paused"], true, "{yours}");
    let (code, said) = house.patch("/api/v1/mirror", &json!({"paused": false}));
    assert_eq!(code, 409, "{said}");
    let process = format!("process {} has taken over", played.id());
    assert!(said.to_string().contains(&process), "{said}");
    drop(played);
    old.says("this one accepts clients again");
    for (code, said) in [
        house.post("/api/v1/config/reload", &reload),
        house.patch("/api/v1/mirror", &json!({"paused": false})),
    ] {
        assert_eq!(code, 200, "{said}");
    }
    old.signal("TERM");
    assert_eq!(old.exit_code(), Some(0));
}

#[test]
fn sigusr2_starts_the_next_process_and_systemd_hears_which_one_is_the_main_one() {
    let house = House::new("");
    let ear = UnixDatagram::bind(house.file("notify")).expect("a socket");
    ear.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let heard = |what: &str| {
        let mut buffer = [0; 1024];
        loop {
            let length = ear.recv(&mut buffer).expect("it is said in time");
            let words = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(!words.contains("STOPPING"), "{words}");
            if words.contains(what) {
                return words;
            }
        }
    };
    let mut old = house.serving();
    heard("READY=1");
    let mut stays = Client::connect(&house.address).expect("a session");
    old.signal("USR2");
    // To systemd the old one is the main one to its end, and feeds the watchdog.
    let process = number(&heard("has taken over"), "STATUS=process ");
    assert_ne!(process, old.id());
    let fed = heard("WATCHDOG=1");
    assert!(!fed.contains("MAINPID"), "{fed}");
    // Finding: systemctl reload had it say that the old one served clients.
    old.signal("HUP");
    let reloaded = heard("READY=1");
    assert_eq!(number(&reloaded, "STATUS=process "), process);
    stays
        .query("INSERT INTO app.t VALUES (1)")
        .expect("it goes on");
    stays.quit().expect("it leaves");
    assert_eq!(number(&heard("MAINPID="), "MAINPID="), process);
    // It is no child of the one that has it started: only of its own children systemd waits for the end.
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it lives");
    let parent = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split(' ').nth(2));
    assert_ne!(parent, Some(old.id().to_string().as_str()), "{stat}");
    assert_eq!(old.exit_code(), Some(0));
    is_owner(&house, process);
    heard("WATCHDOG=1");
    crate::lab::signal(process.cast_signed(), "TERM");
    until("it has ended", || house.owner() == "clean");
}

/// The number behind these words.
fn number(said: &str, words: &str) -> u32 {
    let rest = said.lines().find_map(|line| line.strip_prefix(words));
    let digits = rest.and_then(|rest| rest.split(' ').next());
    digits.and_then(|text| text.parse().ok()).expect(said)
}

#[test]
fn a_process_with_another_config_is_refused_and_says_why() {
    let house = House::new("");
    let mut old = house.serving();
    let config = std::fs::read_to_string(house.file("understudy.toml")).expect("the config");
    let other = config.replace(&house.address, "127.0.0.1:1");
    std::fs::write(house.file("understudy.toml"), other).expect("it is written");
    let mut new = house.start("new", &["--take-over"]);
    assert_eq!(new.exit_code(), Some(1));
    assert!(
        new.log().contains("listen.address of the new config"),
        "{}",
        new.log()
    );
    std::fs::write(house.file("understudy.toml"), config).expect("it is written");
    assert!(old.is_alive());
    Client::connect(&house.address)
        .expect("it accepts")
        .quit()
        .expect("it leaves");
    old.signal("TERM");
    assert_eq!(old.exit_code(), Some(0));
    assert!(!house.file("ledger.db.handover").exists());
    // Where nobody serves, it is a start like any other.
    let mut alone = house.start("alone", &["--take-over"]);
    is_owner(&house, alone.id());
    alone.signal("TERM");
    assert_eq!(alone.exit_code(), Some(0));
}

#[test]
fn sessions_that_stay_are_ended_after_their_time() {
    let house = House::new("handover_s = 1");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    let mut new = house.start("new", &["--take-over"]);
    assert!(stays.is_closed());
    assert_eq!(old.exit_code(), Some(0));
    is_owner(&house, new.id());
    new.signal("TERM");
    assert_eq!(new.exit_code(), Some(0));
}

/// What the config is to say instead, and why the new process does not take over with it.
#[test]
fn what_is_wrong_in_the_new_config_is_found_while_the_old_process_serves() {
    let house = House::new("");
    let mut old = house.serving();
    let config = std::fs::read_to_string(house.file("understudy.toml")).expect("the config");
    for (name, key, instead, code, why) in [
        // No server here has TLS: no client would be served.
        (
            "tls",
            "tls = \"off\"\n[mirror]",
            "tls = \"required\"\n[mirror]",
            1,
            "goes on",
        ),
        (
            "floor",
            "[mirror]",
            "[compare]\nfloor = \"/nowhere/floor.db\"\n[mirror]",
            2,
            "there is no such file",
        ),
    ] {
        assert_eq!(config.matches(key).count(), 1, "{config}");
        std::fs::write(house.file("understudy.toml"), config.replace(key, instead))
            .expect("it is written");
        let mut new = house.start(name, &["--take-over"]);
        assert_eq!(new.exit_code(), Some(code), "{}", new.log());
        assert!(new.log().contains(why), "{}", new.log());
        assert!(!new.log().contains("clients are served"), "{}", new.log());
        old.says("it ended before it could serve");
        assert!(!old.log().contains("has taken over"), "{}", old.log());
        Client::connect(&house.address)
            .expect("it accepts")
            .quit()
            .expect("it leaves");
    }
    assert_eq!(house.taints(), Vec::<Value>::new());
    old.signal("TERM");
    assert_eq!(old.exit_code(), Some(0));
}

#[test]
fn a_process_that_another_supervisor_watches_or_none_is_refused() {
    let house = House::new("");
    let mut old = house.serving();
    let mut new = house.start_without_supervisor("new", &["--take-over"]);
    assert_eq!(new.exit_code(), Some(1));
    assert!(new.log().contains("systemctl kill"), "{}", new.log());
    // And another primary than the one that is.
    let mut named = house.start("named", &["--take-over", "--primary", "vitess"]);
    assert_eq!(named.exit_code(), Some(1));
    assert!(
        named.log().contains("leave --primary out"),
        "{}",
        named.log()
    );
    assert!(old.is_alive());
    Client::connect(&house.address)
        .expect("it accepts")
        .quit()
        .expect("it leaves");
    old.signal("TERM");
    assert_eq!(old.exit_code(), Some(0));
}
