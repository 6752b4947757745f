//! One state in the hands of its owner: which generations it has, and how the next one is saved.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::folder::{self, QUARANTINE, path_of};
use super::forked::ForkedCopy;
use super::format::table::Table;
use super::gathered::Gathered;
use super::journal::{self, Journal, MAX_SMALL};
use super::metadata::{Details, Generation, Metadata, Parent};
use super::notice::{Notice, Skipped};
use super::options::StoreBuilder;
use super::reader;
use super::retention::{FLOOR, Kept};
use super::state::Encoding;
use super::write::{Writing, complete, write};
use crate::clock::{Clock, Moment, wall_ms};
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
    pub(super) throughput: Throughput,
}

/// Bytes of payload that are made durable in a second, as in the newest save large enough to tell.
#[derive(Debug, Default)]
pub(super) struct Throughput(AtomicU64);

impl Throughput {
    /// A smaller state takes as long as the disk takes to answer, whatever its size.
    const TELLING: u64 = 1 << 20;

    /// Relaxed: a number that stands for itself.
    fn learn(&self, bytes: u64, took: Duration) {
        if bytes >= Self::TELLING {
            let nanos = took.as_nanos().max(1);
            let rate = u128::from(bytes) * 1_000_000_000 / nanos;
            self.0
                .store(u64::try_from(rate).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// How long so many bytes take; zero as long as nothing is known.
    pub(super) fn time_for(&self, bytes: u64) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            rate => {
                let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }
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
    /// Where small states go, once there is a generation to fall back to.
    journal: Option<Journal>,
    /// Stored bytes for a hundred bytes of payload, as in the newest file.
    ratio_percent: Option<u64>,
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
        let mut newest = None;
        let mut ratio = None;
        for generation in folder::generations(dir.path())? {
            // One that is damaged is told when it is to be loaded.
            if let Ok(file) = reader::open(dir.path(), name, generation) {
                kept.push(Kept::of(
                    &file.metadata,
                    file.file_bytes(),
                    &common.settings.retention,
                ));
                ratio = Some(ratio_percent(
                    file.file_bytes(),
                    file.metadata.payload_bytes,
                ));
                newest = Some(file.metadata);
            }
        }
        let journals = journal::find(dir.path())?;
        let newest_record = journals.records.last();
        let in_journals = newest_record.map(|record| record.generation);
        let told = in_journals.max(Some(folder::highest(dir.path())?));
        // What cannot be read may have had the numbers after the highest that can.
        let lost = journals.torn.iter().map(|torn| torn.lost).sum();
        let highest = Generation(told.map_or(0, |told| told.0).saturating_add(lost));
        if newest.is_none() {
            newest = newest_record.and_then(|record| journal::metadata(record).ok());
        }
        Ok(Self {
            name: name.to_owned(),
            highest,
            journal: Journal::open_newest(&journals)?,
            dir,
            kept,
            started_at_ms: newest.map_or_else(wall_ms, |metadata| metadata.started_at_ms),
            ratio_percent: ratio,
        })
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
        table: &Table,
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
            encoding: table.value.map_or(Encoding::Bytes, |value| value.encoding),
            payload_bytes: table.payload_bytes,
            buffers: table.buffers.len() as u64,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Saves a state as a new generation, and prunes. `since`: a clock that was started with the call.
    ///
    /// # Durability
    ///
    /// When this returns, it survives a power cut.
    ///
    /// # Errors
    ///
    /// Kind `Invalid` when the metadata cannot be written; kind `Io` when the state could not be, also not at the second go. Every generation
    /// that was there before, but for those pruned to make room, is still there.
    pub(super) fn save(
        &mut self,
        common: &Common,
        state: &Gathered<'_>,
        details: &Details,
        parent: Option<&Parent>,
        since: &Clock,
    ) -> Result<Saved> {
        self.look_for_room(common, state.payload_bytes());
        let began = Clock::start();
        let mut generation = self.next()?;
        let mut saved = self.write(common, generation, state, details, parent);
        if let Err(error) = &saved
            && error.kind() == ErrorKind::Io
        {
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
        common
            .throughput
            .learn(metadata.payload_bytes, began.now().since(Moment::default()));
        Ok(self.saved(common, &metadata, file_bytes, since))
    }

    /// Completes a copy that a child is writing, as a new generation, and prunes. There is no second go: the state is elsewhere by now. `since`:
    /// a clock that was started with the call, when the child began to write.
    ///
    /// # Durability
    ///
    /// When this returns, it survives a power cut.
    ///
    /// # Errors
    ///
    /// Kind `Io` when it could not be written. If that was for want of room, room was made for the next one.
    pub(super) fn save_forked(
        &mut self,
        common: &Common,
        copy: ForkedCopy,
        details: &Details,
        since: &Clock,
    ) -> Result<Saved> {
        let generation = self.next()?;
        let metadata = self.metadata(common, generation, copy.table(), details);
        let completed = complete(copy, &path_of(self.dir.path(), generation), &metadata);
        if completed.as_ref().is_err_and(is_full) {
            self.make_room(common);
        }
        let file_bytes = completed.map_err(|error| self.not_saved(error))?;
        common
            .throughput
            .learn(metadata.payload_bytes, since.now().since(Moment::default()));
        Ok(self.saved(common, &metadata, file_bytes, since))
    }

    /// Remembers a generation that is durable.
    fn saved(
        &mut self,
        common: &Common,
        metadata: &Metadata,
        file_bytes: u64,
        since: &Clock,
    ) -> Saved {
        let payload_bytes = metadata.payload_bytes;
        self.kept
            .push(Kept::of(metadata, file_bytes, &common.settings.retention));
        self.ratio_percent = Some(ratio_percent(file_bytes, payload_bytes));
        self.prune(common);
        Saved {
            generation: metadata.generation,
            file_bytes,
            payload_bytes,
            took: since.now().since(Moment::default()),
        }
    }

    /// Saves a small state that was checked by appending it to the journal; one that is not small, or the first one, as
    /// [`save`](Self::save) does. When the journal is full, the state becomes a file and the journal goes.
    ///
    /// # Durability
    ///
    /// When this returns, it survives a power cut.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    pub(super) fn save_small(
        &mut self,
        common: &Common,
        state: &Gathered<'_>,
        details: &Details,
        since: &Clock,
    ) -> Result<Saved> {
        // Without a file to fall back to, a first record that a crash tore could not be told from a damaged one. A journal goes when it is full,
        // and what is pinned stays.
        let small = state
            .value
            .filter(|value| value.len() <= MAX_SMALL && state.table.buffers.is_empty())
            .filter(|_| !self.kept.is_empty() && !details.pinned);
        let Some(value) = small else {
            return self.save(common, state, details, None, since);
        };
        let generation = self.next()?;
        let metadata = self.metadata(common, generation, &state.table, details);
        match self.append(&metadata, value) {
            Ok(Some(file_bytes)) => Ok(Saved {
                generation,
                file_bytes,
                payload_bytes: value.len() as u64,
                took: since.now().since(Moment::default()),
            }),
            Ok(None) => {
                // Nothing was written, so the number is free.
                self.highest = Generation(generation.0 - 1);
                self.fold(common, state, details, since)
            }
            Err(error) if error.kind() != ErrorKind::Io => {
                self.highest = Generation(generation.0 - 1);
                Err(self.not_saved(error))
            }
            Err(error) => {
                common.settings.observer.tell(&Notice::WritingAnew {
                    name: self.name.clone(),
                    why: error.chain(),
                });
                self.fold(common, state, details, since)
            }
        }
    }

    /// Appends to the journal and returns the length of the record; `None` where there is no place for it.
    fn append(&mut self, metadata: &Metadata, value: &[u8]) -> Result<Option<u64>> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            // One that does not end cleanly is not gone on with.
            none if folder::journals(self.dir.path())?.is_empty() => {
                none.insert(Journal::create(self.dir.path(), metadata.generation)?)
            }
            _ => return Ok(None),
        };
        journal.append(metadata, value)
    }

    /// Saves the state as a file and removes the journals, all of whose records are older.
    fn fold(
        &mut self,
        common: &Common,
        state: &Gathered<'_>,
        details: &Details,
        since: &Clock,
    ) -> Result<Saved> {
        self.journal = None;
        let saved = self.save(common, state, details, None, since)?;
        let removed = self.remove_journals();
        if let Err(error) = removed {
            common.settings.observer.tell(&Notice::NotPruned {
                name: self.name.clone(),
                why: error.chain(),
            });
        }
        Ok(saved)
    }

    /// Removes the journals, all of whose records are older than what was just saved. One whose beginning is damaged was not left so by a crash,
    /// and is put aside for whoever can make use of it.
    fn remove_journals(&self) -> Result<()> {
        let mut torn = journal::find(self.dir.path())?.torn;
        torn.retain(|torn| !torn.begins_well);
        for base in folder::journals(self.dir.path())? {
            let name = folder::journal_name(base);
            let path = self.dir.file(&name);
            if torn.iter().any(|torn| torn.journal == path) {
                let aside = self.quarantine()?;
                disk::rename(&path, &aside.file(&name))?;
            } else {
                self.dir.remove(&name)?;
            }
        }
        Ok(())
    }

    fn quarantine(&self) -> Result<StateDir> {
        StateDir::create(&self.dir.file(QUARANTINE))
    }

    fn write(
        &self,
        common: &Common,
        generation: Generation,
        state: &Gathered<'_>,
        details: &Details,
        parent: Option<&Parent>,
    ) -> Result<(Metadata, u64)> {
        let mut metadata = self.metadata(common, generation, &state.table, details);
        metadata.parent = parent.cloned();
        let how = Writing {
            compression: common.settings.compression,
            workers: common.settings.workers,
        };
        let length = write(&path_of(self.dir.path(), generation), state, &metadata, how)?;
        Ok((metadata, length))
    }

    /// A save that fails for want of room fails late; where it is known to, room is made first.
    pub(super) fn look_for_room(&mut self, common: &Common, payload_bytes: u64) {
        // Before the first file nothing is known of how it shrinks.
        let Some(ratio_percent) = self.ratio_percent else {
            return;
        };
        let needed = payload_bytes / 100 * ratio_percent;
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
    /// A record of a journal stays, too: the journal goes when it is folded.
    pub(super) fn put_aside(&mut self, skipped: &mut Skipped) {
        if !self.dir.has(&folder::file_name(skipped.generation)) {
            return;
        }
        let moved = self.quarantine().and_then(|aside| {
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
        if error.kind() != ErrorKind::Io {
            return error.about(format!("`{}` was not saved", self.name));
        }
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

fn ratio_percent(file_bytes: u64, payload_bytes: u64) -> u64 {
    (file_bytes.saturating_mul(100) / payload_bytes.max(1)).clamp(1, 100)
}

/// Whether an error comes from a disk or a quota without room.
fn is_full(error: &Error) -> bool {
    matches!(error.os_code(), Some(libc::ENOSPC | libc::EDQUOT))
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
