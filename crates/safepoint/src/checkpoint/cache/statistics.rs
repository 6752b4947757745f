//! What a cache did.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a [`Cache`](super::Cache) did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Values that were there.
    pub hits: u64,
    /// Values that were computed.
    pub computed: u64,
    /// Those of them for which there was an entry that could not be used.
    pub computed_anew: u64,
    /// Values that were computed and could not be kept.
    pub not_kept: u64,
    /// Entries that were removed because there was no room.
    pub evicted: u64,
}

/// Lone numbers, each read on its own: relaxed is enough.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) computed: AtomicU64,
    pub(super) computed_anew: AtomicU64,
    pub(super) not_kept: AtomicU64,
    pub(super) evicted: AtomicU64,
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        Self::add(counter, 1);
    }

    pub(super) fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            hits: read(&self.hits),
            computed: read(&self.computed),
            computed_anew: read(&self.computed_anew),
            not_kept: read(&self.not_kept),
            evicted: read(&self.evicted),
        }
    }
}
