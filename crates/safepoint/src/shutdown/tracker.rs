//! Tracked work: threads, closures of a pool, futures. A stop waits for what runs and drops what has not begun.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use super::caught::message;
use super::open::OpenKind;
use super::unit::OpenEntry;
use super::{Phase, ShutdownToken, Source, StopRequest, Stopping};
use crate::error::{Error, ErrorKind, Result};

impl ShutdownToken {
    /// A tracker for work of this name.
    pub fn tracker(&self, name: impl Into<Cow<'static, str>>) -> Tracker {
        Tracker {
            token: self.clone(),
            name: name.into(),
            stops_on_panic: false,
        }
    }
}

/// Starts or wraps work so that a stop waits for it by name.
///
/// Work that has not begun when the stop comes is not begun: it ends as `None`. Work that runs is waited for until the phase is Terminating; then
/// a future is dropped at its next await point, a thread is named as given up. Tracked work should itself look at the
/// [token](ShutdownToken) and come to an end.
///
/// # Examples
///
/// ```
/// # use safepoint::shutdown::{Shutdown, Source, StopRequest};
/// let shutdown = Shutdown::builder().build()?;
/// let tracker = shutdown.token().tracker("indexer");
/// let thread = tracker.thread(|token| {
///     token.wait(); // the work
///     "index closed"
/// })?;
/// let thread = thread.expect("nobody has asked for a stop yet");
/// shutdown.token().request(StopRequest::graceful(Source::Programmatic, "done"));
/// let report = shutdown.finish(); // waits for the thread
/// assert!(report.given_up.is_empty());
/// assert_eq!(thread.join().expect("no panic"), "index closed");
/// # Ok::<(), safepoint::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tracker {
    token: ShutdownToken,
    name: Cow<'static, str>,
    stops_on_panic: bool,
}

impl Tracker {
    /// Makes a panic of the work a graceful stop request, of source Programmatic. The panic goes its way all the same.
    pub fn stop_on_panic(mut self) -> Self {
        self.stops_on_panic = true;
        self
    }

    /// A guard: the stop waits while it lives. `None` once a stop was asked for.
    #[must_use = "tracked work ends when its guard is dropped"]
    pub fn guard(&self) -> Option<TrackedGuard> {
        let open = OpenEntry::enter(&self.token.node, self.name.clone(), OpenKind::Work)?;
        Some(TrackedGuard {
            open,
            stops_on_panic: self.stops_on_panic,
        })
    }

    /// Starts a thread of the tracker's name, which the stop waits for from now on. `None` once a stop was asked for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the system has no thread to spare.
    pub fn thread<R: Send + 'static>(
        &self,
        work: impl FnOnce(ShutdownToken) -> R + Send + 'static,
    ) -> Result<Option<JoinHandle<R>>> {
        let Some(guard) = self.guard() else {
            return Ok(None);
        };
        let token = self.token.clone();
        // The system's names end at a NUL.
        let thread = std::thread::Builder::new().name(self.name.replace('\0', "?"));
        let started = thread.spawn(move || {
            guard.open.runs_here();
            guard.run(|| work(token))
        });
        started.map(Some).map_err(|error| {
            let what = format!("cannot start the thread `{}`", self.name);
            Error::new(ErrorKind::Io, what).with_source(error)
        })
    }

    /// Wraps a closure for a pool (rayon's `spawn`, tokio's `spawn_blocking`): `None` if the stop came before it began.
    pub fn closure<R, F: FnOnce() -> R>(&self, work: F) -> impl FnOnce() -> Option<R> + use<R, F> {
        let tracker = self.clone();
        move || {
            let guard = tracker.guard()?;
            Some(guard.run(work))
        }
    }

    /// Wraps a future, to be spawned on any runtime or awaited: its output is `None` if the stop came before its first poll, or if it was
    /// dropped because the phase was Terminating.
    pub fn future<F: Future>(&self, work: F) -> Tracked<F> {
        Tracked {
            tracker: self.clone(),
            state: State::Pending(Box::pin(work)),
        }
    }
}

/// Something a stop waits for while it lives.
#[must_use = "tracked work ends when its guard is dropped"]
pub struct TrackedGuard {
    open: OpenEntry,
    stops_on_panic: bool,
}

impl TrackedGuard {
    /// Gives it another name in reports, for what is known only after it was let in, such as the number of a process.
    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>) {
        self.open.rename(name.into());
    }

    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        // The panic is passed on, so nobody goes on with what it broke.
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(output) => output,
            Err(payload) => {
                self.panicked(&message(payload.as_ref()));
                drop(self);
                resume_unwind(payload)
            }
        }
    }

    fn panicked(&self, message: &str) {
        if self.stops_on_panic {
            let token = ShutdownToken {
                node: Arc::clone(&self.open.node),
            };
            let why = format!("`{}` panicked: {message}", self.open.name());
            token.request(StopRequest::graceful(Source::Programmatic, why));
        }
    }
}

impl fmt::Debug for TrackedGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedGuard")
            .field("name", &self.open.name())
            .finish_non_exhaustive()
    }
}

/// A future that a stop waits for once it has been polled; see [`Tracker::future`].
///
/// # Cancel safety
///
/// That of the wrapped future: dropping this drops it.
#[must_use = "a future does nothing until it is polled"]
pub struct Tracked<F> {
    tracker: Tracker,
    state: State<F>,
}

