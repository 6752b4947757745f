//! A child as its starter has it.

use std::fmt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::sync::{Condvar, Mutex, PoisonError};

use super::entry::Ended;
use crate::error::{Error, ErrorKind, Result};
use crate::shutdown::ShutdownToken;

/// How a child ended, once that is known.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    ended: Mutex<Option<Ended>>,
    known: Condvar,
}

impl Outcome {
    pub(super) fn set(&self, ended: Ended) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        self.known.notify_all();
    }

    fn get(&self) -> Option<Ended> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> Ended {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.known.wait_while(ended, |ended| ended.is_none());
        ended.unwrap_or_else(PoisonError::into_inner).flatten()
    }
}

/// A child that stops with its token; see [`Children::spawn`](super::Children::spawn).
///
/// Dropping it changes nothing for the child: it goes on, is waited for by the stop, and is reaped.
pub struct Child {
    /// The write end of its standard input, if that was [piped](std::process::Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// The read end of its standard output, if that was piped.
    pub stdout: Option<ChildStdout>,
    /// The read end of its standard error, if that was piped.
    pub stderr: Option<ChildStderr>,
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) token: ShutdownToken,
    pub(super) outcome: std::sync::Arc<Outcome>,
}

impl Child {
    /// Its process number, which is also its group's.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its name in reports: program and process number.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own token, below that of its [`Children`](super::Children): a request on it stops this child alone, by the same steps.
    pub fn token(&self) -> &ShutdownToken {
        &self.token
    }

    /// Closes its standard input, waits until it has ended and says how. May be called again, with the same answer.
    ///
    /// What it left of its process group has been killed by then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] when something else in this process has taken the answer: a `waitpid(-1)`, or a SIGCHLD that is ignored.
    ///
    /// # Cancel safety
    ///
    /// Waiting changes nothing but that standard input is closed. A stop ends the child, and so the wait.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        self.known(self.outcome.wait())
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] as with [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        let ended = self.outcome.get();
        ended.map(|ended| self.known(ended)).transpose()
    }

    fn known(&self, ended: Ended) -> Result<ExitStatus> {
        ended.ok_or_else(|| {
            let message = format!("how `{}` ended is not known", self.name);
            Error::new(ErrorKind::Closed, message).with_hint(
                "let nothing else in this process wait for all children, and do not ignore SIGCHLD",
            )
        })
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("ended", &self.outcome.get())
            .finish_non_exhaustive()
    }
}
