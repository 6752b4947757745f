//! Items that were not accepted, on their way back.

use std::error::Error;
use std::fmt;

/// An item that an intake does not take any more, because a stop was asked for or the intake finishes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refused<T> {
    item: T,
}

impl<T> Refused<T> {
    pub(super) fn new(item: T) -> Self {
        Self { item }
    }

    /// The item, back with its owner.
    pub fn into_item(self) -> T {
        self.item
    }
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the intake takes no more items")
    }
}

impl<T> fmt::Debug for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").finish_non_exhaustive()
    }
}

impl<T> Error for Refused<T> {}

/// Why an item was not pushed at once, with the item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NotPushed<T> {
    /// There is no room now; there may be later.
    Full(T),
    /// The intake takes no more items.
    Refused(Refused<T>),
}

impl<T> NotPushed<T> {
    /// The item, back with its owner.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(item) => item,
            Self::Refused(refused) => refused.into_item(),
        }
    }
}

impl<T> fmt::Display for NotPushed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the intake is full"),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

impl<T> fmt::Debug for NotPushed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.debug_tuple("Full").finish_non_exhaustive(),
            Self::Refused(refused) => f.debug_tuple("Refused").field(refused).finish(),
        }
    }
}

impl<T> Error for NotPushed<T> {}
