//! A value that is made elsewhere, when somebody asks, and kept for a while.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{Clock, Moment};

/// How long a value is good for.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// A value that the program's own code makes: on a thread that is there as long as that takes, one at a time. Clones share it.
pub(super) struct Kept<T>(Arc<Inner<T>>);

struct Inner<T> {
    name: String,
    make: Box<dyn Fn() -> T + Send + Sync>,
    state: Mutex<State<T>>,
    made: Notify,
    clock: Clock,
}

struct State<T> {
    last: Option<Made<T>>,
    is_being_made: bool,
}

struct Made<T> {
    at: Moment,
    /// None after a panic.
    value: Option<Arc<T>>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// A value that `make` makes; `name` is for the thread.
    pub(super) fn new(name: &str, make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            name: format!("safepoint-{name}"),
            make: Box::new(make),
            state: Mutex::new(State {
                last: None,
                is_being_made: false,
            }),
            made: Notify::new(),
            clock: Clock::start(),
        }))
    }

    /// Begins to make the value, unless it is fresh or being made.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        if state.is_being_made || self.fresh(&state).is_some() {
            return;
        }
        state.is_being_made = true;
        drop(state);
        let this = self.clone();
        let started = std::thread::Builder::new()
            .name(self.0.name.clone())
            .spawn(move || this.make());
        if started.is_err() {
            // There is no thread to be had now; whoever asks next tries again.
            self.state().is_being_made = false;
        }
    }

    /// The value, at most [`FRESH`] old; none when it is not made within `limit`, or its maker panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: what was begun goes on, and is there for whoever asks next.
    pub(super) async fn get(&self, limit: Duration) -> Option<Arc<T>> {
        self.begin();
        if let Some(made) = self.fresh(&self.state()) {
            return made.value.clone();
        }
        let wait = async {
            loop {
                let made = self.0.made.notified();
                let mut made = std::pin::pin!(made);
                // From here on no notice is missed.
                made.as_mut().enable();
                if let Some(made) = self.fresh(&self.state()) {
                    return made.value.clone();
                }
                made.await;
            }
        };
        tokio::time::timeout(limit, wait).await.ok().flatten()
    }

    /// The last value, however old.
    pub(super) fn last(&self) -> Option<Arc<T>> {
        self.state().last.as_ref()?.value.clone()
    }

    fn make(&self) {
        // Nobody sees what a panic left half done: the value is thrown away.
        let value = catch_unwind(AssertUnwindSafe(&self.0.make)).ok();
        let mut state = self.state();
        state.last = Some(Made {
            at: self.0.clock.now(),
            value: value.map(Arc::new),
        });
        state.is_being_made = false;
        drop(state);
        self.0.made.notify_waiters();
    }

    fn fresh<'a>(&self, state: &'a State<T>) -> Option<&'a Made<T>> {
        let made = state.last.as_ref()?;
        (self.0.clock.now().since(made.at) < FRESH).then_some(made)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.0.name).finish()
    }
}
