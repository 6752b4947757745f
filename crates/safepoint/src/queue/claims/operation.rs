//! What callers ask of the writer, and what it answers.

use std::time::Duration;

use super::item::{NewItem, Pushed, QueueCounts, QueuedItem, QueuedState};
use super::payload::Payload;
use crate::error::Error;

/// What a caller asks for. All that arrived together is done in one transaction, in the order of arrival.
#[derive(Debug)]
pub(in crate::queue) enum Operation {
    /// Takes items in, all or none.
    Push(Vec<NewItem>),
    /// Ends or extends a lease.
    Settle(Settlement),
    /// Gives the lease of this claim once more.
    Find(Fence),
    /// Counts the item of this claim if it is the one that is acknowledged.
    Acknowledged(Fence),
    /// Makes dead items pending: those named, or all.
    Retry(Option<Vec<String>>),
    /// Forgets items that were done before a time.
    Forget { done_before_ms: i64 },
    /// Counts items.
    Count,
    /// Lists items with a number above `after`, in the order of pushing.
    List {
        state: Option<QueuedState>,
        after: u64,
        limit: usize,
    },
    /// Looks for one item, by its key or its number.
    Look(String),
    /// Nothing: the answer comes after all that was asked before.
    Sync,
}

/// Names one claim of one item: an item that was claimed again has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::queue) struct Fence {
    /// The item's number.
    pub(in crate::queue) item: u64,
    /// How often it had been claimed, this time included.
    pub(in crate::queue) claim: u64,
}

/// What becomes of a lease.
#[derive(Debug)]
pub(in crate::queue) struct Settlement {
    pub(in crate::queue) fence: Fence,
    pub(in crate::queue) how: Settle,
}

#[derive(Debug)]
pub(in crate::queue) enum Settle {
    /// The item is done.
    Acknowledge(Payload),
    /// It is given back, and the attempt does not count.
    Release { delay: Duration },
    /// The attempt failed.
    Fail { error: String },
    /// The lease is to last this long from now on.
    Extend { time: Duration },
}

/// What the writer answers.
#[derive(Debug)]
pub(in crate::queue) enum Answer {
    Pushed(Vec<Pushed>),
    /// The state the item is in, and when the lease expires if it is extended.
    Settled(QueuedState, Option<i64>),
    Found(Claimed),
    Number(u64),
    Counts(QueueCounts),
    Items(Vec<QueuedItem>),
    Synced,
    /// This one was refused; nothing of it was done.
    Refused(Error),
}

/// An item that was claimed.
#[derive(Debug)]
pub(in crate::queue) struct Claimed {
    pub(in crate::queue) fence: Fence,
    pub(in crate::queue) key: Option<Box<str>>,
    pub(in crate::queue) payload: Payload,
    pub(in crate::queue) attempt: u32,
    pub(in crate::queue) expires_at_ms: i64,
}

/// How many items one transaction is to claim.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::queue) struct Demand {
    /// For callers who wait.
    pub(in crate::queue) waiting: usize,
    /// For callers who will come soon: only items that were never attempted, so that one that nobody began is not taken for a failure of its own.
    pub(in crate::queue) ahead: usize,
}

/// What one transaction led to.
#[derive(Debug, Default)]
pub(in crate::queue) struct Round {
    /// One for each operation, in their order.
    pub(in crate::queue) answers: Vec<Answer>,
    pub(in crate::queue) claimed: Vec<Claimed>,
    /// There was less to claim than callers waited for.
    pub(in crate::queue) is_exhausted: bool,
    /// When there is something to be claimed next; none if nothing is, however long one waits.
    pub(in crate::queue) next_due_ms: Option<i64>,
    /// How long the commit took: nearly all of it is the sync.
    pub(in crate::queue) commit: Duration,
}
