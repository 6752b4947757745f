//! A child whose whole tree ends with us, also when we are killed: a small process between us and it.
//!
//! The guard is a fork of this process without an exec. It is the parent of the child and the reaper of all orphans below it (`PR_SET_CHILD_SUBREAPER`), so
//! whatever the child starts is a descendant of the guard for as long as it lives, also after `setsid`, a double fork, or with an empty environment.
//!
//! ```text
//! this process ──socket──> guard ──> child ──> whatever it starts
//!        <── started, ended, empty ──┘ signals, and reaps
//! ```
//!
//! | who is killed | what ends the tree |
//! |---|---|
//! | this process | the guard: its socket hangs up, and it kills until it has no child |
//! | the guard | the child has `PR_SET_PDEATHSIG`; what it leaves becomes ours if we are a subreaper, and [`Guard::next`] says that it is lost |
//! | both at once | the child, by `PR_SET_PDEATHSIG`; its own children are found by the next run |
//!
//! Killing is free of races: only direct children are signalled by number, and a child's number is its own until it is reaped, which the same thread does. What a
//! killed process leaves becomes a direct child in turn, so repeating this reaches everything.
//!
//! The guard runs what is allowed after a fork in a program with threads: system calls. To look through `/proc` it also allocates, which the allocators of glibc and musl
//! allow there; with another one it may hang, and then [`Guard::abandon`] is the way out. It hears no signal but SIGKILL and SIGSTOP, and leads a group of its own, so that
//! who kills the group of this process leaves it to clean up. Where `/proc` is another namespace's, the tree is the whole namespace if this process is its first, and
//! else only the child and its group can be reached. Sources: prctl(2), fork(2), wait(2), kill(2).

mod inner;
mod line;

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use self::line::{Line, Order, Said};
use super::child::Exit;
use super::procfs::{self, boot_ticks};
use super::signals::SignalSet;
use crate::clock::timespec;
use crate::error::{Error, ErrorKind};

/// How long a guard may say nothing at its start before it is taken for stopped.
const PATIENCE: Duration = Duration::from_millis(50);

/// What to start, and how.
#[derive(Debug)]
pub(crate) struct GuardedProgram<'a> {
    /// The program's file.
    pub(crate) program: &'a CStr,
    /// Its arguments, its own name first.
    pub(crate) arguments: &'a [CString],
    /// Its whole environment, `NAME=value` each.
    pub(crate) environment: &'a [CString],
    /// Its standard output, if that is not ours.
    pub(crate) stdout: Option<BorrowedFd<'a>>,
    /// Its standard error, if that is not ours.
    pub(crate) stderr: Option<BorrowedFd<'a>>,
    /// What it gets as a further descriptor, and the number of that.
    pub(crate) control: Option<(BorrowedFd<'a>, RawFd)>,
    /// Whether it leads a process group of its own.
    pub(crate) own_group: bool,
    /// The signals it is to ignore; all others have their default actions.
    pub(crate) ignored: SignalSet,
    /// The signals that are blocked for it.
    pub(crate) blocked: SignalSet,
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The child alone.
    Child,
    /// The child's process group, as far as it descends from the child.
    Group,
    /// Everything below the guard.
    Tree,
}

/// Something that the guard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The child has ended so.
    Ended(Exit),
    /// Nothing that the child started is left; the guard is gone.
    Empty,
    /// The guard was killed. What it had is ours, if we are a subreaper.
    Lost,
}

/// A program that could not be started.
#[derive(Debug)]
pub(crate) struct NotStarted {
    /// The system's number for why, when it was the execution that failed.
    pub(crate) execution: Option<i32>,
    /// Why.
    pub(crate) error: Error,
}

/// A guard with its child. Dropped, it has the tree killed, and waits for that.
#[derive(Debug)]
pub(crate) struct Guard {
    line: Line,
    pid: Pid,
    child: Pid,
    /// The kernel's clock ticks since boot before and after the start.
    ticks: (u64, u64),
    has_ended: bool,
    is_over: bool,
}

impl Guard {
    /// Starts a guard, and has it start the program. Returns when that is executed.
    ///
    /// # Errors
    ///
    /// See [`NotStarted`]; then nothing is left.
    pub(crate) fn start(program: &GuardedProgram<'_>) -> std::result::Result<Self, NotStarted> {
        let no_process = |error: io::Error| NotStarted {
            execution: None,
            error: Error::new(ErrorKind::Io, "cannot start the guard of a child")
                .with_source(error),
        };
        let (ours, theirs) = Line::pair().map_err(no_process)?;
        let arguments = pointers(program.arguments);
        let environment = pointers(program.environment);
        let ticks_before = boot_ticks();
        let start = inner::Start {
            program,
            arguments: &arguments,
            environment: &environment,
            line: theirs.as_fd().as_raw_fd(),
            group: inner::own_group(),
        };
        let pid = inner::fork(&start).map_err(no_process)?;
        drop(theirs);
        let said = first_words(&ours, pid);
        let ticks = (ticks_before, boot_ticks());
        match said {
            Said::Started(child) => Ok(Self {
                line: ours,
                pid,
                child,
                ticks,
                has_ended: false,
                is_over: false,
            }),
            failed => {
                reap(pid);
                let code = match failed {
                    Said::Failed(code) => Some(code),
                    _ => None,
                };
                Err(refusal(program.program, code))
            }
        }
    }

