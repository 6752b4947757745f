//! What other threads may ask of a running job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::durations::Durations;
use super::wake::Wake;
use crate::error::Result;
use crate::process::GroupTable;

/// Asks a running job for things from another thread, and reads how far it is. Clones are the same handle.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) wake: Wake,
    pub(super) groups: GroupTable,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    describe: AtomicBool,
    suspend: AtomicBool,
    gauge: Gauge,
}

/// How far a running job is; each number is read on its own.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Items done, in all runs.
    pub done: AtomicU64,
    /// Items done in this run.
    pub done_now: AtomicU64,
    /// Items dead, in all runs.
    pub dead: AtomicU64,
    /// Items waiting for another attempt.
    pub waiting: AtomicU64,
    /// Items left out as duplicates.
    pub duplicate: AtomicU64,
    /// Items in the input; `u64::MAX` while it is not known.
    pub total: AtomicU64,
    /// Attempts in progress.
    pub in_progress: AtomicU64,
    /// Attempts that failed in this run.
    pub failures: AtomicU64,
    /// How long the attempts of this run took, those that failed too.
    pub durations: Durations,
    /// Time that this run has worked, Ctrl-Z left out, in microseconds.
    pub elapsed_us: AtomicU64,
    /// Whether the job is paused by its commands.
    pub is_paused: AtomicBool,
}

impl Handle {
    /// A handle for a job with at most so many slots.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the system has no descriptor left.
    pub fn new(slots: usize) -> Result<Self> {
        let shared = Shared::default();
        shared.gauge.total.store(u64::MAX, Ordering::Relaxed);
        Ok(Self {
            wake: Wake::new()?,
            groups: GroupTable::new(slots),
            shared: Arc::new(shared),
        })
    }

    /// Asks for a notice of what is in progress.
    pub fn describe(&self) {
        // Relaxed, here and below: lone flags and numbers; the wake-up's system call orders them well enough.
        self.shared.describe.store(true, Ordering::Relaxed);
        self.wake.call();
    }

    /// Asks to suspend all children and then this process (Ctrl-Z).
    pub fn suspend(&self) {
        self.shared.suspend.store(true, Ordering::Relaxed);
        self.wake.call();
    }

    /// Kills every child's group at once, without waiting: the last act before the process dies.
    pub fn kill_all(&self) {
        self.groups.kill_all();
    }

    /// How far the job is.
    pub fn gauge(&self) -> &Gauge {
        &self.shared.gauge
    }

    pub(super) fn take_describe(&self) -> bool {
        self.shared.describe.swap(false, Ordering::Relaxed)
    }

    pub(super) fn take_suspend(&self) -> bool {
        self.shared.suspend.swap(false, Ordering::Relaxed)
    }
}
