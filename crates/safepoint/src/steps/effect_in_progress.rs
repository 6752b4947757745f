//! An effect between its beginning and its end, and one that is in doubt.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::inside::{Inside, Place, Within};
use super::name;
use super::notice::Notice;
use super::room::{AskedEffect, Entry, Room, count};
use super::scope::Scope;
use super::value;
use crate::clock::{Moment, wall_ms};
use crate::error::Result;
use crate::queue::{EffectRow, EffectState, StepChange};

/// What came of [asking](Scope::begin_effect) for an effect.
#[derive(Debug)]
#[must_use = "an effect that has begun is in doubt when it is dropped"]
pub enum EffectBegin<T> {
    /// It was brought about earlier: its recorded result.
    Complete(T),
    /// Its intent is durable; it is to be brought about now.
    Begun(EffectInProgress),
    /// It was begun earlier, and may have happened or not.
    InDoubt(EffectInDoubt),
    /// It is in doubt, and a person is to say what is true; see [`resolve`](super::resolve).
    Held,
    /// A stop was asked for before it began.
    Stopped,
}

impl Scope {
    /// Begins an effect, or gives what was recorded of it: the form for a body that is no closure. See [`effect`](Self::effect) for what an effect is.
    ///
    /// # Durability
    ///
    /// When this gives [`EffectBegin::Begun`], the intent survives a power cut.
    ///
    /// # Errors
    ///
    /// As [`effect`](Self::effect), but for what `body` returns.
    pub fn begin_effect<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
    ) -> Result<EffectBegin<T>> {
        let room = &self.room;
        let key = self.whole(key.as_ref());
        name::check(&key)?;
        let Some(entry) = room.enter(&key) else {
            return Ok(EffectBegin::Stopped);
        };
        let asked = room.ask_effect(&key)?;
        let asking = |idempotency_key: String| Asking {
            room: Arc::clone(room),
            place: Place::here(room),
            key: key.clone(),
            idempotency_key,
            asked,
            entry,
        };
        let Some(row) = room.store.effect(&key)? else {
            let begun = asking(uuid::Uuid::now_v7().to_string()).intend()?;
            return Ok(EffectBegin::Begun(begun));
        };
        let run = row.run;
        match row.state {
            EffectState::Complete => {
                let value = recorded(&key, &row)?;
                asking(row.idempotency_key).end();
                room.tell(|| Notice::EffectSkipped { key, run });
                Ok(EffectBegin::Complete(value))
            }
            EffectState::Held => {
                asking(row.idempotency_key).held(run);
                Ok(EffectBegin::Held)
            }
            EffectState::Released => asking(row.idempotency_key).intend().map(EffectBegin::Begun),
            EffectState::Intended => {
                let asking = asking(row.idempotency_key);
                room.tell(|| Notice::EffectInDoubt { key, run });
                Ok(EffectBegin::InDoubt(EffectInDoubt { asking, run }))
            }
        }
    }
}

fn recorded<T: DeserializeOwned>(key: &str, row: &EffectRow) -> Result<T> {
    let way_out = match row.duration_us {
        Some(_) => "the program changed: ask for it as the type that it was recorded as",
        None => "it is what somebody said of it: say it anew with `safepoint steps resolve`",
    };
    let json = row.result.as_deref().unwrap_or_default();
    value::read(&format!("effect `{key}`"), json, way_out)
}

/// An effect that was begun earlier, and is not known to have ended. Dropped, it stays in doubt.
#[derive(Debug)]
pub struct EffectInDoubt {
    asking: Asking,
    run: u32,
}

impl EffectInDoubt {
    /// What the other side can tell repetitions by.
    pub fn idempotency_key(&self) -> &str {
        &self.asking.idempotency_key
    }

    /// Begins it again, with the same idempotency key.
    ///
    /// # Durability
    ///
    /// When this returns, the new intent survives a power cut.
    ///
    /// # Errors
    ///
    /// As a write went.
    pub fn run_again(self) -> Result<EffectInProgress> {
        self.asking.intend()
    }

    /// Holds it until a person says what is true.
    ///
    /// # Durability
    ///
    /// When this returns, that survives a power cut.
    ///
    /// # Errors
    ///
    /// As a write went.
    pub fn hold(self) -> Result<()> {
        let key = self.asking.key.as_str().into();
        self.asking
            .room
            .store
            .write(StepChange::Held { key }, None)?;
        self.asking.held(self.run);
        Ok(())
    }

