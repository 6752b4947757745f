//! Stopping on tokio: tracked work as its tasks, and its `CancellationToken` beside ours.
//!
//! Little is needed: [`ShutdownToken::stopping`] is a future of any runtime, and so is [`Tracker::future`]. What is here saves the lines in
//! between. Where a library asks for a future that says when to stop, give it `token.stopping()`; axum:
//!
//! ```ignore
//! let shutdown = Shutdown::builder().install()?;
//! axum::serve(listener, router)
//!     .with_graceful_shutdown(shutdown.token().stopping())
//!     .await?;
//! shutdown.finish_async().await;
//! ```
//!
//! Where it asks for a `CancellationToken`, give it that of [`cancellation_token`]; where it has one of its own, [`follow`] that.
//!
//! Deliberately absent: a runtime. Spawning needs the caller's; the two bridges need none, start no task and no thread, and pass the news on in the
//! call that brings it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::shutdown::{Phase, ShutdownToken, StopRequest, Tracker};

/// Spawns `work` as a task that a stop waits for by the tracker's name.
///
/// It ends as `None` if the stop came before its first poll, or when it was dropped at an await point because the phase was
/// [`Terminating`](Phase::Terminating).
///
/// # Panics
///
/// When it is called outside of a tokio runtime, as `tokio::spawn` does.
///
/// # Examples
///
/// ```
/// use safepoint::on_tokio;
/// use safepoint::shutdown::{Shutdown, Source, StopRequest};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
/// # runtime.block_on(async {
/// let shutdown = Shutdown::builder().build()?;
/// let token = shutdown.token();
/// let task = on_tokio::spawn(&token.tracker("indexer"), async { "indexed" });
/// tokio::task::yield_now().await; // it has begun
/// token.request(StopRequest::graceful(Source::Programmatic, "done"));
/// shutdown.finish_async().await; // waits for it
/// assert_eq!(task.await.expect("no panic"), Some("indexed"));
/// # safepoint::Result::Ok(())
/// # })?;
/// # Ok::<(), safepoint::Error>(())
/// ```
pub fn spawn<F>(tracker: &Tracker, work: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(tracker.future(work))
}

/// Runs `work` on a thread where it may block, and a stop waits for it by the tracker's name. It ends as `None` if the stop came before it
/// began; once begun it should look at its token by itself.
///
/// # Panics
///
/// When it is called outside of a tokio runtime, as `tokio::task::spawn_blocking` does.
pub fn spawn_blocking<R: Send + 'static>(
    tracker: &Tracker,
    work: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<Option<R>> {
    tokio::task::spawn_blocking(tracker.closure(work))
}

/// A `CancellationToken` that is cancelled when `token` reaches `phase`: [`Draining`](Phase::Draining) where it means "come to an end",
/// [`Terminating`](Phase::Terminating) where it means "give up", as with `run_until_cancelled`.
///
/// It is cancelled on the thread that raised the phase, before the request returns. It is remembered as long as `token` lives, so make one, and give
/// its clones and `child_token`s to those who come and go.
pub fn cancellation_token(token: &ShutdownToken, phase: Phase) -> CancellationToken {
    let theirs = CancellationToken::new();
    let told = theirs.clone();
    let tell = move |reached| {
        if reached >= phase {
            told.cancel();
        }
    };
    token.follow(tell).for_good();
    // The phase may have been reached before anybody observed it.
    if token.phase() >= phase {
        theirs.cancel();
    }
    theirs
}

/// Makes `request` of `token` when `theirs` is cancelled, in the call that cancels it; at once if it was before.
///
/// It does so as long as the [`Following`] lives.
pub fn follow(
    token: &ShutdownToken,
    theirs: &CancellationToken,
    request: StopRequest,
) -> Following {
    let follower = Arc::new(Follower {
        token: token.clone(),
        request: Mutex::new(Some(request)),
    });
    let mut cancelled = Box::pin(theirs.clone().cancelled_owned());
    let waker = Waker::from(Arc::clone(&follower));
    if cancelled
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_ready()
    {
        follower.ask();
    }
    Following {
        _cancelled: cancelled,
    }
}

/// The bridge from a `CancellationToken` to a stop; see [`follow`].
#[must_use = "the other token goes unnoticed once this is dropped"]
pub struct Following {
    /// Keeps the waker with the other token, and takes it away when dropped.
    _cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

/// Woken when the other token is cancelled, and by nothing else: nobody polls the future again.
struct Follower {
    token: ShutdownToken,
    request: Mutex<Option<StopRequest>>,
}

impl Follower {
    fn ask(&self) {
        let request = self
            .request
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(request) = request {
            self.token.request(request);
        }
    }
}

impl Wake for Follower {
    fn wake(self: Arc<Self>) {
        self.ask();
    }
}
