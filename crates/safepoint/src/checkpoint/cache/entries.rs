//! All entries of a cache: listed, checked, removed.

use std::path::PathBuf;
use std::time::Duration;

use super::name::{Name, Wanted};
use super::room::entries;
use super::{Cache, Place};
use crate::checkpoint::fingerprint::Fingerprint;
use crate::checkpoint::format::damaged;
use crate::checkpoint::metadata::Metadata;
use crate::checkpoint::read::OpenFile;
use crate::checkpoint::stream::Stream;
use crate::disk::FileStatus;
use crate::error::{ErrorKind, Result};

/// One line of a list: what is known of an entry without reading its value.
#[derive(Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its file.
    pub path: PathBuf,
    /// The length of its file in bytes.
    pub file_bytes: u64,
    /// When it was last used, to a minute, in milliseconds since 1970 UTC.
    pub used_at_ms: i64,
    /// What it is, or why that cannot be read.
    pub details: Result<EntryDetails>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EntryDetails {
    /// Its key.
    pub key: String,
    /// What it was made from.
    pub fingerprint: Fingerprint,
    /// When it was computed, in milliseconds since 1970 UTC.
    pub computed_at_ms: i64,
    /// How long that took.
    pub took: Duration,
    /// The bytes of its value, before compression.
    pub payload_bytes: u64,
}

impl EntryDetails {
    fn of(metadata: Metadata) -> Self {
        let took_us = metadata.details.extra["took_us"].as_u64().unwrap_or(0);
        Self {
            key: metadata.name,
            fingerprint: metadata.fingerprint,
            computed_at_ms: metadata.saved_at_ms,
            took: Duration::from_micros(took_us),
            payload_bytes: metadata.payload_bytes,
        }
    }
}

/// What a whole reading of an entry found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Validated {
    /// Its file.
    pub path: PathBuf,
    /// Its key, where that can be read.
    pub key: Option<String>,
    /// The bytes of its value, every one of which passed a checksum, or what is wrong.
    pub outcome: Result<u64>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Cleared {
    /// How many entries.
    pub entries: u64,
    /// The bytes of their files.
    pub file_bytes: u64,
}

impl Cache {
    /// All entries, the one that was not used for the longest time first. Their values are not read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let look = |file: FileStatus| {
            let details = match open(&self.place, &file.name) {
                // It went since the directory was read.
                Err(error) if error.kind() == ErrorKind::NotFound => return None,
                opened => opened.map(|opened| EntryDetails::of(opened.metadata)),
            };
            Some(Entry {
                path: self.place.dir.file(&file.name),
                file_bytes: file.bytes,
                used_at_ms: file.modified_ms,
                details,
            })
        };
        Ok(oldest_first(&self.place)?
            .into_iter()
            .filter_map(look)
            .collect())
    }

    /// Reads all of every entry, and says of each whether it is whole. Needs the memory of a frame, some MiB. A damaged one is no harm: it is
    /// computed anew when it is asked for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the directory cannot be read. What is wrong with an entry is in the list.
    pub fn validate(&self) -> Result<Vec<Validated>> {
        let check = |file: FileStatus| {
            let opened = open(&self.place, &file.name);
            let key = opened
                .as_ref()
                .ok()
                .map(|opened| opened.metadata.name.clone());
            let outcome = opened.and_then(|opened| read_through(&opened));
            match outcome {
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                outcome => Some(Validated {
                    path: self.place.dir.file(&file.name),
                    key,
                    outcome,
                }),
            }
        };
        Ok(oldest_first(&self.place)?
            .into_iter()
            .filter_map(check)
            .collect())
    }

    /// Removes the entries of a key, whatever their fingerprints, and says what went. One that is being computed is not kept from coming. Entries whose
    /// key cannot be read stay.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the directory cannot be read or an entry not be removed.
    pub fn remove(&self, key: &str) -> Result<Cleared> {
        let is_of_key = |file: &FileStatus| {
            open(&self.place, &file.name).is_ok_and(|opened| opened.metadata.name == key)
        };
        self.remove_those(is_of_key)
    }

    /// Removes all entries, and says what went. Those that are being computed come all the same; who reads one reads it to its end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the directory cannot be read or an entry not be removed.
    pub fn clear(&self) -> Result<Cleared> {
        self.place.sweep()?;
        self.remove_those(|_| true)
    }

    fn remove_those(&self, goes: impl Fn(&FileStatus) -> bool) -> Result<Cleared> {
        let mut cleared = Cleared::default();
        for file in entries(&self.place)? {
            if goes(&file) {
                self.place.dir.remove(&file.name)?;
                cleared.entries += 1;
                cleared.file_bytes += file.bytes;
            }
        }
        self.room.forget();
        Ok(cleared)
    }
}

fn oldest_first(place: &Place) -> Result<Vec<FileStatus>> {
    let mut files = entries(place)?;
    files.sort_by(|one, other| {
        let by_time = one.modified_ms.cmp(&other.modified_ms);
        by_time.then_with(|| one.name.cmp(&other.name))
    });
    Ok(files)
}

/// Opens an entry and checks that it is the one its file's name says.
fn open(place: &Place, file: &str) -> Result<OpenFile> {
    let opened = OpenFile::open(&place.dir.file(file))?;
    let wanted = Wanted::new(&opened.metadata.name, &opened.metadata.fingerprint);
    match wanted {
        Ok(wanted) if Name::of_file(file) == Some(wanted.name) => Ok(opened),
        _ => Err(damaged("its name is that of another entry")),
    }
}

fn read_through(file: &OpenFile) -> Result<u64> {
    let table = file.table()?;
    let mut stream = Stream::new(file, &table);
    while !stream.next(usize::MAX)?.is_empty() {}
    Ok(table.payload_bytes)
}
