//! A claim on an item, in the hands of who works on it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::inbox::{Shared, Waiter, closed};
use super::item::{QueuedState, name_of};
use super::operation::{Answer, Claimed, Fence, Operation, Settle, Settlement};
use super::payload::Payload;
use crate::clock::wall_ms;
use crate::error::{Error, Result};

/// A claim on an item: nobody else gets it until the lease expires.
///
/// It ends by [`acknowledge`](Self::acknowledge), [`release`](Self::release) or [`fail`](Self::fail). One that is dropped, by an early return or a panic,
/// counts as a failed attempt. One whose process is killed expires, which counts as well: so an item that kills who works on it is dead in the end.
///
/// A lease that has expired can still be settled as long as nobody has claimed the item again; after that it is refused, and changes nothing.
pub struct Lease {
    shared: Arc<Shared>,
    /// `None` once it was settled.
    claimed: Option<Claimed>,
}

/// Names a lease, for another process to settle it; see [`Lease::detach`].
///
/// As a text it has no blanks and needs no quotes in a shell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    fence: Fence,
    /// The end of the queue's identity.
    queue: Box<str>,
}

impl Lease {
    pub(super) fn new(shared: Arc<Shared>, claimed: Claimed) -> Self {
        Self {
            shared,
            claimed: Some(claimed),
        }
    }

    fn claimed(&self) -> &Claimed {
        // It is taken only by what consumes the lease.
        self.claimed.as_ref().unwrap_or_else(|| unreachable!())
    }

    /// The item's key, if it was given one.
    pub fn key(&self) -> Option<&str> {
        self.claimed().key.as_deref()
    }

    /// The item's key, or its number where it has none.
    pub fn name(&self) -> String {
        name_of(self.key(), self.number())
    }

    /// The item's number, from 1, in the order of pushing.
    pub fn number(&self) -> u64 {
        self.claimed().fence.item
    }

    /// What was pushed.
    pub fn payload(&self) -> &Payload {
        &self.claimed().payload
    }

    /// Which attempt this is, from 1. Attempts count when they are claimed, so there may have been one that never began.
    pub fn attempt(&self) -> u32 {
        self.claimed().attempt
    }

    /// A key for others to know repeated attempts by: the same for every attempt of this item, and for no other item of any queue.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.shared.uuid, self.number())
    }

    /// When it expires, in milliseconds since 1970 UTC.
    pub fn expires_at_ms(&self) -> i64 {
        self.claimed().expires_at_ms
    }

    /// How long it is still good for, by the system's clock.
    pub fn remaining(&self) -> Duration {
        let left = self.expires_at_ms().saturating_sub(wall_ms());
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    /// The name of this lease.
    pub fn token(&self) -> LeaseToken {
        LeaseToken {
            fence: self.claimed().fence,
            queue: LeaseToken::end_of(&self.shared.uuid).into(),
        }
    }

    /// Says that the item is done, with a result. `()`, or an empty text, is none.
    ///
    /// # Durability
    ///
    /// When this returns, the item is done for good and its result kept, as the queue's [`Durability`](super::Durability) says. Acknowledgements of many
    /// threads share one sync.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the lease expired and the item was claimed again, or the queue was closed;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the result is longer than [`MAX_PAYLOAD`](super::MAX_PAYLOAD), which leaves the lease to expire;
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be written.
    pub fn acknowledge(self, result: impl Into<Payload>) -> Result<()> {
        let result = checked(result.into())?;
        self.settle(Settle::Acknowledge(result)).map(drop)
    }

    /// As [`acknowledge`](Self::acknowledge), without waiting for the disk.
    ///
    /// # Durability
    ///
    /// It is durable when a later [`Queue::sync`](super::Queue::sync), or [`Queue::close`](super::Queue::close), returns, which also tell if it was refused.
    ///
    /// # Errors
    ///
    /// As [`acknowledge`](Self::acknowledge), as far as it is known at once.
    pub fn acknowledge_later(mut self, result: impl Into<Payload>) -> Result<()> {
        let result = checked(result.into())?;
        let operation = self.operation(Settle::Acknowledge(result))?;
        self.shared.submit(operation, Waiter::Later)
    }

    /// Gives the item back, to be claimed again after `delay`. The attempt does not count: it ended for a reason that is not the item's.
    ///
    /// # Errors
    ///
    /// As [`acknowledge`](Self::acknowledge).
    pub fn release(self, delay: Duration) -> Result<()> {
        self.settle(Settle::Release { delay }).map(drop)
    }

    /// As [`release`](Self::release), without waiting for the disk.
    ///
    /// # Errors
    ///
    /// As [`acknowledge_later`](Self::acknowledge_later).
    pub fn release_later(mut self, delay: Duration) -> Result<()> {
        let operation = self.operation(Settle::Release { delay })?;
        self.shared.submit(operation, Waiter::Later)
    }

    /// Says that the attempt failed, and why. The item is claimed again after a wait that grows, or is dead if this was its last attempt: which of the two
    /// is told.
    ///
    /// # Errors
    ///
    /// As [`acknowledge`](Self::acknowledge).
    pub fn fail(self, error: impl Into<String>) -> Result<QueuedState> {
        let error = error.into();
        self.settle(Settle::Fail { error }).map(|(state, _)| state)
    }

    /// Lets the lease last for `time` from now on.
    ///
    /// # Errors
    ///
    /// As [`acknowledge`](Self::acknowledge); the lease stays in the caller's hands.
    pub fn extend(&mut self, time: Duration) -> Result<()> {
        let fence = self.claimed().fence;
        let how = Settle::Extend { time };
        let (_, expires_at_ms) = settle(&self.shared, Settlement { fence, how })?;
        if let (Some(claimed), Some(expires_at_ms)) = (&mut self.claimed, expires_at_ms) {
            claimed.expires_at_ms = expires_at_ms;
        }
        Ok(())
    }

    /// Lets go of the lease without ending it: whoever has the token can [take it up](super::Queue::lease) in this process or another.
    pub fn detach(mut self) -> LeaseToken {
        let token = self.token();
        self.claimed = None;
        token
    }

    fn settle(mut self, how: Settle) -> Result<(QueuedState, Option<i64>)> {
        let Some(claimed) = self.claimed.take() else {
            return Err(closed(None));
        };
        let fence = claimed.fence;
        settle(&self.shared, Settlement { fence, how })
    }

    fn operation(&mut self, how: Settle) -> Result<Operation> {
        let claimed = self.claimed.take().ok_or_else(|| closed(None))?;
        let fence = claimed.fence;
        Ok(Operation::Settle(Settlement { fence, how }))
    }
}