enum State<F> {
    Pending(Pin<Box<F>>),
    Running {
        // Dropped before the guard, so that the stop waits for what dropping the future does.
        future: Pin<Box<F>>,
        terminating: Stopping,
        guard: TrackedGuard,
    },
    Over,
}

// The future is pinned in its box; nothing else of this is.
impl<F> Unpin for Tracked<F> {}

impl<F: Future> Future for Tracked<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (mut future, mut terminating, guard) =
            match std::mem::replace(&mut self.state, State::Over) {
                State::Pending(future) => {
                    let Some(guard) = self.tracker.guard() else {
                        return Poll::Ready(None);
                    };
                    (
                        future,
                        self.tracker.token.reached(Phase::Terminating),
                        guard,
                    )
                }
                State::Running {
                    future,
                    terminating,
                    guard,
                } => (future, terminating, guard),
                // Polled after it was ready, against the contract: it never wakes anybody again.
                State::Over => return Poll::Pending,
            };
        // A panic is passed on, so nobody goes on with what it broke.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        match polled {
            Ok(Poll::Ready(output)) => return Poll::Ready(Some(output)),
            Ok(Poll::Pending) => {}
            Err(payload) => {
                guard.panicked(&message(payload.as_ref()));
                drop((future, guard));
                resume_unwind(payload)
            }
        }
        if Pin::new(&mut terminating).poll(context).is_ready() {
            drop((future, guard));
            return Poll::Ready(None);
        }
        self.state = State::Running {
            future,
            terminating,
            guard,
        };
        Poll::Pending
    }
}

impl<F> fmt::Debug for Tracked<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked")
            .field("name", &self.tracker.name)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;
    use crate::shutdown::parker::block_on;
    use std::future::{pending, ready};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    fn shutdown() -> Shutdown {
        Shutdown::builder()
            .grace(Duration::from_secs(60))
            .build()
            .expect("built")
    }

    fn stop(shutdown: &Shutdown) {
        let request = StopRequest::graceful(Source::User, "enough");
        shutdown.token().request(request);
    }

    #[test]
    fn work_that_runs_is_awaited_and_work_that_has_not_begun_is_not_begun() {
        let shutdown = shutdown();
        let tracker = shutdown.token().tracker("indexer");
        let waiting = tracker.closure(|| unreachable!("begun after the stop"));
        let pending_future = tracker.future(async { unreachable!("polled after the stop") });
        let thread = tracker.thread(|token| {
            token.wait();
            7
        });
        let thread = thread.expect("started").expect("running");
        stop(&shutdown);
        assert!(tracker.thread(|_| ()).is_ok_and(|thread| thread.is_none()));
        let report = shutdown.finish();
        assert_eq!(thread.thread().name(), Some("indexer"));
        assert_eq!(thread.join().expect("no panic"), 7);
        assert_eq!(waiting(), None::<()>);
        assert_eq!(block_on(pending_future), None::<()>);
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.held_up[0].open.kind, OpenKind::Work);
        assert_eq!(report.held_up[0].open.name, "indexer");
    }

    #[test]
    fn a_running_future_is_awaited_and_dropped_at_terminating() {
        let shutdown = shutdown();
        let tracker = shutdown.token().tracker("download");
        let (began, begun) = channel();
        let (dropped, was_dropped) = channel::<()>();
        let work = tracker.future(async move {
            let _dropped_with_me = dropped;
            began.send(()).expect("heard");
            pending::<()>().await;
        });
        let driver = std::thread::spawn(move || block_on(work));
        begun.recv().expect("polled");
        stop(&shutdown);
        shutdown
            .token()
            .request(StopRequest::immediate(Source::User, "now"));
        assert_eq!(driver.join().expect("no panic"), None);
        assert!(was_dropped.recv().is_err(), "the future lives on");
        assert!(shutdown.finish().given_up.is_empty());
        assert_eq!(
            block_on(self::shutdown().token().tracker("quick").future(ready(3))),
            Some(3)
        );
    }

    #[test]
    fn a_thread_whose_name_the_system_could_not_take_starts_all_the_same() {
        let shutdown = shutdown();
        let work = |_| std::thread::current().name().map(str::to_owned);
        let started = shutdown.token().tracker("a\0b").thread(work);
        let thread = started.expect("started").expect("running");
        assert_eq!(thread.join().expect("no panic").as_deref(), Some("a?b"));
    }

    #[test]
    fn a_panic_is_a_stop_request_when_asked_for_and_goes_its_way() {
        let shutdown = shutdown();
        let token = shutdown.token();
        let quiet = token.tracker("quiet").thread(|_| panic!("unheard"));
        let quiet = quiet.expect("started").expect("running");
        assert!(quiet.join().is_err());
        assert!(!token.is_stopping());
        let tracker = token.tracker("loader").stop_on_panic();
        let loud = tracker.thread(|_| panic!("out of cheese"));
        let loud = loud.expect("started").expect("running");
        token.wait();
        assert!(loud.join().is_err());
        let reason = token.reason().expect("stopping");
        assert_eq!(reason.message, "`loader` panicked: out of cheese");
        assert_eq!(reason.source, Source::Programmatic);
        assert!(shutdown.finish().given_up.is_empty());
    }
}
