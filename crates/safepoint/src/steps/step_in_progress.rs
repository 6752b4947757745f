//! A step between its beginning and its end.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::index::Recorded;
use super::inside::{Inside, Place, Within};
use super::notice::Notice;
use super::room::{AskedStep, Entry, Room, count};
use super::value;
use crate::clock::{Moment, wall_ms};
use crate::error::Result;
use crate::queue::{InProgress, StepChange, StepState};

/// A step that has begun, free to move between threads. With a token, a stop waits for it.
///
/// Dropped without an end, it is cut off: it is not recorded, and runs when it is asked for again.
#[derive(Debug)]
#[must_use = "a step that is dropped is cut off"]
pub struct StepInProgress {
    room: Arc<Room>,
    name: String,
    mark: InProgress,
    started_at_ms: i64,
    began: Moment,
    ran_before: bool,
    memoises_errors: bool,
    within: Within,
    /// `None` once it has ended.
    open: Option<Box<Open>>,
}

/// What a step in progress has of its own until it ends.
#[derive(Debug)]
struct Open {
    place: Place,
    inside: Inside,
    asked: AskedStep,
    entry: Entry,
}

impl StepInProgress {
    pub(super) fn begin(
        room: &Arc<Room>,
        name: String,
        asked: AskedStep,
        entry: Entry,
        memoises_errors: bool,
    ) -> Result<Self> {
        let started_at_ms = wall_ms();
        // The file may lose it as soon as the step has begun.
        let ran_before = room.index().begin(&name);
        let mark = room.store.begin(&name, started_at_ms)?;
        let place = Place::here(room);
        let inside = Inside::begin(room, place.clone());
        let begun = Self {
            room: Arc::clone(room),
            name,
            mark,
            started_at_ms,
            began: room.store.clock().now(),
            ran_before,
            memoises_errors,
            within: inside.within(),
            open: Some(Box::new(Open {
                place,
                inside,
                asked,
                entry,
            })),
        };
        room.tell(|| Notice::Starting {
            name: begun.name.clone(),
        });
        Ok(begun)
    }

    /// Its whole name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its inside, for code that runs as a part of it on a thread that cannot tell: see [`Within`].
    pub fn within(&self) -> Within {
        self.within.clone()
    }

    /// Records the result, and gives the value that later runs will get.
    ///
    /// # Durability
    ///
    /// When this returns, the result survives `kill -9` and a power cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a result that cannot be recorded as JSON: then the step counts as failed. Otherwise as a
    /// write went.
    pub fn complete<T: Serialize + DeserializeOwned>(mut self, value: &T) -> Result<T> {
        let took = self.took();
        let recordable = value::record(&format!("step `{}`", self.name), value);
        let (result, value) = match recordable {
            Ok(recordable) => recordable,
            Err(error) => {
                self.note_failure(error.to_string());
                self.open = None;
                return Err(error);
            }
        };
        let open = self.open.take();
        let change = StepChange::Complete {
            name: self.name.as_str().into(),
            started_at_ms: self.started_at_ms,
            duration_us: microseconds(took),
            result,
        };
        self.room.store.write(change, Some(self.mark))?;
        self.settle(open, StepState::Complete);
        count(&self.room.tally.complete);
        if self.ran_before {
            count(&self.room.tally.ran_again);
        }
        self.room.tell(|| Notice::Complete {
            name: self.name.clone(),
            took,
        });
        Ok(value)
    }

    /// Ends it with an error, which is recorded where [that is wanted](super::Step::memoise_errors); otherwise it is only noted for those who look, and the step
    /// may be asked for again. After a stop was asked for, it counts as cut off.
    ///
    /// # Durability
    ///
    /// When this returns, a memoised error survives a power cut.
    ///
    /// # Errors
    ///
    /// As a write of a memoised error went.
    pub fn fail(mut self, error: String) -> Result<()> {
        if self.room.is_stopping() {
            // It may have failed because of the stop, so it has neither failed nor ended.
            self.cut_off();
            return Ok(());
        }
        count(&self.room.tally.failed);
        let open = self.open.take();
        if self.memoises_errors {
            let change = self.failure(error.clone(), true);
            self.room.store.write(change, Some(self.mark))?;
            self.settle(open, StepState::Failed);
        } else {
            self.note_failure(error.clone());
        }
        self.room.tell(|| Notice::Failed {
            name: self.name.clone(),
            error,
            memoised_in: None,
        });
        Ok(())
    }

    fn took(&self) -> Duration {
        self.room.store.clock().now().since(self.began)
    }

    fn settle(&self, open: Option<Box<Open>>, state: StepState) {
        let Some(open) = open else { return };
        let settled = open.asked.settle(Recorded {
            state,
            memoised: true,
            run: self.room.run(),
        });
        open.inside.keep();
        open.place.note([settled]);
        open.entry.commit();
    }

    fn failure(&self, error: String, memoised: bool) -> StepChange {
        StepChange::Failed {
            name: self.name.as_str().into(),
            started_at_ms: self.started_at_ms,
            duration_us: microseconds(self.took()),
            error,
            memoised,
        }
    }

    /// Notes an error for those who look at the job; the next run takes no notice of it.
    fn note_failure(&self, error: String) {
        let failure = self.failure(error, false);
        self.room.store.submit(failure, Some(self.mark));
    }

    /// Notes that it has neither failed nor ended.
    fn cut_off(&mut self) {
        let cut_off = StepChange::Begun {
            name: self.name.as_str().into(),
            started_at_ms: self.started_at_ms,
        };
        self.room.store.submit(cut_off, Some(self.mark));
        self.open = None;
        self.room.tell(|| Notice::Interrupted {
            name: self.name.clone(),
            run: self.room.run(),
        });
    }
}

impl Drop for StepInProgress {
    fn drop(&mut self) {
        if self.open.is_none() {
            return;
        }
        if std::thread::panicking() {
            self.note_failure("it panicked".to_owned());
            self.open = None;
        } else {
            self.cut_off();
        }
    }
}

fn microseconds(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
