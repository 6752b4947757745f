//! How large a cache may be, and which entries go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

use super::name::Name;
use super::notice::Notice;
use super::place::Place;
use crate::checkpoint::notice::Observer;
use crate::disk::{self, FileStatus};
use crate::error::Result;

/// A directory is looked through after this part of the limit was added, and this part is made free beyond what has to be.
const SHARE: u64 = 16;

/// The limit, and what this process knows of the rest.
#[derive(Debug)]
pub(super) struct Room {
    limit: Option<u64>,
    /// The bytes that were there at the last look; `None` before the first.
    there: Mutex<Option<u64>>,
    /// The bytes that this process added since; relaxed, as an addition counts for itself.
    added: AtomicU64,
}

impl Room {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self {
            limit,
            there: Mutex::default(),
            added: AtomicU64::new(0),
        }
    }

    pub(super) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Counts an entry of `bytes` that was added, and makes room where that may be needed. Returns how many entries went.
    pub(super) fn make(&self, place: &Place, bytes: u64, observer: &Observer<Notice>) -> u64 {
        let Some(limit) = self.limit else {
            return 0;
        };
        let added = self
            .added
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        let mut known = match self.there.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another thread is looking, and sees what was just added, or else the next one will: it is counted.
            Err(TryLockError::WouldBlock) => return 0,
        };
        let is_due =
            known.is_none_or(|there| added > limit / SHARE || there.saturating_add(added) > limit);
        if !is_due {
            return 0;
        }
        // What is added from here on may be seen by the look and counted again by the next one, but never missed.
        self.added.fetch_sub(added, Ordering::Relaxed);
        let (there, evicted) = evict(place, limit, observer);
        *known = Some(there);
        evicted
    }

    /// Forgets what was known: the directory was emptied.
    pub(super) fn forget(&self) {
        *self.there.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.added.store(0, Ordering::Relaxed);
    }
}

/// Removes the entries that were not used for the longest time until there is room, and returns how many bytes are there now, and how many entries went.
fn evict(place: &Place, limit: u64, observer: &Observer<Notice>) -> (u64, u64) {
    let tell = |why: String| observer.tell(&Notice::NotEvicted { why });
    let files = match entries(place) {
        Ok(files) => files,
        Err(error) => {
            tell(error.chain());
            return (0, 0);
        }
    };
    let mut there: u64 = files.iter().map(|file| file.bytes).sum();
    let mut evicted = 0;
    for file in condemned(files, limit) {
        // Used or written anew since: somebody wants it.
        if disk::modified_ms(&place.dir.file(&file.name)) != Some(file.modified_ms) {
            continue;
        }
        match place.dir.remove(&file.name) {
            Ok(()) => {
                there -= file.bytes;
                evicted += 1;
            }
            Err(error) => tell(error.chain()),
        }
    }
    (there, evicted)
}

pub(super) fn entries(place: &Place) -> Result<Vec<FileStatus>> {
    let mut files = disk::status_of_files(place.dir.path())?;
    files.retain(|file| Name::of_file(&file.name).is_some());
    Ok(files)
}

/// Which files have to go. The order is the same in every process, so that two that look at once choose the same.
fn condemned(mut files: Vec<FileStatus>, limit: u64) -> Vec<FileStatus> {
    let mut there: u64 = files.iter().map(|file| file.bytes).sum();
    if there <= limit {
        return Vec::new();
    }
    let enough = limit - limit / SHARE;
    files.sort_by(|one, other| {
        let by_time = one.modified_ms.cmp(&other.modified_ms);
        by_time.then_with(|| one.name.cmp(&other.name))
    });
    // The newest stays, or a cache of one large entry would be none.
    files.pop();
    let goes = files.into_iter().take_while(|file| {
        let goes = there > enough;
        there -= file.bytes;
        goes
    });
    goes.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_oldest_go_and_no_more_than_have_to(
            sizes in proptest::collection::vec((1_u64..100, 0_i64..50), 0..40), limit in 1_u64..2000,
        ) {
            let files: Vec<FileStatus> = sizes.iter().enumerate().map(|(number, (bytes, modified_ms))| FileStatus {
                name: format!("{number:03}"),
                bytes: *bytes,
                modified_ms: *modified_ms,
            }).collect();
            let total: u64 = files.iter().map(|file| file.bytes).sum();
            let goes = condemned(files.clone(), limit);
            let gone: u64 = goes.iter().map(|file| file.bytes).sum();
            if total <= limit {
                prop_assert!(goes.is_empty());
            } else {
                let enough = limit - limit / SHARE;
                let stays: Vec<_> = files.iter().filter(|file| !goes.contains(file)).collect();
                prop_assert!(total - gone <= enough || stays.len() == 1);
                // Without the last one that goes it would not have been enough.
                prop_assert!(goes.last().is_none_or(|last| total - gone + last.bytes > enough));
                let youngest_gone = goes.iter().map(|file| file.modified_ms).max();
                prop_assert!(stays.iter().all(|file| Some(file.modified_ms) >= youngest_gone));
            }
        }
    }
}
