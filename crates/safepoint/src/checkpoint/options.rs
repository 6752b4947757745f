//! How a store is opened.

use std::path::{Path, PathBuf};

use super::background::WhenBusy;
use super::codec::Compression;
use super::fingerprint::Fingerprint;
use super::notice::{Notice, Observer};
use super::retention::Retention;
use super::store::CheckpointStore;
use crate::error::Result;

/// Settings of a [`CheckpointStore`], made by [`CheckpointStore::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `open`"]
pub struct StoreBuilder {
    pub(super) path: PathBuf,
    pub(super) retention: Retention,
    pub(super) fingerprint: Fingerprint,
    pub(super) ignored: Vec<String>,
    pub(super) accept_changes: bool,
    pub(super) compression: Compression,
    pub(super) workers: usize,
    pub(super) when_busy: WhenBusy,
    pub(super) observer: Observer,
}

impl StoreBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            retention: Retention::default(),
            fingerprint: Fingerprint::default(),
            ignored: Vec::new(),
            accept_changes: false,
            compression: Compression::default(),
            workers: 2,
            when_busy: WhenBusy::default(),
            observer: Observer::default(),
        }
    }

    /// Which generations stay. Default: the newest 20.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// What the states are of: a state of another fingerprint is refused, with what differs. Default: one without keys.
    pub fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// Keys of the fingerprint that may differ.
    pub fn ignore(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.ignored.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Takes a state of another fingerprint, and says so in a [`Notice`]. What is saved from then on has the new one.
    pub fn accept_changes(mut self) -> Self {
        self.accept_changes = true;
        self
    }

    /// Whether frames are compressed. Default: where it pays.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How many threads pack, write and read the frames of one state, the caller's included; at least 1. Default 2: one checksums while the
    /// other writes, and a disk is seldom faster than that.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// What a save in the background does when one is in flight and another waits already. Default: the newest wins.
    pub fn when_busy(mut self, policy: WhenBusy) -> Self {
        self.when_busy = policy;
        self
    }

    /// Who hears what happens beside the results of calls. Called on the thread that saves or loads, with the state locked: it must not call
    /// the store.
    pub fn on_notice(mut self, tell: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(tell);
        self
    }

    /// Makes the directory where there is none, takes it for this process, takes the rights of group and others from it (0700), also from one that was
    /// there, and opens it. So name a directory that is for checkpoints alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when another process has it, with who; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it
    /// is a link, or another user's; [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be made or read.
    pub fn open(self) -> Result<CheckpointStore> {
        CheckpointStore::open_with(self)
    }
}
