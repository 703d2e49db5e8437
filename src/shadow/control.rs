//! What operators may change while it runs.

use crate::config::{self, Writes};
use crate::tee::Regard;

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
}
