//! A queue in the hands of a program.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::builder::Builder;
use super::inbox::{Shared, closed};
use super::item::{NewItem, Pushed, QueueCounts, QueuedItem, QueuedState};
use super::lease::{Lease, LeaseToken};
use super::operation::{Answer, Claimed, Operation};
use super::payload::Payload;
use crate::clock::wall_ms;
use crate::disk::StateDir;
#[expect(unused_imports, reason = "links of the documentation")]
use crate::error::ErrorKind;
use crate::error::{Error, Result};
use crate::queue::Problem;

/// The most items that one claim gives.
pub const MAX_CLAIM: usize = 1000;

/// A durable queue in one directory, which any number of threads and processes share.
///
/// Who has work pushes items; who does it claims one, works, and acknowledges. An item that was pushed survives a kill and a power cut, and so does an
/// acknowledgement; what was claimed by a process that died is claimed again.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use safepoint::Queue;
///
/// # fn main() -> safepoint::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let directory = directory.path().join("mails");
/// # fn send(_: Option<&str>) -> Result<(), String> { Ok(()) }
/// let queue = Queue::open(&directory)?;
/// queue.push(Some("welcome/4711"), r#"{"to": "ada@example.org"}"#)?;
/// while let Some(lease) = queue.claim(Duration::ZERO)? {
///     match send(lease.payload().as_text()) {
///         Ok(()) => lease.acknowledge(())?, // durable when it returns
///         Err(error) => drop(lease.fail(error)?), // again after a wait; dead after three attempts
///     }
/// }
/// queue.close()
/// # }
/// ```
///
/// # Invariants
///
/// 1. A push or an acknowledgement that returned survives what the queue's [`Durability`](super::Durability) says.
/// 2. A lease that was given out is a claim in the file. Each claim of an item has a number of its own, and only the latest can settle it.
/// 3. Attempts count at the claim. An item whose consumers all die is dead after its last attempt.
/// 4. An item is acknowledged at most once, with one result. A key is in the queue at most once, also when its item is done.
/// 5. The counts equal those of the rows, in every committed state of the file.
/// 6. What a claim costs does not depend on the length of the queue.
///
/// Execution is at-least-once: an attempt that was cut off runs again. [`Lease::idempotency_key`] stays the same for that reason.
///
/// Deliberately absent: priorities, several queues in one file, other machines, signals. A program that is asked to stop calls
/// [`stop_claims`](Self::stop_claims).
#[derive(Debug)]
pub struct Queue {
    dir: StateDir,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Queue {
    pub(super) fn new(dir: StateDir, shared: Arc<Shared>, thread: JoinHandle<Result<()>>) -> Self {
        Self {
            dir,
            shared,
            thread: Some(thread),
        }
    }

    /// Opens a queue with the default settings, and makes it where it does not exist.
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(directory).open()
    }

    /// Begins to open a queue.
    pub fn builder(directory: impl Into<PathBuf>) -> Builder {
        Builder::new(directory.into())
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// Pushes an item. If there is one with this key, also if it is done or dead, nothing is changed, and that is told.
    ///
    /// # Durability
    ///
    /// When this returns, the item is in the queue, as the [`Durability`](super::Durability) says.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for a key or payload that cannot be; [`ErrorKind::Closed`] after a failed write; [`ErrorKind::Io`] when it cannot be written.
    pub fn push(&self, key: Option<&str>, payload: impl Into<Payload>) -> Result<Pushed> {
        let mut item = NewItem::new(payload);
        if let Some(key) = key {
            item = item.key(key);
        }
        let pushed = self.push_many([item])?;
        pushed.into_iter().next().ok_or_else(|| closed(None))
    }

    /// Pushes items, all or none, in their order; says of each what became of it. They share one sync.
    ///
    /// # Durability
    ///
    /// As [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn push_many(&self, items: impl IntoIterator<Item = NewItem>) -> Result<Vec<Pushed>> {
        let items: Vec<_> = items.into_iter().collect();
        items.iter().try_for_each(NewItem::check)?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        match self.shared.perform(Operation::Push(items))? {
            Answer::Pushed(pushed) => Ok(pushed),
            _ => Err(closed(None)),
        }
    }

    /// Claims the item whose turn it is: one whose wait is over or whose lease has expired, else the oldest. If there is none, waits for one; `None` if
    /// there still is none after `wait`, or [`stop_claims`](Self::stop_claims) was called. With a wait of zero it looks once.
    ///
    /// # Durability
    ///
    /// The claim survives a kill. After a power cut a claim may be forgotten that nothing was acknowledged after; its item is claimed again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] after a failed write; [`ErrorKind::Io`] when the claim cannot be written.
    ///
    /// # Cancel safety
    ///
    /// What is claimed when the wait has just ended is given to the next who asks, or back to the queue.
    pub fn claim(&self, wait: Duration) -> Result<Option<Lease>> {
        Ok(self.claim_many(1, wait)?.pop())
    }

    /// Claims up to `count` items (at most [`MAX_CLAIM`]) as soon as there is one.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    ///
    /// # Cancel safety
    ///
    /// As [`claim`](Self::claim).
    pub fn claim_many(&self, count: usize, wait: Duration) -> Result<Vec<Lease>> {
        let claimed = self.shared.claim(count.min(MAX_CLAIM), wait)?;
        Ok(self.leases(claimed))
    }

    /// Gives up to `count` leases that were claimed ahead for this process, without a look at the file: it never waits, and none does not mean that the
    /// queue is empty. For callers to whom even a short wait means work, such as letting go of an interpreter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] after a failed write.
    pub fn claim_ready(&self, count: usize) -> Result<Vec<Lease>> {
        let claimed = self.shared.claim_ready(count.min(MAX_CLAIM))?;
        Ok(self.leases(claimed))
    }

