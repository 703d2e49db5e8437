//! One real process takes over from another under load: clients that come and go, and others that stay, notice
//! nothing; what all of them wrote is on the shadow; and where the new process fails, the old one goes on.

pub mod process;
pub mod server;

use process::{House, Process, until};
use serde_json::{Value, json};
use server::Client;
use std::io;
use std::os::unix::net::{UnixDatagram, UnixStream};
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

/// A new process, played by the test.
struct Played(UnixStream);

impl Played {
    fn says(house: &House, letter: &Value) -> Self {
        let mut stream = UnixStream::connect(house.file("ledger.db.handover")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        io::Write::write_all(&mut stream, format!("{letter}\n").as_bytes()).expect("it is sent");
        Self(stream)
    }

    fn hello(house: &House) -> Value {
        let ledger = house.file("ledger.db").canonicalize().expect("it is there");
        json!({"hello": {
            "form": 2, "version": "0", "listen": house.address, "ledger": ledger,
            "servers": [
                format!("legacy at {}", house.primary.address),
                format!("vitess at {}", house.shadow.address),
            ],
            "supervisor": house.supervisor(),
        }})
    }

    fn hears(&mut self) -> Value {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            io::Read::read_exact(&mut self.0, &mut byte).expect("a letter");
            line.extend(byte);
        }
        serde_json::from_slice(&line).expect("a letter")
    }

    fn then(&mut self, letter: &Value) {
        io::Write::write_all(&mut self.0, format!("{letter}\n").as_bytes()).expect("it is sent");
    }
}

#[test]
fn where_the_new_process_dies_the_old_one_goes_on() {
    let house = House::new("");
    let mut old = house.serving();
    let load = Load::start(2, stays, &house);
    // Before it has said that it can serve: nobody notices.
    let mut played = Played::says(&house, &Played::hello(&house));
    let offer = played.hears();
    assert_eq!(offer["offer"]["primary"], "legacy", "{offer}");
    drop(played);
    old.says("was not handed over to: it ended before it could serve");
    assert_eq!(house.taints(), Vec::<Value>::new());
    Client::connect(&house.address)
        .expect("it accepts")
        .quit()
        .expect("it leaves");
    // After it: whoever comes meanwhile waits for a moment.
    let mut played = Played::says(&house, &Played::hello(&house));
    played.hears();
    played.then(&json!("ready"));
    assert_eq!(played.hears(), json!("yours"));
    let address = house.address.clone();
    let waits = std::thread::spawn(move || Client::connect(&address).and_then(Client::quit));
    until("it is handed over", || {
        played.then(&json!("beat"));
        let status = house.get("/api/v1/status").expect("the status");
        !status["handover"].is_null()
    });
    drop(played);
    old.says("this one accepts clients again");
    waits.join().expect("no panic").expect("it was served");
    let taints = house.taints();
    assert_eq!(taints.len(), 1, "{taints:?}");
    load.goes_on(10);
    load.end();
    // And it may hand over again.
    let mut new = house.start("new", &["--take-over"]);
    assert_eq!(old.exit_code(), Some(0));
    is_owner(&house, new.id());
    new.signal("TERM");
    assert_eq!(new.exit_code(), Some(0));
}

/// Finding: nobody accepted for as long as the old one took to end, up to a minute.
#[test]
fn where_the_new_process_dies_while_the_old_one_ends_that_one_makes_way() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    house.shadow.set_hangs(true);
    let mut played = Played::says(&house, &Played::hello(&house));
    played.hears();
    played.then(&json!("ready"));
    assert_eq!(played.hears(), json!("yours"));
    stays
        .query("INSERT INTO app.t VALUES (1)")
        .expect("it is done");
    stays.quit().expect("it leaves");
    old.says("every session has ended");
    let since = std::time::Instant::now();
    drop(played);
    assert_eq!(old.exit_code(), Some(0), "{}", old.log());
    // It does not wait for the shadow: CATCH_UP alone is 30 s.
    assert!(since.elapsed() < Duration::from_secs(20), "{}", old.log());
    house.shadow.set_hangs(false);
    let mut next = house.start("next", &[]);
    is_owner(&house, next.id());
    // What the clients of the one that died wrote, nobody knows.
    let taints = house.taints();
    assert!(
        taints.iter().any(|taint| taint["table"] == "*"),
        "{taints:?}"
    );
    next.signal("TERM");
    assert_eq!(next.exit_code(), Some(0));
}

