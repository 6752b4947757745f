//! Starting a child by `posix_spawn`, and learning how it ended.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{Pid, Signal};

use super::leader::{Leader, Reaping, discard};
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
    leader: Leader,
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
    match Leader::watch(pid) {
        Ok(leader) => Ok(Child {
            leader,
            started_ticks: (before, after),
        }),
        Err(error) => {
            // It has done nothing yet that a retry would not do again.
            discard(pid);
            Err(Error::new(ErrorKind::Io, "cannot watch a child").with_source(error))
        }
    }
}

impl Child {
    /// Its process number, which is also its group's.
    pub fn pid(&self) -> Pid {
        self.leader.pid()
    }

    /// The descriptor that is readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.leader.as_fd()
    }

    /// Sends a signal to it and its group.
    pub fn signal(&self, signal: Signal) {
        self.leader.signal(signal);
    }

    /// Reaps it if it has ended, after ending whatever it left in its group. `None` while it runs.
    ///
    /// The second value says whether the group still has members, which are being killed.
    pub fn reap(&self) -> Option<(Exit, bool)> {
        let Reaping::Ended(status) = self.leader.reap() else {
            return None;
        };
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Code(0),
        };
        Some((exit, super::group::exists(self.pid())))
    }
}
