//! Effects: what must not be done twice.

use std::cell::Cell;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::doubt::{Answer, InDoubt};
use super::inside::Inside;
use super::name;
use super::notice::Notice;
use super::room::{AskedEffect, Room, count};
use super::scope::Scope;
use super::value;
use crate::clock::wall_ms;
use crate::error::{Error, Result};
use crate::queue::{EffectState, StepChange};
use crate::shutdown::Unit;

/// What came of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an effect that is held, or that a stop kept from beginning, was not brought about"]
pub enum Effect<T> {
    /// It was brought about, now or earlier.
    Complete(T),
    /// It is in doubt, and a person is to say what is true; see [`resolve`](super::resolve).
    Held,
    /// A stop was asked for before it began.
    Stopped,
}

impl<T> Effect<T> {
    /// The result, if it was brought about.
    pub fn complete(self) -> Option<T> {
        match self {
            Self::Complete(value) => Some(value),
            Self::Held | Self::Stopped => None,
        }
    }
}

/// An effect that is about to be brought about; its intent is durable.
#[derive(Debug)]
pub struct Intent {
    idempotency_key: String,
    is_not_done: Cell<bool>,
}

impl Intent {
    /// What the other side can tell repetitions by: a UUID, the same in all runs.
    pub fn idempotency_key(&self) -> &str {
        &self.idempotency_key
    }

    /// Passes `error` on and says that the effect has certainly not happened, for example because no connection came about. Without this, an
    /// effect whose body returns an error is in doubt: the request may have arrived although its answer did not.
    pub fn not_done<E>(&self, error: E) -> E {
        self.is_not_done.set(true);
        error
    }
}

impl Scope {
    /// Brings about what must not be repeated: a payment, a mail, an order.
    ///
    /// That it is about to happen is made durable before `body` runs, and its result after. If both are there, the recorded result is given. If the
    /// first is there without the second, the effect is *in doubt*: the process died, the body panicked, or returned an error
    /// without [saying](Intent::not_done) that nothing has happened. Then, and only then, `in_doubt` decides. An effect that was
    /// [held](InDoubt::Hold) once stays held until a person resolves it, whatever is passed later.
    ///
    /// # Durability
    ///
    /// When `body` begins, the intent survives a power cut; when this returns a result, so does that.
    ///
    /// # Errors
    ///
    /// What `body`, or the check of [`InDoubt::Ask`], returns; and as [`step`](Self::step). If a result cannot be recorded as JSON, the effect has
    /// happened and is in doubt.
    ///
    /// # Examples
    ///
    /// ```
    /// use safepoint::steps::{Effect, InDoubt};
    /// # fn connect() -> safepoint::Result<Bank> { Ok(Bank) }
    /// # struct Bank;
    /// # impl Bank { fn pay(&self, _: &str) -> safepoint::Result<u32> { Ok(4711) } }
    /// # let directory = tempfile::tempdir().expect("a directory");
    /// # let steps = safepoint::Steps::open(directory.path().join("state"))?;
    /// let paid = steps.effect("pay-invoice-17", InDoubt::Hold, |intent| {
    ///     let bank = connect().map_err(|error| intent.not_done(error))?;
    ///     bank.pay(intent.idempotency_key())
    /// })?;
    /// match paid {
    ///     Effect::Complete(receipt) => println!("paid: {receipt}"),
    ///     Effect::Held => println!("ask the bank, then `safepoint steps resolve`"),
    ///     Effect::Stopped => {}
    /// }
    /// # assert_eq!(paid, Effect::Complete(4711));
    /// # Ok::<(), safepoint::Error>(())
    /// ```
    pub fn effect<T, E>(
        &self,
        key: impl AsRef<str>,
        in_doubt: InDoubt<'_, T, E>,
        body: impl FnOnce(&Intent) -> std::result::Result<T, E>,
    ) -> std::result::Result<Effect<T>, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error> + Display,
    {
        let room = &*self.room;
        let key = self.whole(key.as_ref());
        name::check(&key)?;
        let unit = match &room.token {
            None => None,
            Some(token) => match token.unit(&key) {
                None => return Ok(Effect::Stopped),
                unit => unit,
            },
        };
        let asked = room.ask_effect(&key)?;
        let row = room.store.effect(&key)?;
        let run = row.as_ref().map_or(0, |row| row.run);
        let asking = Asking {
            room,
            key: &key,
            asked,
            unit,
        };
        let idempotency_key = match row {
            None => uuid::Uuid::now_v7().to_string(),
            Some(row) => match row.state {
                EffectState::Complete => {
                    let json = row.result.unwrap_or_default();
                    let way_out = match row.duration_us {
                        Some(_) => {
                            "the program changed: ask for it as the type that it was recorded as"
                        }
                        None => {
                            "it is what somebody said of it: say it anew with `safepoint steps resolve`"
                        }
                    };
                    let value = value::read(&format!("effect `{key}`"), &json, way_out)?;
                    asking.end();
                    room.tell(|| Notice::EffectSkipped { key, run });
                    return Ok(Effect::Complete(value));
                }
                EffectState::Held => return Ok(asking.held(run)),
                EffectState::Released => row.idempotency_key,
                EffectState::Intended => {
                    room.tell(|| Notice::EffectInDoubt {
                        key: key.clone(),
                        run,
                    });
                    match in_doubt {
                        InDoubt::RunAgain => row.idempotency_key,
                        InDoubt::Hold => {
                            let change = StepChange::Held {
                                key: key.as_str().into(),
                            };
                            room.store.write(change, None)?;
                            return Ok(asking.held(run));
                        }
                        InDoubt::Ask(check) => match check(&row.idempotency_key)? {
                            Answer::NotDone => row.idempotency_key,
                            Answer::Completed(value) => {
                                let value = asking.complete(&value, None)?;
                                return Ok(Effect::Complete(value));
                            }
                        },
                    }
                }
            },
        };
        let intended = StepChange::Intended {
            key: key.as_str().into(),
            idempotency_key: idempotency_key.as_str().into(),
            started_at_ms: wall_ms(),
        };
        room.store.write(intended, None)?;
        room.tell(|| Notice::EffectStarting { key: key.clone() });
        let began = room.store.clock().now();
        let intent = Intent {
            idempotency_key,
            is_not_done: Cell::new(false),
        };
        let inside = Inside::begin(room);
        match body(&intent) {
            Ok(value) => {
                let took = room.store.clock().now().since(began);
                let value = asking.complete(&value, Some(took))?;
                inside.keep();
                Ok(Effect::Complete(value))
            }
            Err(error) => {
                asking.failed(error.to_string(), intent.is_not_done.get())?;
                Err(error)
            }
        }
    }
}

