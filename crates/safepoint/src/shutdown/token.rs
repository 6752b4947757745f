//! The shared state of one shutdown, and the token through which all see it.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Phase, Recorded, StopRequest};
use crate::clock::{Clock, Moment, wall_ms};

type Observer = Arc<dyn Fn(Phase) + Send + Sync>;

/// What all tokens of a shutdown share.
pub(super) struct Tree {
    /// Written under `state`'s lock, read without it.
    phase: AtomicU8,
    state: Mutex<State>,
    changed: Condvar,
    pub(super) clock: Clock,
    grace: Duration,
}

#[derive(Default)]
struct State {
    requests: Vec<Recorded>,
    deadline: Option<Moment>,
    observers: Vec<Observer>,
}

impl Tree {
    pub(super) fn new(clock: Clock, grace: Duration) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Running as u8),
            state: Mutex::default(),
            changed: Condvar::new(),
            clock,
            grace,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> Phase {
        // Relaxed: the phase guards no other memory; whoever needs the reason takes the lock, which orders it.
        Phase::from_u8(self.phase.load(Ordering::Relaxed))
    }

    fn advance(&self, state: &mut State, to: Phase) {
        let phase = self.phase().max(to);
        if phase != Phase::Running && state.deadline.is_none() {
            state.deadline = Some(self.clock.now() + self.grace);
        }
        // Relaxed: see `phase`. Stores happen under the lock only, so none is lost.
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn tell(&self, observers: &[Observer], phase: Phase) {
        self.changed.notify_all();
        for observer in observers {
            observer(phase);
        }
    }

    fn request(&self, request: StopRequest) -> Phase {
        let (observers, phase) = {
            let mut state = self.lock();
            let mode = request.mode;
            state.requests.push(Recorded {
                request,
                at_ms: wall_ms(),
            });
            let phase = self.phase().after(mode);
            self.advance(&mut state, phase);
            (state.observers.clone(), phase)
        };
        self.tell(&observers, phase);
        phase
    }

    fn advance_to(&self, to: Phase) {
        let observers = {
            let mut state = self.lock();
            if self.phase() >= to {
                return;
            }
            self.advance(&mut state, to);
            state.observers.clone()
        };
        self.tell(&observers, to);
    }
}

/// A cheap, cloneable view of a [`Shutdown`](super::Shutdown): asks whether to stop, waits for it, asks for it.
#[derive(Clone)]
pub struct ShutdownToken {
    pub(super) tree: Arc<Tree>,
}

impl ShutdownToken {
    /// A token that no signal reaches: for tests and for programs that only stop themselves. `grace` is the grace period.
    pub fn detached(clock: Clock, grace: Duration) -> Self {
        Self {
            tree: Arc::new(Tree::new(clock, grace)),
        }
    }

    /// Whether a stop was asked for: one relaxed load.
    pub fn is_stopping(&self) -> bool {
        self.tree.phase.load(Ordering::Relaxed) != Phase::Running as u8
    }

    /// How far stopping has got.
    pub fn phase(&self) -> Phase {
        self.tree.phase()
    }

    /// Asks for a stop. Each request is recorded; an immediate one always escalates. Returns the phase it led to.
    pub fn request(&self, request: StopRequest) -> Phase {
        self.tree.request(request)
    }

    /// The first request, which stays the reason whatever follows.
    pub fn reason(&self) -> Option<StopRequest> {
        self.tree
            .lock()
            .requests
            .first()
            .map(|recorded| recorded.request.clone())
    }

    /// All requests so far, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.tree.lock().requests.clone()
    }

    /// The end of the grace period, once a stop was asked for.
    pub fn deadline(&self) -> Option<Moment> {
        self.tree.lock().deadline
    }

    /// What is left of the grace period, once a stop was asked for.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline()
            .map(|deadline| deadline.since(self.tree.clock.now()))
    }

    /// The clock that the grace period is measured by.
    pub fn clock(&self) -> &Clock {
        &self.tree.clock
    }

    /// Calls `observer` on every request and every change of phase, on the thread that caused it, without any lock held.
    pub fn observe(&self, observer: impl Fn(Phase) + Send + Sync + 'static) {
        self.tree.lock().observers.push(Arc::new(observer));
    }

    /// Blocks until a stop is asked for.
    ///
    /// # Cancel safety
    ///
    /// Waiting changes nothing; it may be given up and begun again.
    pub fn wait(&self) {
        let mut state = self.tree.lock();
        while !self.is_stopping() {
            state = self
                .tree
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks until a stop is asked for or `timeout` has passed; says whether a stop was asked for.
    ///
    /// # Cancel safety
    ///
    /// Waiting changes nothing; it may be given up and begun again.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let state = self.tree.lock();
        let waited = self
            .tree
            .changed
            .wait_timeout_while(state, timeout, |_| !self.is_stopping());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.is_stopping()
    }

    /// Ends the grace period if its deadline has passed; says how long it still is otherwise.
    pub fn enforce_deadline(&self) -> Option<Duration> {
        let remaining = self.remaining()?;
        if remaining.is_zero() {
            self.tree.advance_to(Phase::Terminating);
        }
        Some(remaining)
    }

    /// Marks the end: nothing is in progress any more.
    pub fn stopped(&self) {
        self.tree.advance_to(Phase::Stopped);
    }
}

impl fmt::Debug for ShutdownToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownToken")
            .field("phase", &self.phase())
            .field("reason", &self.reason())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Source;

    fn token(grace: Duration) -> ShutdownToken {
        ShutdownToken::detached(Clock::start(), grace)
    }

    #[test]
    fn the_first_reason_stays_and_all_are_recorded() {
        let token = token(Duration::from_secs(60));
        assert!(token.reason().is_none());
        assert_eq!(
            token.request(StopRequest::graceful(Source::User, "first")),
            Phase::Draining
        );
        assert_eq!(
            token.request(StopRequest::immediate(Source::System, "second")),
            Phase::Terminating
        );
        assert_eq!(
            token.request(StopRequest::graceful(Source::Timeout, "third")),
            Phase::Terminating
        );
        assert_eq!(
            token.reason().map(|reason| reason.message).as_deref(),
            Some("first")
        );
        assert_eq!(token.requests().len(), 3);
    }

    #[test]
    fn an_expired_grace_period_terminates() {
        let token = token(Duration::ZERO);
        assert_eq!(token.enforce_deadline(), None);
        token.request(StopRequest::graceful(Source::User, "now"));
        assert_eq!(token.phase(), Phase::Draining);
        assert_eq!(token.enforce_deadline(), Some(Duration::ZERO));
        assert_eq!(token.phase(), Phase::Terminating);
    }

    #[test]
    fn an_observer_may_ask_and_request_without_a_deadlock() {
        let token = token(Duration::from_secs(60));
        let inner = token.clone();
        token.observe(move |phase| {
            if phase == Phase::Draining && inner.reason().is_some() {
                inner.request(StopRequest::immediate(
                    Source::Programmatic,
                    "from an observer",
                ));
            }
        });
        token.request(StopRequest::graceful(Source::User, "first"));
        assert_eq!(token.phase(), Phase::Terminating);
    }

    #[test]
    fn a_waiting_thread_is_woken() {
        let token = token(Duration::from_secs(60));
        let waiting = token.clone();
        let thread = std::thread::spawn(move || waiting.wait());
        token.request(StopRequest::graceful(Source::User, "go"));
        assert!(thread.join().is_ok());
        assert!(token.wait_timeout(Duration::ZERO));
    }
}
