//! etcd as the shared store, by its JSON gateway: `POST /v3/kv/range` and `/v3/kv/txn`, as the
//! documentation of etcd 3.4 and later has them ("gRPC gateway"; keys and values in base64, numbers of
//! 64 bits as text). It asks one endpoint after the other until one answers.
//!
//! The gateway rather than gRPC: three kinds of request a cutover need no generated client, nor a
//! compiler of protocols for whoever builds this.

use super::store::{Change, Down, Entry, Look, Revision, Store};
use super::{FleetError, secure};
use crate::config::{self, Account};
use crate::cutover::helm::Soon;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// An answer longer than this is none of a fleet's.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Etcd {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Vec<String>,
    /// The one that answered last.
    answered: AtomicUsize,
    agent: ureq::Agent,
    /// For one request; two of these for all endpoints.
    at_most: Duration,
    account: Option<Account>,
    /// What etcd gave for the account.
    token: Mutex<Option<String>>,
}

/// What went wrong with one request.
enum Wrong {
    /// The token may not be known any more.
    Token(String),
    Words(String),
}

impl From<String> for Wrong {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl Etcd {
    /// The etcd of this config. Reads the files of its TLS.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub(super) fn of(fleet: &config::Fleet) -> Result<Self, FleetError> {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(fleet.timeout))
            .tls_config(secure::tls(fleet)?)
            .proxy(None)
            .max_redirects(0)
            .build()
            .new_agent();
        Ok(Self {
            inner: Arc::new(Inner {
                endpoints: fleet.etcd.clone(),
                answered: AtomicUsize::new(0),
                agent,
                at_most: fleet.timeout,
                account: fleet.account.clone(),
                token: Mutex::default(),
            }),
        })
    }

    /// Off the runtime's threads: it waits for the network.
    async fn ask(&self, path: &'static str, body: Value) -> Result<Value, Down> {
        let inner = Arc::clone(&self.inner);
        let asked = tokio::task::spawn_blocking(move || inner.ask(path, &body)).await;
        asked.unwrap_or_else(|broken| Err(Down(broken.to_string())))
    }
}

