//! What operators may change while it runs.

use crate::config::{self, FedBy, Writes};
use crate::tee::Regard;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The mirror's switches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Control {
    /// Mirror reads.
    pub reads: bool,
    /// What happens to dark writes.
    pub writes: Writes,
    /// Share of reads outside transactions that is mirrored, 0 to 1.
    pub sample: f64,
    /// Mirror nothing for now.
    pub paused: bool,
    /// Follow what is not mirrored.
    pub observe: bool,
    /// A cutover led away from the server that replication feeds: until it has led back it says what happens to
    /// dark writes, and the config does not.
    pub flows_back: bool,
}

impl Control {
    /// The switches as the config sets them.
    #[must_use]
    pub fn new(config: &config::Mirror) -> Self {
        Self {
            reads: config.reads.now(),
            writes: config.writes.now(),
            sample: config.sample.now(),
            paused: false,
            observe: config.observe.now(),
            flows_back: false,
        }
    }

    /// How much is to be known of what passes.
    #[must_use]
    pub const fn regard(&self) -> Regard {
        if self.compares() {
            Regard::Compare
        } else if self.observe {
            Regard::Follow
        } else {
            Regard::Nothing
        }
    }

    /// Whether any answer is compared.
    #[must_use]
    pub const fn compares(&self) -> bool {
        !self.paused && (self.reads || !matches!(self.writes, Writes::Off))
    }

    /// Takes what differs in the config between two readings of it; what an operator has switched stays but for
    /// that.
    #[must_use]
    pub fn following(self, before: &Self, now: &Self) -> Self {
        let sampled = before.sample.to_bits() == now.sample.to_bits();
        Self {
            reads: if before.reads == now.reads {
                self.reads
            } else {
                now.reads
            },
            writes: if self.flows_back || before.writes == now.writes {
                self.writes
            } else {
                now.writes
            },
            sample: if sampled { self.sample } else { now.sample },
            // It stands in no file.
            paused: self.paused,
            observe: if before.observe == now.observe {
                self.observe
            } else {
                now.observe
            },
            flows_back: self.flows_back,
        }
    }

    /// What stands otherwise than the config set it.
    #[must_use]
    pub fn switched(&self, config: &config::Mirror) -> Switched {
        let set = Self::new(config);
        Switched {
            reads: (self.reads != set.reads).then_some(self.reads),
            writes: (self.writes != set.writes).then(|| self.writes.name().to_owned()),
            sample: (self.sample.to_bits() != set.sample.to_bits()).then_some(self.sample),
            paused: self.paused,
            observe: (self.observe != set.observe).then_some(self.observe),
            flows_back: self.flows_back,
            said: Some(Said {
                reads: set.reads,
                writes: set.writes.name().to_owned(),
                sample: set.sample,
                observe: set.observe,
            }),
        }
    }

    /// The switches as the config sets them, but for what another process' mirror had switched otherwise and this
    /// config says nothing new of: as where one process reads its config again.
    /// Where replication feeds the shadow nothing is written, whoever had that switched on.
    #[must_use]
    pub fn after(config: &config::Mirror, switched: &Switched, fed_by: FedBy) -> Self {
        let now = Self::new(config);
        // One that does not tell what its config said has the same, as far as anybody knows.
        let said = switched.said.as_ref();
        let before = said.map_or(now, |said| said.set(&now));
        let writes = switched.writes.as_deref().and_then(Writes::named);
        let stood = Self {
            reads: switched.reads.unwrap_or(before.reads),
            writes: writes.unwrap_or(before.writes),
            sample: switched.sample.unwrap_or(before.sample).clamp(0.0, 1.0),
            paused: switched.paused,
            observe: switched.observe.unwrap_or(before.observe),
            flows_back: switched.flows_back,
        };
        let then = stood.following(&before, &now);
        let twice = then.writes == Writes::Apply && fed_by == FedBy::Replication;
        Self {
            writes: if twice { now.writes } else { then.writes },
            ..then
        }
    }
}

/// A switch of which the file does not say how it stands, or did not until it was read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Switch {
    /// The file's key.
    pub key: &'static str,
    /// What the file says now.
    pub file: String,
    /// How it stood before the file was read.
    pub was: String,
    /// How it stands.
    pub is: String,
    /// Why.
    pub why: &'static str,
}

