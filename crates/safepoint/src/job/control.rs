//! `safepoint stop` from another process: a file in the state directory, noticed by inotify.
//!
//! On a network file system, where inotify does not see what other machines do, the owner looks once a second.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde::{Deserialize, Serialize};

use super::layout::{JobPath, STOP};
use crate::disk::{self, StateDir};
use crate::error::{Error, ErrorKind, Result};
use crate::shutdown::{Mode, Source, StopRequest};

#[derive(Serialize, Deserialize)]
struct StopFile {
    mode: String,
    message: String,
}

/// Asks the owner of a job to stop.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] when nobody owns the job; [`ErrorKind::Io`] when the request cannot be written.
pub fn request_stop(path: &JobPath, mode: Mode) -> Result<super::Owner> {
    let Some(owner) = super::current_owner(path)? else {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("job `{}` is not running", path.name),
        )
        .with_hint(format!(
            "`safepoint status {}` says how far it is",
            path.name
        )));
    };
    let request = StopFile {
        mode: mode.name().to_owned(),
        message: "safepoint stop".to_owned(),
    };
    disk::replace(
        &path.dir().join(STOP),
        &serde_json::to_vec(&request).unwrap_or_default(),
    )?;
    Ok(owner)
}

/// The owner's side.
pub(crate) struct Control {
    dir: StateDir,
    inotify: OwnedFd,
}

impl Control {
    /// Begins to watch; a request left from before is forgotten.
    pub(crate) fn watch(dir: &StateDir) -> Result<Self> {
        Self::forget(dir)?;
        Self::listen(dir)
    }

    /// Forgets a request left from before.
    pub(crate) fn forget(dir: &StateDir) -> Result<()> {
        dir.remove(STOP)
    }

    /// Begins to watch. A request that is there already is found by [`take`](Self::take).
    pub(crate) fn listen(dir: &StateDir) -> Result<Self> {
        let refuse = |error: rustix::io::Errno| {
            Error::new(
                ErrorKind::Io,
                format!("cannot watch `{}`", dir.path().display()),
            )
            .with_source(std::io::Error::from(error))
        };
        let inotify =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(refuse)?;
        inotify::add_watch(
            &inotify,
            dir.path(),
            WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE,
        )
        .map_err(refuse)?;
        Ok(Self {
            dir: dir.clone(),
            inotify,
        })
    }

    /// The request that was made since the last call, if any.
    pub(crate) fn take(&self) -> Option<StopRequest> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        while events
            .next()
            .is_ok_and(|event| !event.events().contains(ReadFlags::QUEUE_OVERFLOW))
        {}
        Self::take_from(&self.dir)
    }

    /// The same without a watch.
    pub(crate) fn take_from(dir: &StateDir) -> Option<StopRequest> {
        let bytes = dir.read(STOP, 4096).ok()??;
        dir.remove(STOP).ok()?;
        // Whoever put something there that cannot be read plainly wanted a stop.
        let file = serde_json::from_slice(&bytes).unwrap_or_else(|_| StopFile {
            mode: Mode::Graceful.name().to_owned(),
            message: "safepoint stop".to_owned(),
        });
        Some(if file.mode == Mode::Immediate.name() {
            StopRequest::immediate(Source::User, file.message)
        } else {
            StopRequest::graceful(Source::User, file.message)
        })
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