    /// It has happened, with this result. Gives the value that later runs will get.
    ///
    /// # Durability
    ///
    /// When this returns, the result survives a power cut.
    ///
    /// # Errors
    ///
    /// As [`EffectInProgress::complete`].
    pub fn complete<T: Serialize + DeserializeOwned>(self, value: &T) -> Result<T> {
        self.asking.complete(value, None)
    }
}

/// An effect whose intent is durable, free to move between threads. With a token, a stop waits for it.
///
/// Dropped without an end, it is in doubt.
#[derive(Debug)]
#[must_use = "an effect that is dropped is in doubt"]
pub struct EffectInProgress {
    asking: Asking,
    inside: Inside,
    began: Moment,
}

impl EffectInProgress {
    /// Its whole key.
    pub fn key(&self) -> &str {
        &self.asking.key
    }

    /// What the other side can tell repetitions by: a UUID, the same in all runs.
    pub fn idempotency_key(&self) -> &str {
        &self.asking.idempotency_key
    }

    /// Its inside, for code that runs as a part of it on a thread that cannot tell: see [`Within`].
    pub fn within(&self) -> Within {
        self.inside.within()
    }

    /// Records the result, and gives the value that later runs will get.
    ///
    /// # Durability
    ///
    /// When this returns, the result survives a power cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a result that cannot be recorded as JSON: the effect has happened, and is in doubt. Otherwise as a
    /// write went.
    pub fn complete<T: Serialize + DeserializeOwned>(self, value: &T) -> Result<T> {
        let took = self.asking.room.store.clock().now().since(self.began);
        let value = self.asking.complete(value, Some(took))?;
        self.inside.keep();
        Ok(value)
    }

    /// It ended with an error, and certainly has not happened: asked for again, it is brought about without doubt.
    ///
    /// # Durability
    ///
    /// When this returns, that survives a power cut.
    ///
    /// # Errors
    ///
    /// As a write went.
    pub fn not_done(self, error: String) -> Result<()> {
        let change = StepChange::Released {
            key: self.asking.key.as_str().into(),
            error: Some(error),
        };
        self.asking.room.store.write(change, None)
    }

    /// It ended with an error, which is noted for those who look: it is in doubt, for a request may have arrived although its answer did not.
    pub fn fail(self, error: String) {
        let key = self.asking.key.as_str().into();
        let doubted = StepChange::Doubted { key, error };
        self.asking.room.store.submit(doubted, None);
    }
}

/// An effect that is asked for.
#[derive(Debug)]
struct Asking {
    room: Arc<Room>,
    place: Place,
    key: String,
    idempotency_key: String,
    asked: AskedEffect,
    entry: Entry,
}

impl Asking {
    /// Makes the intent durable.
    fn intend(self) -> Result<EffectInProgress> {
        let intended = StepChange::Intended {
            key: self.key.as_str().into(),
            idempotency_key: self.idempotency_key.as_str().into(),
            started_at_ms: wall_ms(),
        };
        self.room.store.write(intended, None)?;
        self.room.tell(|| Notice::EffectStarting {
            key: self.key.clone(),
        });
        Ok(EffectInProgress {
            began: self.room.store.clock().now(),
            inside: Inside::begin(&self.room, self.place.clone()),
            asking: self,
        })
    }

    fn end(self) {
        self.place.note([self.asked.settle()]);
        self.entry.commit();
    }

    fn held(self, run: u32) {
        let (room, key) = (Arc::clone(&self.room), self.key.clone());
        count(&room.tally.held);
        self.end();
        room.tell(|| Notice::EffectHeld { key, run });
    }

    /// Records the result, and gives the value that later runs will get.
    fn complete<T: Serialize + DeserializeOwned>(
        self,
        value: &T,
        took: Option<Duration>,
    ) -> Result<T> {
        let (room, key) = (Arc::clone(&self.room), self.key.clone());
        let recordable = value::record(&format!("effect `{key}`"), value);
        let (result, value) = recordable.inspect_err(|error| {
            let doubted = StepChange::Doubted {
                key: key.as_str().into(),
                error: format!("it has happened, but {error}"),
            };
            room.store.submit(doubted, None);
        })?;
        let change = StepChange::Completed {
            key: key.as_str().into(),
            duration_us: took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            result,
        };
        room.store.write(change, None)?;
        count(&room.tally.effects);
        self.end();
        room.tell(|| Notice::EffectComplete {
            key,
            took: took.unwrap_or_default(),
        });
        Ok(value)
    }
}
