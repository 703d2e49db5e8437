//! What operators may change while it runs.

use crate::config::{self, FedBy, Writes};
use crate::tee::Regard;
use serde::{Deserialize, Serialize};

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
            writes: if before.writes == now.writes {
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
        }
    }

    /// The switches as the config sets them, but for what another process' mirror had switched otherwise.
    /// Where replication feeds the shadow nothing is written, whoever had that switched on.
    #[must_use]
    pub fn after(config: &config::Mirror, switched: &Switched, fed_by: FedBy) -> Self {
        let set = Self::new(config);
        let writes = switched.writes.as_deref().and_then(Writes::named);
        let may = |writes: &Writes| *writes != Writes::Apply || fed_by == FedBy::Mirror;
        Self {
            reads: switched.reads.unwrap_or(set.reads),
            writes: writes.filter(may).unwrap_or(set.writes),
            sample: switched.sample.unwrap_or(set.sample).clamp(0.0, 1.0),
            paused: switched.paused,
            observe: switched.observe.unwrap_or(set.observe),
        }
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
        let new = mirror("[mirror]\nwrites = \"off\"\nsample = 0.1\nreads = false\n");
        let set = Control::new(&old);
        assert_eq!(set.switched(&old), Switched::default());
        let as_config = Control::after(&new, &Switched::default(), FedBy::Mirror);
        assert_eq!(as_config, Control::new(&new));

        let switched = Control {
            writes: Writes::Apply,
            paused: true,
            ..set
        };
        let line = serde_json::to_string(&switched.switched(&old)).unwrap();
        let told: Switched = serde_json::from_str(&line).unwrap();
        let expected = Control {
            writes: Writes::Apply,
            paused: true,
            ..Control::new(&new)
        };
        assert_eq!(Control::after(&new, &told, FedBy::Mirror), expected);
        let fed = Control::after(&new, &told, FedBy::Replication);
        assert_eq!(fed.writes, Writes::Off, "it would write every row twice");
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
    fn a_process_that_does_not_know_of_switches_has_switched_nothing() {
        let told: Switched = serde_json::from_str("{\"later\": 1}").unwrap();
        assert_eq!(told, Switched::default());
    }
}
