//! One step: skipped, or run and recorded.

use std::fmt;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::index::Recorded;
use super::inside::Inside;
use super::name;
use super::notice::Notice;
use super::room::{AskedStep, Room, count};
use super::scope;
use super::value;
use crate::clock::wall_ms;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{InProgress, StepChange, StepState};
use crate::shutdown::Unit;

/// A step with its options, from [`Scope::at`](super::Scope::at).
///
/// # Examples
///
/// ```
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let steps = safepoint::Steps::open(directory.path().join("state"))?;
/// let path = steps
///     .at("fetch")
///     .check(|path: &std::path::PathBuf| path.exists()) // somebody may have tidied up
///     .run(|| Ok::<_, safepoint::Error>(std::env::temp_dir()))?;
/// assert!(path.is_some());
/// # Ok::<(), safepoint::Error>(())
/// ```
#[must_use = "a step does nothing until `run`"]
pub struct Step<'a, T> {
    room: &'a Room,
    name: String,
    check: Option<Check<'a, T>>,
    memoises_errors: bool,
}

/// Whether a recorded result still holds.
type Check<'a, T> = Box<dyn FnOnce(&T) -> bool + 'a>;

/// A step that has begun.
struct Begun<'a> {
    room: &'a Room,
    /// Ends before the step itself is settled, which is noted in the step around it.
    inside: Inside<'a>,
    asked: AskedStep<'a>,
    unit: Option<Unit<'a>>,
    name: &'a str,
    mark: InProgress,
    started_at_ms: i64,
    began: crate::clock::Moment,
    ran_before: bool,
}

impl<'a, T> Step<'a, T> {
    pub(super) fn new(room: &'a Room, name: String) -> Self {
        Self {
            room,
            name,
            check: None,
            memoises_errors: false,
        }
    }

    /// Asks `check` whether a recorded result still holds, for example whether the file that it names is there. If not, that is told and the step
    /// runs again. What the step returns when it runs is not checked.
    pub fn check(mut self, check: impl FnOnce(&T) -> bool + 'a) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// Records an error of the body, too: later runs get it instead of running the step, as an [`Error`] of kind
    /// [`Invalid`](crate::ErrorKind::Invalid) that has its text.
    ///
    /// For errors that are certain to come again. An error that is returned after a stop was asked for is never memoised, for it may be the stop's.
    pub fn memoise_errors(mut self) -> Self {
        self.memoises_errors = true;
        self
    }
}

impl<T: Serialize + DeserializeOwned> Step<'_, T> {
    /// Gives the recorded result, or runs `body` and records what it returns, as [`Scope::step`](super::Scope::step) does.
    ///
    /// # Durability
    ///
    /// As [`Scope::step`](super::Scope::step); of a memoised error, too.
    ///
    /// # Errors
    ///
    /// As [`Scope::step`](super::Scope::step), and a memoised error of an earlier run.
    pub fn run<E: From<Error> + Display>(
        self,
        body: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<Option<T>, E> {
        let Self {
            room,
            name,
            check,
            memoises_errors,
        } = self;
        name::check(&name)?;
        let unit = match &room.token {
            None => None,
            Some(token) => match token.unit(&name) {
                None => return Ok(None),
                unit => unit,
            },
        };
        let (asked, recorded) = room.ask(&name)?;
        match recorded {
            Some(found) if found.state == StepState::Complete => {
                let value: T = scope::read(room, &name)?.ok_or_else(|| gone(&name))?;
                if check.is_none_or(|check| check(&value)) {
                    skip(room, asked, unit, found);
                    room.tell(|| Notice::Skipped {
                        name,
                        run: found.run,
                    });
                    return Ok(Some(value));
                }
                room.tell(|| Notice::RunsAgain {
                    name: name.clone(),
                    run: found.run,
                });
            }
            Some(found) if found.memoised && memoises_errors => {
                let row = room.store.step(&name)?;
                let error = row.and_then(|row| row.error).unwrap_or_default();
                skip(room, asked, unit, found);
                let memoised = memoised(&name, found.run, &error);
                room.tell(|| Notice::Failed {
                    name,
                    error,
                    memoised_in: Some(found.run),
                });
                return Err(memoised.into());
            }
            _ => {}
        }
        let started_at_ms = wall_ms();
        // The file may lose it as soon as the step has begun.
        let ran_before = room.index().begin(&name);
        let mark = room.store.begin(&name, started_at_ms)?;
        let begun = Begun {
            room,
            inside: Inside::begin(room),
            asked,
            unit,
            name: &name,
            mark,
            started_at_ms,
            began: room.store.clock().now(),
            ran_before,
        };
        room.tell(|| Notice::Starting { name: name.clone() });
        match in_progress(&begun, body) {
            Ok(value) => begun.complete(&value).map(Some).map_err(E::from),
            Err(error) => {
                begun.failed(error.to_string(), memoises_errors)?;
                Err(error)
            }
        }
    }
}

/// Runs the body. A panic of it is noted, and goes on.
fn in_progress<T, E>(
    begun: &Begun<'_>,
    body: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    struct Unwinding<'a>(&'a Begun<'a>);
    impl Drop for Unwinding<'_> {
        fn drop(&mut self) {
            self.0.note_failure("it panicked".to_owned());
        }
    }
    let unwinding = Unwinding(begun);
    let ended = body();
    std::mem::forget(unwinding);
    ended
}

