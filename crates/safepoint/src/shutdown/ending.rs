//! How a piece of the caller's code ended.

use std::fmt::Display;

/// What hooks, rollback actions and workers may return: nothing, or a `Result` whose error can be shown.
pub trait Ending {
    /// The error as text, if it failed.
    fn failure(self) -> Option<String>;
}

impl Ending for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<T, E: Display> Ending for Result<T, E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}
