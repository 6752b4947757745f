//! Starting children that stop with a token.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::child::Child;
use super::entry::{Entry, Steps};
use super::raw;
use super::stop_pipe::StopPipe;
use super::watcher::Watcher;
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Leader, discard};
use crate::shutdown::{Order, ShutdownToken};

/// From SIGTERM to SIGKILL unless told otherwise.
pub const DEFAULT_KILL_AFTER: Duration = Duration::from_secs(2);

/// Starts children that stop with a token: asked at Draining, told at Terminating, killed as whole groups if that does not help.
///
/// | phase | stop descriptor | signal to the child's process group |
/// |---|---|---|
/// | Draining | readable | the [stop signal](Self::stop_signal), unless [`descriptor_only`](Self::descriptor_only) |
/// | Terminating | hang-up | SIGTERM |
/// | [`kill_after`](Self::kill_after) later, or Stopped | | SIGKILL |
///
/// An immediate stop begins at the second line. A signal that stops (SIGSTOP, SIGTTIN) keeps no child from it: each signal is followed by SIGCONT.
///
/// [`finish`](crate::shutdown::Shutdown::finish) waits for children as for other work, names them by program and process number, and has a hook
/// of the order Close in which it waits for those that were given up and kills what is left. As any hook of that order, it makes the
/// default [reserve](crate::shutdown::Builder::reserve) a fifth of the grace period. It asks children to stop also when nobody else did, because
/// the work has ended: [wait](Child::wait) before it for those whose end is wanted.
///
/// Cheap to clone; clones share one thread, which lives as long as there are children.
///
/// # Examples
///
/// ```
/// use std::process::{Command, Stdio};
/// use safepoint::children::Children;
/// use safepoint::shutdown::{Shutdown, Source, StopRequest};
///
/// let shutdown = Shutdown::builder().build()?; // `install` in a program
/// let children = Children::new(&shutdown.token())?;
/// let mut child = children.spawn(Command::new("sleep").arg("1000").stdin(Stdio::null()))?;
/// shutdown.token().request(StopRequest::graceful(Source::Programmatic, "enough"));
/// let report = shutdown.finish(); // waits until `sleep` has ended by its SIGTERM
/// assert!(report.given_up.is_empty());
/// assert!(!child.wait()?.success());
/// # Ok::<(), safepoint::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Children {
    token: ShutdownToken,
    watcher: Arc<Watcher>,
    stop_signal: i32,
    descriptor_only: bool,
    kill_after: Duration,
}

impl Children {
    /// For children that stop with `token`: SIGTERM as the stop signal, SIGKILL 2 s after Terminating.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] when the stop has got past the hooks of the order Close; [`ErrorKind::Io`] when the system has no descriptor to
    /// spare.
    pub fn new(token: &ShutdownToken) -> Result<Self> {
        let watcher = Watcher::new(token.clock().clone())
            .map_err(|error| io("cannot watch children", error))?;
        let watcher = Arc::new(watcher);
        // Weak: the hook is kept until the stop, the thread only as long as there are children.
        let seen = Arc::downgrade(&watcher);
        token.hook(Order::Close, "children", move |share| {
            seen.upgrade().map_or(Ok(()), |watcher| watcher.end(share))
        })?;
        Ok(Self {
            token: token.clone(),
            watcher,
            stop_signal: libc::SIGTERM,
            descriptor_only: false,
            kill_after: DEFAULT_KILL_AFTER,
        })
    }

    /// The signal at Draining, by its number. Default SIGTERM.
    pub fn stop_signal(mut self, signal: i32) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Leaves Draining to the stop descriptor: for children that look at it, and would end at once by a signal. Those that do not look get their
    /// first signal at Terminating.
    pub fn descriptor_only(mut self) -> Self {
        self.descriptor_only = true;
        self
    }

    /// From SIGTERM at Terminating to SIGKILL, on the token's clock; zero is at once. Default [`DEFAULT_KILL_AFTER`].
    ///
    /// The end of the stop may be sooner, and is SIGKILL as well.
    pub fn kill_after(mut self, time: Duration) -> Self {
        self.kill_after = time;
        self
    }

    /// Starts `command` as the leader of a new process group, with a stop descriptor.
    ///
    /// The command gets the group and, for this one start, the environment variable [`STOP_FD_VARIABLE`](super::STOP_FD_VARIABLE); what it
    /// had under that name is removed. A group of its own is not the terminal's foreground group: a child that reads from the terminal is stopped by
    /// SIGTTIN, so give it another standard input. A process that the child leaves behind in its group is killed when the child has ended; a shell
    /// has to `wait` for what it put into the background.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] once a stop was asked for: nothing was started. [`ErrorKind::Invalid`] when there is no such program or signal.
    /// [`ErrorKind::Io`] when the system has no process, descriptor or thread to spare.
    ///
    /// # Sources
    ///
    /// `posix_spawn(3)`, setpgid(2), `pidfd_open(2)`, waitid(2), pipe(7).
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let steps = self.steps()?;
        let program = program(command);
        let token = self.token.child(program.clone());
        let mut guard = token.tracker(program.clone()).guard().ok_or_else(|| {
            let message = format!("`{program}` was not started, as a stop was asked for");
            Error::new(ErrorKind::Closed, message)
        })?;
        let refuse = |error| refused(&program, error);
        let (started, pipe) = StopPipe::start(command).map_err(refuse)?;
        // Only the standard library's handle on the process is dropped, which does nothing to it.
        let (id, pid) = (started.id(), Pid::from_child(&started));
        let name = format!("{program} (pid {id})");
        guard.rename(name.clone());
        let watched = Leader::watch(pid).and_then(|leader| {
            let bell = Arc::clone(&self.watcher.bell);
            token.follow(move |_| bell.ring()).for_good();
            let entry = Entry::new(name.clone(), token.clone(), guard, leader, pipe, steps);
            let outcome = Arc::clone(&entry.outcome);
            self.watcher.add(entry).map(|()| outcome)
        });
        let outcome = watched.map_err(|error| {
            // Nobody would ever stop or reap it.
            discard(pid);
            refused(&program, error)
        })?;
        Ok(Child {
            stdin: started.stdin,
            stdout: started.stdout,
            stderr: started.stderr,
            id,
            name,
            token,
            outcome,
        })
    }

    /// Ends every child's group by SIGKILL, at once and without waiting: what
    /// [`Builder::last_act`](crate::shutdown::Builder::last_act) is for, as after the last rung nobody does it any more.
    pub fn kill_all(&self) {
        self.watcher.kill_all();
    }

    fn steps(&self) -> Result<Steps> {
        let signal = raw::signal(self.stop_signal)
            .ok_or_else(|| Error::invalid(format!("there is no signal `{}`", self.stop_signal)))?;
        if [Signal::KILL, Signal::STOP].contains(&signal) {
            let message = format!("`{signal:?}` cannot be a stop signal");
            return Err(Error::invalid(message).with_hint("choose one that a program can catch"));
        }
        Ok(Steps {
            stop_signal: (!self.descriptor_only).then_some(signal),
            kill_after: self.kill_after,
        })
    }
}

/// What to call a command in reports: the program's name without its directory.
fn program(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    name.to_string_lossy().into_owned()
}

fn refused(program: &str, error: io::Error) -> Error {
    let kind = match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => ErrorKind::Io,
        _ => ErrorKind::Invalid,
    };
    Error::new(kind, format!("cannot start `{program}`")).with_source(error)
}

fn io(message: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, message).with_source(error)
}