impl Begun<'_> {
    /// Records the result, and gives the value that later runs will get.
    fn complete<T: Serialize + DeserializeOwned>(self, value: &T) -> Result<T> {
        let took = self.room.store.clock().now().since(self.began);
        let recordable = value::record(&format!("step `{}`", self.name), value);
        let (result, value) = match recordable {
            Ok(recordable) => recordable,
            Err(error) => {
                self.note_failure(error.to_string());
                return Err(error);
            }
        };
        let change = StepChange::Complete {
            name: self.name.into(),
            started_at_ms: self.started_at_ms,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            result,
        };
        self.room.store.write(change, Some(self.mark))?;
        self.inside.keep();
        self.asked.settle(Recorded {
            state: StepState::Complete,
            memoised: true,
            run: self.room.run(),
        });
        count(&self.room.tally.complete);
        if self.ran_before {
            count(&self.room.tally.ran_again);
        }
        if let Some(unit) = self.unit {
            unit.commit();
        }
        self.room.tell(|| Notice::Complete {
            name: self.name.to_owned(),
            took,
        });
        Ok(value)
    }

    fn failure(&self, error: String, memoised: bool) -> StepChange {
        let took = self.room.store.clock().now().since(self.began);
        StepChange::Failed {
            name: self.name.into(),
            started_at_ms: self.started_at_ms,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            error,
            memoised,
        }
    }

    /// Notes an error for those who look at the job; the next run takes no notice of it.
    fn note_failure(&self, error: String) {
        self.room
            .store
            .submit(self.failure(error, false), Some(self.mark));
    }

    /// Records the error where that is wanted; otherwise it is only noted for those who look.
    fn failed(self, error: String, memoised: bool) -> Result<()> {
        let name = || self.name.to_owned();
        if self.room.is_stopping() {
            // It may have failed because of the stop, so it has neither failed nor ended: it was cut off.
            let cut_off = StepChange::Begun {
                name: self.name.into(),
                started_at_ms: self.started_at_ms,
            };
            self.room.store.submit(cut_off, Some(self.mark));
            self.room.tell(|| Notice::Interrupted {
                name: name(),
                run: self.room.run(),
            });
            return Ok(());
        }
        count(&self.room.tally.failed);
        if memoised {
            let change = self.failure(error.clone(), true);
            self.room.store.write(change, Some(self.mark))?;
            self.inside.keep();
            self.asked.settle(Recorded {
                state: StepState::Failed,
                memoised,
                run: self.room.run(),
            });
            if let Some(unit) = self.unit {
                unit.commit();
            }
        } else {
            self.note_failure(error.clone());
        }
        self.room.tell(|| Notice::Failed {
            name: name(),
            error,
            memoised_in: None,
        });
        Ok(())
    }
}

/// Takes what is recorded.
fn skip(room: &Room, asked: AskedStep<'_>, unit: Option<Unit<'_>>, found: Recorded) {
    asked.settle(found);
    count(&room.tally.skipped);
    if let Some(unit) = unit {
        unit.commit();
    }
}

/// While a step is asked for, nobody forgets it or runs it.
fn gone(name: &str) -> Error {
    let message = format!("the recorded result of step `{name}` is gone from the file");
    Error::new(ErrorKind::Corrupt, message).with_hint(format!(
        "leave it to the program to change the file; `forget(\"{name}\")` lets the step run again"
    ))
}

fn memoised(name: &str, run: u32, error: &str) -> Error {
    Error::invalid(format!("step `{name}` failed in run {run}: {error}")).with_hint(format!(
        "its error is memoised; `forget(\"{name}\")` lets it run again"
    ))
}

impl<T> fmt::Debug for Step<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("has_check", &self.check.is_some())
            .field("memoises_errors", &self.memoises_errors)
            .finish_non_exhaustive()
    }
}
