//! An item that is being worked on, and what becomes of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::room::{MAX_RESULT, Room, count};
use crate::clock::{Moment, wall_ms};
use crate::error::{Error, Result};
use crate::job::{Entry, MAX_STDERR_TAIL};
use crate::queue::{Settlement, State, Verdict};
use crate::shutdown::OwnedUnit;

/// What asking for an item led to.
#[derive(Debug)]
#[must_use = "an open item that is dropped is put back"]
pub enum Begun {
    /// Work on it.
    Open(Item),
    /// It is done, in an earlier run.
    Done {
        /// Its index.
        index: u64,
    },
    /// It will not be attempted again, unless a person retries it.
    Dead {
        /// Its index.
        index: u64,
    },
    /// Its key was seen before in this run.
    Duplicate,
    /// A stop was asked for, so nothing is begun any more.
    Stopping,
}

/// When a failed item is to be attempted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// As the policy says.
    #[default]
    AsUsual,
    /// After so long, if it has attempts left.
    After(Duration),
    /// Never: it is dead.
    Never,
}

/// What came of an item whose attempt failed.
#[derive(Debug)]
pub enum Failed {
    /// It may be attempted again.
    Waiting(Waiting),
    /// It was the last attempt.
    Dead,
}

/// What an item is from one attempt to the next.
#[derive(Debug, Clone)]
pub(super) struct Again {
    pub(super) index: u64,
    pub(super) key: Option<Box<str>>,
    pub(super) content: Box<[u8]>,
    pub(super) from: Option<State>,
    pub(super) attempts: u32,
    pub(super) crashes: u32,
}

impl Again {
    pub(super) fn settlement(
        &self,
        verdict: Verdict,
        attempts: u32,
        (started_at_ms, duration_us): (i64, u64),
    ) -> Settlement {
        Settlement {
            index: self.index,
            key: self.key.clone(),
            content: self.content.clone(),
            from: self.from,
            attempts,
            crashes: self.crashes,
            started_at_ms,
            duration_us,
            verdict,
        }
    }
}

/// An item that is in progress. Dropped without a word, it is put back: neither done nor failed.
///
/// It is a [unit](crate::shutdown::OwnedUnit) of the token: a stop waits for it, and no other begins.
#[must_use = "an item that is dropped is put back"]
pub struct Item {
    room: Arc<Room>,
    again: Again,
    unit: Option<OwnedUnit>,
    started: Moment,
    started_at_ms: i64,
    lane: Option<usize>,
    is_settled: bool,
}

impl Item {
    pub(super) fn new(room: Arc<Room>, again: Again, unit: OwnedUnit) -> Self {
        let started = room.clock.now();
        Self {
            room,
            again,
            unit: Some(unit),
            started,
            started_at_ms: wall_ms(),
            lane: None,
            is_settled: false,
        }
    }

    /// Its index, from 0.
    pub fn index(&self) -> u64 {
        self.again.index
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.again.attempts + 1
    }

    /// It is worked on from now on, in this process, for those who look. Its time is counted from here.
    pub fn in_process(&mut self, pid: u32) {
        self.started = self.room.clock.now();
        self.started_at_ms = wall_ms();
        if self.lane.is_none() {
            self.lane = self.room.lock().lanes.take();
        }
        if let Some(lane) = self.lane {
            let entry = Entry {
                index: self.again.index,
                attempt: self.attempt(),
                pid,
                started_at_ms: self.started_at_ms,
                ticks: (0, 0),
            };
            self.room.show(lane, Some(entry));
        }
    }

