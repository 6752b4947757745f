//! Effects in doubt: begun, and not known to have ended.

use std::fmt;
use std::path::Path;

use super::builder;
use super::name;
use super::scope::Scope;
use super::value::MAX_RESULT;
use crate::disk::StateDir;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Database, EffectRow, EffectState, JOB_DB, Locking, StepChange};

/// What an [effect](Scope::effect) that is in doubt comes to, as its author chose.
pub enum InDoubt<'a, T, E> {
    /// It is brought about again, with the same idempotency key. For another side that knows the key, or does not mind.
    RunAgain,
    /// Whoever can find out is asked, with the idempotency key; see [`InDoubt::ask`].
    Ask(Ask<'a, T, E>),
    /// It is held until a person says what is true, by [`resolve`] or `safepoint steps resolve`.
    Hold,
}

/// Finds out whether an effect has happened.
type Ask<'a, T, E> = Box<dyn FnOnce(&str) -> std::result::Result<Answer<T>, E> + 'a>;

impl<'a, T, E> InDoubt<'a, T, E> {
    /// Asks `check`, with the idempotency key, whether the effect has happened. If it cannot say, and returns an error, the effect stays in doubt.
    pub fn ask(check: impl FnOnce(&str) -> std::result::Result<Answer<T>, E> + 'a) -> Self {
        Self::Ask(Box::new(check))
    }
}

impl<T, E> fmt::Debug for InDoubt<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RunAgain => "RunAgain",
            Self::Ask(_) => "Ask",
            Self::Hold => "Hold",
        })
    }
}

/// What is true of an effect that was in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It has happened, with this result.
    Completed(T),
    /// It has not happened, and never will by itself.
    NotDone,
}

/// What a person says of an effect that is in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// It has happened; its result, as JSON.
    Done(String),
    /// It has not happened: it is brought about when it is asked for again, with the same idempotency key.
    Again,
}

impl Scope {
    /// Says what is true of an effect that is in doubt or held, or says it anew.
    ///
    /// # Durability
    ///
    /// When this returns, it survives a power cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no such effect; [`ErrorKind::Invalid`] when it is not in doubt, was asked for in this run, or the
    /// result is not JSON; otherwise as a write went.
    pub fn resolve(&self, key: impl AsRef<str>, resolution: Resolution) -> Result<()> {
        let key = self.whole(key.as_ref());
        if self.room.is_asked_effect(&key) {
            let error = Error::invalid(format!("effect `{key}` was asked for in this run"));
            return Err(error.with_hint("resolve it before it is asked for"));
        }
        let change = change(&key, self.room.store.effect(&key)?, resolution)?;
        self.room.store.write(change, None)
    }
}

/// Says what is true of an effect that is in doubt or held, in a directory of steps that nobody has open. What was said can be said anew, where the
/// result was mistyped: only what the body itself returned stays.
///
/// # Durability
///
/// When this returns, it survives a power cut.
///
/// # Errors
///
/// [`ErrorKind::Busy`] while a process has the directory; [`ErrorKind::NotFound`] when there is no such directory or effect;
/// [`ErrorKind::Invalid`] when it is not in doubt, or the result is not JSON; otherwise as the file is.
pub fn resolve(directory: &Path, key: &str, resolution: Resolution) -> Result<()> {
    let dir = StateDir::open(directory)?;
    if !dir.has(JOB_DB) {
        let error = Error::new(
            ErrorKind::NotFound,
            format!("`{}` holds no steps", dir.path().display()),
        );
        return Err(error.with_hint("name the directory that the program opens"));
    }
    let _ours = builder::take(&dir)?;
    let mut database = Database::open(&dir.file(JOB_DB), Locking::of(dir.path())?)?;
    let change = change(key, database.effect(key)?, resolution)?;
    database.write_effect(&change)
}

/// What to write for a resolution.
fn change(key: &str, row: Option<EffectRow>, resolution: Resolution) -> Result<StepChange> {
    name::check(key)?;
    let Some(row) = row else {
        let error = Error::new(ErrorKind::NotFound, format!("there is no effect `{key}`"));
        return Err(error.with_hint("`safepoint steps list` shows the effects there are"));
    };
    match row.state {
        EffectState::Held | EffectState::Intended => {}
        // What somebody said, and not the body, has no duration. Whoever mistyped it says it anew.
        EffectState::Complete if row.duration_us.is_none() => {}
        EffectState::Complete | EffectState::Released => {
            let state = row.state.name();
            return Err(
                Error::invalid(format!("effect `{key}` is {state}, not in doubt"))
                    .with_hint("there is nothing to resolve; nothing was changed"),
            );
        }
    }
    match resolution {
        Resolution::Again => Ok(StepChange::Released {
            key: key.into(),
            error: Some("a person said that it was not done".to_owned()),
        }),
        Resolution::Done(result) => {
            if result.len() > MAX_RESULT {
                let error = format!(
                    "the result has {} bytes, more than {MAX_RESULT}",
                    result.len()
                );
                return Err(Error::invalid(error));
            }
            serde_json::from_str::<serde_json::Value>(&result).map_err(|error| {
                Error::invalid(format!("the result of effect `{key}` is not JSON"))
                    .with_hint(
                        "a text needs quotes: '\"paid\"'; where there is nothing to say, `null`",
                    )
                    .with_source(error)
            })?;
            Ok(StepChange::Completed {
                key: key.into(),
                duration_us: None,
                result,
            })
        }
    }
}