impl Switch {
    /// All of them, where the file said `before` and says `now`, and the switches `were` so and are [following] it.
    ///
    /// [following]: Control::following
    #[must_use]
    pub fn all(before: &Control, now: &Control, were: &Control, are: &Control) -> Vec<Self> {
        let flag = |read: fn(&Control) -> bool| {
            [before, now, were, are].map(|control| read(control).to_string())
        };
        let writes = [before, now, were, are].map(|it| format!("{:?}", it.writes.name()));
        let sample = [before, now, were, are].map(|it| it.sample.to_string());
        let all = [
            Self::of("mirror.reads", flag(|it| it.reads), false),
            Self::of("mirror.writes", writes, are.flows_back),
            Self::of("mirror.sample", sample, false),
            Self::of("mirror.observe", flag(|it| it.observe), false),
        ];
        all.into_iter().flatten().collect()
    }

    fn of(
        key: &'static str,
        [before, file, was, is]: [String; 4],
        flows_back: bool,
    ) -> Option<Self> {
        let why = if is != file && flows_back {
            "a cutover says what happens to dark writes: the file's word holds from the next rollback on"
        } else if is != file {
            "it was switched at run time, and the file says nothing new of it: PATCH /api/v1/mirror, or the page, switches it"
        } else if was != before && was != is {
            "it was switched at run time: the file says something new of it, and that holds"
        } else {
            return None;
        };
        Some(Self {
            key,
            file,
            was,
            is,
            why,
        })
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            file,
            was,
            is,
            why,
        } = self;
        write!(f, "{key} {was} → {is}, the file {file} ({why})")
    }
}

/// Switches that stand otherwise than the config set them: an operator did that, or a cutover. It goes from one
/// process to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Switched {
    reads: Option<bool>,
    writes: Option<String>,
    sample: Option<f64>,
    paused: bool,
    observe: Option<bool>,
    flows_back: bool,
    /// How the config set them.
    said: Option<Said>,
}

/// How a config sets the switches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    reads: bool,
    writes: String,
    sample: f64,
    observe: bool,
}

impl Said {
    /// The switches so; a word that is not known here is as if nothing new were said.
    fn set(&self, now: &Control) -> Control {
        Control {
            reads: self.reads,
            writes: Writes::named(&self.writes).unwrap_or(now.writes),
            sample: self.sample,
            paused: false,
            observe: self.observe,
            flows_back: false,
        }
    }
}

// The sample is a number: no config and no operator sets another.
impl Eq for Switched {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn mirror(text: &str) -> config::Mirror {
        Config::parse(text, &[]).unwrap().mirror
    }

    #[test]
    fn what_was_switched_goes_on_and_what_was_not_is_as_the_new_config_says() {
        let old = mirror("[mirror]\nwrites = \"plan\"\nsample = 0.5\n");
        let new = mirror("[mirror]\nwrites = \"plan\"\nsample = 0.1\nreads = false\n");
        let set = Control::new(&old);
        let after = |set: &Control, new: &config::Mirror, fed_by: FedBy| {
            let line = serde_json::to_string(&set.switched(&old)).unwrap();
            let told: Switched = serde_json::from_str(&line).unwrap();
            Control::after(new, &told, fed_by)
        };
        assert_eq!(after(&set, &new, FedBy::Mirror), Control::new(&new));
        let as_config = Control::after(&new, &Switched::default(), FedBy::Mirror);
        assert_eq!(as_config, Control::new(&new));

        let switched = Control {
            writes: Writes::Apply,
            sample: 0.25,
            paused: true,
            ..set
        };
        let expected = Control {
            writes: Writes::Apply,
            paused: true,
            ..Control::new(&new)
        };
        // Of the sample it says something new.
        assert_eq!(after(&switched, &new, FedBy::Mirror), expected);
        assert_eq!(
            switched.following(&set, &Control::new(&new)),
            expected,
            "as where it is read again"
        );
        let fed = after(&switched, &new, FedBy::Replication);
        assert_eq!(fed.writes, Writes::Plan, "it would write every row twice");
        // Behind a cutover from a replica the config has no word on writes.
        let other = mirror("[mirror]\nwrites = \"off\"\n");
        assert_eq!(after(&switched, &other, FedBy::Mirror).writes, Writes::Off);
        let back = Control {
            flows_back: true,
            ..switched
        };
        let back = after(&back, &other, FedBy::Mirror);
        assert!(back.writes == Writes::Apply && back.flows_back);
    }

