//! How a function that was handed in may end.

use std::fmt::Display;

/// What a hook, a rollback action or a worker function may return: nothing, or a result whose error is reported by its text.
///
/// # Examples
///
/// ```
/// use safepoint::shutdown::Ending;
///
/// assert_eq!(().failure(), None);
/// assert_eq!(Ok::<_, std::fmt::Error>(7).failure(), None);
/// assert_eq!(Err::<(), _>("the disk is full").failure().as_deref(), Some("the disk is full"));
/// ```
pub trait Ending {
    /// The text of the failure, if this is one.
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
