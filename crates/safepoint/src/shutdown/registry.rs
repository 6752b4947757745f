//! What is open and may end on another thread: owned units and tracked work, in one list under a lock.
//!
//! Entering looks at the phase under the lock, and the end of a stop looks at the list under the lock after the phase was raised; so what
//! is let in is also waited for.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::thread::Thread;
use std::time::Duration;

use slab::Slab;

use super::Phase;
use super::lane::Ended;
use super::open::OpenKind;
use super::sync::{AtomicU8, Mutex, MutexGuard, lock};

#[derive(Default)]
pub(super) struct Registry {
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
    pub(super) thread: Thread,
    pub(super) serial: u64,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }

    /// Lets `entry` in, unless `phase` is beyond Running; gives the key to leave with.
    pub(super) fn enter(&self, entry: Entry, phase: &AtomicU8) -> Option<usize> {
        let mut entries = self.lock();
        // Relaxed: the lock orders it against the look of the end of a stop, which comes after the phase was raised.
        if phase.load(Ordering::Relaxed) != Phase::Running as u8 {
            entries.ended.refused += 1;
            return None;
        }
        Some(entries.open.insert(entry))
    }

    pub(super) fn rename(&self, key: usize, name: Cow<'static, str>) {
        if let Some(entry) = self.lock().open.get_mut(key) {
            entry.name = name;
        }
    }

    /// What is open under `key` goes on on `thread`.
    pub(super) fn moved(&self, key: usize, thread: Thread, serial: u64) {
        if let Some(entry) = self.lock().open.get_mut(key) {
            (entry.thread, entry.serial) = (thread, serial);
        }
    }

    pub(super) fn leave(&self, key: usize, committed: bool) -> Option<Entry> {
        let mut entries = self.lock();
        let entry = entries.open.try_remove(key)?;
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
        !self.lock().open.is_empty()
    }

    pub(super) fn seen(&self) -> Vec<Entry> {
        let entries = self.lock();
        entries
            .open
            .iter()
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    pub(super) fn ended(&self) -> Ended {
        self.lock().ended
    }
}
