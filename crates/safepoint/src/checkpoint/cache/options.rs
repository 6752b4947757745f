//! How a cache is opened.

use std::path::{Path, PathBuf};

use super::Cache;
use super::notice::Notice;
use super::place::Place;
use crate::checkpoint::codec::Compression;
use crate::checkpoint::notice::Observer;
use crate::error::Result;

/// Settings of a [`Cache`], made by [`Cache::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `open`"]
pub struct CacheBuilder {
    path: PathBuf,
    pub(super) at_most_bytes: Option<u64>,
    pub(super) compression: Compression,
    pub(super) workers: usize,
    pub(super) observer: Observer<Notice>,
}

impl CacheBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            at_most_bytes: None,
            compression: Compression::default(),
            workers: 2,
            observer: Observer::default(),
        }
    }

    /// Keeps at most so many bytes in files: those that were not used for the longest time go. Default: no limit.
    ///
    /// It is kept approximately: the directory is looked through when this process has added a sixteenth of the limit, and then a
    /// sixteenth is made free. An entry counts as used within a minute of its last use, also by other processes and before a restart. An entry that is larger alone
    /// is not kept.
    pub fn at_most_bytes(mut self, bytes: u64) -> Self {
        self.at_most_bytes = Some(bytes);
        self
    }

    /// Whether entries are compressed. Default: where it pays.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How many threads pack, write and read one large entry, the caller's included; at least 1. Default 2.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Who hears what happens beside the results of calls. Called on the thread of the caller, with the entry locked: it must not ask for
    /// the same entry.
    pub fn on_notice(mut self, tell: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(tell);
        self
    }

    /// Makes the directory (0700) where there is none, marks it as a cache (`CACHEDIR.TAG`, so that backups leave it out), and opens it. What
    /// killed processes left is removed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the directory holds other things, is a link, or is another user's;
    /// [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) when a newer program made it; [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be made
    /// or read.
    pub fn open(self) -> Result<Cache> {
        let place = Place::create(&self.path)?;
        place.sweep()?;
        Ok(Cache::of(place, self))
    }

    /// As [`open`](Self::open) for a cache that is there: nothing is made.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no such directory.
    pub fn open_existing(self) -> Result<Cache> {
        let place = Place::open(&self.path)?;
        Ok(Cache::of(place, self))
    }
}