    fn leases(&self, claimed: Vec<Claimed>) -> Vec<Lease> {
        let leases = claimed.into_iter();
        leases
            .map(|claimed| Lease::new(Arc::clone(&self.shared), claimed))
            .collect()
    }

    /// Takes up a lease that was [detached](Lease::detach), in this process or another.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] when it is over; [`ErrorKind::Invalid`] when it is of another queue.
    pub fn lease(&self, token: &LeaseToken) -> Result<Lease> {
        let fence = token.fence_in(&self.shared.uuid)?;
        match self.shared.perform(Operation::Find(fence))? {
            Answer::Found(claimed) => Ok(Lease::new(Arc::clone(&self.shared), claimed)),
            _ => Err(closed(None)),
        }
    }

    /// Whether the item of a lease was acknowledged by that very lease: for who asks again because the answer was lost.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the token is of another queue; otherwise as [`push`](Self::push).
    pub fn is_acknowledged(&self, token: &LeaseToken) -> Result<bool> {
        let fence = token.fence_in(&self.shared.uuid)?;
        self.number(Operation::Acknowledged(fence))
            .map(|number| number > 0)
    }

    /// Claims nothing any more: whoever waits for an item, now or later, gets none. For a program that was asked to stop: leases that were given out can
    /// be settled as before, and items can be pushed.
    pub fn stop_claims(&self) {
        self.shared.refuse_claims();
    }

    /// Waits until all that was [acknowledged without waiting](Lease::acknowledge_later) is durable.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] when some of it was refused since the last call, because its leases were over; otherwise as [`push`](Self::push).
    pub fn sync(&self) -> Result<()> {
        self.shared.perform(Operation::Sync)?;
        self.take_refused()
    }

    fn take_refused(&self) -> Result<()> {
        let mut refused = std::mem::take(&mut self.shared.lock().refused);
        let number = refused.len();
        match refused.pop() {
            None => Ok(()),
            Some(error) if number == 1 => Err(error),
            Some(error) => Err(Error::new(
                error.kind(),
                format!("{number} acknowledgements were refused"),
            )
            .with_hint(error.hint().unwrap_or_default().to_owned())
            .with_source(error)),
        }
    }

    /// Counts the items by state, without looking at them.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn stats(&self) -> Result<QueueCounts> {
        match self.shared.perform(Operation::Count)? {
            Answer::Counts(counts) => Ok(counts),
            _ => Err(closed(None)),
        }
    }

    /// Lists at most `limit` items with a number above `after`, of one state or all, in the order of pushing. To go on, give the number of the last one.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn list(
        &self,
        state: Option<QueuedState>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<QueuedItem>> {
        self.items(Operation::List {
            state,
            after: after.min(i64::MAX.unsigned_abs()),
            limit: limit.min(MAX_CLAIM),
        })
    }

    /// Lists the first [`MAX_CLAIM`] dead items, in the order of pushing.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn dead(&self) -> Result<Vec<QueuedItem>> {
        self.list(Some(QueuedState::Dead), 0, MAX_CLAIM)
    }

    /// One item, by its key, or by its number if it has no key.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn item(&self, name: &str) -> Result<Option<QueuedItem>> {
        Ok(self.items(Operation::Look(name.to_owned()))?.pop())
    }

    fn items(&self, operation: Operation) -> Result<Vec<QueuedItem>> {
        match self.shared.perform(operation)? {
            Answer::Items(items) => Ok(items),
            _ => Err(closed(None)),
        }
    }

    /// Makes dead items pending again, with no attempts counted: those named by key or number, or all. Returns how many.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Invalid`] when one of those named is not in the queue or not dead: then nothing was changed. Otherwise as
    /// [`push`](Self::push).
    pub fn retry(&self, only: Option<&[&str]>) -> Result<u64> {
        let only = only.map(|names| names.iter().map(ToString::to_string).collect());
        self.number(Operation::Retry(only))
    }

    /// Forgets items that were done longer ago than `age`, with their keys and results: pushed again, such a key is new. Returns how many.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); what was forgotten before an error stays so.
    pub fn forget_done(&self, age: Duration) -> Result<u64> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let done_before_ms = wall_ms().saturating_sub(age);
        let mut forgotten = 0;
        // By parts, so that others get their turns in between.
        loop {
            match self.number(Operation::Forget { done_before_ms })? {
                0 => return Ok(forgotten),
                number => forgotten += number,
            }
        }
    }

    fn number(&self, operation: Operation) -> Result<u64> {
        match self.shared.perform(operation)? {
            Answer::Number(number) => Ok(number),
            _ => Err(closed(None)),
        }
    }

    /// What is wrong with the queue in a directory; nothing, if all is well. Nothing is changed, and others may use it meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no queue; as [`Builder::open`] when it cannot be read.
    pub fn validate(directory: &Path) -> Result<Vec<Problem>> {
        crate::queue::sqlite::validate_queue(directory)
    }

    /// Does what is left, gives back what was claimed ahead, and closes the file. Leases that were not settled expire.
    ///
    /// Dropped without this, the queue is closed all the same, and nobody is told if that failed.
    ///
    /// # Durability
    ///
    /// When this returns, all that was asked for is durable.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub fn close(mut self) -> Result<()> {
        self.end()?;
        self.take_refused()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        if self.shared.is_forked() {
            // There is no such thread in this process.
            std::mem::forget(thread);
            return Ok(());
        }
        self.shared.close();
        let ended = thread.join();
        let failure = self.shared.lock().failure.clone();
        match (ended, failure) {
            (Ok(Err(error)), _) => Err(error),
            (_, Some(failure)) => Err(closed(Some(&failure))),
            (_, None) => Ok(()),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Whoever wants to know has closed it.
        let _ = self.end();
    }
}
