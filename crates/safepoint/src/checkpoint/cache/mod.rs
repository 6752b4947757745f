//! Results of data preparation, kept on disk by key and by what they were made from.
//!
//! ```
//! use safepoint::checkpoint::Fingerprint;
//! use safepoint::checkpoint::cache::Cache;
//!
//! # fn main() -> safepoint::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("cache");
//! let cache = Cache::builder(path).at_most_bytes(10 << 30).open()?;
//! let of = Fingerprint::new().with("corpus", "v3").with("vocabulary", 32_000);
//! let words = cache.get_or_try_insert_with("words", &of, || -> safepoint::Result<Vec<String>> {
//!     Ok(vec!["expensive".to_owned()]) // computed once, by one of all processes
//! })?;
//! # assert_eq!(words, ["expensive"]);
//! # let again: Vec<String> = cache.get_or_try_insert_with("words", &of, || -> safepoint::Result<_> { unreachable!() })?;
//! # assert_eq!((words, 1), (again, cache.statistics().hits));
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//!
//! 1. An entry has its name when all of it is durable, and is never written again. Nothing is returned from one that did not pass its checksums, or
//!    that has another key or fingerprint: then it is computed anew.
//! 2. Of all callers that share the directory and ask for one entry at the same time, one computes and the others wait. If it fails, panics or
//!    is killed, the next one computes.
//! 3. A value that was computed is returned, whether or not it could be kept.
//! 4. An entry may go at any time; who reads it at that moment reads it to its end.
//!
//! Lock order: a turn in this process, then the lock file of the entry, then the room. None of them is held while another entry is computed by
//! somebody else, so entries may be made from entries, as long as none is made from itself. No lock but those of the entry is held while the caller's
//! code runs.
//!
//! Deliberately absent: an owner (any number of processes of one user share a directory), an index (names of files are the truth), entries that
//! expire with time, and a limit of the wait for another's computation.

mod claim;
mod entries;
mod name;
mod notice;
mod options;
mod place;
mod room;
mod statistics;
#[cfg(test)]
mod tests;
mod turns;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

pub use self::claim::{Claim, Claimed};
pub use self::entries::{Cleared, Entry, EntryDetails, Validated};
use self::name::Wanted;
pub use self::name::{MAX_FINGERPRINT, MAX_KEY};
pub use self::notice::Notice;
pub use self::options::CacheBuilder;
use self::place::Place;
use self::room::Room;
use self::statistics::Counters;
pub use self::statistics::Statistics;
use self::turns::Turns;
use super::element::ElementType;
use super::fingerprint::Fingerprint;
use super::gathered::Gathered;
use super::loaded::{Checkpoint, Places, Target};
use super::metadata::{Details, Generation, Metadata};
use super::notice::Observer;
use super::read::OpenFile;
use super::state::State;
use super::write::{Writing, write};
use crate::clock::{Clock, Moment, wall_ms};
use crate::disk::LockFile;
use crate::error::{Error, ErrorKind, Result};

/// An entry that was used is said to have been at most this often: what was used more recently than so is alike.
const TOUCH_AFTER_MS: i64 = 60_000;
/// The name of the one buffer of an entry that is an array.
const ARRAY: &str = "array";

/// Results that are kept by key and fingerprint, in a directory that any number of processes share.
///
/// It may be shared between threads.
#[derive(Debug)]
pub struct Cache {
    place: Place,
    writing: Writing,
    room: Room,
    turns: Arc<Turns>,
    counters: Counters,
    observer: Observer<Notice>,
}

impl Cache {
    /// Opens the cache in a directory, made where there is none, without a limit of its size; see [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As [`CacheBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Settings for a cache in a directory.
    pub fn builder(path: impl AsRef<Path>) -> CacheBuilder {
        CacheBuilder::new(path.as_ref())
    }

    fn of(place: Place, settings: CacheBuilder) -> Self {
        Self {
            place,
            writing: Writing {
                compression: settings.compression,
                workers: settings.workers,
            },
            room: Room::new(settings.at_most_bytes),
            turns: Arc::default(),
            counters: Counters::default(),
            observer: settings.observer,
        }
    }

