//! Stages: scopes that are told of when they begin and end.

use std::fmt::Display;
use std::sync::Arc;

use super::inside::{Inside, Place, Within};
use super::name;
use super::notice::Notice;
use super::room::Room;
use super::scope::Scope;
use crate::clock::Moment;
use crate::error::{Error, Result};

impl Scope {
    /// Runs `body` with a scope of that name, and tells when it begins and ends: stages within stages, whose steps may be anything.
    ///
    /// `body` returns what a step returns: `None` once a stop was asked for. At its end, names in it that seem to change from run to run are told.
    /// After an error of it, the stage and all that is inside it may be asked for again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a name that cannot be one, and what `body` returns.
    ///
    /// # Examples
    ///
    /// ```
    /// # let directory = tempfile::tempdir().expect("a directory");
    /// # let steps = safepoint::Steps::open(directory.path().join("state"))?;
    /// let sum = steps.stage("T0", |tier| -> safepoint::Result<_> {
    ///     let Some(one) = tier.step("one", || Ok::<_, safepoint::Error>(1))? else { return Ok(None) };
    ///     let Some(two) = tier.step("two", || Ok::<_, safepoint::Error>(2))? else { return Ok(None) };
    ///     Ok(Some(one + two))
    /// })?;
    /// assert_eq!(sum, Some(3));
    /// # Ok::<(), safepoint::Error>(())
    /// ```
    pub fn stage<R, E: From<Error> + Display>(
        &self,
        name: impl AsRef<str>,
        body: impl FnOnce(&Self) -> std::result::Result<Option<R>, E>,
    ) -> std::result::Result<Option<R>, E> {
        let stage = self.begin_stage(name)?;
        let ended = stage.within().run(|| body(stage.scope()));
        match &ended {
            Ok(Some(_)) => stage.complete(),
            Ok(None) => stage.cut_off(),
            Err(error) => stage.fail(error.to_string()),
        }
        ended
    }

    /// Begins a stage: the form for a body that is no closure. Dropped, the stage ends without a word.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a name that cannot be one.
    pub fn begin_stage(&self, name: impl AsRef<str>) -> Result<StageInProgress> {
        let scope = self.scope(name);
        name::check(scope.name())?;
        let room = Arc::clone(&self.room);
        room.tell(|| Notice::Starting {
            name: scope.name().to_owned(),
        });
        Ok(StageInProgress {
            began: room.store.clock().now(),
            inside: Inside::begin(&room, Place::here(&room)),
            scope,
            room,
        })
    }
}

/// A stage that has begun, free to move between threads.
#[derive(Debug)]
#[must_use = "what was settled inside a stage that is dropped may be asked for again"]
pub struct StageInProgress {
    room: Arc<Room>,
    scope: Scope,
    inside: Inside,
    began: Moment,
}

impl StageInProgress {
    /// The scope of its steps.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Its inside, for code that runs as a part of it on a thread that cannot tell: see [`Within`].
    pub fn within(&self) -> Within {
        self.inside.within()
    }

    /// It ended well. Names in it that seem to change from run to run are told.
    pub fn complete(self) {
        let took = self.room.store.clock().now().since(self.began);
        self.inside.keep();
        let name = self.scope.name();
        let changed = self.room.index().take_changed(name);
        self.room.tell_changed(changed);
        self.room.tell(|| Notice::Complete {
            name: name.to_owned(),
            took,
        });
    }

    /// It did not end: a stop, or whoever runs it, gave it up.
    pub fn cut_off(self) {
        self.room.tell(|| Notice::Interrupted {
            name: self.scope.name().to_owned(),
            run: self.room.run(),
        });
    }

    /// It ended with an error: it may be asked for again with all that is inside it. After a stop was asked for, it counts as cut off.
    pub fn fail(self, error: String) {
        // It may have failed because of the stop.
        if self.room.is_stopping() {
            return self.cut_off();
        }
        self.room.tell(|| Notice::Failed {
            name: self.scope.name().to_owned(),
            error,
            memoised_in: None,
        });
    }
}
