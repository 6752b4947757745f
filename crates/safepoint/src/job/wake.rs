//! One descriptor through which other threads wake the dispatcher.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Error, ErrorKind, Result};

/// A cloneable wake-up call.
#[derive(Debug, Clone)]
pub(super) struct Wake(Arc<OwnedFd>);

impl Wake {
    /// Makes one.
    pub(super) fn new() -> Result<Self> {
        let descriptor =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| {
                Error::new(ErrorKind::Io, "cannot make a wake-up descriptor")
                    .with_source(std::io::Error::from(error))
            })?;
        Ok(Self(Arc::new(descriptor)))
    }

    /// Wakes the dispatcher, now or at its next wait.
    pub(super) fn call(&self) {
        // It can only fail when it is full, and then the dispatcher is being woken already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets the calls so far.
    pub(super) fn clear(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