/// An effect that is asked for.
struct Asking<'a> {
    room: &'a Room,
    key: &'a str,
    asked: AskedEffect<'a>,
    unit: Option<Unit<'a>>,
}

impl Asking<'_> {
    fn end(self) {
        self.asked.settle();
        if let Some(unit) = self.unit {
            unit.commit();
        }
    }

    fn held<T>(self, run: u32) -> Effect<T> {
        let (room, key) = (self.room, self.key.to_owned());
        count(&room.tally.held);
        self.end();
        room.tell(|| Notice::EffectHeld { key, run });
        Effect::Held
    }

    /// Records the result, and gives the value that later runs will get.
    fn complete<T: Serialize + DeserializeOwned>(
        self,
        value: &T,
        took: Option<std::time::Duration>,
    ) -> Result<T> {
        let (room, key) = (self.room, self.key);
        let recordable = value::record(&format!("effect `{key}`"), value);
        let (result, value) = recordable.inspect_err(|error| {
            let doubted = StepChange::Doubted {
                key: key.into(),
                error: format!("it has happened, but {error}"),
            };
            room.store.submit(doubted, None);
        })?;
        let change = StepChange::Completed {
            key: key.into(),
            duration_us: took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            result,
        };
        room.store.write(change, None)?;
        count(&room.tally.effects);
        self.end();
        room.tell(|| Notice::EffectComplete {
            key: key.to_owned(),
            took: took.unwrap_or_default(),
        });
        Ok(value)
    }

    /// Notes why it failed; if it has certainly not happened, it is not in doubt.
    fn failed(self, error: String, is_not_done: bool) -> Result<()> {
        let key = self.key.into();
        if is_not_done {
            let error = Some(error);
            return self
                .room
                .store
                .write(StepChange::Released { key, error }, None);
        }
        self.room
            .store
            .submit(StepChange::Doubted { key, error }, None);
        Ok(())
    }
}
