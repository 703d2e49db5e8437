//! A client whose exchanges the test itself hands to a mirror, as a relay would: so a test may move
//! it to another server.

use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use understudy::connect::Stream;
use understudy::shadow::{Carried, Mirror, SessionState, Values};
use understudy::tee::{Exchange, Facts, Regard, Share, Tee};
use understudy::wire::answer::{Answer, AnswerTracker, Progress};
use understudy::wire::capability::Capabilities;
use understudy::wire::command::{Command, Expect};
use understudy::wire::packet::write_packet;

/// One client and its connection to whoever is the primary.
pub struct Session {
    pub stream: Stream,
    pub tracker: AnswerTracker,
    pub facts: Arc<Facts>,
    tee: Tee,
    seq: u64,
    last: Option<Exchange>,
    pub in_transaction: bool,
}

impl Session {
    /// Hands the last one again, as if it had been said and answered again.
    pub fn says_again(&mut self) {
        self.seq += 1;
        if let Some(last) = self.last.clone() {
            self.tee.hand(Exchange {
                seq: self.seq,
                ..last
            });
        }
    }

    /// One that has logged in to `legacy` as `app`, in the database `app`.
    pub fn new(session: u64, stream: Stream, capabilities: Capabilities, tee: &Tee) -> Self {
        Self {
            stream,
            tracker: AnswerTracker::new(capabilities, 64 << 10),
            facts: Arc::new(Facts {
                session,
                login: 0,
                user: "app".into(),
                database: "app".into(),
                capabilities,
                collation: 45,
                primary: "legacy".into(),
                thread_id: 1,
                client: None,
                share: Arc::new(Share::default()),
            }),
            tee: tee.clone(),
            seq: 0,
            last: None,
            in_transaction: false,
        }
    }

    /// Says a command to the primary, and hands what came of it to the mirror.
    pub async fn say(&mut self, payload: &[u8]) -> Answer {
        self.say_since(Instant::now(), payload, payload).await
    }

    /// Says another query to the primary than the mirror is told, and that it began then.
    pub async fn say_from(&mut self, began: Instant, text: &str, other: &str) -> Answer {
        let payload = |text: &str| [b"\x03", text.as_bytes()].concat();
        self.say_since(began, &payload(text), &payload(other)).await
    }

    async fn say_since(&mut self, began: Instant, payload: &[u8], other: &[u8]) -> Answer {
        self.tracker
            .digest_rows(self.tee.regard() == Regard::Compare);
        let answer = exchange(&mut self.stream, &mut self.tracker, other).await;
        self.seq += 1;
        let now = Instant::now();
        let exchange = Exchange {
            facts: Arc::clone(&self.facts),
            seq: self.seq,
            command: payload.to_vec(),
            command_bytes: payload.len() as u64,
            in_transaction_before: self.in_transaction,
            answer: answer.clone(),
            answered: true,
            began,
            sent: began,
            first_byte: now,
            acked: now,
        };
        self.tee.hand(exchange.clone());
        self.last = Some(exchange);
        if let Some(status) = answer.status {
            self.in_transaction = status.in_transaction();
        }
        answer
    }

    pub async fn query(&mut self, text: &str) -> Answer {
        self.say(&[b"\x03", text.as_bytes()].concat()).await
    }

    pub async fn state(&self, mirror: &Mirror) -> SessionState {
        let state = mirror.session(&self.facts).await.expect("a mirror");
        assert_eq!(state.seq, self.seq);
        state
    }

    /// What its variables hold.
    pub async fn values(&mut self, mirror: &Mirror, state: &SessionState) -> Values {
        let own = std::mem::replace(&mut self.stream, Stream::Memory(tokio::io::duplex(1).0));
        let (own, values) = mirror.read_values(own, state).await.expect("read");
        self.stream = own;
        values.expect("values")
    }

    /// Goes on with the other server.
    pub async fn move_to(&mut self, mirror: &Mirror, mut carried: Carried) {
        let state = self.state(mirror).await;
        assert_eq!(state.stuck, []);
        carried.catch_up(&state).await.expect("caught up");
        let values = self.values(mirror, &state).await;
        carried.set_values(&values).await.expect("set");
        let parts = carried.into_parts();
        self.stream = parts.stream;
        self.is_on(&parts.server);
    }

    /// Its primary is this one from here on.
    pub fn is_on(&mut self, server: &str) {
        self.facts = Arc::new(Facts {
            primary: server.into(),
            share: Arc::clone(&self.facts.share),
            user: self.facts.user.clone(),
            database: self.facts.database.clone(),
            client: self.facts.client.clone(),
            ..*self.facts
        });
    }
}

/// Reads one answer whole, if there is one.
pub async fn exchange(stream: &mut Stream, tracker: &mut AnswerTracker, payload: &[u8]) -> Answer {
    let kind = Command(payload[0]);
    let mut bytes = Vec::new();
    write_packet(&mut bytes, 0, payload);
    stream.write_all(&bytes).await.expect("sent");
    let mut answer = Answer::default();
    if kind.expect() == Expect::Nothing {
        return answer;
    }
    tracker.begin(kind.expect());
    let mut piece = vec![0; 4096];
    loop {
        let read = stream.read(&mut piece).await.expect("an answer");
        assert!(read > 0, "the server closed");
        match tracker.feed(&piece[..read], &mut answer) {
            Progress::More => {}
            Progress::Ended { used } => {
                assert_eq!(used, read);
                return answer;
            }
            other => panic!("{other:?}"),
        }
    }
}