    /// Where the entries are.
    pub fn path(&self) -> &Path {
        self.place.dir.path()
    }

    /// The value kept for this key and fingerprint, or that of `compute`, which is kept as MessagePack.
    ///
    /// What decides the result belongs in the key or the fingerprint: the program cannot notice what changed elsewhere. A kept value that is damaged, or
    /// is no `T`, is computed anew ([`Notice::ComputedAnew`]); one that cannot be kept, on a full disk for instance, is
    /// returned all the same ([`Notice::NotKept`]).
    ///
    /// # Durability
    ///
    /// When this returns without a notice, the entry survives a kill and a power cut.
    ///
    /// # Errors
    ///
    /// Those of `compute`, which are not kept. [`ErrorKind::Invalid`] when the key or the fingerprint is too long, or when `compute` asks for the
    /// very entry that it is to compute.
    ///
    /// # Cancel safety
    ///
    /// While somebody else computes the entry, this waits, without a limit. A caller that is killed leaves nothing that holds up others.
    pub fn get_or_try_insert_with<T, E>(
        &self,
        key: &str,
        fingerprint: &Fingerprint,
        compute: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        let read = |file: &OpenFile| self.read(file, &mut Places::Given(&mut []))?.value();
        self.get_or_keep(key, fingerprint, read, state_of_value, compute)
    }

