//! One bell through which other threads wake the dispatcher.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::bell::Bell;
use crate::error::{Error, ErrorKind, Result};

/// A cloneable wake-up call.
#[derive(Debug, Clone)]
pub(super) struct Wake(Arc<Bell>);

impl Wake {
    /// Makes one.
    pub(super) fn new() -> Result<Self> {
        let bell = Bell::new().map_err(|error| {
            Error::new(ErrorKind::Io, "cannot make a wake-up descriptor").with_source(error)
        })?;
        Ok(Self(Arc::new(bell)))
    }

    /// Wakes the dispatcher, now or at its next wait.
    pub(super) fn call(&self) {
        self.0.ring();
    }

    /// Forgets the calls so far.
    pub(super) fn clear(&self) {
        self.0.hush();
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
