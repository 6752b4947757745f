//! Who waits for a phase: wakers in shards, taken all at once when the phase is reached.
//!
//! Invariants:
//!
//! 1. A waker is inserted only under its shard's lock and only after the phase was looked at again under that lock. Whoever raises the
//!    phase does so before taking the lock; so either the waiter sees the phase, or its waker is found. No wake-up is lost.
//! 2. Wakers are woken and dropped outside the lock: a waker may do anything, also register again.
//! 3. A phase is reached once, so a list that was taken stays empty.
//!
//! Lock order: one shard at a time, and nothing else is locked while it is held.

use std::array;
use std::sync::atomic::Ordering;
use std::task::Waker;

use slab::Slab;

use super::Phase;
use super::sync::{AtomicU8, Mutex, lock};

/// Shards, so that threads that wait and give up in a loop do not queue for one lock.
const SHARDS: usize = if cfg!(safepoint_loom) { 1 } else { 8 };

/// The phases that can be waited for: Draining, Terminating, Stopped.
const LEVELS: usize = 3;

pub(super) struct Waiters {
    shards: Box<[Shard]>,
}

/// On a cache line pair of its own, so that one shard's lock does not slow another's.
#[repr(align(128))]
struct Shard {
    levels: Mutex<[Slab<Waker>; LEVELS]>,
}

/// Where a waker is kept.
#[derive(Debug)]
pub(super) struct Key {
    shard: usize,
    index: usize,
}

impl Waiters {
    /// A list for the many who wait for a root, or for the few who wait for a child.
    pub(super) fn new(many: bool) -> Self {
        let shards = if many { SHARDS } else { 1 };
        Self {
            shards: (0..shards)
                .map(|_| Shard {
                    levels: Mutex::new(array::from_fn(|_| Slab::new())),
                })
                .collect(),
        }
    }

    /// Keeps `waker` until `wanted` is reached, unless it is by now: then nothing is kept.
    pub(super) fn insert(
        &self,
        hint: usize,
        wanted: Phase,
        phase: &AtomicU8,
        waker: &Waker,
    ) -> Option<Key> {
        let shard = hint % self.shards.len();
        // Cloned outside the lock: a waker's clone is the caller's code.
        let waker = waker.clone();
        let mut levels = lock(&self.shards[shard].levels);
        // Relaxed: invariant 1; the lock orders this load against the taker's store.
        if phase.load(Ordering::Relaxed) >= wanted as u8 {
            drop(levels);
            return None;
        }
        let index = levels[level(wanted)].insert(waker);
        Some(Key { shard, index })
    }

    /// Puts `waker` in the place of the one kept at `key`; nothing happens when that was taken.
    pub(super) fn replace(&self, key: &Key, wanted: Phase, waker: &Waker) {
        let waker = waker.clone();
        let mut levels = lock(&self.shards[key.shard].levels);
        let old = levels[level(wanted)]
            .get_mut(key.index)
            .map(|kept| std::mem::replace(kept, waker));
        drop(levels);
        drop(old);
    }

    /// Forgets the waker at `key`, if it was not taken.
    pub(super) fn remove(&self, key: &Key, wanted: Phase) {
        let mut levels = lock(&self.shards[key.shard].levels);
        let old = levels[level(wanted)].try_remove(key.index);
        drop(levels);
        drop(old);
    }

    /// Wakes all who wait for `reached` or an earlier phase. The phase was raised before.
    pub(super) fn wake(&self, reached: Phase) {
        for shard in &*self.shards {
            for wanted in [Phase::Draining, Phase::Terminating, Phase::Stopped] {
                if wanted > reached {
                    break;
                }
                let taken = std::mem::take(&mut lock(&shard.levels)[level(wanted)]);
                for (_, waker) in taken {
                    waker.wake();
                }
            }
        }
    }
}

fn level(wanted: Phase) -> usize {
    (wanted as usize).saturating_sub(1).min(LEVELS - 1)
}
