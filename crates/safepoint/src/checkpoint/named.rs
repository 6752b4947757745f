//! One state in the hands of its owner: which generations it has, and how the next one is saved.

use std::path::Path;
use std::time::Duration;

use super::folder::{self, QUARANTINE, path_of};
use super::metadata::{Details, Generation, Metadata, Parent};
use super::notice::{Notice, Skipped};
use super::options::StoreBuilder;
use super::reader;
use super::retention::{FLOOR, Kept};
use super::state::State;
use super::write::{Writing, write};
use crate::clock::{Clock, wall_ms};
use crate::disk::{self, StateDir};
use crate::error::{Error, ErrorKind, Result};

/// What a save did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// The number it got.
    pub generation: Generation,
    /// The length of its file in bytes; of its record, for a state in a journal.
    pub file_bytes: u64,
    /// The bytes of the payload, before compression.
    pub payload_bytes: u64,
    /// From the call until it was durable.
    pub took: Duration,
}

/// What is the same for all states of a store.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) settings: StoreBuilder,
    pub(super) run: u32,
}

/// One state. Whoever has it locked is the only one who writes it.
#[derive(Debug)]
pub(super) struct Named {
    name: String,
    dir: StateDir,
    /// The number of the newest generation that was ever begun.
    highest: Generation,
    /// The generations whose metadata could be read, ascending. What cannot be read is never pruned.
    kept: Vec<Kept>,
    started_at_ms: i64,
    /// Stored bytes for each byte of payload, as in the newest save.
    ratio: f64,
    /// Bytes of payload made durable in a second, as in the newest save.
    pub(super) throughput: Option<f64>,
}

