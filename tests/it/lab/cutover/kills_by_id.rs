//! KILL by the id that a client was told at its login, as drivers' time-outs and Ctrl-C do it: on a
//! second connection, before a cutover, after it, and after the way back.

use super::scene::{flip_unproven, primary, setup};
use crate::lab::mirroring::connect;
use crate::lab::{Lab, Proxy};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far longer than a KILL takes to come through; what is mirrored of it holds up the cutover's
/// preparing as long.
const SLOW: &str = "SELECT SLEEP(8)";
const SOON: Duration = Duration::from_secs(5);

fn proxy(lab: &Lab) -> Proxy {
    Proxy::start_with(lab, &setup("soak_s = 3600"))
}

/// What a session was told, or how its connection ended.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// MySQL's SLEEP says so itself.
    Interrupted,
    Error(u16),
    Closed,
}

/// Runs the slow query on the victim, and kills it from the other connection.
async fn kill(mut victim: Conn, killer: &mut Conn, kill: &str) -> (Told, Conn) {
    let began = Instant::now();
    let running = tokio::spawn(async move {
        let told = victim.query_first::<u8, _>(SLOW).await;
        (told, victim)
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    killer.query_drop(kill).await.expect(kill);
    let (told, victim) = running.await.expect("a victim does not panic");
    let took = began.elapsed();
    assert!(took < SOON, "{kill}: it took {took:?}");
    let told = match told {
        Ok(Some(1)) => Told::Interrupted,
        Err(Error::Server(said)) => Told::Error(said.code),
        Err(_) => Told::Closed,
        Ok(other) => panic!("{kill}: {other:?}"),
    };
    (told, victim)
}

async fn lives(conn: &mut Conn) -> bool {
    conn.query_first::<u8, _>("SELECT 1").await.is_ok()
}

/// On a MySQL the query ends and the session goes on; a vtgate's goes with it.
async fn killed_by_id(proxy: &Proxy, on: &str, victims: [Conn; 3], killer: &mut Conn) {
    let is_vitess = on == "vitess";
    let ids = [0, 1, 2].map(|nth| victims[nth].id());
    let [query, bare, whole] = victims;
    let (told, mut query) = kill(query, killer, &format!("KILL QUERY {}", ids[0])).await;
    if is_vitess {
        assert_eq!(told, Told::Error(1317), "on {on}");
        assert!(!lives(&mut query).await, "its late answer would come to it");
    } else {
        assert_eq!(told, Told::Interrupted, "on {on}");
        assert!(lives(&mut query).await, "on {on}");
    }
    for (victim, text) in [
        (bare, format!("kill {}", ids[1])),
        (whole, format!("KILL CONNECTION {}", ids[2])),
    ] {
        let (told, mut victim) = kill(victim, killer, &text).await;
        // By the server, or by the proxy when the server has closed.
        let is_told = matches!(
            told,
            Told::Closed | Told::Interrupted | Told::Error(1317 | 2013)
        );
        assert!(is_told, "{text} on {on}: {told:?}");
        assert!(!lives(&mut victim).await, "{text} on {on}");
    }
    assert!(lives(killer).await, "on {on}\n{}", proxy.log());
}

async fn victims(proxy: &Proxy) -> [Conn; 3] {
    [
        connect(&proxy.address, "scratch").await,
        connect(&proxy.address, "scratch").await,
        connect(&proxy.address, "scratch").await,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_id_that_a_client_was_told_first_whichever_server_answers_it() {
    let lab = Lab::get();
    let proxy = proxy(&lab);
    let of_legacy = [victims(&proxy).await, victims(&proxy).await];
    let mut early = connect(&proxy.address, "scratch").await;
    let before = victims(&proxy).await;
    killed_by_id(&proxy, "legacy", before, &mut early).await;
    assert_eq!(proxy.metric("understudy_kills_total"), 0);

    flip_unproven(&proxy, "vitess").await;
    let [there, and_back] = of_legacy;
    let of_vitess = victims(&proxy).await;
    killed_by_id(&proxy, "vitess", there, &mut early).await;
    // Who has come since knows a vtgate's ids.
    let mut late = connect(&proxy.address, "scratch").await;
    let newcomers = victims(&proxy).await;
    killed_by_id(&proxy, "vitess", newcomers, &mut late).await;
    assert_eq!(proxy.metric("understudy_kills_total"), 6);
    for (text, code) in [("KILL 4000000000", 1094), ("KILL QUERY 4000000000", 1094)] {
        match late.query_drop(text).await {
            Err(Error::Server(said)) => assert_eq!(said.code, code, "{said}"),
            other => panic!("{text}: {other:?}"),
        }
    }

    flip_unproven(&proxy, "legacy").await;
    killed_by_id(&proxy, "legacy", and_back, &mut late).await;
    killed_by_id(&proxy, "legacy", of_vitess, &mut early).await;
    // By the id that the server has for it now.
    let now: Option<u32> = late
        .query_first("SELECT CONNECTION_ID()")
        .await
        .expect("an id");
    let now = now.expect("a row");
    assert_ne!(now, late.id(), "it was told a vtgate's");
    let (told, _) = kill(late, &mut early, &format!("KILL QUERY {now}")).await;
    assert_eq!(told, Told::Interrupted);
    assert_eq!(proxy.metric("understudy_kills_total"), 6);
}

/// The `mysql` client: Ctrl-C says KILL QUERY on a connection of its own, by the id of its greeting.
struct Terminal {
    child: Child,
}

impl Terminal {
    fn open(proxy: &Proxy) -> Self {
        let (host, port) = proxy.address.rsplit_once(':').expect("host:port");
        let child = Command::new("mysql")
            .args([
                "--protocol=tcp",
                "-uapp",
                "-papp",
                "--unbuffered",
                "--force",
            ])
            .args([&format!("-h{host}"), &format!("-P{port}"), "scratch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the mysql client");
        Self { child }
    }

    fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input");
        stdin.write_all(text.as_bytes()).expect("it listens");
        stdin.flush().expect("it listens");
    }

    /// What it said, once it has ended.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut said = String::new();
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        out.expect("its output")
            .read_to_string(&mut said)
            .expect("text");
        err.expect("its errors")
            .read_to_string(&mut said)
            .expect("text");
        let _reaped = self.child.wait();
        said
    }
}

/// vtgate goes on with what was cut, so nobody knows whether it was written: there is no way back
/// before somebody has looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_cut_on_vtgate_taints_its_table() {
    let lab = Lab::get();
    for address in [lab.legacy(), lab.shadow()] {
        let mut direct = connect(&address, "scratch").await;
        for statement in [
            "CREATE TABLE IF NOT EXISTS cut_writes (id INT PRIMARY KEY, n INT)",
            "REPLACE INTO cut_writes (id, n) VALUES (1, 0)",
        ] {
            direct.query_drop(statement).await.expect(statement);
        }
    }
    let proxy = proxy(&lab);
    let mut victim = connect(&proxy.address, "scratch").await;
    let mut killer = connect(&proxy.address, "scratch").await;
    flip_unproven(&proxy, "vitess").await;
    killer.query_drop("BEGIN").await.expect("BEGIN");
    let write = "UPDATE cut_writes SET n = n + 1 WHERE id = 1";
    killer.query_drop(write).await.expect(write);
    let id = victim.id();
    let cut = tokio::spawn(async move { victim.query_drop(write).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let taints = || proxy.get("/api/v1/taints")["items"].to_string();
    assert!(!taints().contains("cut_writes"), "{}", taints());
    let kill = format!("KILL QUERY {id}");
    killer.query_drop(&kill).await.expect("in its transaction");
    match cut.await.expect("it does not panic") {
        Err(Error::Server(said)) => assert_eq!(said.code, 1317, "{said}"),
        other => panic!("{other:?}"),
    }
    killer.query_drop("ROLLBACK").await.expect("ROLLBACK");
    let tainted = Instant::now() + SOON;
    while !taints().contains("cut_writes") {
        assert!(Instant::now() < tainted, "{}", taints());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `mysqladmin kill` says COM_PROCESS_KILL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_command_of_its_own() {
    let lab = Lab::get();
    let proxy = proxy(&lab);
    let (host, port) = proxy.address.rsplit_once(':').expect("host:port");
    let mut of_each = victims(&proxy).await.into_iter();
    for on in ["legacy", "vitess", "legacy"] {
        if primary(&proxy) != on {
            flip_unproven(&proxy, on).await;
        }
        let mut victim = of_each.next().expect("one for each");
        let mut other = connect(&proxy.address, "scratch").await;
        assert!(lives(&mut victim).await, "on {on}");
        let told = Command::new("mysqladmin")
            .args(["--protocol=tcp", "-uapp", "-papp"])
            .args([&format!("-h{host}"), &format!("-P{port}")])
            .args(["kill", &victim.id().to_string()])
            .output()
            .expect("mysqladmin");
        assert!(told.status.success(), "on {on}: {told:?}");
        assert!(!lives(&mut victim).await, "on {on}");
        assert!(lives(&mut other).await, "on {on}");
    }
    assert_eq!(proxy.metric("understudy_kills_total"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_in_the_mysql_client_ends_its_query() {
    let lab = Lab::get();
    let proxy = proxy(&lab);
    for to in ["vitess", "legacy"] {
        let mut terminal = Terminal::open(&proxy);
        terminal.say("SELECT 'here';\n");
        tokio::time::sleep(Duration::from_millis(500)).await;
        flip_unproven(&proxy, to).await;
        let began = Instant::now();
        terminal.say(&format!("{SLOW};\n"));
        tokio::time::sleep(Duration::from_millis(700)).await;
        let pid = i32::try_from(terminal.child.id()).expect("a pid");
        crate::lab::signal(pid, "INT");
        let said = tokio::task::spawn_blocking(|| terminal.end()).await;
        let said = said.expect("it ends");
        let took = began.elapsed();
        println!("on {to}, after {took:?}: {said}");
        assert!(took < SOON, "on {to} it took {took:?}: {said}");
        assert!(said.contains("here"), "{said}");
        if to == "vitess" {
            assert!(said.contains("1317"), "{said}");
        }
    }
}
