//! What `differences.txt` says of two servers' answers, seen on the servers themselves.

use super::Lab;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use understudy::compare::causes::{self, Case, Told};
use understudy::compare::verdict::{Tolerances, Verdict};
use understudy::compare::{Context, compare};
use understudy::config::{self, FedBy, TlsMode};
use understudy::connect::{self, Connection, Login, Tcp, TlsContext};
use understudy::sql::{self, Dialect};
use understudy::wire::answer::{Answer, AnswerTracker, Outcome, Progress};
use understudy::wire::capability::Capabilities;
use understudy::wire::command::Command;
use understudy::wire::packet::write_packet;

/// What both servers have.
const DIALECT: Capabilities = Capabilities::LONG_FLAG
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::MULTI_STATEMENTS)
    .with(Capabilities::MULTI_RESULTS);

const COLLATION: u16 = 45;

/// A connection that says commands and keeps answers as the proxy does.
struct Side(Connection);

impl Side {
    async fn open(name: &str, host: &str, port: u16) -> Self {
        let server = config::Server {
            name: name.to_owned(),
            host: host.to_owned(),
            port,
            tls: TlsMode::Off,
            tls_ca: None,
            account: None,
            users: BTreeMap::new(),
            databases: BTreeMap::new(),
            fed_by: FedBy::Mirror,
            init: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            source_addresses: Vec::new(),
            proxy_protocol: config::ProxyProtocol::Off,
        };
        let login = Login {
            user: "app".to_owned(),
            password: "app".to_owned(),
            database: None,
            capabilities: DIALECT,
            collation: COLLATION,
            client: None,
        };
        let opened = connect::open(&Tcp::default(), &server, &TlsContext::off(), &login).await;
        Self(opened.unwrap_or_else(|fault| panic!("{name}: {fault}")))
    }

    async fn say(&mut self, command: &[u8]) -> Answer {
        let mut packet = Vec::new();
        write_packet(&mut packet, 0, command);
        self.0
            .stream
            .write_all(&packet)
            .await
            .expect("a server that listens");
        let mut tracker = AnswerTracker::new(self.0.capabilities, 65_536);
        tracker.begin(Command(command[0]).expect());
        let (mut answer, mut piece) = (Answer::default(), vec![0; 65_536]);
        loop {
            let len = self
                .0
                .stream
                .read(&mut piece)
                .await
                .expect("a server that answers");
            assert!(
                len > 0,
                "the server closed after {}",
                String::from_utf8_lossy(command)
            );
            match tracker.feed(&piece[..len], &mut answer) {
                Progress::More => {}
                Progress::Ended { .. } => return answer,
                other => panic!("{other:?} after {}", String::from_utf8_lossy(command)),
            }
        }
    }

    /// Prepares and, where that went well, executes.
    async fn execute(&mut self, text: &str) -> Answer {
        let prepared = self.say(&command(Command::STMT_PREPARE, text)).await;
        let Some(Outcome::Prepared { statement_id, .. }) = prepared.results.first() else {
            return prepared;
        };
        let head = [
            &[Command::STMT_EXECUTE.0][..],
            &statement_id.to_le_bytes(),
            &[0, 1, 0, 0, 0],
        ];
        self.say(&head.concat()).await
    }
}

fn command(kind: Command, text: &str) -> Vec<u8> {
    [&[kind.0][..], text.as_bytes()].concat()
}

/// Both servers, and the rules.
struct Pair {
    legacy: Side,
    shadow: Side,
    rules: config::Measure,
}

impl Pair {
    async fn both(&mut self, text: &str) -> (Answer, Answer) {
        let query = command(Command::QUERY, text);
        (self.legacy.say(&query).await, self.shadow.say(&query).await)
    }

