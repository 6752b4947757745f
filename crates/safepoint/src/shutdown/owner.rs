//! The owner of a program's stopping.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::finish::{Finish, Place};
use super::handlers::{Handlers, Installed};
use super::keeper::Keeper;
use super::parker::block_on;
use super::{Builder, ShutdownToken, StopReport};

/// The owner of a program's stopping: its signal handlers and the thread that keeps time live as long as this value.
///
/// A process may have several, each with a tree of tokens of its own; a signal reaches all that have it. [`Builder::build`] makes one without
/// signals, for tests and for libraries.
///
/// Dropped without [`finish`](Self::finish), it puts the signal handlers back and runs no hook. Its tokens live on.
///
/// After a fork without exec, the child's copy keeps its flag, so loops that check it still stop at the first signal; a second signal has its default
/// action there. The child has no keeper thread: nobody is woken and no time is kept. Its copy may be dropped, or finished, which runs no hook and tells no observer of
/// the end: both are the parent's. A shutdown that the child installs itself takes the signals over.
///
/// # Examples
///
/// ```
/// use safepoint::shutdown::{Order, Shutdown};
///
/// let shutdown = Shutdown::builder()
///     .hook(Order::Save, "totals", |_| println!("totals saved"))
///     .install()?;
/// let token = shutdown.token();
/// let mut done = 0;
/// while !token.is_stopping() && done < 1000 {
///     done += 1; // the work
/// }
/// let report = shutdown.finish(); // runs the hooks, puts the signal handlers back
/// assert!(report.is_clean());
/// # Ok::<(), safepoint::Error>(())
/// ```
#[must_use = "dropping it at once puts the signal handlers back"]
pub struct Shutdown {
    pub(super) token: ShutdownToken,
    pub(super) installed: Option<Installed>,
    pub(super) ready_delay: Duration,
    /// The process that built it.
    pub(super) pid: u32,
}

impl Shutdown {
    /// Starts with the defaults: a grace period of 25 s, a clock of its own, SIGINT, SIGTERM and SIGHUP as stop signals.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The root token, to ask, wait and request with.
    pub fn token(&self) -> ShutdownToken {
        self.token.clone()
    }

    /// Ends the program's work: runs the hooks in their order, waits for units and tracked work in between, and puts the signal handlers back.
    ///
    /// Without a request it drains all the same, as a program does whose work has ended. Takes the grace period at most, and
    /// [`LEAST_SHARE`](super::LEAST_SHARE) for each hook that found no time left. Asynchronous hooks are polled on the thread of the hooks, outside of any runtime;
    /// see [`finish_async`](Self::finish_async).
    ///
    /// Call it without a unit of the same shutdown open on this thread: it would wait for that one until the time is over.
    pub fn finish(self) -> StopReport {
        let report = match self.sequence(Place::HookThread) {
            Some(sequence) => block_on(sequence.run()),
            None => StopReport::new(&self.token.node, Vec::new(), Vec::new()),
        };
        self.end(report)
    }

    /// As [`finish`](Self::finish), for any runtime. Asynchronous hooks are polled inside this future, so in its runtime's context, and must not
    /// block; blocking hooks have a thread of their own.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, the hooks that have not run do not run, and the signal handlers are put back.
    pub async fn finish_async(self) -> StopReport {
        let report = match self.sequence(Place::Here) {
            Some(sequence) => sequence.run().await,
            None => StopReport::new(&self.token.node, Vec::new(), Vec::new()),
        };
        self.end(report)
    }

    /// What there is to do at the end; nothing in a fork, which has neither the threads nor the right to run its parent's hooks.
    fn sequence(&self, place: Place) -> Option<Finish> {
        self.is_here()
            .then(|| Finish::new(Arc::clone(&self.token.node), self.ready_delay, place))
    }

    /// Whether this is the process that built it, and no fork of it.
    fn is_here(&self) -> bool {
        std::process::id() == self.pid
    }

    fn end(mut self, mut report: StopReport) -> StopReport {
        report.handlers = match self.installed.take() {
            Some(installed) => installed.restore(),
            None => Handlers::None,
        };
        if self.is_here() {
            let tree = &self.token.node.tree;
            let are_told = tree.keeper().and_then(Keeper::told);
            let patience = self.token.remaining().unwrap_or_default();
            let least = super::LEAST_SHARE;
            let patience = patience.clamp(least, least * 20);
            tree.observers
                .after_stop(&report, are_told, &tree.clock, patience);
        }
        report
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        drop(self.installed.take());
        if let Some(keeper) = self.token.node.tree.keeper() {
            keeper.release();
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
