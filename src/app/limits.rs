//! Limits of the machine, and limits that follow from the config.

use crate::config::Config;
use crate::tee;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that the process keeps open besides its connections: files, pipes, the runtimes'.
const DESCRIPTORS_ASIDE: u64 = 200;

/// Exchanges that wait for the shadow, at most, whatever their size.
const SLOTS: usize = 1 << 16;

/// File descriptors that the config's limits need: two for each client, one for each replay.
#[must_use]
pub fn descriptors(config: &Config) -> u64 {
    let clients = config.listen.max_connections as u64;
    clients * 2 + config.mirror.connections_max as u64 + DESCRIPTORS_ASIDE
}

/// File descriptors that this process may come to have.
#[must_use]
pub fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Raises the limit of descriptors as far as it goes, and says where that is too little.
pub(super) fn raise_descriptors(config: &Config) {
    let (needed, most) = (descriptors(config), descriptors_max());
    let now = getrlimit(Resource::Nofile);
    let wanted = needed.min(most);
    if now.current.is_some_and(|current| current < wanted) {
        let raised = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum: now.maximum,
            },
        );
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    if most < needed {
        tracing::warn!(
            "{most} files may be open, but listen.max_connections and mirror.connections_max need {needed}: \
             raise the limit (LimitNOFILE, ulimit -n) or lower them"
        );
    }
}

/// The tee's limits.
pub(super) fn tee(config: &Config) -> tee::Limits {
    tee::Limits {
        queue_bytes: config.mirror.queue_bytes,
        session_queue_bytes: config.mirror.session_queue_bytes,
        stub_bytes: config.mirror.stub_bytes,
        slots: SLOTS,
        // A session that has ended keeps its place until its end was told.
        sessions: config.listen.max_connections.saturating_mul(2),
    }
}
