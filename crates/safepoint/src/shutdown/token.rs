//! The token: what a program's parts ask whether to stop, wait by, and ask for a stop with.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::hook::Hook;
use super::node::{Following, Node};
use super::parker::{block_on, block_on_for};
use super::tree::Tree;
use super::{Ending, Order, Phase, Recorded, Share, StopRequest, Stopping};
use crate::clock::{Clock, Moment};
use crate::error::Result;

/// A cheap, cloneable view of a [`Shutdown`](super::Shutdown): asks whether to stop, waits for it, asks for it.
///
/// Threads and futures of any runtime share one tree of tokens. A [child](Self::child) is stopped with its parent and can be stopped
/// alone.
#[derive(Clone)]
pub struct ShutdownToken {
    pub(super) node: Arc<Node>,
}

impl ShutdownToken {
    /// A token that no signal reaches and no thread keeps time for: its grace period ends only when
    /// [`enforce_deadline`](Self::enforce_deadline) is called. `grace` is the grace period.
    ///
    /// For loops that look at the time themselves. [`Builder::build`](super::Builder::build) makes a shutdown without signals that keeps time.
    pub fn detached(clock: Clock, grace: Duration) -> Self {
        Self {
            node: Node::root(Tree::new(clock, grace, None)),
        }
    }

    /// A token that is stopped with this one and can be stopped alone: a request made on it stays below it.
    ///
    /// One made after the request is born stopping. The name is for reports.
    pub fn child(&self, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            node: self.node.child(name.into()),
        }
    }

    /// The name it was made with; empty for the root.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Whether a stop was asked for: one relaxed load.
    ///
    /// On the token of a [`Shutdown`](super::Shutdown) it is true before the signal handler returns; its children follow as soon as the keeper
    /// thread has told them, some tens of microseconds later.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.node.cell().load(Ordering::Relaxed) != Phase::Running as u8
    }

    /// How far stopping has got.
    pub fn phase(&self) -> Phase {
        self.node.phase()
    }

    /// Asks for a stop of this token and its children. Each request is recorded; an immediate one always escalates. Returns the phase it led to.
    ///
    /// When it returns, every child is told and every waiter woken.
    pub fn request(&self, request: StopRequest) -> Phase {
        self.node.tree.absorb();
        let reached = self.node.record(request);
        self.node.tell(reached)
    }

    /// The first request that reached this token, which stays the reason whatever follows.
    pub fn reason(&self) -> Option<StopRequest> {
        self.node.reason()
    }

    /// All requests that reached this token so far, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.node.requests()
    }

    /// When all is to be over, once a stop was asked for: the end of the grace period, or that of the reserve after an immediate request.
    pub fn deadline(&self) -> Option<Moment> {
        self.node.deadline()
    }

    /// What is left until the [deadline](Self::deadline), once a stop was asked for.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline()
            .map(|deadline| deadline.since(self.clock().now()))
    }

    /// The clock that the grace period is measured by.
    pub fn clock(&self) -> &Clock {
        &self.node.tree.clock
    }

    /// Calls `observer` after every request and every change of phase, with the phase of then and without any lock held: on the thread that made the request,
    /// or on a thread of the shutdown's when a signal, a limit, the end of the grace period or [`finish`](super::Shutdown::finish) did. Signals that come at once
    /// are told in one go; of requests made at once on two threads, either may be told first. At the end, `finish` gives it the time that it gives [`after_stop`](super::Builder::after_stop).
    ///
    /// A panic of it ends nothing else. While it blocks, other observers wait, but neither signals nor deadlines do.
    pub fn observe(&self, observer: impl Fn(Phase) + Send + Sync + 'static) {
        self.node.observe(Arc::new(observer));
    }

    /// As [`observe`](Self::observe), for code of this crate that never blocks: at once, on whatever thread, until what is returned is dropped.
    pub(crate) fn follow(&self, follower: impl Fn(Phase) + Send + Sync + 'static) -> Following {
        self.node.follow(Arc::new(follower))
    }

    /// Suspends a future of any runtime until a stop is asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; it may be made and awaited again.
    pub fn stopping(&self) -> Stopping {
        self.reached(Phase::Draining)
    }

    /// Suspends a future of any runtime until `phase` is reached: [`Phase::Terminating`] is when to give up what is in progress.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; it may be made and awaited again.
    pub fn reached(&self, phase: Phase) -> Stopping {
        Stopping::new(Arc::clone(&self.node), phase)
    }

    /// Blocks until a stop is asked for.
    ///
    /// # Cancel safety
    ///
    /// Waiting changes nothing; it may be given up and begun again.
    pub fn wait(&self) {
        block_on(self.stopping());
    }

    /// Blocks until a stop is asked for or `timeout` has passed; says whether a stop was asked for.
    ///
    /// # Cancel safety
    ///
    /// Waiting changes nothing; it may be given up and begun again.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_stopping() || block_on_for(self.stopping(), timeout).is_some()
    }

    /// Registers a hook, as [`Builder::hook`](super::Builder::hook) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the stop has got past `order`.
    pub fn hook<R: Ending>(
        &self,
        order: Order,
        name: impl Into<String>,
        hook: impl FnOnce(&Share) -> R + Send + 'static,
    ) -> Result<()> {
        self.node.tree.hooks.add(Hook::blocking(order, name, hook))
    }

    /// Registers an asynchronous hook, as [`Builder::async_hook`](super::Builder::async_hook) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the stop has got past `order`.
    pub fn async_hook<R: Ending, F: Future<Output = R> + Send + 'static>(
        &self,
        order: Order,
        name: impl Into<String>,
        hook: impl FnOnce(Share) -> F + Send + 'static,
    ) -> Result<()> {
        self.node.tree.hooks.add(Hook::future(order, name, hook))
    }

    /// Ends the time for draining if it has passed: the grace period without what is reserved for saving. Says how long it still is
    /// otherwise.
    ///
    /// Only for a [detached](Self::detached) token: the keeper thread of a [`Shutdown`](super::Shutdown) does it by itself.
    pub fn enforce_deadline(&self) -> Option<Duration> {
        let left = self.remaining()?.saturating_sub(self.node.tree.reserve());
        if left.is_zero() {
            self.node.advance_to(Phase::Terminating);
        }
        Some(left)
    }

    /// Marks the end: nothing is in progress any more. [`Shutdown::finish`](super::Shutdown::finish) does it by itself.
    pub fn stopped(&self) {
        self.node.advance_to(Phase::Stopped);
    }
}

impl fmt::Debug for ShutdownToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownToken")
            .field("name", &self.name())
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
    fn after_an_immediate_request_what_remains_is_at_most_the_reserve() {
        let (grace, reserve) = (Duration::from_secs(60), Duration::from_secs(5));
        let tree = Tree::new(Clock::start(), grace, Some(reserve));
        let token = ShutdownToken {
            node: Node::root(tree),
        };
        token.clock().pause();
        token.request(StopRequest::graceful(Source::User, "please"));
        assert_eq!(token.remaining(), Some(grace));
        token.request(StopRequest::immediate(Source::User, "now"));
        assert_eq!(token.remaining(), Some(reserve));
        token.request(StopRequest::graceful(Source::User, "no hurry"));
        assert_eq!(token.remaining(), Some(reserve));
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