/// Finding: of tables that no mirror had written before, nothing was said.
#[test]
fn where_both_die_all_tables_are_tainted() {
    let house = House::new("");
    let mut old = house.serving();
    // Else it would be at its end at once, and the ledger be left to the new one.
    let _stays = Client::connect(&house.address).expect("a session");
    let mut played = Played::says(&house, &Played::hello(&house));
    played.hears();
    played.then(&json!("ready"));
    assert_eq!(played.hears(), json!("yours"));
    until("it is written down", || house.owner().starts_with("lent "));
    old.signal("KILL");
    assert_eq!(old.exit_code(), None);
    drop(played);
    let mut next = house.start("next", &["--take-over"]);
    is_owner(&house, next.id());
    let taints = house.taints();
    assert!(
        taints.iter().any(|taint| taint["table"] == "*"),
        "{taints:?}"
    );
    next.signal("TERM");
    assert_eq!(next.exit_code(), Some(0));
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
fn told_to_end_meanwhile_both_end_and_nothing_is_lost() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    let mut new: Process = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    let mut comes = Client::connect(&house.address).expect("a session");
    stays
        .query("INSERT INTO app.old VALUES (1)")
        .expect("it is done");
    comes
        .query("INSERT INTO app.new VALUES (2)")
        .expect("it is done");
    new.signal("TERM");
    assert!(stays.is_closed() && comes.is_closed());
    assert_eq!((old.exit_code(), new.exit_code()), (Some(0), Some(0)));
    same_on_both(&house);
    assert_eq!(house.owner(), "clean");
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
fn a_process_that_hangs_behind_the_word_is_ended_and_the_old_one_serves_again() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    let mut new = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    new.signal("STOP");
    old.says("hangs: it is ended");
    old.says("this one accepts clients again");
    assert_eq!(new.exit_code(), None, "it was killed");
    Client::connect(&house.address)
        .expect("it accepts")
        .quit()
        .expect("it leaves");
    stays
        .query("INSERT INTO app.t VALUES (1)")
        .expect("it goes on");
    assert_eq!(house.taints().len(), 1);
    old.signal("TERM");
    assert_eq!(old.exit_code(), Some(0));
}

#[test]
fn the_old_one_told_to_end_meanwhile_both_end_and_it_is_the_last() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    let mut new = house.start("new", &["--take-over"]);
    new.says("clients are served on");
    let mut comes = Client::connect(&house.address).expect("a session");
    for (client, table) in [(&mut stays, "old"), (&mut comes, "new")] {
        let text = format!("INSERT INTO app.{table} VALUES (1)");
        client.query(&text).expect("it is done");
    }
    // As systemctl stop does, and a supervisor that knows this one alone: its end is the service's.
    old.signal("TERM");
    assert!(stays.is_closed() && comes.is_closed());
    assert_eq!(old.exit_code(), Some(0));
    assert!(!new.is_alive(), "it has ended before");
    assert_eq!(new.exit_code(), Some(0));
    same_on_both(&house);
    assert_eq!(house.owner(), "clean");
}

#[test]
fn the_new_one_dies_while_both_end_and_the_old_one_does_not_serve_again() {
    let house = House::new("");
    let mut old = house.serving();
    let mut stays = Client::connect(&house.address).expect("a session");
    stays.query("BEGIN").expect("it is done");
    let mut played = Played::says(&house, &Played::hello(&house));
    played.hears();
    played.then(&json!("ready"));
    assert_eq!(played.hears(), json!("yours"));
    played.then(&json!("end"));
    drop(played);
    stays.query("COMMIT").expect("it goes on to its boundary");
    assert!(stays.is_closed());
    assert_eq!(old.exit_code(), Some(0));
    assert!(
        !old.log().contains("accepts clients again"),
        "{}",
        old.log()
    );
    let mut next = house.serving();
    let taints = house.taints();
    assert!(
        taints.iter().any(|taint| taint["table"] == "*"),
        "{taints:?}"
    );
    next.signal("TERM");
    assert_eq!(next.exit_code(), Some(0));
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
