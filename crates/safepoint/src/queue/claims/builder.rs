//! Opening a queue.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::durability::Durability;
use super::handle::Queue;
use super::inbox::Shared;
use super::writer::Writer;
use crate::disk::StateDir;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::RetryPolicy;
use crate::queue::sqlite::{QueueFile, Terms};

/// How long a lease lasts unless it is extended: 60 s.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);

/// How many items are claimed ahead at most: 64.
pub const DEFAULT_READ_AHEAD: usize = 64;

/// Settings of a [`Queue`], before it is opened. They hold for what this process claims; give all consumers of a queue the same.
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    path: PathBuf,
    terms: Terms,
    read_ahead: usize,
}

impl Builder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            terms: Terms {
                lease: DEFAULT_LEASE,
                retry: RetryPolicy::default(),
                durability: Durability::default(),
            },
            read_ahead: DEFAULT_READ_AHEAD,
        }
    }

    /// How long a lease lasts unless it is extended: 10 ms or more, in whole milliseconds. Default 60 s.
    ///
    /// An item whose consumer was killed is claimed again after this time.
    pub fn lease(mut self, time: Duration) -> Self {
        self.terms.lease = time;
        self
    }

    /// How often a failed item is attempted, and after what wait. Default three times.
    ///
    /// With one attempt only, an item whose consumer is killed is dead, and nothing is claimed ahead.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.terms.retry = policy;
        self
    }

    /// What a change survives once it was told. Default a power cut.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.terms.durability = durability;
        self
    }

    /// How many items are claimed ahead at most, for consumers that are expected back. Default 64; with 0 each claim is a commit of its own.
    pub fn read_ahead(mut self, items: usize) -> Self {
        self.read_ahead = items;
        self
    }

    /// Opens the queue, and makes it where it does not exist. The directory is private from then on (0700), also one that was there.
    ///
    /// # Durability
    ///
    /// When this returns, the queue survives a power cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] when the file is damaged, [`ErrorKind::Incompatible`] when it is of a newer program; [`ErrorKind::Busy`] when another process
    /// has it, on a network file system; [`ErrorKind::Invalid`] for settings that cannot be; [`ErrorKind::Invalid`] and [`ErrorKind::Io`] as the directory is.
    pub fn open(self) -> Result<Queue> {
        if self.terms.lease < Duration::from_millis(10) {
            return Err(Error::invalid(format!(
                "a lease of {:?} is shorter than 10 ms",
                self.terms.lease
            )));
        }
        if self.terms.retry.max_attempts == 0 {
            return Err(Error::invalid("an item has at least one attempt"));
        }
        let dir = StateDir::create(&self.path)?;
        // One that was there already may let others in, and payloads are for nobody else.
        dir.make_private()?;
        let file = QueueFile::open(&dir, self.terms)?;
        let shared = Arc::new(Shared::new(self.terms.lease, file.uuid().to_owned())?);
        let writer = Writer::new(Arc::clone(&shared), file, self.read_ahead);
        let thread = std::thread::Builder::new()
            .name("safepoint-queue".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    let _told = Told(shared);
                    writer.work()
                }
            })
            .map_err(|error| {
                Error::new(ErrorKind::Io, "cannot start the writer thread").with_source(error)
            })?;
        Ok(Queue::new(dir, shared, thread))
    }
}

/// Also after a panic of the writer, callers are answered and new ones refused.
struct Told(Arc<Shared>);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.fail("its writer panicked"));
        }
    }
}
