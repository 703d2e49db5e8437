//! The process at the other end of the talk, to be ended where it must not go on. It is held, so that once it is gone no
//! other one is meant that has its number by then.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::os::fd::OwnedFd;

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    process: u32,
    /// None where the system has no such thing: then it is known by its number alone.
    hold: Option<OwnedFd>,
}

impl Peer {
    /// The process of this number, which lives: a connection of its is open. 0 is none.
    pub(super) fn new(process: u32) -> Self {
        Self {
            process,
            hold: pid(process).and_then(hold),
        }
    }

    /// Its number.
    pub(super) const fn process(&self) -> u32 {
        self.process
    }

    /// Whether it could be ended.
    pub(super) fn is_in_reach(&self) -> bool {
        pid(self.process).is_some()
    }

    /// Ends it at once; whether it serves nobody from here on. That it cannot be ended is said.
    pub(super) fn kill(&self) -> bool {
        let killed = self.send(Signal::KILL);
        if let Err(error) = &killed {
            tracing::error!(
                "process {} cannot be ended: {error}. End it by hand: `kill -9 {0}`",
                self.process
            );
        }
        killed.is_ok()
    }

    /// Has it end as a supervisor would.
    pub(super) fn terminate(&self) {
        if let Err(error) = self.send(Signal::TERM) {
            tracing::error!(
                "process {} could not be told to end: {error}. End it by hand: `kill {0}`",
                self.process
            );
        }
    }

    /// One that is gone has all of it behind it.
    fn send(&self, signal: Signal) -> rustix::io::Result<()> {
        let pid = pid(self.process).ok_or(Errno::INVAL)?;
        let sent = match &self.hold {
            Some(held) => match send_to(held, signal) {
                Err(Errno::NOSYS) => kill_process(pid, signal),
                sent => sent,
            },
            None => kill_process(pid, signal),
        };
        match sent {
            Err(Errno::SRCH) => Ok(()),
            sent => sent,
        }
    }
}

/// None where it is no other process.
fn pid(process: u32) -> Option<Pid> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    pid.filter(|_| process != std::process::id())
}

#[cfg(target_os = "linux")]
fn hold(pid: Pid) -> Option<OwnedFd> {
    use rustix::process::{PidfdFlags, pidfd_open};
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

#[cfg(target_os = "linux")]
fn send_to(held: &OwnedFd, signal: Signal) -> rustix::io::Result<()> {
    rustix::process::pidfd_send_signal(held, signal)
}

#[cfg(not(target_os = "linux"))]
const fn hold(_: Pid) -> Option<OwnedFd> {
    None
}

#[cfg(not(target_os = "linux"))]
const fn send_to(_: &OwnedFd, _: Signal) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn a_process_is_ended_and_one_that_is_gone_is_gone() {
        let mut child = sleeper();
        let peer = Peer::new(child.id());
        assert!(peer.is_in_reach());
        assert!(peer.kill());
        assert_eq!(child.wait().unwrap().code(), None, "it was killed");
        assert!(peer.kill(), "it serves nobody");
        let mut child = sleeper();
        Peer::new(child.id()).terminate();
        assert_eq!(child.wait().unwrap().code(), None);
    }

    #[test]
    fn neither_this_process_nor_none_is_ended() {
        for process in [0, std::process::id()] {
            let peer = Peer::new(process);
            assert!(!peer.is_in_reach() && !peer.kill());
        }
    }
}
