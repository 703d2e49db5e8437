//! What stands in the file and nobody asked for: the nearest name that there is, or where it belongs.

use super::super::fault::{Fault, Place, did_you_mean};
use super::super::section::Reading;

const SECTIONS: [&str; 12] = [
    "listen",
    "primary",
    "shadow",
    "mirror",
    "compare",
    "ledger",
    "readiness",
    "cutover",
    "fleet",
    "verify",
    "admin",
    "log",
];

/// A section that there is not.
pub(super) fn section(name: &str, place: Place) -> Fault {
    let right = if let Some(near) = did_you_mean(name, SECTIONS.into_iter()) {
        format!("did you mean [{near}]?")
    } else {
        format!("the sections are {}", SECTIONS.join(", "))
    };
    Fault {
        place,
        key: name.to_owned(),
        wrong: "unknown section".to_owned(),
        right,
    }
}

/// A key that its section has not.
pub(super) fn key(reading: &Reading, section: &str, key: &str, place: &Place) -> Fault {
    let path = format!("{section}.{key}");
    let here: Vec<&str> = reading
        .known
        .iter()
        .filter(|(one, _)| one == section)
        .map(|(_, key)| *key)
        .collect();
    let elsewhere = reading
        .known
        .iter()
        .find(|(_, one)| *one == key)
        .map(|(section, _)| section);
    let right = if let Some(near) = did_you_mean(key, here.iter().copied()) {
        format!("did you mean {near}?")
    } else if let Some(elsewhere) = elsewhere {
        format!("it belongs to [{elsewhere}]")
    } else {
        format!("the keys of [{section}] are {}", here.join(", "))
    };
    Fault {
        place: place.clone(),
        key: path,
        wrong: "unknown key".to_owned(),
        right,
    }
}
