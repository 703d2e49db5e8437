//! How both servers' latency is spread and how it went over time: `GET /api/v1/latency/course`, and what the
//! page tells of it.

use super::answer::{Asked, Refusal, scrape};
use super::{Parts, readiness};
use crate::config;
use crate::ledger::{
    Byte, Course, Curve, FindingFilter, LIMIT_MAX, Moment, Pace, Protocol, Then, Whose,
};
use crate::readiness::{allowed, slower};
use crate::sql::Class;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Which latencies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// A class; all where neither it nor a fingerprint is said.
    pub(super) class: Option<String>,
    /// A statement's digest.
    pub(super) fingerprint: Option<String>,
    /// How it came; `text` where it is not said.
    pub(super) protocol: Option<String>,
    /// `first` or `last`, which is the default.
    pub(super) byte: Option<String>,
}

impl Which {
    /// What is meant by it.
    ///
    /// # Errors
    /// A word that is none of those which are known, and these.
    pub(super) fn meant(&self) -> Result<(Whose, Byte), Refusal> {
        let byte = match self.byte.as_deref() {
            None | Some("last") => Byte::Last,
            Some("first") => Byte::First,
            Some(other) => {
                let wrong = format!("byte: found {other:?}; it is one of first, last");
                return Err(Refusal::bad(wrong));
            }
        };
        let whose = match (&self.fingerprint, &self.class) {
            (Some(_), Some(_)) => {
                return Err(Refusal::bad("class and fingerprint: ask for one of them"));
            }
            (Some(digest), None) => Whose::Statement(digest_of(digest)?, self.protocol()?),
            (None, Some(class)) => Whose::Class(class_of(class)?),
            (None, None) => Whose::All,
        };
        Ok((whose, byte))
    }

    fn protocol(&self) -> Result<Protocol, Refusal> {
        let name = self.protocol.as_deref().unwrap_or("text");
        Protocol::named(name).ok_or_else(|| {
            Refusal::bad(format!(
                "protocol: found {name:?}; it is one of text, prepared"
            ))
        })
    }
}

fn digest_of(text: &str) -> Result<u64, Refusal> {
    let is_digest = text.len() == 16;
    let digest = is_digest.then(|| u64::from_str_radix(text, 16).ok());
    digest.flatten().ok_or_else(|| {
        Refusal::bad(format!(
            "fingerprint: found {text:?}; it is a digest, 16 hexadecimal digits, as in the list of findings"
        ))
    })
}

fn class_of(name: &str) -> Result<Class, Refusal> {
    let known = Class::ALL.into_iter().find(|class| class.name() == name);
    known.ok_or_else(|| {
        Refusal::bad(format!(
            "class: found {name:?}; it is one of {}",
            Class::ALL.map(Class::name).join(", ")
        ))
    })
}

/// Both servers' medians and 99th percentiles, minute by minute.
pub(super) async fn course(
    State(parts): State<Parts>,
    Asked(which): Asked<Which>,
) -> Result<Json<Value>, Refusal> {
    let (whose, byte) = which.meant()?;
    let told = scrape(move || told(&parts, whose, byte)).await?;
    let [primary, shadow] = &told.servers;
    let times = |[p50, p99]: [u64; 2]| json!({"p50": p50, "p99": p99});
    let item = |one: &Moment| json!({"at": one.at.to_string(), "count": one.samples, primary: times(one.primary), shadow: times(one.shadow)});
    let items: Vec<Value> = told.course.moments.iter().map(item).collect();
    Ok(Json(json!({"items": items})))
}

/// How long some commands took.
#[derive(Debug)]
pub(super) struct Told {
    /// The primary's name, the shadow's.
    pub(super) servers: [String; 2],
    /// Since the start; none where too few were timed.
    pub(super) curve: Option<Curve>,
    /// The last twelve hours.
    pub(super) course: Course,
    /// As the guard `latency` sees them, where it does and they are past its limits.
    pub(super) slower: Option<Pace>,
}

