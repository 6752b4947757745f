//! What is open and may end on another thread: owned units and tracked work, in lists under locks.
//!
//! Entering looks at the phase under its list's lock, and the end of a stop looks at each list under its lock after the phase was raised; so what
//! is let in is also waited for. There are several lists, so that threads that come and go often do not queue for one lock.

use std::array;
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slab::Slab;

use super::Phase;
use super::lane::Ended;
use super::open::OpenKind;
use super::sync::{AtomicU8, Mutex, MutexGuard, lock};

const LISTS: usize = if cfg!(safepoint_loom) { 1 } else { 16 };

pub(super) struct Registry {
    lists: [List; LISTS],
}

/// On a cache line pair of its own, so that one list's lock does not slow another's.
#[derive(Default)]
#[repr(align(128))]
struct List {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    open: Slab<Entry>,
    ended: Ended,
}

/// Something open.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: OpenKind,
    /// On the coarse clock.
    pub(super) started: Duration,
    /// The number of the thread it is on.
    pub(super) serial: u64,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    list: usize,
    index: usize,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            lists: array::from_fn(|_| List::default()),
        }
    }
}

impl List {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }
}

impl Registry {
    /// Lets `entry` in, unless `phase` is beyond Running; gives the key to leave with.
    pub(super) fn enter(&self, entry: Entry, phase: &AtomicU8) -> Option<Key> {
        let list = usize::try_from(entry.serial).unwrap_or(0) % LISTS;
        let mut entries = self.lists[list].lock();
        // Relaxed: the lock orders it against the look of the end of a stop, which comes after the phase was raised.
        if phase.load(Ordering::Relaxed) != Phase::Running as u8 {
            entries.ended.refused += 1;
            return None;
        }
        let index = entries.open.insert(entry);
        Some(Key { list, index })
    }

    /// Gives what is open under `key` another name.
    pub(super) fn rename(&self, key: Key, name: Cow<'static, str>) {
        if let Some(entry) = self.lists[key.list].lock().open.get_mut(key.index) {
            entry.name = name;
        }
    }

    /// What is open under `key` goes on on the thread of this number.
    pub(super) fn moved(&self, key: Key, serial: u64) {
        if let Some(entry) = self.lists[key.list].lock().open.get_mut(key.index) {
            entry.serial = serial;
        }
    }

    pub(super) fn leave(&self, key: Key, committed: bool) -> Option<Entry> {
        let mut entries = self.lists[key.list].lock();
        let entry = entries.open.try_remove(key.index)?;
        if entry.kind == OpenKind::Unit {
            if committed {
                entries.ended.committed += 1;
            } else {
                entries.ended.rolled_back += 1;
            }
        }
        Some(entry)
    }

    pub(super) fn is_open(&self) -> bool {
        self.lists.iter().any(|list| !list.lock().open.is_empty())
    }

    pub(super) fn seen(&self) -> Vec<Entry> {
        let mut seen = Vec::new();
        for list in &self.lists {
            seen.extend(list.lock().open.iter().map(|(_, entry)| entry.clone()));
        }
        seen
    }

    pub(super) fn ended(&self) -> Ended {
        let mut sum = Ended::default();
        for list in &self.lists {
            sum.add(list.lock().ended);
        }
        sum
    }
}
