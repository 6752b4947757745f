//! A bounded intake that can be emptied: producers push, workers take, and a stop leaves no item unaccounted for.
//!
//! Invariants:
//!
//! 1. Each item is in one place at any time, and moves under the lock: with its pusher, in the queue, with a worker or puller, or left
//!    over. So each pushed item ends as exactly one of: handed back, pulled, done, failed, in progress at the end, left over.
//! 2. Nothing is accepted from the moment the token is stopping or [`finish`](Drain::finish) began, and neither is ever undone. So a worker that
//!    finds the queue empty then has seen the last item.
//! 3. While the queue has items and somebody is in the line of pullers, at least as many pullers were woken and have not looked yet as there are
//!    items; the same holds for room and pushers. Who was woken and goes away without looking passes the wake-up on.
//! 4. Nothing of the caller's runs under the lock: no worker function, no drop of an item, no clone, wake or drop of a waker.
//! 5. The token knows the intake weakly; an intake that all have dropped is gone, and its items with it.
//!
//! Blocking calls are the futures, polled by a thread that parks. So threads and tasks stand in the same lines and invariant 3 covers both.
//!
//! Lock order: `Shared::state` and a timer's lock are never held together, and nothing else is locked while one of them is held.
//!
//! Deliberately absent: an order among several pushers that wait at a full intake, and any timing of the items themselves.

mod finish;
mod line;
mod refused;
mod serve;
mod state;
#[cfg(test)]
mod tests;
mod timer;
mod wait;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::task::Poll;

pub use finish::Drained;
pub use refused::{NotPushed, Refused};
pub use serve::MAX_FAILURES;

use super::ShutdownToken;
use super::parker::block_on;
use state::{Shared, Taker};
use wait::{Pull, Push};

/// A bounded intake of items: pushing waits while it is full, and a stop of its token shuts it and lets it run empty.
///
/// Clones are one intake. Threads and futures of any runtime may push, pull and serve at the same time.
///
/// From the moment the token is stopping, every push hands its item back; items that are in already are still taken, until the queue is
/// empty or the phase is [`Terminating`](super::Phase::Terminating). [`finish`](Drain::finish) waits for that and says what became of
/// everything. Items of an intake that is dropped without it are dropped too.
///
/// A bounded channel, in comparison, ends when its senders are gone; this one ends when the program is asked to stop, whoever holds a sender, and
/// knows what is still being worked on.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::time::Duration;
/// use safepoint::clock::Clock;
/// use safepoint::shutdown::{Drain, ShutdownToken, Source, StopRequest};
///
/// let token = ShutdownToken::detached(Clock::start(), Duration::from_secs(25));
/// let drain = Drain::new(&token, NonZeroUsize::new(16).expect("more than none"));
/// let drained = std::thread::scope(|scope| {
///     scope.spawn(|| drain.serve(|line: &str| line.parse::<u32>().map(|_| ())));
///     for line in ["1", "two", "3"] {
///         drain.push(line).expect("accepted");
///     }
///     token.request(StopRequest::graceful(Source::User, "Ctrl-C"));
///     assert_eq!(drain.push("4").map_err(|refused| refused.into_item()), Err("4"));
///     drain.finish(Duration::from_secs(20))
/// });
/// assert_eq!((drained.done, drained.failed), (2, 1));
/// assert_eq!(drained.failures, ["invalid digit found in string"]);
/// assert!(drained.left_over.is_empty());
/// ```
pub struct Drain<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> Drain<T> {
    /// An empty intake for at most `capacity` waiting items, open until `token` is stopping.
    pub fn new(token: &ShutdownToken, capacity: NonZeroUsize) -> Self {
        let shared = Arc::new_cyclic(|weak: &Weak<Shared<T>>| {
            let weak = weak.clone();
            let following = token.follow(move |_| {
                if let Some(shared) = weak.upgrade() {
                    shared.stop_changed();
                }
            });
            Shared::new(token.clone(), following, capacity.get())
        });
        Self { shared }
    }

    /// Puts `item` at the end of the queue, and blocks while that is full.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the item, when the token is stopping or the intake finishes, before the call or while it waits.
    ///
    /// # Cancel safety
    ///
    /// The wait ends when there is room, or by a stop or [`finish`](Self::finish), and then gives the item back.
    pub fn push(&self, item: T) -> Result<(), Refused<T>> {
        match self.try_push(item) {
            Ok(()) => Ok(()),
            Err(NotPushed::Refused(refused)) => Err(refused),
            Err(NotPushed::Full(item)) => block_on(self.push_async(item)),
        }
    }

    /// Puts `item` at the end of the queue if there is room, without waiting.
    ///
    /// # Errors
    ///
    /// [`NotPushed`], with the item: the queue is full, or the intake takes no more items.
    pub fn try_push(&self, item: T) -> Result<(), NotPushed<T>> {
        self.shared.hold().try_push(item)
    }

    /// Puts `item` at the end of the queue, and waits for room as a future of any runtime.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the item, when the token is stopping or the intake finishes, before the call or while it waits.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it is ready has pushed nothing, and its item is dropped with it. Where an item must survive that, use
    /// [`try_push`](Self::try_push), or keep a copy.
    pub fn push_async(&self, item: T) -> impl Future<Output = Result<(), Refused<T>>> {
        Push::new(&self.shared, item)
    }

    /// Takes the oldest item, and blocks while there is none.
    ///
    /// `None` means that none will come any more: the intake is shut and empty, [`finish`](Self::finish) is over, or the phase is
    /// [`Terminating`](super::Phase::Terminating). The item is the caller's: it counts as [pulled](Drained::pulled), and nobody waits for its end.
    ///
    /// # Cancel safety
    ///
    /// The wait ends when there is an item, or when none will come any more.
    pub fn pull(&self) -> Option<T> {
        self.shared.take(Taker::Puller)
    }

    /// Takes the oldest item, and waits for one as a future of any runtime; see [`pull`](Self::pull).
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it is ready has taken nothing. If it was the one woken for an item, the next in line is woken instead.
    pub fn pull_async(&self) -> impl Future<Output = Option<T>> {
        Pull::new(&self.shared, Taker::Puller)
    }
}

impl<T> Shared<T> {
    /// The oldest item, for a thread that can wait for it.
    fn take(&self, taker: Taker) -> Option<T> {
        let at_once = self.hold().try_take(taker);
        match at_once {
            Poll::Ready(item) => item,
            Poll::Pending => block_on(Pull::new(self, taker)),
        }
    }
}

impl<T> Clone for Drain<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for Drain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, in_progress) = self.shared.hold().counts();
        f.debug_struct("Drain")
            .field("waiting", &waiting)
            .field("in_progress", &in_progress)
            .finish_non_exhaustive()
    }
}