/// What is known of these commands' latency at this moment.
pub(super) fn told(parts: &Parts, whose: Whose, byte: Byte) -> Told {
    let servers = readiness::names(parts);
    let names = servers.each_ref().map(String::as_str);
    let curve = match whose {
        Whose::Statement(digest, protocol) => {
            parts.ledger.curve_of(names, byte, (digest, protocol))
        }
        Whose::Class(_) | Whose::All => {
            let class = match whose {
                Whose::Class(class) => Some(class.name()),
                Whose::Statement(..) | Whose::All => None,
            };
            let curves = parts.ledger.curves(names, byte).into_iter();
            curves.into_iter().find(|curve| curve.class == class)
        }
    };
    let is_meant = |pace: &Pace| match whose {
        Whose::All => false,
        Whose::Class(class) => pace.shape.is_none() && pace.class == class,
        Whose::Statement(digest, protocol) => pace.shape == Some((digest, protocol)),
    };
    let limits = &parts.config.readiness.whole().latency;
    let mut paces = readiness::paces(parts).into_iter();
    Told {
        curve,
        course: parts.ledger.course(names, byte, whose),
        slower: paces.find(|pace| is_meant(pace) && slower(pace, limits).is_some()),
        servers,
    }
}

/// Whether the shadow was past the limits of the guard `latency` in a minute: who was the shadow then. Of a minute
/// in which that changed nothing is said.
pub(super) fn is_slow(limits: &config::LatencyLimits, minute: &Moment) -> bool {
    let (primary, shadow) = match minute.then {
        Then::Same => (minute.primary, minute.shadow),
        Then::Turned => (minute.shadow, minute.primary),
        Then::Between => return false,
    };
    let past = |at: usize, factor, time| {
        let of = |times: [u64; 2]| times.get(at).copied().unwrap_or(0);
        of(shadow) > allowed(of(primary), factor, time)
    };
    past(0, limits.p50_ratio, limits.p50) || past(1, limits.p99_ratio, limits.p99)
}

/// A finding of kind `latency`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) id: u64,
    pub(super) state: String,
}

impl Marked {
    /// Whether it is to be judged or mended.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "open" | "regressed")
    }
}

/// By digest and protocol, the findings of kind `latency`. Reads the ledger's file.
pub(super) fn marked(parts: &Parts) -> Result<BTreeMap<(String, String), Marked>, String> {
    let page = parts.ledger.findings(&FindingFilter {
        kind: Some("latency".to_owned()),
        limit: LIMIT_MAX,
        ..FindingFilter::default()
    })?;
    let text = |item: &Value, key: &str| {
        let text = item.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let mark = |item: &Value| {
        let key = (text(item, "digest"), text(item, "protocol"));
        let id = item.get("id").and_then(Value::as_u64).unwrap_or(0);
        let state = text(item, "state");
        (key, Marked { id, state })
    };
    Ok(page.items.iter().map(mark).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_minute_is_judged_by_who_was_the_shadow_in_it() {
        let limits = config::LatencyLimits {
            p50_ratio: 1.5,
            p50: Duration::from_millis(2),
            p99_ratio: 1.5,
            p99: Duration::from_millis(5),
            window: Duration::from_secs(900),
            samples: 20,
            fingerprints: 10,
        };
        let fast = [1_000, 5_000];
        let slow = [9_000, 50_000];
        for (then, primary, shadow, is) in [
            (Then::Same, fast, slow, true),
            (Then::Same, slow, fast, false),
            // Before the cutover the server was slow that is the primary now.
            (Then::Turned, slow, fast, true),
            (Then::Turned, fast, slow, false),
            (Then::Between, fast, slow, false),
        ] {
            let minute = Moment {
                at: jiff::Timestamp::UNIX_EPOCH,
                samples: 100,
                primary,
                shadow,
                then,
            };
            assert_eq!(is_slow(&limits, &minute), is, "{minute:?}");
        }
    }
}
