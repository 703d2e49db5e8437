//! What stands in etcd below a fleet's prefix, read past the proxies: who is primary, and who belongs to it.

use crate::lab::Lab;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// See the module.
pub struct Etcd {
    url: String,
    prefix: String,
}

impl Etcd {
    /// The lab's, below a prefix.
    pub fn new(lab: &Lab, prefix: &str) -> Self {
        Self {
            url: lab.value("ETCD_URL").to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    /// Who is primary; nothing where that was never written.
    pub fn primary(&self) -> Option<String> {
        let primary = self.value("primary")?;
        Some(primary["name"].as_str().expect("a name").to_owned())
    }

    /// The names of the proxies that belong to it, sorted.
    pub fn members(&self) -> Vec<String> {
        let members = self.value("members").unwrap_or(json!({}));
        let members = members.as_object().expect("an object");
        members.keys().cloned().collect()
    }

    /// A key's value. The gateway has keys and values in base64.
    fn value(&self, key: &str) -> Option<Value> {
        let key = BASE64_STANDARD.encode(format!("{}{key}", self.prefix));
        let url = format!("{}/v3/kv/range", self.url);
        let answer = ureq::post(&url).send_json(json!({"key": key}));
        let mut answer = answer.unwrap_or_else(|fault| panic!("{url}: {fault}"));
        let answer: Value = answer.body_mut().read_json().expect("JSON");
        let value = answer["kvs"][0]["value"].as_str()?;
        let value = BASE64_STANDARD.decode(value).expect("base64");
        Some(serde_json::from_slice(&value).expect("JSON"))
    }
}
