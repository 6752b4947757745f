//! One step: skipped, or begun.

use std::fmt;
use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::index::Recorded;
use super::inside::Place;
use super::name;
use super::notice::Notice;
use super::room::{AskedStep, Entry, Room, count};
use super::scope;
use super::step_in_progress::StepInProgress;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::StepState;

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
    room: &'a Arc<Room>,
    name: String,
    check: Option<Check<'a, T>>,
    memoises_errors: bool,
}

/// Whether a recorded result still holds.
type Check<'a, T> = Box<dyn FnOnce(&T) -> Result<bool> + 'a>;

/// What came of [asking](Step::begin) for a step.
#[derive(Debug)]
#[must_use = "a step that has begun is cut off when it is dropped"]
pub enum StepBegin<T> {
    /// It is complete: its recorded result.
    Recorded(T),
    /// It is to run now.
    Begun(StepInProgress),
    /// A stop was asked for before it began.
    Stopped,
}

impl<'a, T> Step<'a, T> {
    pub(super) fn new(room: &'a Arc<Room>, name: String) -> Self {
        Self {
            room,
            name,
            check: None,
            memoises_errors: false,
        }
    }

    /// Asks `check` whether a recorded result still holds, for example whether the file that it names is there. If not, that is told and the step
    /// runs again. What the step returns when it runs is not checked.
    pub fn check(self, check: impl FnOnce(&T) -> bool + 'a) -> Self {
        self.try_check(|value| Ok(check(value)))
    }

    /// As [`check`](Self::check), with a check that may fail: then the error is passed on, and the step stays as it was recorded.
    pub fn try_check(mut self, check: impl FnOnce(&T) -> Result<bool> + 'a) -> Self {
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
        let begun = match self.begin()? {
            StepBegin::Recorded(value) => return Ok(Some(value)),
            StepBegin::Stopped => return Ok(None),
            StepBegin::Begun(begun) => begun,
        };
        let ended = begun.within().run(body);
        match ended {
            Ok(value) => begun.complete(&value).map(Some).map_err(E::from),
            Err(error) => {
                begun.fail(error.to_string())?;
                Err(error)
            }
        }
    }

    /// Gives the recorded result, or begins the step: the form for a body that is no closure, such as a future or one that another thread ends.
    ///
    /// The body runs between this and [`StepInProgress::complete`]; that also is where it blocks, for its sync.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), but for what `body` returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use safepoint::steps::StepBegin;
    ///
    /// # let directory = tempfile::tempdir().expect("a directory");
    /// # let steps = safepoint::Steps::open(directory.path().join("state"))?;
    /// let answer: i32 = match steps.at("ask").begin()? {
    ///     StepBegin::Recorded(answer) => answer,
    ///     StepBegin::Begun(step) => {
    ///         // Anything may happen here, on any thread. Dropped, the step is cut off.
    ///         std::thread::spawn(move || step.complete(&42)).join().expect("no panic")?
    ///     }
    ///     StepBegin::Stopped => return Ok(()),
    /// };
    /// assert_eq!(answer, 42);
    /// # Ok::<(), safepoint::Error>(())
    /// ```
    pub fn begin(self) -> Result<StepBegin<T>> {
        let Self {
            room,
            name,
            check,
            memoises_errors,
        } = self;
        name::check(&name)?;
        let Some(entry) = room.enter(&name) else {
            return Ok(StepBegin::Stopped);
        };
        let (asked, recorded) = room.ask(&name)?;
        match recorded {
            Some(found) if found.state == StepState::Complete => {
                let value: T = scope::read(room, &name)?.ok_or_else(|| gone(&name))?;
                if check.map_or(Ok(true), |check| check(&value))? {
                    skip(room, asked, entry, found);
                    room.tell(|| Notice::Skipped {
                        name,
                        run: found.run,
                    });
                    return Ok(StepBegin::Recorded(value));
                }
                room.tell(|| Notice::RunsAgain {
                    name: name.clone(),
                    run: found.run,
                });
            }
            Some(found) if found.memoised && memoises_errors => {
                let row = room.store.step(&name)?;
                let error = row.and_then(|row| row.error).unwrap_or_default();
                skip(room, asked, entry, found);
                let memoised = memoised(&name, found.run, &error);
                room.tell(|| Notice::Failed {
                    name,
                    error,
                    memoised_in: Some(found.run),
                });
                return Err(memoised);
            }
            _ => {}
        }
        StepInProgress::begin(room, name, asked, entry, memoises_errors).map(StepBegin::Begun)
    }
}

/// Takes what is recorded.
fn skip(room: &Arc<Room>, asked: AskedStep, entry: Entry, found: Recorded) {
    Place::here(room).note([asked.settle(found)]);
    count(&room.tally.skipped);
    entry.commit();
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