impl Named {
    /// Opens the directory of a state, and makes it where there is none.
    ///
    /// # Errors
    ///
    /// Kind `Io` when it cannot be made or read.
    pub(super) fn open(root: &StateDir, name: &str, common: &Common) -> Result<Self> {
        let dir = StateDir::create(&root.file(name))?;
        folder::remove_unfinished(&dir)?;
        let mut kept = Vec::new();
        let mut started_at_ms = None;
        for generation in folder::generations(dir.path())? {
            // One that is damaged is told when it is to be loaded.
            if let Ok(file) = reader::open(dir.path(), name, generation) {
                started_at_ms = Some(file.metadata.started_at_ms);
                kept.push(Kept::of(
                    &file.metadata,
                    file.file_bytes(),
                    &common.settings.retention,
                ));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            highest: folder::highest(dir.path())?,
            dir,
            kept,
            started_at_ms: started_at_ms.unwrap_or_else(wall_ms),
            ratio: 1.0,
            throughput: None,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The newest generation that can be told to be one.
    pub(super) fn newest(&self) -> Option<Generation> {
        self.kept.last().map(|kept| kept.generation)
    }

    /// Takes the next number.
    fn next(&mut self) -> Result<Generation> {
        let next = self.highest.0.checked_add(1);
        let next =
            next.ok_or_else(|| Error::invalid(format!("`{}` has used up all numbers", self.name)))?;
        self.highest = Generation(next);
        Ok(self.highest)
    }

    fn metadata(
        &self,
        common: &Common,
        generation: Generation,
        state: &State<'_>,
        details: &Details,
    ) -> Metadata {
        Metadata {
            name: self.name.clone(),
            generation,
            saved_at_ms: wall_ms(),
            started_at_ms: self.started_at_ms,
            run: common.run,
            details: details.clone(),
            parent: None,
            fingerprint: common.settings.fingerprint.clone(),
            encoding: state.encoding(),
            payload_bytes: state.payload_bytes(),
            buffers: state.buffers.len() as u64,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Saves a state that was checked as a new generation, and prunes.
    ///
    /// # Durability
    ///
    /// When this returns, it survives a power cut.
    ///
    /// # Errors
    ///
    /// Kind `Io` when it could not be written, also not at the second go. Every generation that was there before, but for those pruned to
    /// make room, is still there.
    pub(super) fn save(
        &mut self,
        common: &Common,
        state: &State<'_>,
        details: &Details,
        parent: Option<&Parent>,
    ) -> Result<Saved> {
        let clock = Clock::start();
        let payload_bytes = state.payload_bytes();
        self.look_for_room(common, payload_bytes);
        let mut generation = self.next()?;
        let mut saved = self.write(common, generation, state, details, parent);
        if let Err(error) = &saved {
            if is_full(error) {
                self.make_room(common);
            } else {
                common.settings.observer.tell(&Notice::WritingAnew {
                    name: self.name.clone(),
                    why: error.chain(),
                });
            }
            // The first one's name may be taken: what failed last may have been the sync of the directory.
            generation = self.next()?;
            saved = self.write(common, generation, state, details, parent);
        }
        let (metadata, file_bytes) = saved.map_err(|error| self.not_saved(error))?;
        let took = clock.now().since(crate::clock::Moment::default());
        self.kept
            .push(Kept::of(&metadata, file_bytes, &common.settings.retention));
        self.learn(payload_bytes, file_bytes, took);
        self.prune(common);
        Ok(Saved {
            generation,
            file_bytes,
            payload_bytes,
            took,
        })
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "estimates, of sizes far below 2^52"
    )]
    fn learn(&mut self, payload_bytes: u64, file_bytes: u64, took: Duration) {
        let payload = payload_bytes.max(1) as f64;
        self.ratio = (file_bytes as f64 / payload).min(1.0);
        self.throughput = Some(payload / took.as_secs_f64().max(1e-6));
    }

    fn write(
        &self,
        common: &Common,
        generation: Generation,
        state: &State<'_>,
        details: &Details,
        parent: Option<&Parent>,
    ) -> Result<(Metadata, u64)> {
        let mut metadata = self.metadata(common, generation, state, details);
        metadata.parent = parent.cloned();
        let how = Writing {
            compression: common.settings.compression,
            workers: common.settings.workers,
        };
        let length = write(&path_of(self.dir.path(), generation), state, &metadata, how)?;
        Ok((metadata, length))
    }

    /// A save that fails for want of room fails late; where it is known to, room is made first.
    fn look_for_room(&mut self, common: &Common, payload_bytes: u64) {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate; a float too large becomes the largest integer"
        )]
        let needed = (payload_bytes as f64 * self.ratio) as u64;
        // Who cannot be asked may still have room.
        if disk::free_bytes(self.dir.path()).is_ok_and(|free| free < needed) {
            self.make_room(common);
        }
    }

    /// Removes all but the newest two and pinned ones.
    fn make_room(&mut self, common: &Common) {
        let floor = self.kept.len().saturating_sub(FLOOR);
        let old: Vec<Generation> = self.kept[..floor]
            .iter()
            .filter(|kept| !kept.pinned)
            .map(|kept| kept.generation)
            .collect();
        let removed = self.remove(common, &old);
        if !removed.is_empty() {
            common.settings.observer.tell(&Notice::MadeRoom {
                name: self.name.clone(),
                removed,
            });
        }
    }

    /// Removes what the retention does not keep, and says what went.
    pub(super) fn prune(&mut self, common: &Common) -> Vec<Generation> {
        let goes = common.settings.retention.condemn(&self.kept);
        self.remove(common, &goes)
    }

    fn remove(&mut self, common: &Common, generations: &[Generation]) -> Vec<Generation> {
        let mut removed = Vec::new();
        for generation in generations {
            match self.dir.remove(&folder::file_name(*generation)) {
                Ok(()) => removed.push(*generation),
                Err(error) => common.settings.observer.tell(&Notice::NotPruned {
                    name: self.name.clone(),
                    why: error.chain(),
                }),
            }
        }
        self.kept.retain(|kept| !removed.contains(&kept.generation));
        removed
    }

    /// Moves the file of a damaged generation out of the way; where that is impossible it stays where it is.
    pub(super) fn put_aside(&mut self, skipped: &mut Skipped) {
        let moved = self.dir.subdir(QUARANTINE).and_then(|aside| {
            let to = path_of(aside.path(), skipped.generation);
            disk::rename(&path_of(self.dir.path(), skipped.generation), &to)?;
            Ok(to)
        });
        if let Ok(to) = moved {
            skipped.quarantined = Some(to);
            self.kept
                .retain(|kept| kept.generation != skipped.generation);
        }
    }

    fn not_saved(&self, error: Error) -> Error {
        let full = is_full(&error);
        let error = error.about(format!("`{}` was not saved", self.name));
        let left = match self.newest() {
            Some(generation) => format!("generation {generation} is whole and stays"),
            None => "there is no earlier generation".to_owned(),
        };
        if full {
            error.with_hint(format!("free some space and save again; {left}"))
        } else {
            error.with_hint(format!("look after the disk and save again; {left}"))
        }
    }
}

/// Whether an error comes from a disk or a quota without room.
pub(super) fn is_full(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
        }
        cause = error.source();
    }
    false
}

/// Refuses what JSON cannot say, before anything is written.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] with the figure.
pub(super) fn check_details(details: &Details) -> Result<()> {
    match details.metrics.iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((name, value)) => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "metric `{}` is {value}, which is no measure",
                name.escape_debug()
            ),
        )),
    }
}
