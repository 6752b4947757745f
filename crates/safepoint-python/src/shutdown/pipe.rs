//! The stop as a descriptor: readable at Draining, hang-up at Terminating. For event loops, and for other processes of the program.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};
use safepoint::shutdown::{Phase, ShutdownToken};
use safepoint::{Error, ErrorKind, Result};

/// The stop descriptor of a token, as the library's page on it has it.
///
/// The write end is shared with the observer that writes to it. A fork must drop its copy ([`leave_to_parent`](Self::leave_to_parent)): while one is open, the
/// death of the parent is no hang-up.
pub(super) struct StopPipe {
    read: OwnedFd,
    write: Arc<Mutex<Option<OwnedFd>>>,
}

impl StopPipe {
    pub(super) fn new(token: &ShutdownToken) -> Result<Self> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (read, write) = pipe_with(flags).map_err(|errno| {
            let error = Error::new(ErrorKind::Io, "cannot make the stop descriptor");
            error.with_source(std::io::Error::from(errno))
        })?;
        let write = Arc::new(Mutex::new(Some(write)));
        let shared = Arc::clone(&write);
        let was_asked = Mutex::new(false);
        let carry = move |phase: Phase| {
            let mut end = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let mut was_asked = was_asked.lock().unwrap_or_else(PoisonError::into_inner);
            match (phase, &*end) {
                (Phase::Draining, Some(descriptor)) if !*was_asked => {
                    // One byte always fits into an empty pipe.
                    let _ = rustix::io::write(descriptor, b"s");
                    *was_asked = true;
                }
                // After a work that was not stopped the end stays open: whoever still holds the other one is not to be frightened.
                (Phase::Terminating, Some(_)) => *end = None,
                _ => {}
            }
        };
        carry(token.phase());
        token.observe(carry);
        Ok(Self { read, write })
    }

    pub(super) fn number(&self) -> i32 {
        self.read.as_raw_fd()
    }

    /// Another descriptor of the read end.
    pub(super) fn another(&self) -> Result<OwnedFd> {
        self.read.as_fd().try_clone_to_owned().map_err(|error| {
            Error::new(ErrorKind::Io, "cannot duplicate the stop descriptor").with_source(error)
        })
    }

    /// Closes the write end of a fork's copy.
    pub(super) fn leave_to_parent(&self) {
        // A thread of the parent that held the lock is not here to release it.
        if let Ok(mut write) = self.write.try_lock() {
            *write = None;
        }
    }
}
