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

/// Runs `code` to its ending.
pub(super) fn run<R: Ending>(code: impl FnOnce() -> R) -> Caught {
    // Showing an error is the caller's code too.
    match catch(|| code().failure()) {
        Ok(None) => Caught::Done,
        Ok(Some(failure)) => Caught::Failed(failure),
        Err(message) => Caught::Panicked(message),
    }
}

/// Runs `code`; the text of its panic if it panics. The panic hook has printed it by then.
pub(super) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    // What the code holds is its author's to keep whole: nothing of it is looked at after the panic.
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
        let message = message(payload.as_ref());
        // A value thrown by `panic_any` may panic itself when dropped; what that throws is leaked.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        message
    })
}

/// The text of a panic, as `panic!` makes it.
pub(super) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(a panic without a text)").to_owned()
}