    #[test]
    fn the_file_changes_the_switches_that_it_says_something_new_of() {
        let before = Control::new(&mirror("[mirror]\nwrites = \"plan\"\n"));
        let switched = Control {
            reads: false,
            writes: Writes::Off,
            sample: 0.25,
            paused: true,
            observe: before.observe,
            flows_back: false,
        };
        assert_eq!(switched.following(&before, &before), switched);
        let text = "[mirror]\nwrites = \"rollback\"\nsample = 0.5\nobserve = false\n";
        let now = Control::new(&mirror(text));
        let expected = Control {
            writes: Writes::Rollback,
            sample: 0.5,
            observe: false,
            ..switched
        };
        assert_eq!(switched.following(&before, &now), expected);
        let now = Control::new(&mirror("[mirror]\nwrites = \"plan\"\nreads = false\n"));
        let on = Control {
            reads: true,
            ..switched
        };
        assert_eq!(on.following(&before, &now), switched);
    }

    #[test]
    fn behind_a_cutover_from_a_replica_the_files_word_on_writes_waits() {
        let before = Control::new(&mirror("[mirror]\nwrites = \"rollback\"\n"));
        let now = Control::new(&mirror("[mirror]\nwrites = \"plan\"\nsample = 0.5\n"));
        let set = Control {
            writes: Writes::Apply,
            flows_back: true,
            ..before
        };
        let then = set.following(&before, &now);
        assert_eq!(then, Control { sample: 0.5, ..set });
        let told = Switch::all(&before, &now, &set, &then);
        let [writes] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(
            (writes.key, &*writes.file, &*writes.was, &*writes.is),
            ("mirror.writes", "\"plan\"", "\"apply\"", "\"apply\"")
        );
        assert!(writes.why.contains("rollback"), "{writes}");
        let back = Control {
            flows_back: false,
            ..set
        };
        assert_eq!(back.following(&before, &now).writes, Writes::Plan);
    }

    #[test]
    fn what_was_switched_by_hand_is_told_where_the_file_does_not_say_it() {
        let before = Control::new(&mirror("[mirror]\nwrites = \"apply\"\n"));
        let now = Control::new(&mirror("[mirror]\nwrites = \"plan\"\nobserve = false\n"));
        let told = |set: &Control, now: &Control| {
            let then = set.following(&before, now);
            let told = Switch::all(&before, now, set, &then).into_iter();
            let told = told.map(|it| [it.key.to_owned(), it.file, it.was, it.is]);
            told.collect::<Vec<_>>()
        };
        assert_eq!(told(&before, &before), [[""; 4]; 0]);
        assert_eq!(told(&before, &now), [[""; 4]; 0], "the file's words alone");
        let set = Control {
            reads: false,
            writes: Writes::Off,
            ..before
        };
        assert_eq!(
            told(&set, &before),
            [
                ["mirror.reads", "true", "false", "false"],
                ["mirror.writes", "\"apply\"", "\"off\"", "\"off\""],
            ],
            "nothing new in the file"
        );
        assert_eq!(
            told(&set, &now),
            [
                ["mirror.reads", "true", "false", "false"],
                ["mirror.writes", "\"plan\"", "\"off\"", "\"plan\""],
            ]
        );
    }

    #[test]
    fn a_process_that_does_not_know_of_switches_has_switched_nothing() {
        let told: Switched = serde_json::from_str("{\"later\": 1}").unwrap();
        assert_eq!(told, Switched::default());
        let told: Switched = serde_json::from_str("{\"writes\": \"off\"}").unwrap();
        let new = mirror("[mirror]\nwrites = \"plan\"\n");
        let after = Control::after(&new, &told, FedBy::Mirror);
        assert_eq!(after.writes, Writes::Off, "as far as it tells");
    }
}
