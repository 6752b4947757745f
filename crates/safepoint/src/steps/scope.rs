//! Names within names: what can be asked of steps.

use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::name;
use super::room::Room;
use super::step::Step;
use super::value;
use crate::error::{Error, Result};
use crate::queue::{StepChange, StepState};

/// A place for names: those of its steps begin with its own, joined by `/`. Cheap to clone; threads share it.
#[derive(Debug, Clone)]
pub struct Scope {
    pub(super) room: Arc<Room>,
    /// None for the outermost, which is not the same as an empty name.
    path: Option<Arc<str>>,
}

impl Scope {
    pub(super) fn outermost(room: Arc<Room>) -> Self {
        Self { room, path: None }
    }

    /// A scope in this one. Its name is checked with those of its steps.
    ///
    /// # Examples
    ///
    /// ```
    /// # let directory = tempfile::tempdir().expect("a directory");
    /// let steps = safepoint::Steps::open(directory.path().join("state"))?;
    /// let subtest = steps.scope("T0").scope("subtest-3");
    /// subtest.step("run-2", || Ok::<_, safepoint::Error>(17))?;
    /// assert_eq!(steps.recorded::<i32>("T0/subtest-3/run-2")?, Some(17));
    /// # Ok::<(), safepoint::Error>(())
    /// ```
    pub fn scope(&self, name: impl AsRef<str>) -> Self {
        Self {
            room: Arc::clone(&self.room),
            path: Some(self.whole(name.as_ref()).into()),
        }
    }

    /// Its whole name; empty for the outermost.
    pub fn name(&self) -> &str {
        self.path.as_deref().unwrap_or_default()
    }

    /// Gives the recorded result of the step `name`, or runs `body` and records what it returns. `None` once a stop was asked for.
    ///
    /// An error of `body` is passed on and not recorded: the step runs when it is asked for again, in this run or a later one. Then it may ask again for the
    /// steps and effects inside it, and is given what is recorded of them; but for those that `body` asked for on other threads, which stay
    /// asked for. A panic is passed on, too. What is returned is what was recorded and read back, so that the first run works with the same value as all later ones.
    ///
    /// # Durability
    ///
    /// When this returns a result, it survives `kill -9` and a power cut. A step that was cut off before runs again.
    ///
    /// # Errors
    ///
    /// What `body` returns. And, made into its error type: [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), before `body` runs, for a name that
    /// cannot be one or was asked for before in this run; after it, for a result that cannot be recorded as JSON;
    /// [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) for a recorded result that is not a `T`; [`ErrorKind::Io`](crate::ErrorKind::Io) for
    /// a write that failed, after which all else is refused as [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub fn step<T, E>(
        &self,
        name: impl AsRef<str>,
        body: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<Option<T>, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error> + Display,
    {
        self.at(name).run(body)
    }

    /// A step with options: [`check`](Step::check), [`memoise_errors`](Step::memoise_errors).
    pub fn at<T>(&self, name: impl AsRef<str>) -> Step<'_, T> {
        Step::new(&self.room, self.whole(name.as_ref()))
    }

    /// The recorded result of a step, any number of times; `None` if it has none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) when it is not a `T`, [`ErrorKind::Closed`](crate::ErrorKind::Closed) after the
    /// close; otherwise as the file is.
    pub fn recorded<T: DeserializeOwned>(&self, name: impl AsRef<str>) -> Result<Option<T>> {
        let name = self.whole(name.as_ref());
        let recorded = self.room.index().recorded(&name);
        match recorded {
            Some(recorded) if recorded.state == StepState::Complete => read(&self.room, &name),
            _ => Ok(None),
        }
    }

    /// Forgets what is recorded of a step: when it is asked for again, it runs. Says whether anything was recorded.
    ///
    /// # Durability
    ///
    /// When this returns, the step is forgotten for good.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) while the step is in progress; otherwise as a write went.
    pub fn forget(&self, name: impl AsRef<str>) -> Result<bool> {
        let name = self.whole(name.as_ref());
        let was_recorded = {
            let index = self.room.index();
            index.check_forget(&name)?;
            index.recorded(&name).is_some()
        };
        if was_recorded {
            let change = StepChange::Forgotten {
                name: name.as_str().into(),
            };
            self.room.store.write(change, None)?;
        }
        self.room.index().forget(&name);
        Ok(was_recorded)
    }

    /// The whole name of a step, or key of an effect, in this scope.
    pub(super) fn whole(&self, name: &str) -> String {
        name::join(self.path.as_deref(), name)
    }
}

/// The recorded result of the step `name`; `None` if it was forgotten, or has begun to run again, since the index was asked.
pub(super) fn read<T: DeserializeOwned>(room: &Room, name: &str) -> Result<Option<T>> {
    let row = room.store.step(name)?;
    let Some(json) = row.and_then(|row| row.result) else {
        return Ok(None);
    };
    let way_out = format!("if the program changed, `forget(\"{name}\")` lets the step run again");
    value::read(&format!("step `{name}`"), &json, &way_out).map(Some)
}