    /// The verdict, and the code of its cause; none where it has none.
    async fn verdict(&mut self, text: &str, prepared: bool) -> (Verdict, &'static str) {
        let (primary, shadow) = if prepared {
            (
                self.legacy.execute(text).await,
                self.shadow.execute(text).await,
            )
        } else {
            self.both(text).await
        };
        let analysis = sql::analyze(text.as_bytes(), Dialect::default());
        let clock_columns = understudy::compare::ClockColumns::default();
        let context = Context {
            clock_columns: &clock_columns,
            behind: std::time::Duration::ZERO,
            command: &command(Command::QUERY, text),
            statements: &analysis.statements,
            rules: &self.rules,
            key_pinned: false,
            transactions_mirrored: true,
        };
        let verdict = compare(&primary, &shadow, &context);
        let Verdict::Diverged(divergence) = &verdict else {
            return (verdict, "");
        };
        let errors = [&primary, &shadow].map(error);
        let [ours, theirs] = &errors;
        let cause = causes::cause(&Case {
            divergence,
            primary: told(&primary, ours.as_ref()),
            shadow: told(&shadow, theirs.as_ref()),
            class: analysis.class,
            fingerprint: &analysis.fingerprint,
            literals: &sql::literals(text.as_bytes(), Dialect::default()),
        });
        let code = cause.map_or("", |cause| cause.code.name());
        (verdict, code)
    }
}

fn error(answer: &Answer) -> Option<(u16, String, String)> {
    let failure = answer.error()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((
        failure.code,
        text(&failure.sqlstate),
        text(&failure.message),
    ))
}

fn told<'a>(answer: &Answer, error: Option<&'a (u16, String, String)>) -> Told<'a> {
    let affected = answer.results.last().and_then(|outcome| match outcome {
        Outcome::Ok(done) => Some(done.affected_rows),
        _ => None,
    });
    Told {
        rows: answer.rows(),
        error: error.map(|(code, sqlstate, text)| (*code, sqlstate.as_str(), text.as_str())),
        affected_rows: affected,
    }
}

fn spoken(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Match => "match".to_owned(),
        Verdict::Tolerated(_) => "quiet".to_owned(),
        Verdict::NotCompared(reason) => format!("not_compared {}", reason.name()),
        Verdict::Diverged(found) => {
            let kinds = [found.kind].into_iter().chain(found.also.iter().copied());
            kinds.fold("diverged".to_owned(), |text, kind| text + " " + kind.name())
        }
    }
}

#[tokio::test]
async fn what_is_known_to_differ_behind_vtgate_is_told_as_it_is() {
    let lab = Lab::get();
    let rules = config::Measure {
        tolerate: Tolerances::all(),
        examples: 3,
        example_cell_bytes: 64,
        clock: Duration::from_secs(2),
    };
    let legacy = Side::open("legacy", lab.value("LEGACY_HOST"), lab.port("LEGACY_PORT")).await;
    let shadow = Side::open("shadow", lab.value("SHADOW_HOST"), lab.port("SHADOW_PORT")).await;
    let mut pair = Pair {
        legacy,
        shadow,
        rules,
    };
    let mut wrong = Vec::new();
    for line in include_str!("differences.txt")
        .lines()
        .skip_while(|line| !line.starts_with('@'))
    {
        let Some((what, rest)) = line.split_once(' ') else {
            continue;
        };
        match what {
            "@" => drop(pair.both(&format!("use {rest}")).await),
            "!" => drop(pair.both(rest).await),
            ">" | "?" => {
                let (text, expected) = rest.split_once(" => ").expect("a verdict");
                let (expected, cause) = expected.split_once(" because ").unwrap_or((expected, ""));
                let (verdict, found) = pair.verdict(text, what == "?").await;
                let said = spoken(&verdict);
                if said == expected && found != cause {
                    wrong.push(format!(
                        "{what} {text}\n    should be because {cause:?}, but is because {found:?}"
                    ));
                }
                if said != expected && !(expected == "quiet" && said == "match") {
                    wrong.push(format!(
                        "{what} {text}\n    should say {expected}, but says {verdict:?}"
                    ));
                }
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
