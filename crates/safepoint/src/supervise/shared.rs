//! What other threads may ask of a supervised run, and what they see of it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::bell::Bell;
use crate::clock::{Clock, Moment};
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
    trouble: Mutex<Option<String>>,
    gauge: Gauge,
}

/// How a supervised run is; each number is read on its own.
#[derive(Debug, Default)]
pub struct Gauge {
    /// The child's process; 0 between two children.
    pub pid: AtomicU32,
    /// How often a child was started again.
    pub restarts: AtomicU32,
    /// When the child last wrote or said something, in milliseconds of the run's clock.
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
            trouble: Mutex::default(),
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

    /// Notes that the child was heard of.
    pub(super) fn heard(&self, clock: &Clock) {
        let now = clock.now().since(Moment::default());
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.0.gauge.heard_ms.store(now, Ordering::Relaxed);
    }

    /// For how long the child has been silent.
    pub(super) fn silence(&self, now: Moment) -> Duration {
        let heard = Duration::from_millis(self.0.gauge.heard_ms.load(Ordering::Relaxed));
        now.since(Moment::default() + heard)
    }

    /// Leaves word of something that went wrong with the child's output.
    pub(super) fn leave_word(&self, trouble: String) {
        let place = self.0.trouble.lock();
        place
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(trouble);
        self.0.bell.ring();
    }

    pub(super) fn take_trouble(&self) -> Option<String> {
        let place = self.0.trouble.lock();
        place.unwrap_or_else(PoisonError::into_inner).take()
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