impl Inner {
    fn ask(&self, path: &str, body: &Value) -> Result<Value, Down> {
        let first = self.answered.load(Ordering::Relaxed);
        let mut failed = Vec::new();
        let until = Instant::now() + 2 * self.at_most;
        for turn in 0..self.endpoints.len() {
            if Instant::now() >= until {
                break;
            }
            let at = (first + turn) % self.endpoints.len();
            let Some(endpoint) = self.endpoints.get(at) else {
                continue;
            };
            match self.ask_as_somebody(endpoint, path, body) {
                Ok(answer) => {
                    self.answered.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(why) => failed.push(format!("{endpoint}: {why}")),
            }
        }
        Err(Down(format!("etcd does not answer: {}", failed.join("; "))))
    }

    /// As the account, where there is one: a token does not last.
    fn ask_as_somebody(&self, endpoint: &str, path: &str, body: &Value) -> Result<Value, String> {
        let said = |wrong| match wrong {
            Wrong::Token(words) | Wrong::Words(words) => words,
        };
        let Some(account) = &self.account else {
            return self.ask_one(endpoint, path, body, None).map_err(said);
        };
        let known = self.token.lock().clone();
        if let Some(token) = known {
            match self.ask_one(endpoint, path, body, Some(&token)) {
                Err(Wrong::Token(_)) => {}
                asked => return asked.map_err(said),
            }
        }
        let login = json!({"name": account.user, "password": account.password});
        let login = self.ask_one(endpoint, "/v3/auth/authenticate", &login, None);
        let login = login.map_err(said)?;
        let token = login.get("token").and_then(Value::as_str);
        let token = token.ok_or("it gives no token for fleet.user")?.to_owned();
        *self.token.lock() = Some(token.clone());
        self.ask_one(endpoint, path, body, Some(&token))
            .map_err(said)
    }

    fn ask_one(
        &self,
        endpoint: &str,
        path: &str,
        body: &Value,
        token: Option<&str>,
    ) -> Result<Value, Wrong> {
        let mut request = self.agent.post(format!("{endpoint}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let sent = request.send_json(body);
        let mut answer = sent.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = body.read_to_string().map_err(|error| error.to_string())?;
        if status != 200 {
            let start: String = text.chars().take(200).collect();
            let words = format!("HTTP {status}: {}", start.trim());
            // 401, or 400 where its store of accounts has changed since.
            return Err(if matches!(status, 400..500) && token.is_some() {
                Wrong::Token(words)
            } else {
                Wrong::Words(words)
            });
        }
        serde_json::from_str(&text).map_err(|error| format!("no answer of etcd's: {error}").into())
    }
}

impl Store for Etcd {
    fn look<'a>(&'a self, prefix: &'a str) -> Soon<'a, Result<Look, Down>> {
        let body = json!({"key": coded(prefix), "range_end": coded_end(prefix)});
        Box::pin(async move {
            let answer = self.ask("/v3/kv/range", body).await?;
            looked(&answer)
                .ok_or_else(|| Down(format!("etcd answers what cannot be read: {answer}")))
        })
    }

    fn change(&self, change: Change) -> Soon<'_, Result<bool, Down>> {
        let body = transaction(&change);
        Box::pin(async move {
            let answer = self.ask("/v3/kv/txn", body).await?;
            // What is false is left out.
            Ok(answer.get("succeeded").and_then(Value::as_bool) == Some(true))
        })
    }
}

fn transaction(change: &Change) -> Value {
    let compare = change.seen.iter().map(|(key, revision)| {
        json!({
            "key": coded(key),
            "target": "MOD",
            "result": "EQUAL",
            "mod_revision": revision.to_string(),
        })
    });
    let clears = change.clears.iter().map(|prefix| {
        json!({"request_delete_range": {"key": coded(prefix), "range_end": coded_end(prefix)}})
    });
    let puts = change.puts.iter().map(|(key, value)| {
        json!({"request_put": {"key": coded(key), "value": BASE64_STANDARD.encode(value)}})
    });
    json!({
        "compare": compare.collect::<Vec<_>>(),
        "success": clears.chain(puts).collect::<Vec<_>>(),
    })
}

fn looked(answer: &Value) -> Option<Look> {
    let none = Vec::new();
    let kvs = match answer.get("kvs") {
        Some(kvs) => kvs.as_array()?,
        None => &none,
    };
    let entries: Option<Vec<Entry>> = kvs.iter().map(entry).collect();
    Some(Look {
        entries: entries?,
        revision: revision(answer.pointer("/header/revision")?)?,
    })
}

fn entry(kv: &Value) -> Option<Entry> {
    let bytes = |name: &str| match kv.get(name) {
        Some(coded) => BASE64_STANDARD.decode(coded.as_str()?).ok(),
        None => Some(Vec::new()),
    };
    Some(Entry {
        key: String::from_utf8(bytes("key")?).ok()?,
        value: bytes("value")?,
        revision: revision(kv.get("mod_revision")?)?,
    })
}

fn revision(value: &Value) -> Option<Revision> {
    value.as_str()?.parse().ok()
}

fn coded(key: &str) -> String {
    BASE64_STANDARD.encode(key)
}

/// The first key that does not begin with this one: etcd's way to name a prefix.
fn coded_end(prefix: &str) -> String {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    if end.is_empty() {
        end.push(0);
    }
    BASE64_STANDARD.encode(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_says_is_read() {
        let answer = json!({
            "header": {"cluster_id": "1", "revision": "7"},
            "kvs": [
                {"key": "Zm9v", "create_revision": "2", "mod_revision": "5", "version": "2", "value": "YmFy"},
                {"key": "Zm9w", "create_revision": "6", "mod_revision": "6", "version": "1"},
            ],
            "count": "2",
        });
        let look = looked(&answer).unwrap();
        assert_eq!(look.revision, 7);
        let told: Vec<_> = look
            .entries
            .iter()
            .map(|one| (one.key.as_str(), one.value.as_slice(), one.revision))
            .collect();
        assert_eq!(told, [("foo", &b"bar"[..], 5), ("fop", b"", 6)]);
        let empty = looked(&json!({"header": {"revision": "1"}})).unwrap();
        assert_eq!((empty.entries.len(), empty.revision), (0, 1));
        assert_eq!(looked(&json!({"kvs": []})), None);
        assert_eq!(
            looked(&json!({"kvs": 3, "header": {"revision": "1"}})),
            None
        );
    }

    #[test]
    fn a_change_is_one_transaction() {
        let change = Change {
            seen: vec![("foo".into(), 5)],
            puts: vec![("foo".into(), b"bar".to_vec())],
            clears: vec!["foo".into()],
        };
        assert_eq!(
            transaction(&change),
            json!({
                "compare": [{"key": "Zm9v", "target": "MOD", "result": "EQUAL", "mod_revision": "5"}],
                "success": [
                    {"request_delete_range": {"key": "Zm9v", "range_end": "Zm9w"}},
                    {"request_put": {"key": "Zm9v", "value": "YmFy"}},
                ],
            })
        );
    }

    #[test]
    fn nobody_there_is_said_with_every_endpoint() {
        let free = || {
            let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", door.local_addr().unwrap())
        };
        let endpoints = [free(), free()];
        let mut fleet = config::Config::parse("", &[]).unwrap().fleet;
        fleet.etcd = endpoints.to_vec();
        let etcd = Etcd::of(&fleet).unwrap();
        let down = etcd.inner.ask("/v3/kv/range", &json!({})).unwrap_err();
        assert!(
            endpoints.iter().all(|one| down.0.contains(one.as_str())),
            "{down}"
        );
    }
}