fn checked(result: Payload) -> Result<Payload> {
    result.check("result")?;
    Ok(result)
}

fn settle(shared: &Shared, settlement: Settlement) -> Result<(QueuedState, Option<i64>)> {
    match shared.perform(Operation::Settle(settlement))? {
        Answer::Settled(state, expires_at_ms) => Ok((state, expires_at_ms)),
        _ => Err(closed(None)),
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.claimed.is_none() || self.shared.is_forked() {
            return;
        }
        let error = if std::thread::panicking() {
            "a panic ended the attempt"
        } else {
            "the attempt ended without saying how"
        };
        let fail = Settle::Fail {
            error: error.to_owned(),
        };
        if let Ok(operation) = self.operation(fail) {
            // If the queue was closed the lease expires.
            let _ = self.shared.submit(operation, Waiter::Nobody);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("item", &self.name())
            .field("attempt", &self.attempt())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

impl LeaseToken {
    /// Of a version 7 UUID the end is random.
    fn end_of(uuid: &str) -> &str {
        uuid.rsplit('-').next().unwrap_or(uuid)
    }

    /// What it names, if it is of the queue with this identity.
    pub(super) fn fence_in(&self, uuid: &str) -> Result<Fence> {
        if *self.queue == *Self::end_of(uuid) {
            return Ok(self.fence);
        }
        Err(
            Error::invalid(format!("`{self}` is the token of a lease in another queue"))
                .with_hint("name the queue that the item was claimed from"),
        )
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fence { item, claim } = self.fence;
        write!(f, "{item}-{claim}-{}", self.queue)
    }
}

impl FromStr for LeaseToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, '-');
        let mut number = || {
            let part = parts.next()?;
            part.parse::<u64>()
                .ok()
                .filter(|number| i64::try_from(*number).is_ok())
        };
        let fence = number().zip(number());
        let queue = parts.next().filter(|queue| {
            queue.len() == 12 && queue.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        if let (Some((item, claim)), Some(queue)) = (fence, queue) {
            return Ok(Self {
                fence: Fence { item, claim },
                queue: queue.into(),
            });
        }
        let shown: String = text.escape_debug().take(100).collect();
        Err(
            Error::invalid(format!("`{shown}` is not the token of a lease"))
                .with_hint("it is what a claim gave, such as `12-1-0c5cbd0a1f2e`"),
        )
    }
}