    /// As [`get_or_try_insert_with`](Self::get_or_try_insert_with) for an array of numbers, which is read without a copy; of `u8`, for bytes of any
    /// meaning.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub fn get_array_or_try_insert_with<T, E>(
        &self,
        key: &str,
        fingerprint: &Fingerprint,
        compute: impl FnOnce() -> std::result::Result<Vec<T>, E>,
    ) -> std::result::Result<Vec<T>, E>
    where
        T: ElementType,
        E: From<Error>,
    {
        let read = |file: &OpenFile| {
            let table = file.table()?;
            let bytes = table.buffers.first().map_or(0, |buffer| buffer.bytes);
            // Once the file is known to have so many, or the target does not fit.
            let elements = usize::try_from(bytes).map_or(0, |bytes| bytes / size_of::<T>());
            let mut array = bytemuck::allocation::try_zeroed_vec(elements).map_err(|()| {
                Error::new(
                    ErrorKind::Io,
                    format!("there is no memory for {bytes} bytes"),
                )
            })?;
            let targets = &mut [Target::array(ARRAY, &mut array)];
            self.read(file, &mut Places::Given(targets))?;
            Ok(array)
        };
        self.get_or_keep(key, fingerprint, read, state_of_array, compute)
    }

    fn read(&self, file: &OpenFile, places: &mut Places<'_, '_>) -> Result<Checkpoint> {
        Checkpoint::read(file, places, self.writing.workers)
    }

    fn get_or_keep<T, E: From<Error>>(
        &self,
        key: &str,
        fingerprint: &Fingerprint,
        read: impl Fn(&OpenFile) -> Result<T>,
        state: impl for<'a> FnOnce(&'a T) -> Result<State<'a>>,
        compute: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let wanted = Wanted::new(key, fingerprint)?;
        // What is wrong with it is told later, by the one who computes.
        if let Ok(Some(value)) = self.look(&wanted, &read) {
            return Ok(value);
        }
        // Threads of this process first, so that only one of them waits with a file open, and the one that waits for itself is told.
        let turn = self.turns.take(&wanted)?;
        let lock = self.lock(&wanted);
        let found = self.look(&wanted, &read); // what others computed while we waited
        match found {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => self.tell_computed_anew(&wanted, &error),
        }
        let clock = Clock::start();
        let value = compute()?;
        Counters::count(&self.counters.computed);
        self.keep_or_tell(&wanted, state(&value), &clock);
        drop((lock, turn));
        Ok(value)
    }

    /// The entry, if there is one.
    ///
    /// # Errors
    ///
    /// Why there is one that cannot be used.
    fn look<T>(
        &self,
        wanted: &Wanted,
        read: impl FnOnce(&OpenFile) -> Result<T>,
    ) -> Result<Option<T>> {
        let file = match OpenFile::open(&self.place.entry(&wanted.name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Another one whose hash is the same: it makes way.
        if !wanted.is_of(&file.metadata) {
            return Ok(None);
        }
        let value = read(&file)?;
        Counters::count(&self.counters.hits);
        let unused_ms = wall_ms().saturating_sub(file.stored().modified_ms());
        if !(0..TOUCH_AFTER_MS).contains(&unused_ms) {
            // An entry that cannot be marked as used goes a little early.
            let _ = file.stored().touch();
        }
        Ok(Some(value))
    }

    /// `None` where there can be no lock: then others may compute the same.
    fn lock(&self, wanted: &Wanted) -> Option<LockFile> {
        match LockFile::wait(&self.place.lock(&wanted.name)) {
            Ok(lock) => Some(lock),
            Err(error) => {
                self.tell_not_locked(wanted, &error);
                None
            }
        }
    }

    fn tell_not_locked(&self, wanted: &Wanted, error: &Error) {
        self.observer.tell(&Notice::NotLocked {
            key: wanted.key.clone(),
            why: error.chain(),
        });
    }

    /// Keeps what was computed since `clock` was started, or tells why not.
    fn keep_or_tell(&self, wanted: &Wanted, state: Result<State<'_>>, clock: &Clock) {
        let took = clock.now().since(Moment::default());
        let kept = state.and_then(|state| self.keep(wanted, &state, metadata(wanted, took)));
        if let Err(error) = kept {
            self.tell_not_kept(wanted, &error);
        }
    }

    /// Writes an entry whose lock we have, in the place of a damaged one.
    fn keep(&self, wanted: &Wanted, state: &State<'_>, mut metadata: Metadata) -> Result<()> {
        if let Some((encoding, _)) = &state.value {
            metadata.encoding = *encoding;
        }
        metadata.payload_bytes = state.payload_bytes();
        metadata.buffers = state.buffers.len() as u64;
        let name = wanted.name.file();
        self.place.dir.remove(&name)?;
        let path = self.place.dir.file(&name);
        let bytes = write(&path, &Gathered::of(state)?, &metadata, self.writing)?;
        if let Some(limit) = self.room.limit().filter(|limit| bytes > *limit) {
            self.place.dir.remove(&name)?;
            return Err(Error::invalid(format!(
                "it has {bytes} bytes, and the whole cache may have {limit}"
            )));
        }
        let evicted = self.room.make(&self.place, bytes, &self.observer);
        Counters::add(&self.counters.evicted, evicted);
        Ok(())
    }

    fn tell_computed_anew(&self, wanted: &Wanted, error: &Error) {
        Counters::count(&self.counters.computed_anew);
        self.observer.tell(&Notice::ComputedAnew {
            key: wanted.key.clone(),
            path: self.place.entry(&wanted.name),
            why: error.chain(),
        });
    }

    fn tell_not_kept(&self, wanted: &Wanted, error: &Error) {
        Counters::count(&self.counters.not_kept);
        self.observer.tell(&Notice::NotKept {
            key: wanted.key.clone(),
            why: error.chain(),
        });
    }

    /// What this value did since it was opened; other processes count for themselves.
    pub fn statistics(&self) -> Statistics {
        self.counters.read()
    }
}

fn state_of_value<T: Serialize>(value: &T) -> Result<State<'_>> {
    State::message_pack(value)
}

#[expect(
    clippy::ptr_arg,
    clippy::unnecessary_wraps,
    reason = "the shape of what turns values into states"
)]
fn state_of_array<T: ElementType>(array: &Vec<T>) -> Result<State<'_>> {
    Ok(State::new().with_array(ARRAY, &[array.len()], array))
}

fn metadata(wanted: &Wanted, took: std::time::Duration) -> Metadata {
    let now = wall_ms();
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    Metadata {
        name: wanted.key.clone(),
        generation: Generation(1),
        saved_at_ms: now,
        started_at_ms: now,
        run: 1,
        details: Details::new().extra(json!({ "took_us": took_us })),
        parent: None,
        fingerprint: wanted.fingerprint.clone(),
        encoding: super::state::Encoding::Bytes,
        payload_bytes: 0,
        buffers: 0,
        written_by: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
