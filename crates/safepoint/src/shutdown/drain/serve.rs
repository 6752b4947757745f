//! Workers: loops that take items and settle them, whatever the worker function does.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::Drain;
use super::state::{Shared, Taker};
use super::wait::Pull;
use crate::shutdown::Ending;
use crate::shutdown::caught::catch;

/// How many failures of worker functions are kept with their text; later ones are counted only.
pub const MAX_FAILURES: usize = 100;

impl<T: Send + 'static> Drain<T> {
    /// Calls `work` with one item after the other, on this thread, until none will come any more; see [`pull`](Self::pull).
    ///
    /// An error or a panic of `work` is counted and kept, and the next item follows. Any number of workers may serve at once.
    ///
    /// # Cancel safety
    ///
    /// The wait for an item ends as that of [`pull`](Self::pull) does. An item that was taken is seen through, also when a stop is asked for
    /// meanwhile; `work` itself may look at the token.
    pub fn serve<R: Ending>(&self, mut work: impl FnMut(T) -> R) {
        while let Some(item) = self.shared.take(Taker::Worker) {
            let in_progress = InProgress::new(&self.shared);
            let ended = caught(|| work(item).failure());
            in_progress.settle(ended.unwrap_or_else(Some));
        }
    }

    /// Calls `work` with one item after the other and awaits what it returns; the future of [`serve`](Self::serve), for any runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for an item, it has taken none. Dropped while it works on one, that item counts as failed, for its worker did
    /// not see it through.
    pub fn serve_async<W, F>(&self, mut work: W) -> impl Future<Output = ()> + use<T, W, F>
    where
        W: FnMut(T) -> F,
        F: Future<Output: Ending>,
    {
        let shared = Arc::clone(&self.shared);
        async move {
            while let Some(item) = Pull::new(&shared, Taker::Worker).await {
                let in_progress = InProgress::new(&shared);
                in_progress.settle(failure_of(&mut work, item).await);
            }
        }
    }
}

/// Runs one item to its end: making its future, polling it and dropping it, each under protection from its panics.
async fn failure_of<T, W, F>(work: &mut W, item: T) -> Option<String>
where
    W: FnMut(T) -> F,
    F: Future<Output: Ending>,
{
    let working = match caught(|| work(item)) {
        Ok(working) => working,
        Err(panic) => return Some(panic),
    };
    let mut working = pin!(Some(working));
    let ended = poll_fn(|context| {
        let poll = || match working.as_mut().as_pin_mut() {
            Some(working) => working.poll(context).map(Ending::failure),
            None => Poll::Ready(None),
        };
        caught(poll).unwrap_or_else(|panic| Poll::Ready(Some(panic)))
    })
    .await;
    let dropped = caught(|| working.set(None)).err();
    ended.or(dropped)
}

/// An item that a worker has taken. Whatever happens to the worker, it is settled once.
struct InProgress<'a, T> {
    shared: &'a Shared<T>,
    is_settled: bool,
}

impl<'a, T> InProgress<'a, T> {
    fn new(shared: &'a Shared<T>) -> Self {
        Self {
            shared,
            is_settled: false,
        }
    }

    fn settle(mut self, failure: Option<String>) {
        self.is_settled = true;
        self.shared.hold().settle(failure);
    }
}

impl<T> Drop for InProgress<'_, T> {
    fn drop(&mut self) {
        if !self.is_settled {
            let failure = "the worker was dropped while it worked on the item";
            self.shared.hold().settle(Some(failure.to_owned()));
        }
    }
}

fn caught<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    catch(code).map_err(|message| format!("panicked: {message}"))
}
