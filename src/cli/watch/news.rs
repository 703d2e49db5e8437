//! What the dashboard knows: the API's answers of a moment, and what was counted in the seconds before.

use crate::cli::words::number;
use crate::cli::{Client, ClientError};
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::time::Instant;

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_secs(1);

/// Seconds that are remembered.
const SECONDS_MAX: usize = 300;

/// Findings that are asked for.
const FINDINGS: u32 = 8;

/// The answers of one moment.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) at: Instant,
    pub(super) status: Value,
    pub(super) readiness: Value,
    pub(super) latency: Value,
    pub(super) findings: Value,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) now: Option<Answers>,
    /// Commands a second, the newest last.
    pub(super) rates: VecDeque<u64>,
    /// Why there is no newer one.
    pub(super) trouble: Option<String>,
}

impl News {
    /// The newest answers, or why there are none.
    pub(super) fn take(&mut self, told: Result<Answers, String>) {
        let answers = match told {
            Ok(answers) => answers,
            Err(trouble) => {
                self.trouble = Some(trouble);
                return;
            }
        };
        self.trouble = None;
        let commands = |answers: &Answers| number(&answers.status, "/coverage/commands");
        if let Some(before) = &self.now {
            let ms = answers.at.saturating_duration_since(before.at).as_millis();
            let ms = u64::try_from(ms).unwrap_or(u64::MAX).max(1);
            // After a restart it counts from nothing.
            let came = commands(&answers).saturating_sub(commands(before));
            self.rates.push_back(came.saturating_mul(1000) / ms);
            while self.rates.len() > SECONDS_MAX {
                self.rates.pop_front();
            }
        }
        self.now = Some(answers);
    }
}

/// Asks on a thread of its own, so that a slow answer does not hold the keys.
#[derive(Debug)]
pub(super) struct Reporter {
    told: Receiver<Result<Answers, String>>,
}

impl Reporter {
    pub(super) fn start(client: Client) -> io::Result<Self> {
        let (tell, told) = sync_channel(1);
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || ask_on(&client, &tell))?;
        Ok(Self { told })
    }

    /// What has come since the last call.
    pub(super) fn bring(&self, news: &mut News) {
        while let Ok(told) = self.told.try_recv() {
            news.take(told);
        }
    }
}

/// Until nobody is told any more.
fn ask_on(client: &Client, tell: &SyncSender<Result<Answers, String>>) {
    while tell
        .send(ask(client).map_err(|error| error.to_string()))
        .is_ok()
    {
        std::thread::sleep(PAUSE);
    }
}

fn ask(client: &Client) -> Result<Answers, ClientError> {
    let open = [
        ("state", "open".to_owned()),
        ("limit", FINDINGS.to_string()),
    ];
    Ok(Answers {
        at: Instant::now(),
        status: client.get("/api/v1/status", &[])?,
        readiness: client.get("/api/v1/readiness", &[])?,
        latency: client.get("/api/v1/latency", &[])?,
        findings: client.get("/api/v1/findings", &open)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn counted(commands: u64, at: Instant) -> Result<Answers, String> {
        Ok(Answers {
            at,
            status: json!({"coverage": {"commands": commands}}),
            readiness: Value::Null,
            latency: Value::Null,
            findings: Value::Null,
        })
    }

    #[test]
    fn rates_are_of_the_time_between_two_answers() {
        let (mut news, start) = (News::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        news.take(counted(100, start));
        assert!(news.rates.is_empty());
        news.take(counted(300, after(2_000)));
        news.take(Err("it is gone".to_owned()));
        assert_eq!(news.trouble.as_deref(), Some("it is gone"));
        // It was restarted meanwhile.
        news.take(counted(7, after(4_000)));
        news.take(counted(57, after(4_500)));
        assert_eq!(news.rates, [100, 0, 100]);
        assert_eq!(news.trouble, None);
    }
}
