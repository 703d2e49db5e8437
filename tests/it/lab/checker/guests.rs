//! Clients of other drivers, in processes of their own: `tests/clients`, "Steady clients".

use crate::acknowledged::{Memory, Outcome, Timed, Write};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

/// Connections of one driver, logged in and at work.
pub struct Guests {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Guests {
    /// They are numbered from `first`.
    pub fn start(driver: &str, address: &str, first: i64, connections: i64) -> Self {
        let (host, port) = address.rsplit_once(':').expect("host:port");
        let mut process = Command::new("tests/bin/steady-clients")
            .arg(driver)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CLIENT_HOST", host)
            .env("CLIENT_PORT", port)
            .env("CLIENT_USER", "app")
            .env("CLIENT_PASSWORD", "app")
            .env("STEADY_FIRST", first.to_string())
            .env("STEADY_CONNECTIONS", connections.to_string())
            .env("STEADY_REST_MS", "500")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the driver's program starts");
        let said = process.stdout.take().expect("its output");
        let mut said = BufReader::new(said).lines();
        let ready = said.any(|line| line.is_ok_and(|line| plain(&line) == "ready"));
        assert!(ready, "{driver} is not ready: {:?}", process.wait());
        Self { process, said }
    }

    /// They end, and say what they remember.
    pub fn stop(mut self) -> Vec<Memory> {
        drop(self.process.stdin.take());
        let lines: Vec<String> = self.said.map_while(Result::ok).collect();
        let ended = self.process.wait();
        assert!(ended.is_ok_and(|ended| ended.success()), "{lines:?}");
        memories(lines.iter().map(|line| plain(line)))
    }
}

/// Without the colours that Maven sets back before another's first line.
fn plain(line: &str) -> &str {
    line.trim_start_matches("\u{1b}[0m")
}

/// What the lines tell, by client.
fn memories<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Memory> {
    let mut memories: BTreeMap<i64, Memory> = BTreeMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let told = tell(line, &mut memories);
        told.unwrap_or_else(|| panic!("a line that says nothing: {line}"));
    }
    memories.into_values().collect()
}

fn tell(line: &str, memories: &mut BTreeMap<i64, Memory>) -> Option<()> {
    let (what, rest) = line.split_once(' ')?;
    let (client, rest) = rest.split_once(' ')?;
    let client = client.parse().ok()?;
    let memory = memories.entry(client).or_insert_with(|| Memory::of(client));
    match what {
        "mark" => {
            let (n, told) = rest.split_once(' ')?;
            memory.remember(Write::Mark(n.parse().ok()?), outcome(told)?);
        }
        "count" => memory.remember(Write::Count, outcome(rest)?),
        "took" => memory.commands.push(timed(rest)?),
        "error" => memory.errors.push(rest.to_owned()),
        "wrong" => memory.wrong.push(rest.to_owned()),
        _ => return None,
    }
    Some(())
}

fn outcome(told: &str) -> Option<Outcome> {
    match told {
        "acknowledged" => Some(Outcome::Acknowledged),
        "refused" => Some(Outcome::Refused),
        "unknown" => Some(Outcome::Unknown),
        _ => None,
    }
}

fn timed(rest: &str) -> Option<Timed> {
    let (began, took) = rest.split_once(' ')?;
    Some(Timed {
        began: SystemTime::UNIX_EPOCH + Duration::from_micros(began.parse().ok()?),
        took: Duration::from_micros(took.parse().ok()?),
    })
}

#[test]
fn lines_are_what_each_client_remembers() {
    let lines = "mark 7 1 acknowledged\ncount 7 unknown\ntook 7 1000000 250\nerror 8 it broke\nwrong 7 @mark is another";
    let memories = memories(lines.lines());
    assert_eq!(memories.len(), 2);
    let seven = &memories[0];
    assert_eq!(
        seven.writes,
        [
            (Write::Mark(1), Outcome::Acknowledged),
            (Write::Count, Outcome::Unknown)
        ]
    );
    assert_eq!(seven.commands[0].took, Duration::from_micros(250));
    assert_eq!(seven.wrong, ["@mark is another"]);
    assert_eq!(memories[1].errors, ["it broke"]);
}
