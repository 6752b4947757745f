//! A child that leads its process group, by its pidfd: signalled with the group, and reaped after it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpgid, kill_process_group,
    pidfd_open, pidfd_send_signal, waitid,
};

/// An unreaped child of this process that was started as the leader of a group.
#[derive(Debug)]
pub(crate) struct Leader {
    pid: Pid,
    pidfd: OwnedFd,
}

/// What a look at a leader found.
#[derive(Debug)]
pub(crate) enum Reaping {
    Running,
    /// It has ended so, and is reaped; its group was killed before.
    Ended(WaitIdStatus),
    /// Somebody else has reaped it.
    Lost,
}

impl Leader {
    /// Watches a child that was started right before. On an error it is still there; see [`discard`].
    pub(crate) fn watch(pid: Pid) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd })
    }

    /// Its process number, which is also its group's.
    #[cfg(feature = "job")]
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to it and its group, unless somebody else has reaped it: the number may be another's then.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.peek().is_err() {
            return;
        }
        // The only errors are that no member is there any more, or none ours to signal.
        let _ = kill_process_group(self.pid, signal);
        // It may have left its group; it is ours all the same. But none must get a signal twice: many programs take a second SIGTERM for
        // impatience.
        if getpgid(Some(self.pid)) != Ok(self.pid) {
            // An error means that it is gone.
            let _ = pidfd_send_signal(&self.pidfd, signal);
        }
    }

    /// Reaps it if it has ended, after ending whatever it left in its group.
    pub(crate) fn reap(&self) -> Reaping {
        match self.peek() {
            Ok(None) => return Reaping::Running,
            Ok(Some(_)) => {}
            Err(_) => return Reaping::Lost,
        }
        // As long as the leader is unreaped its number, and so the group's, cannot be given to another.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let reap = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), reap) {
            Ok(Some(status)) => Reaping::Ended(status),
            Ok(None) => Reaping::Running,
            Err(_) => Reaping::Lost,
        }
    }

    /// How it ended, leaving it unreaped; nothing while it runs.
    fn peek(&self) -> Result<Option<WaitIdStatus>, Errno> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(self.pidfd.as_fd()), look)
    }
}

impl AsFd for Leader {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Ends a child that was started right before as the leader of a group, and that nobody could ever watch: unreaped, its number is its own.
pub(crate) fn discard(pid: Pid) {
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
}
