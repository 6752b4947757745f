//! What other threads may ask of a supervised run, and what they see of it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::bell::Bell;
use crate::error::{Error, ErrorKind, Result};
use crate::process::SignalSet;

/// Asks a supervised run for things from another thread. Clones are the same handle.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bell: Bell,
    /// Signals to be passed on, one bit each.
    forward: AtomicU64,
    suspend: AtomicBool,
    orphans: AtomicBool,
    gauge: Gauge,
}

/// How a supervised run is; each number is read on its own.
#[derive(Debug, Default)]
pub struct Gauge {
    /// The child's process; 0 between two children.
    pub pid: AtomicU32,
    /// How often a child was started again.
    pub restarts: AtomicU32,
    /// When the child last wrote or said something, in milliseconds since boot; 0 where nobody listens.
    pub heard_ms: AtomicU64,
}

impl Handle {
    /// A handle for one run.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the system has no descriptor left.
    pub fn new() -> Result<Self> {
        let bell = Bell::new().map_err(|error| {
            Error::new(ErrorKind::Io, "cannot make a wake-up descriptor").with_source(error)
        })?;
        Ok(Self(Arc::new(Shared {
            bell,
            forward: AtomicU64::new(0),
            suspend: AtomicBool::new(false),
            orphans: AtomicBool::new(false),
            gauge: Gauge::default(),
        })))
    }

    /// Has a signal passed on to the child. Several of one number that come at once count once, as with signals themselves.
    pub fn forward(&self, signal: i32) {
        // Relaxed, here and below: lone flags; the bell's system call orders them well enough.
        let bit = SignalSet::default().with(signal);
        self.0.forward.fetch_or(bit.bits(), Ordering::Relaxed);
        self.0.bell.ring();
    }

    /// Asks to suspend the child and then this process (Ctrl-Z).
    pub fn suspend(&self) {
        self.0.suspend.store(true, Ordering::Relaxed);
        self.0.bell.ring();
    }

    /// Says that a child of this process has ended (SIGCHLD): it may be an orphan that nobody else reaps.
    pub fn orphans(&self) {
        self.0.orphans.store(true, Ordering::Relaxed);
        self.0.bell.ring();
    }

    /// How the run is.
    pub fn gauge(&self) -> &Gauge {
        &self.0.gauge
    }

    pub(super) fn wake(&self) {
        self.0.bell.ring();
    }

    pub(super) fn hush(&self) {
        self.0.bell.hush();
    }

    pub(super) fn take_forward(&self) -> SignalSet {
        SignalSet::from_bits(self.0.forward.swap(0, Ordering::Relaxed))
    }

    pub(super) fn take_suspend(&self) -> bool {
        self.0.suspend.swap(false, Ordering::Relaxed)
    }

    pub(super) fn take_orphans(&self) -> bool {
        self.0.orphans.swap(false, Ordering::Relaxed)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }
}