    /// It is done, with this result: JSON, as a rule.
    ///
    /// # Durability
    ///
    /// Handed to the writer, which commits what came within some 10 ms in one sync. After a kill in between the item runs again;
    /// [`Items::sync`](super::Items::sync) and [`Items::close`](super::Items::close) return when that can no longer be.
    /// Waits where the disk is far behind.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a result over [`MAX_RESULT`]: the item is put back.
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) after the close; what the writer failed of, after a failed write.
    pub fn done(mut self, result: impl Into<Vec<u8>>) -> Result<()> {
        let result = result.into();
        if result.len() > MAX_RESULT {
            return Err(Error::invalid(format!(
                "the result of item {} has {} bytes, more than {} MiB",
                self.again.index,
                result.len(),
                MAX_RESULT >> 20
            ))
            .with_hint("write it to a file, and give its name as the result"));
        }
        let verdict = Verdict::Done {
            exit_code: None,
            result,
            omitted: 0,
        };
        self.settle(verdict)?;
        count(&self.room.counters.done);
        self.room.keep_pace()
    }

    /// Its attempt failed: `error` in a line, and what else helps to understand it, of which the last 4 KiB are kept.
    ///
    /// # Errors
    ///
    /// As [`done`](Self::done).
    pub fn failed(mut self, error: &str, details: &[u8], retry: Retry) -> Result<Failed> {
        let index = self.again.index;
        let attempts = self.again.attempts + 1;
        let usual = self.room.retry.wait_after(attempts, index);
        let wait = match retry {
            Retry::AsUsual => usual,
            Retry::After(wait) => usual.map(|_| wait),
            Retry::Never => None,
        };
        let again_at_ms = wait.map(|wait| {
            wall_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
        });
        let tail = details.len().saturating_sub(MAX_STDERR_TAIL);
        let verdict = Verdict::Failed {
            error: error.to_owned(),
            exit_code: None,
            signal: None,
            stderr: details[tail..].to_vec(),
            again_at_ms,
        };
        self.settle(verdict)?;
        count(&self.room.counters.failures);
        self.room.keep_pace()?;
        let Some(wait) = wait else {
            count(&self.room.counters.died);
            return Ok(Failed::Dead);
        };
        let mut again = self.again.clone();
        again.from = Some(State::Waiting);
        again.attempts = attempts;
        Ok(Failed::Waiting(Waiting {
            room: Arc::clone(&self.room),
            again,
            due: self.room.clock.now() + wait,
        }))
    }

    fn settle(&mut self, verdict: Verdict) -> Result<()> {
        let lasted = self.room.clock.now().since(self.started);
        let lasted = u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX);
        let settlement =
            self.again
                .settlement(verdict, self.attempt(), (self.started_at_ms, lasted));
        self.room.submit(settlement)?;
        self.is_settled = true;
        if let Some(unit) = self.unit.take() {
            unit.commit();
        }
        self.leave_lane();
        Ok(())
    }

    fn leave_lane(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.room.show(lane, None);
            self.room.lock().lanes.give_back(lane);
        }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if self.is_settled || !self.room.is_ours() {
            return;
        }
        self.leave_lane();
        count(&self.room.counters.put_back);
        if let Some(key) = &self.again.key {
            self.room.durable.release_key(key);
            if self.again.from.is_none() {
                self.room.lock().books.give_back(self.again.index);
            }
        }
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("index", &self.again.index)
            .field("key", &self.again.key)
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

/// An item between two attempts. Dropped, it waits for the next run.
#[derive(Debug)]
#[must_use = "dropped, the item waits for the next run"]
pub struct Waiting {
    room: Arc<Room>,
    again: Again,
    due: Moment,
}

impl Waiting {
    /// Its index, from 0.
    pub fn index(&self) -> u64 {
        self.again.index
    }

    /// How long until it may be attempted again.
    pub fn remaining(&self) -> Duration {
        self.due.since(self.room.clock.now())
    }

    /// Begins the next attempt, whether or not its time has come; itself once a stop was asked for.
    ///
    /// # Errors
    ///
    /// The item, to be dropped or kept.
    pub fn begin(self) -> std::result::Result<Item, Self> {
        let Some(unit) = self.room.token.owned_unit("item") else {
            return Err(self);
        };
        if let Some(key) = &self.again.key {
            // It may be taken by its own last attempt, on the way to the file.
            self.room.durable.take_key(key);
        }
        Ok(self.room.item(self.again, unit))
    }
}
