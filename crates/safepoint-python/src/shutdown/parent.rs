//! The parent's stop in another process of the same program: a fork, or a process that multiprocessing started.

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use safepoint::Shutdown;
use safepoint::children::{Parent, Watch};
use safepoint::shutdown::ShutdownToken;
use safepoint::{Error, ErrorKind, Result};

use super::token::PyToken;
use crate::errors::raise;

/// From the parent's death to that of a process that cannot do without it: enough to roll a unit back.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What makes the parent's stop one of a token here, as long as it lives.
#[pyclass(frozen, name = "Parent", module = "safepoint._native")]
pub(crate) struct PyParent {
    _watch: Watch,
    /// The threads of the token that a process has which is no fork.
    _shutdown: Option<Shutdown>,
}

impl PyParent {
    pub(super) fn watch(descriptor: OwnedFd, token: &ShutdownToken) -> Result<Self> {
        let watch = Parent::from_descriptor(descriptor)?.watch(token)?;
        Ok(Self {
            _watch: watch,
            _shutdown: None,
        })
    }
}

#[pymethods]
impl PyParent {
    /// A token that stops when the program's main process does. Takes over the descriptor `number`, the read end of that one's stop pipe.
    #[staticmethod]
    fn attach(py: Python<'_>, number: i32) -> PyResult<PyToken> {
        let descriptor = own(number)?;
        let shutdown = Shutdown::builder().build().map_err(raise)?;
        let token = shutdown.token();
        let watched = Self::watch(descriptor, &token).map_err(raise)?;
        let parent = Self {
            _shutdown: Some(shutdown),
            ..watched
        };
        Ok(PyToken::of(token, Some(Py::new(py, parent)?)))
    }
}

#[expect(unsafe_code, reason = "a number from Python becomes a descriptor")]
fn own(number: i32) -> PyResult<OwnedFd> {
    if number < 0 {
        return Err(raise(Error::invalid("there is no such descriptor")));
    }
    // SAFETY: the front has just opened it and gives it away.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes this process die soon after process `number` does, also while it is busy in C: by SIGKILL, a second later.
///
/// By a pidfd, for `PR_SET_PDEATHSIG` is tied to the thread that forked, and a stop pipe may be held open by a sibling.
#[pyfunction]
pub(crate) fn end_with(number: i32) -> PyResult<()> {
    let refused = |errno: Errno| {
        let error = Error::new(
            ErrorKind::Io,
            format!("cannot watch the parent, process {number}"),
        );
        raise(error.with_source(std::io::Error::from(errno)))
    };
    let pid =
        Pid::from_raw(number).ok_or_else(|| raise(Error::invalid("there is no process 0")))?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Some(process),
        // It is dead already.
        Err(Errno::SRCH) => None,
        Err(errno) => return Err(refused(errno)),
    };
    let watch = move || {
        if let Some(process) = process {
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            while poll(&mut ended, None) == Err(Errno::INTR) {}
        }
        std::thread::sleep(LAST_WORDS);
        let _ = kill_process(rustix::process::getpid(), Signal::KILL);
    };
    std::thread::Builder::new()
        .name("safepoint-parent".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|error| {
            let said = Error::new(
                ErrorKind::Io,
                "cannot start the thread that watches the parent",
            );
            raise(said.with_source(error))
        })
}
