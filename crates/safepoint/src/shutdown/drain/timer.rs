//! A timer for futures of any runtime: a thread that waits.
//!
//! Time is that of [`Condvar`], which a paused clock does not stop.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

/// Wakes once its time has passed. Dropping it ends its thread.
pub(super) struct Timer {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    given_up: Condvar,
}

struct State {
    stage: Stage,
    waker: Option<Waker>,
}

#[derive(PartialEq)]
enum Stage {
    Running,
    Over,
    GivenUp,
}

impl Timer {
    /// Starts a timer; without a thread to be had, its time is over at once.
    pub(super) fn start(limit: Duration) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stage: Stage::Running,
                waker: None,
            }),
            given_up: Condvar::new(),
        });
        let waiting = Arc::clone(&shared);
        let thread = if limit.is_zero() {
            None
        } else {
            thread::Builder::new()
                .name("safepoint-timer".into())
                .spawn(move || waiting.wait(limit))
                .ok()
        };
        if thread.is_none() {
            shared.lock().stage = Stage::Over;
        }
        Self { shared }
    }

    /// Whether the time has passed; has `waker` woken then.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<()> {
        // Cloned before the lock is taken, and the old one dropped after: both are the caller's code.
        let waker = waker.clone();
        let mut state = self.shared.lock();
        if state.stage == Stage::Over {
            drop(state);
            return Poll::Ready(());
        }
        let replaced = state.waker.replace(waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stage = Stage::GivenUp;
        let waker = state.waker.take();
        drop(state);
        self.shared.given_up.notify_all();
        drop(waker);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's side.
    fn wait(&self, limit: Duration) {
        let waited = self
            .given_up
            .wait_timeout_while(self.lock(), limit, |state| state.stage == Stage::Running);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.stage == Stage::Running {
            state.stage = Stage::Over;
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
