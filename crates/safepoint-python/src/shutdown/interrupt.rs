//! Waking Python's main thread for a stop that no signal brought, or whose signal came a moment too early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use safepoint::shutdown::{Phase, ShutdownToken};
use safepoint::{Error, ErrorKind, Result};

/// Between two attempts. A signal that comes between Python's look at its signals and a system call is not heard in that call.
const AGAIN: Duration = Duration::from_millis(50);

/// Makes the main thread run the handler that Python has for a signal, until it says that it has heard.
pub(super) struct Interrupt {
    /// Somebody is to be told still.
    is_wanted: AtomicBool,
    /// The block has not ended.
    is_open: AtomicBool,
}

impl Interrupt {
    /// Interrupts the thread `thread` (as `pthread_self(3)` has it) by `signal` at each new phase of `token`.
    pub(super) fn attach(token: &ShutdownToken, thread: u64, signal: i32) -> Result<Arc<Self>> {
        let interrupt = Arc::new(Self {
            is_wanted: AtomicBool::new(false),
            is_open: AtomicBool::new(true),
        });
        let (wake, woken) = std::sync::mpsc::channel::<()>();
        let shared = Arc::clone(&interrupt);
        let knock = move || {
            while woken.recv().is_ok() {
                while shared.is_open.load(Ordering::Acquire)
                    && shared.is_wanted.load(Ordering::Acquire)
                {
                    send(thread, signal);
                    // Somebody else's request cuts the wait short; it is asked anew in any case.
                    let _ = woken.recv_timeout(AGAIN);
                }
            }
        };
        std::thread::Builder::new()
            .name("safepoint-interrupt".to_owned())
            .spawn(knock)
            .map_err(|error| {
                let said = Error::new(ErrorKind::Io, "cannot start the thread that interrupts");
                said.with_source(error)
            })?;
        let observed = Arc::clone(&interrupt);
        token.observe(move |phase| {
            if matches!(phase, Phase::Draining | Phase::Terminating) {
                observed.is_wanted.store(true, Ordering::Release);
                // The thread lives as long as this sender.
                let _ = wake.send(());
            }
        });
        Ok(interrupt)
    }

    /// The main thread has heard.
    pub(super) fn heard(&self) {
        self.is_wanted.store(false, Ordering::Release);
    }

    /// The block ends: from now on nobody is interrupted.
    pub(super) fn close(&self) {
        self.is_open.store(false, Ordering::Release);
    }
}

#[expect(
    unsafe_code,
    reason = "pthread_kill(3) trusts the number of the thread"
)]
fn send(thread: u64, signal: i32) {
    // SAFETY: the main thread lives as long as the process, so its number is valid; the signal has a handler of Python's.
    unsafe { libc::pthread_kill(thread as libc::pthread_t, signal) };
}
