//! A directory of items in the hands of a program.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::builder::Builder;
use super::item::Begun;
use super::room::{Held, Room, Tally};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{InProgressFile, Outcome, Report};
use crate::queue::{Change, Counts, ItemRow};
use crate::shutdown::ShutdownToken;

/// How a run over items ended, as the program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All items were given.
    Exhausted,
    /// There are more: a stop was asked for, or the program left, for this reason.
    Left(String),
}

/// Items of one job, durable in one directory that this process owns.
///
/// Dropped without [`close`](Self::close), by an early return or a panic, it closes the directory all the same: all that was done stays,
/// and the run counts as interrupted. A process that was forked from this one can do nothing with it.
///
/// See [the module](super) for an example.
#[derive(Debug)]
pub struct Items {
    room: Arc<Room>,
}

impl Items {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { room }
    }

    /// Begins to open a directory. The command sees it as a job, if it stands where the jobs are: `.safepoint/words`.
    pub fn builder(directory: impl Into<PathBuf>) -> Builder {
        Builder::new(directory.into())
    }

    /// The number of this run, from 1.
    pub fn run(&self) -> u32 {
        self.room.run
    }

    /// The token whose stop ends the run.
    pub fn token(&self) -> &ShutdownToken {
        &self.room.token
    }

    /// Begins the next item in order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] when another content stood at its place; [`ErrorKind::Invalid`] when the items have keys;
    /// [`ErrorKind::Closed`] after the close, and in a process that was forked; otherwise as the file is.
    pub fn begin(&self, content: &[u8]) -> Result<Begun> {
        self.room.begin(None, content)
    }

    /// Begins the item with this key. What is kept of its content is for people.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the items have no keys; otherwise as [`begin`](Self::begin).
    pub fn begin_with_key(&self, key: &str, content: &[u8]) -> Result<Begun> {
        self.room.begin(Some(key), content)
    }

    /// The result of a done item.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn result_at(&self, index: u64) -> Result<Option<Vec<u8>>> {
        self.room.result_at(index)
    }

    /// All that is stored of an item.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn item_at(&self, index: u64) -> Result<Option<ItemRow>> {
        self.room.item_at(index)
    }

    /// How many items are in which state, over all runs, as of the last commit.
    pub fn counts(&self) -> Counts {
        self.room.durable.counts()
    }

    /// What this run did so far.
    pub fn tally(&self) -> Tally {
        self.room.counters.tally()
    }

    /// Whether the disk is behind, so that [`catch_up`](Self::catch_up) would wait.
    pub fn is_ahead(&self) -> bool {
        self.room.is_ahead()
    }

    /// Waits until the disk is not far behind any more. [`Item::done`](super::Item::done) does so by itself, a little later.
    ///
    /// # Errors
    ///
    /// What the writer failed of, after a failed write.
    pub fn catch_up(&self) -> Result<()> {
        self.room.catch_up()
    }

    /// Waits until all that was said so far is durable.
    ///
    /// # Errors
    ///
    /// What the writer failed of, after a failed write; otherwise as [`begin`](Self::begin).
    pub fn sync(&self) -> Result<()> {
        self.room.sync()
    }

    /// Ends the run and closes the directory. Items that are still open are refused from now on.
    ///
    /// The job is completed when all items were given and none of them is open.
    ///
    /// # Durability
    ///
    /// When this returns, all that was done, and the end of the run, survive a power cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] when it was closed before; what the writer failed of, after a failed write; otherwise as the last writes went.
    pub fn close(&self, end: End) -> Result<Report> {
        if !self.room.is_ours() {
            return Err(Error::new(
                ErrorKind::Closed,
                "the items belong to the process that this one was forked from",
            ));
        }
        let held = self.room.lock().held.take();
        let Some(held) = held else {
            return Err(Error::new(ErrorKind::Closed, "the items were closed"));
        };
        self.finish(held, end)
    }

    fn finish(&self, held: Held, end: End) -> Result<Report> {
        let Held {
            store,
            watch,
            ownership,
        } = held;
        let room = &self.room;
        let requests = room.token.requests();
        let tally = room.counters.tally();
        store.hurry();
        // What the writer failed of is told by the close of the store.
        let _ = room.durable.wait_for_all();
        let counts = room.durable.counts();
        let stopped = room.token.reason().map(|request| request.message);
        let (outcome, reason) = match end {
            End::Exhausted if counts.waiting + counts.pending == 0 => (Outcome::Completed, None),
            End::Exhausted => (Outcome::Interrupted, stopped),
            End::Left(reason) => (Outcome::Interrupted, stopped.or(Some(reason))),
        };
        let total = match outcome {
            Outcome::Completed => Some(counts.touched()),
            _ => room.total.map(|total| total.max(counts.touched())),
        };
        if let Some(total) = total {
            store.submit(&mut vec![Change::Total(total)], 0);
        }
        let events = watch.end();
        let dir = room.path.dir();
        // Nothing is in progress any more, so the next run must not take anything for crashed.
        let cleared = room
            .path
            .open()
            .and_then(|dir| InProgressFile::create(&dir, room.run, 0, 1).map(drop));
        // The last who closes the file takes its log in.
        room.lookup().close();
        let counts = match store.close(outcome.name(), reason.as_deref()) {
            Ok(counts) => counts,
            Err(error) => {
                if let Some(mut events) = events {
                    // What cannot be written now shows as a crash of the run, with nothing in progress.
                    let _ = events.write(
                        "run_ended",
                        json!({"outcome": "failed", "error": error.chain()}),
                    );
                }
                return Err(error);
            }
        };
        cleared?;
        let report = Report {
            job: room.path.name.clone(),
            state: dir,
            run: room.run,
            outcome,
            counts,
            total,
            done_now: tally.done,
            failures: tally.failures,
            given_up: tally.put_back,
            elapsed: room.clock.now().since(room.started),
            requests,
            has_published: false,
        };
        if let Some(mut events) = events {
            events.run_ended(&report)?;
        }
        drop(ownership);
        Ok(report)
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        if !self.room.is_ours() {
            // Nothing of it may be dropped: the lock would be given back, and a thread waited for that this process does not have.
            std::mem::forget(Arc::clone(&self.room));
            return;
        }
        // After `close` this does nothing; otherwise nobody is left to tell.
        let _ = self.close(End::Left("it ended early".to_owned()));
    }
}
