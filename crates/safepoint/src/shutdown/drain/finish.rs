//! The end of an intake, and what became of its items.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::Drain;
use super::state::Purpose;
use super::timer::Timer;
use super::wait::Place;

/// What became of the items that an intake accepted. Each of them is in exactly one of these counts, or left over.
#[derive(Debug)]
#[must_use = "the items that are left over are in it"]
pub struct Drained<T> {
    /// The items that nobody took, the oldest first.
    pub left_over: Vec<T>,
    /// Items handed out by [`pull`](Drain::pull); what became of them their pullers know.
    pub pulled: u64,
    /// Items that a worker ended well.
    pub done: u64,
    /// Items on which a worker failed, panicked, or was dropped.
    pub failed: u64,
    /// Items that workers still had when waiting for them was over: given up, though their workers may yet end them.
    pub in_progress: usize,
    /// Why items failed, in the order of their ends; the first [`MAX_FAILURES`](super::MAX_FAILURES).
    pub failures: Vec<String>,
}

impl<T: Send + 'static> Drain<T> {
    /// Takes no more items, waits until the queue is empty and nothing is in progress, closes the intake and says what became of the items.
    ///
    /// Waits at most for `limit`, and no longer than until the phase is [`Terminating`](crate::shutdown::Phase::Terminating). A `limit` of
    /// zero closes at once. Afterwards nothing can be pulled; what is left over belongs to the first caller, and a second one gets the counts
    /// alone. A worker function that calls this waits for itself, until `limit`.
    ///
    /// # Cancel safety
    ///
    /// The wait ends at `limit` or earlier, and what was not ended by then is in the returned value.
    pub fn finish(&self, limit: Duration) -> Drained<T> {
        self.shared.shut();
        self.shared.wait_until_over(limit);
        self.shared.close()
    }

    /// Does as [`finish`](Self::finish), as a future of any runtime; all of it from the first poll on.
    ///
    /// The time is kept by a thread of its own, which ends with the future. Where the system refuses that thread, the limit counts as over.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it is ready leaves the intake shut but not closed: workers empty it, no item is lost, and it can be finished
    /// again.
    pub fn finish_async(&self, limit: Duration) -> impl Future<Output = Drained<T>> + use<T> {
        let shared = Arc::clone(&self.shared);
        async move {
            shared.shut();
            {
                let mut place = Place::new(&shared, Purpose::Finish);
                let mut timer = None;
                poll_fn(|context| {
                    let over = place.poll(context.waker(), |held| {
                        if held.is_over() {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        }
                    });
                    if over.is_ready() {
                        return over;
                    }
                    let timer = timer.get_or_insert_with(|| Timer::start(limit));
                    timer.poll(context.waker())
                })
                .await;
            }
            shared.close()
        }
    }
}
