//! Starting a child by `posix_spawn`, and learning how it ended.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpgid, pidfd_open, pidfd_send_signal, waitid,
};

use super::group::signal_group;
use super::procfs::boot_ticks;
use crate::error::{Error, ErrorKind, Result};

/// What to start, with which descriptors.
#[derive(Debug)]
pub struct SpawnRequest<'a> {
    /// The program's file.
    pub program: &'a CStr,
    /// Its arguments, its own name first.
    pub arguments: &'a [CString],
    /// Its whole environment, `NAME=value` each.
    pub environment: &'a [CString],
    /// Its standard input.
    pub stdin: BorrowedFd<'a>,
    /// Its standard output.
    pub stdout: BorrowedFd<'a>,
    /// Its standard error.
    pub stderr: BorrowedFd<'a>,
    /// What it gets as descriptor 3.
    pub control: Option<BorrowedFd<'a>>,
}

/// The descriptor on which a child finds [`SpawnRequest::control`].
pub const CONTROL_FD: i32 = 3;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code (0 to 255).
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// In words: "exit 3", "killed by SIGKILL".
    pub fn describe(self) -> String {
        match self {
            Self::Code(code) => format!("exit {code}"),
            Self::Signal(number) => match NixSignal::try_from(number) {
                Ok(signal) => format!("killed by {signal}"),
                Err(_) => format!("killed by signal {number}"),
            },
        }
    }
}

/// A running child, the leader of its process group. Not ended by being dropped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// The kernel's clock ticks since boot before and after the start: its start time lies between.
    pub started_ticks: (u64, u64),
}

/// Starts a child in a new process group, with default signal actions and an empty signal mask.
///
/// An inherited ignored SIGHUP (nohup) stays ignored for it.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] when the program cannot be executed or its arguments are too long; [`ErrorKind::Io`] when the system has
/// no room for another process.
pub fn spawn(request: &SpawnRequest<'_>) -> Result<Child> {
    let refuse = |error: nix::Error| {
        let kind = match error {
            nix::Error::EAGAIN | nix::Error::ENOMEM | nix::Error::EMFILE | nix::Error::ENFILE => {
                ErrorKind::Io
            }
            _ => ErrorKind::Invalid,
        };
        let program = request.program.to_string_lossy();
        let refused = Error::new(kind, format!("cannot start `{program}`"))
            .with_source(std::io::Error::from(error));
        match error {
            nix::Error::E2BIG => refused.with_hint("one argument may have at most 128 KiB; pass the item on standard input with `--stdin`"),
            nix::Error::ENOEXEC => refused.with_hint("a script needs a first line such as `#!/bin/sh`"),
            nix::Error::EAGAIN => refused.with_hint("the limit of processes is reached; use fewer slots (`-j`)"),
            _ => refused,
        }
    };
    let mut actions = PosixSpawnFileActions::init().map_err(refuse)?;
    let descriptors = [(request.stdin, 0), (request.stdout, 1), (request.stderr, 2)];
    for (source, target) in descriptors {
        actions
            .add_dup2(source.as_raw_fd(), target)
            .map_err(refuse)?;
    }
    if let Some(control) = request.control {
        actions
            .add_dup2(control.as_raw_fd(), CONTROL_FD)
            .map_err(refuse)?;
    }
    let mut attributes = PosixSpawnAttr::init().map_err(refuse)?;
    attributes
        .set_flags(
            PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
        )
        .map_err(refuse)?;
    attributes
        .set_pgroup(nix::unistd::Pid::from_raw(0))
        .map_err(refuse)?;
    attributes.set_sigmask(&SigSet::empty()).map_err(refuse)?;
    // Rust programs ignore SIGPIPE; a child must not inherit that. Caught signals become default by exec itself.
    let mut defaults = SigSet::empty();
    defaults.add(NixSignal::SIGPIPE);
    attributes.set_sigdefault(&defaults).map_err(refuse)?;
    let before = boot_ticks();
    let pid = posix_spawn(
        request.program,
        &actions,
        &attributes,
        request.arguments,
        request.environment,
    )
    .map_err(refuse)?;
    let after = boot_ticks();
    let pid = Pid::from_raw(pid.as_raw())
        .ok_or_else(|| Error::new(ErrorKind::Io, "the system returned process 0"))?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Child {
            pid,
            pidfd,
            started_ticks: (before, after),
        }),
        Err(error) => {
            // Without a descriptor nobody would ever reap it; it has done nothing yet that a retry would not do again.
            signal_group(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            Err(Error::new(ErrorKind::Io, "cannot watch a child")
                .with_source(std::io::Error::from(error)))
        }
    }
}

impl Child {
    /// Its process number, which is also its group's.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The descriptor that is readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal to it and its group.
    pub fn signal(&self, signal: Signal) {
        signal_group(self.pid, signal);
        // The child may have left its group; it is ours all the same. But none must get a signal twice: many programs take a
        // second SIGTERM for impatience. As long as the child is unreaped its number is its own.
        if getpgid(Some(self.pid)) != Ok(self.pid) {
            // An error means that it is gone.
            let _ = pidfd_send_signal(&self.pidfd, signal);
        }
    }

    /// Reaps it if it has ended, after ending whatever it left in its group. `None` while it runs.
    ///
    /// The second value says whether the group still has members, which are being killed.
    pub fn reap(&self) -> Option<(Exit, bool)> {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(self.pidfd.as_fd()), peek).ok()??;
        // As long as the leader is unreaped its number, and so the group's, cannot be given to another.
        signal_group(self.pid, Signal::KILL);
        let status = waitid(
            WaitId::PidFd(self.pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        )
        .ok()??;
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Code(0),
        };
        Some((exit, super::group::exists(self.pid)))
    }
}
