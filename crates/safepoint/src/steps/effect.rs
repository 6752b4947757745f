//! Effects: what must not be done twice.

use std::cell::Cell;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::doubt::{Answer, InDoubt};
use super::effect_in_progress::EffectBegin;
use super::scope::Scope;
use crate::error::Error;

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
        let begun = match self.begin_effect(key)? {
            EffectBegin::Complete(value) => return Ok(Effect::Complete(value)),
            EffectBegin::Held => return Ok(Effect::Held),
            EffectBegin::Stopped => return Ok(Effect::Stopped),
            EffectBegin::Begun(begun) => begun,
            EffectBegin::InDoubt(doubt) => match in_doubt {
                InDoubt::RunAgain => doubt.run_again()?,
                InDoubt::Hold => {
                    doubt.hold()?;
                    return Ok(Effect::Held);
                }
                InDoubt::Ask(check) => match check(doubt.idempotency_key())? {
                    Answer::NotDone => doubt.run_again()?,
                    Answer::Completed(value) => {
                        return doubt
                            .complete(&value)
                            .map(Effect::Complete)
                            .map_err(E::from);
                    }
                },
            },
        };
        let intent = Intent {
            idempotency_key: begun.idempotency_key().to_owned(),
            is_not_done: Cell::new(false),
        };
        let ended = begun.within().run(|| body(&intent));
        match ended {
            Ok(value) => begun
                .complete(&value)
                .map(Effect::Complete)
                .map_err(E::from),
            Err(error) => {
                if intent.is_not_done.get() {
                    begun.not_done(error.to_string())?;
                } else {
                    begun.fail(error.to_string());
                }
                Err(error)
            }
        }
    }
}
