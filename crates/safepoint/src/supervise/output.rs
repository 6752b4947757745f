//! What the child writes, where we have to see it: passed on as it comes, and kept in files that are put aside when they are full.
//!
//! Without a log and without a limit on silence the child has our own descriptors, and nothing here is used.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::Handle;
use crate::clock::Clock;
use crate::disk::RotatingLog;
use crate::error::{Error, ErrorKind, Result};

/// As much as is read at once, and as the pipe holds where that is allowed: a child that writes fast is not slowed by many small reads.
const BUFFER: usize = 256 * 1024;
const PIPE: usize = 1024 * 1024;

/// Where what the child writes goes.
#[derive(Debug)]
pub struct Outputs {
    /// What it writes to standard output.
    pub stdout: OwnedFd,
    /// What it writes to standard error.
    pub stderr: OwnedFd,
}

/// Both outputs of a child on their way.
pub(super) struct Pump {
    /// The child's ends, until they are given away.
    ends: Option<[OwnedFd; 2]>,
    /// Hangs up when all has been passed on.
    passed: Receiver<()>,
}

impl Pump {
    /// Starts passing on. `handle` is told whenever something came, and what went wrong.
    pub(super) fn start(
        outputs: &Outputs,
        log: Option<&Arc<Mutex<RotatingLog>>>,
        handle: &Handle,
        clock: &Clock,
    ) -> Result<Self> {
        let refuse = |error: std::io::Error| {
            Error::new(ErrorKind::Io, "cannot read what the command writes").with_source(error)
        };
        let (done, passed) = channel::<()>();
        let mut ends = Vec::new();
        for target in [&outputs.stdout, &outputs.stderr] {
            let (reading, writing) =
                pipe_with(PipeFlags::CLOEXEC).map_err(|error| refuse(error.into()))?;
            // A smaller pipe is slower, and does as well.
            let _ = fcntl_setpipe_size(&writing, PIPE);
            let stream = Stream {
                reading,
                target: target.try_clone().map_err(refuse)?,
                log: log.cloned(),
                handle: handle.clone(),
                clock: clock.clone(),
            };
            let done = done.clone();
            std::thread::Builder::new()
                .name("safepoint-output".into())
                .spawn(move || {
                    stream.pass_on();
                    drop(done);
                })
                .map_err(refuse)?;
            ends.push(writing);
        }
        let ends = <[OwnedFd; 2]>::try_from(ends).ok();
        Ok(Self { ends, passed })
    }

    /// The ends for the child: standard output and standard error.
    pub(super) fn ends(&self) -> Option<(BorrowedFd<'_>, BorrowedFd<'_>)> {
        let [stdout, stderr] = self.ends.as_ref()?;
        Some((stdout.as_fd(), stderr.as_fd()))
    }

    /// Closes our copies of the child's ends.
    pub(super) fn given(&mut self) {
        self.ends = None;
    }

    /// Waits until all has been passed on; says whether it was within `limit`.
    pub(super) fn is_done_within(&self, limit: Duration) -> bool {
        self.passed.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected)
    }
}

struct Stream {
    reading: OwnedFd,
    target: OwnedFd,
    log: Option<Arc<Mutex<RotatingLog>>>,
    handle: Handle,
    clock: Clock,
}

impl Stream {
    fn pass_on(self) {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match rustix::io::read(&self.reading, &mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            self.handle.heard(&self.clock);
            if let Some(log) = &self.log {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                // A log is a help: a disk that is full does not stop the work.
                if let Err(error) = log.append(&buffer[..count]) {
                    self.handle.leave_word(error.chain());
                }
            }
            match write_all(&self.target, &buffer[..count]) {
                Ok(()) => {}
                // Nobody reads: the child learns it from its next write, as it would without us.
                Err(Errno::PIPE) => return,
                // A full disk, a terminal that was closed: the work goes on without this piece of its output.
                Err(error) => self.handle.leave_word(format!(
                    "what the command wrote could not be passed on: {}",
                    std::io::Error::from(error)
                )),
            }
        }
    }
}

fn write_all(target: &OwnedFd, mut bytes: &[u8]) -> std::result::Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Another program has made the terminal non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(target, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