    /// The child's process number.
    pub(crate) fn child(&self) -> Pid {
        self.child
    }

    /// The guard's own process number.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The clock ticks since boot between which the child was started.
    pub(crate) fn ticks(&self) -> (u64, u64) {
        self.ticks
    }

    /// Has a signal sent. Nothing when nobody is left to get it. A guard that somebody has stopped is continued.
    pub(crate) fn signal(&self, target: Target, signal: i32) {
        self.line.order(match target {
            Target::Child => Order::Child(signal),
            Target::Group => Order::Group(signal),
            Target::Tree => Order::Tree(signal),
        });
        if !self.is_over {
            wake_up(self.pid);
        }
    }

    /// Ends a guard that does not do what it is told; [`next`](Self::next) then says that it is lost.
    pub(crate) fn abandon(&self) {
        if !self.is_over {
            // Our unreaped child: the number is its own.
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }

    /// What the guard has said since the last call, one at a time; `None` when there is nothing new. Never waits.
    pub(crate) fn next(&mut self) -> Option<News> {
        if self.is_over {
            return None;
        }
        match self.line.look()? {
            Said::Ended(status) => {
                self.has_ended = true;
                Some(News::Ended(exit(status)))
            }
            Said::Empty => {
                self.close();
                Some(News::Empty)
            }
            Said::Started(_) | Said::Failed(_) => None,
            Said::Gone => {
                self.close();
                Some(News::Lost)
            }
        }
    }

    /// How the child ended, once the guard is lost and the child has become ours; ends it, if the guard's end did not. Nothing when it went to another.
    pub(crate) fn reap_orphan(&self) -> Option<Exit> {
        let us = rustix::process::getpid().as_raw_nonzero().get();
        let is_ours = procfs::stat(self.child).is_some_and(|stat| stat.parent == us);
        if self.has_ended || !is_ours {
            return None;
        }
        // A program that was executed with the rights of another user has lost its `PR_SET_PDEATHSIG`. Unreaped, its number is its own.
        let _ = kill_process(self.child, Signal::KILL);
        let status = waitid(WaitId::Pid(self.child), WaitIdOptions::EXITED);
        let status = status.ok().flatten()?;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Exit::Code(code)),
            (None, signal) => signal.map(Exit::Signal),
        }
    }

    fn close(&mut self) {
        self.is_over = true;
        reap(self.pid);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_over {
            self.line.hang_up();
            reap(self.pid);
        }
    }
}

impl AsFd for Guard {
    /// Readable when there is news.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

/// Waits for what a guard says first. One that somebody has stopped before that is continued, as one at work is by [`Guard::signal`].
fn first_words(line: &Line, pid: Pid) -> Said {
    loop {
        let mut asked = [PollFd::new(line, PollFlags::IN)];
        let _ = poll(&mut asked, Some(&timespec(PATIENCE)));
        match line.look() {
            Some(said) => return said,
            None => wake_up(pid),
        }
    }
}

/// Continues a guard, which is our unreaped child: the number is its own.
fn wake_up(pid: Pid) {
    let _ = kill_process(pid, Signal::CONT);
}

/// Waits for a guard, which ends as soon as its tree has. One that somebody stops meanwhile is continued.
fn reap(pid: Pid) {
    let changes = WaitIdOptions::EXITED | WaitIdOptions::STOPPED;
    loop {
        match waitid(WaitId::Pid(pid), changes) {
            Ok(Some(status)) if status.stopped() => wake_up(pid),
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

/// From the status of wait(2).
fn exit(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// As execve(2) wants it: pointers, and a null behind them.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    let pointers = texts.iter().map(|text| text.as_ptr());
    pointers.chain(std::iter::once(std::ptr::null())).collect()
}

fn refusal(program: &CStr, code: Option<i32>) -> NotStarted {
    let shown = program.to_string_lossy();
    let error = match code {
        None => Error::new(ErrorKind::Io, format!("the guard of `{shown}` was killed")),
        Some(code) => {
            let refused = Error::new(ErrorKind::Invalid, format!("cannot execute `{shown}`"))
                .with_source(io::Error::from_raw_os_error(code));
            match code {
                libc::ENOEXEC => {
                    refused.with_hint("a script needs a first line such as `#!/bin/sh`")
                }
                libc::ENOENT => refused
                    .with_hint("the interpreter in its first line, or its loader, does not exist"),
                libc::EAGAIN => refused.with_hint("the limit of processes is reached"),
                _ => refused,
            }
        }
    };
    NotStarted {
        execution: code,
        error,
    }
}

#[cfg(test)]
mod tests;
