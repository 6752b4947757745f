//! Waking Python's main thread for a stop that no signal brought, or whose signal came a moment too early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use safepoint::shutdown::{Phase, ShutdownToken};
use safepoint::{Error, ErrorKind, Result};

/// Between two attempts. A signal that comes between Python's look at its signals and a system call is not heard in that call.
const AGAIN: Duration = Duration::from_millis(50);

/// Makes the main thread run the handler that Python has for a signal, until it says that it has heard.
pub(super) struct Interrupt {
    /// How far the stop has got of which the main thread is to hear still: 1 for Draining, 2 for Terminating; 0 when it has.
    wanted: AtomicU8,
    /// The block has not ended.
    is_open: AtomicBool,
}

impl Interrupt {
    /// Interrupts the thread `thread` (as `pthread_self(3)` has it) by `signal` at each new phase of `token`.
    pub(super) fn attach(token: &ShutdownToken, thread: u64, signal: i32) -> Result<Arc<Self>> {
        let interrupt = Arc::new(Self {
            wanted: AtomicU8::new(0),
            is_open: AtomicBool::new(true),
        });
        let (wake, woken) = std::sync::mpsc::channel::<()>();
        let shared = Arc::clone(&interrupt);
        let knock = move || {
            while woken.recv().is_ok() {
                while shared.is_open.load(Ordering::Acquire)
                    && shared.wanted.load(Ordering::Acquire) > 0
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
            let reached = match phase {
                Phase::Draining => 1,
                Phase::Terminating => 2,
                _ => return,
            };
            observed.wanted.fetch_max(reached, Ordering::AcqRel);
            // The thread lives as long as this sender.
            let _ = wake.send(());
        });
        Ok(interrupt)
    }

    /// The main thread has heard that the stop has got to `reached`. It may have got further meanwhile.
    pub(super) fn heard(&self, reached: u8) {
        let still = |wanted: u8| (wanted <= reached).then_some(0);
        // Refused if there is more to hear.
        let _ = self
            .wanted
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, still);
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
