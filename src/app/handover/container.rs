//! Whether this process' end is its container's, and so the end of every other process in there.

use std::os::unix::fs::MetadataExt;

/// The PID namespace that a machine starts with, as `/proc` numbers it: `PROC_PID_INIT_INO` of Linux'
/// [proc_ns.h](https://github.com/torvalds/linux/blob/master/include/linux/proc_ns.h). In any other one there is a
/// container.
const OF_THE_MACHINE: u64 = 0xEFFF_FFFC;

/// Why this process has no heir; none where it may have one.
pub(super) fn is_the_container() -> Option<&'static str> {
    Place::here().is_the_container()
}

/// How a process stands among others.
#[derive(Clone, Copy, Debug)]
struct Place {
    process: u32,
    /// 0 where it lives in another PID namespace.
    parent: u32,
    /// The PID namespace is not the machine's.
    is_contained: bool,
    /// A supervisor watches it, to which the next process can be named.
    is_watched: bool,
}

impl Place {
    fn here() -> Self {
        let parent = rustix::process::getppid();
        let parent = parent.map_or(0, |pid| pid.as_raw_nonzero().get());
        let namespace = std::fs::metadata("/proc/self/ns/pid");
        let watched = std::env::var_os("NOTIFY_SOCKET");
        Self {
            process: std::process::id(),
            parent: u32::try_from(parent).unwrap_or(0),
            is_contained: namespace.is_ok_and(|it| it.ino() != OF_THE_MACHINE),
            is_watched: watched.is_some_and(|socket| !socket.is_empty()),
        }
    }

    /// An init in front (`docker run --init`, tini, a shell) ends with the one process that it was given; and whose
    /// parent is outside, as in a pod whose containers share their processes, is the container's as well.
    const fn is_the_container(self) -> Option<&'static str> {
        if self.process == 1 {
            return Some(
                "it is process 1, whose end is its container's, and the new process' with it: start a second container beside this one, and stop this one (docs/upgrade.md)",
            );
        }
        if self.is_contained && self.parent <= 1 && !self.is_watched {
            return Some(
                "it was started by its container's first process, so its end is the container's, and the new process' with it: start a second container beside this one, and stop this one (docs/upgrade.md)",
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finding: behind an init the old process' end ended the container, and the new one in it.
    #[test]
    fn the_process_whose_end_is_the_containers_has_no_heir() {
        let place = |process, parent, is_contained, is_watched| Place {
            process,
            parent,
            is_contained,
            is_watched,
        };
        for (place, is_the_container) in [
            (place(1, 0, true, false), true),
            (place(1, 0, true, true), true),
            // docker run --init; a pod whose containers share their processes.
            (place(7, 1, true, false), true),
            (place(7, 0, true, false), true),
            // A shell's or a test's child in a container; a unit in one; one that init has on a machine.
            (place(7, 6, true, false), false),
            (place(7, 1, true, true), false),
            (place(7, 1, false, false), false),
        ] {
            let why = place.is_the_container();
            assert_eq!(why.is_some(), is_the_container, "{place:?}");
        }
    }
}
