//! The stop descriptor as a child has it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::raw;
use super::stop_pipe::STOP_FD_VARIABLE;
use super::watch::Watch;
use crate::error::{Error, ErrorKind, Result};
use crate::shutdown::{Phase, ShutdownToken};

/// The parent's stop, as a child sees it: asked for with one poll(2), or [watched](Self::watch) by a token.
///
/// # Examples
///
/// ```
/// use safepoint::Shutdown;
/// use safepoint::children::{Parent, STOP_FD_VARIABLE};
///
/// let shutdown = Shutdown::builder().build()?; // `install` in a program
/// let parent = Parent::inherited(std::env::var_os(STOP_FD_VARIABLE))?;
/// let _watch = match &parent {
///     Some(parent) => Some(parent.watch(&shutdown.token())?),
///     None => None, // not started by a safepoint program
/// };
/// # Ok::<(), safepoint::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Parent {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pipe: OwnedFd,
    /// It was readable once: somebody may have taken the byte since, against the protocol.
    was_asked: AtomicBool,
}

impl Parent {
    /// The parent's stop descriptor by the value of [`STOP_FD_VARIABLE`], which the caller reads; `None` when there is none.
    ///
    /// Asks a descriptor of its own, and keeps the inherited one from the programs that this process starts: they get one of their own
    /// from a [`Children`](super::Children). A program started by other means should not get the variable either
    /// ([`Command::env_remove`](std::process::Command::env_remove)).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the value is no number from 3 on, or the number not that of a pipe's read end. [`ErrorKind::Io`] when the
    /// system has no descriptor to spare.
    pub fn inherited(value: Option<impl AsRef<OsStr>>) -> Result<Option<Self>> {
        let Some(value) = value else { return Ok(None) };
        let value = value.as_ref();
        let refuse = |kind, why: &str| {
            let shown = value.to_string_lossy();
            let message = format!("`{STOP_FD_VARIABLE}={}` {why}", shown.escape_debug());
            Error::new(kind, message)
        };
        let digits = value
            .to_str()
            .filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
        let number: i32 = digits
            .and_then(|digits| digits.parse().ok())
            .filter(|number| *number >= 3)
            .ok_or_else(|| refuse(ErrorKind::Invalid, "is not the number of a stop descriptor"))?;
        let pipe = raw::duplicate(number).map_err(|error| match error.raw_os_error() {
            Some(libc::EBADF | libc::EINVAL) => {
                refuse(ErrorKind::Invalid, "names no open descriptor").with_hint(
                    "whoever starts this program passes the variable on, but not the descriptor",
                )
            }
            _ => refuse(ErrorKind::Io, "cannot be used").with_source(error),
        })?;
        if !is_read_end(&pipe) {
            return Err(refuse(ErrorKind::Invalid, "is not the read end of a pipe"));
        }
        raw::keep_from_children(number)
            .map_err(|error| refuse(ErrorKind::Io, "cannot be used").with_source(error))?;
        Ok(Some(Self::of(pipe)))
    }

    /// The parent's stop descriptor, where a program got it by other means.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it is not the read end of a pipe.
    pub fn from_descriptor(pipe: OwnedFd) -> Result<Self> {
        if is_read_end(&pipe) {
            Ok(Self::of(pipe))
        } else {
            Err(Error::invalid(
                "the stop descriptor is not the read end of a pipe",
            ))
        }
    }

    fn of(pipe: OwnedFd) -> Self {
        Self {
            inner: Arc::new(Inner {
                pipe,
                was_asked: AtomicBool::new(false),
            }),
        }
    }

    /// Whether the parent has asked for a stop, or is gone: one poll(2), some hundreds of nanoseconds.
    pub fn is_stopping(&self) -> bool {
        self.phase() != Phase::Running
    }

    /// How far the parent's stop has got: Draining when it asks, Terminating when it insists or is gone. Never Stopped.
    pub fn phase(&self) -> Phase {
        let mut wait = [PollFd::new(&self.inner.pipe, PollFlags::IN)];
        let now = Timespec::default();
        while poll(&mut wait, Some(&now)) == Err(Errno::INTR) {}
        let seen = wait[0].revents();
        if seen.contains(PollFlags::HUP) {
            return Phase::Terminating;
        }
        // Relaxed: a lone flag, and the pipe itself is the truth.
        if seen.contains(PollFlags::IN) {
            self.inner.was_asked.store(true, Ordering::Relaxed);
        }
        if self.inner.was_asked.load(Ordering::Relaxed) {
            Phase::Draining
        } else {
            Phase::Running
        }
    }

    /// Makes the parent's stop one of `token`, by a small thread: a graceful request when it asks, an immediate one when it insists or is gone;
    /// both of source [`Parent`](crate::shutdown::Source::Parent). Ends when the [`Watch`] is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the system has no thread or descriptor to spare.
    pub fn watch(&self, token: &ShutdownToken) -> Result<Watch> {
        Watch::start(self.clone(), token.clone()).map_err(|error: io::Error| {
            Error::new(ErrorKind::Io, "cannot watch the parent's stop").with_source(error)
        })
    }
}

impl AsFd for Parent {
    /// For an event loop of one's own: readable at Draining, hang-up at Terminating. Never to be read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.pipe.as_fd()
    }
}

fn is_read_end(descriptor: &OwnedFd) -> bool {
    let is_pipe =
        fstat(descriptor).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    let is_read =
        fcntl_getfl(descriptor).is_ok_and(|flags| (flags & OFlags::RWMODE) == OFlags::RDONLY);
    is_pipe && is_read
}
