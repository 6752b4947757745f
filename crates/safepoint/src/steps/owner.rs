//! A directory of steps in the hands of a program.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::builder::Builder;
use super::report::StepsReport;
use super::room::Room;
use super::scope::Scope;
use crate::error::Result;
use crate::shutdown::ShutdownToken;

/// Steps of one job, durable in one directory that this process owns; it is the outermost [`Scope`], too.
///
/// Dropped without [`close`](Self::close), by an early return or a panic, it closes the directory all the same: all that was recorded stays, and the run
/// counts as interrupted.
///
/// See [the module](super) for an example.
#[derive(Debug)]
pub struct Steps {
    outermost: Scope,
}

impl Steps {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self {
            outermost: Scope::outermost(room),
        }
    }

    /// Opens a directory, without a token and without an observer.
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(directory).open()
    }

    /// Begins to open a directory. The command sees it as a job, if it stands where the jobs are: `.safepoint/experiment`.
    pub fn builder(directory: impl Into<PathBuf>) -> Builder {
        Builder::new(directory.into())
    }

    /// The number of this run, from 1: a directory that is gone on with has several.
    pub fn run(&self) -> u32 {
        self.outermost.room.run()
    }

    /// Ends the run and closes the directory. Scopes that are still there are refused from now on.
    ///
    /// If no stop was asked for, the job counts as completed, unless an effect is held; and names that seem to change from run to run are told.
    ///
    /// # Durability
    ///
    /// When this returns, all that was recorded, and the end of the run, survive a power cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) after a failed write; otherwise as the last writes went.
    pub fn close(self) -> Result<StepsReport> {
        let room = &self.outermost.room;
        let was_stopped = room.is_stopping();
        if !was_stopped {
            let changed = room.index().take_changed("");
            room.tell_changed(changed);
        }
        // Relaxed, as with those who add.
        let number = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (not_asked_for, not_asked_for_count) = room.index().left();
        let report = StepsReport {
            run: room.run(),
            complete: number(&room.tally.complete),
            ran_again: number(&room.tally.ran_again),
            skipped: number(&room.tally.skipped),
            failed: number(&room.tally.failed),
            effects: number(&room.tally.effects),
            held: number(&room.tally.held),
            not_asked_for,
            not_asked_for_count,
            was_stopped,
        };
        let reason = room.token.as_ref().and_then(ShutdownToken::reason);
        match reason {
            Some(request) => room.close("interrupted", Some(&request.message))?,
            None if report.held > 0 => {
                room.close("interrupted", Some("an effect is held for a person"))?;
            }
            None => room.close("completed", None)?,
        }
        Ok(report)
    }
}

impl Deref for Steps {
    type Target = Scope;

    fn deref(&self) -> &Scope {
        &self.outermost
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let reason = self
            .outermost
            .room
            .token
            .as_ref()
            .and_then(ShutdownToken::reason);
        let reason = reason.map_or_else(|| "it ended early".to_owned(), |request| request.message);
        // After `close` this does nothing; otherwise nobody is left to tell.
        let _ = self.outermost.room.close("interrupted", Some(&reason));
    }
}
