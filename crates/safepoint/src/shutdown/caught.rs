//! Running the caller's code so that a panic of it ends nothing but itself.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Ending;

/// How the caller's code ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caught {
    Done,
    Failed(String),
    Panicked(String),
}

/// Runs `code`. The panic hook has printed a panic by the time this returns.
pub(super) fn run<R: Ending>(code: impl FnOnce() -> R) -> Caught {
    // Nothing of the caller's is looked at after its panic, so a broken invariant in it is not ours to see.
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(ending) => match ending.failure() {
            None => Caught::Done,
            Some(failure) => Caught::Failed(failure),
        },
        Err(payload) => Caught::Panicked(message(payload.as_ref())),
    }
}

/// The text of a panic, as `panic!` makes it.
pub(super) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text").to_owned()
}
