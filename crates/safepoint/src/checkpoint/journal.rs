//! Small states, saved every step: records appended to one file, each durable by itself.
//!
//! ```text
//! 0            128                                                     CAPACITY
//! | header     | record | record | ... | zeros                         |
//! | text, 128  | each begins at a multiple of 64                       |
//!
//! record: | magic 8 | generation 8 | metadata 4 | value 4 | crc 4 | zero 4 | metadata, JSON | value | zeros to 64 |
//! ```
//!
//! Numbers are little-endian; the checksum (CRC-32 as in gzip) covers all of the record but itself. The file has its full
//! length from the start, filled with zeros that are on the disk, so that an append changes data only: one write and one
//! fdatasync, half of what a file of its own costs. When it is full, the next state becomes a file of a generation, and the
//! journal goes.
//!
//! A record that fails its checksum is passed over; those behind it are found again by their magic. Behind the last one there
//! are zeros, or what a crash tore before it was acknowledged, or what was an acknowledged record before it was damaged:
//! nobody can tell the latter two apart, so both are told.

use std::path::{Path, PathBuf};

use super::folder::{journal_name, journals};
use super::format::damaged;
use super::loaded::Checkpoint;
use super::metadata::{Generation, Metadata};
use super::read::zeroed;
use super::write::metadata_json;
use crate::disk::{FreshFile, RandomAccessFile, StoredFile};
use crate::error::{Error, ErrorKind, Result};

/// The length of the file in bytes.
const CAPACITY: u64 = 2 << 20;
/// The largest value that goes to a journal, in bytes; a larger one gains nothing by it.
pub const MAX_SMALL: usize = 64 << 10;

const HEADER_BYTES: usize = 128;
const HEADER: &[u8] = br#"{"safepoint":"journal","version":1}"#;
const NEWER: &[u8] = br#"{"safepoint":"journal","version":"#;
const MAGIC: &[u8; 8] = b"\xABsp-rec\n";
const HEAD: usize = 32;
const ALIGN: usize = 64;
/// No record is shorter: what its metadata always say has more than a hundred bytes.
const LEAST_RECORD: usize = 2 * ALIGN;

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) generation: Generation,
    pub(super) journal: PathBuf,
    at: usize,
    metadata_bytes: usize,
    value_bytes: usize,
}

impl Record {
    /// Its length in the file, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        span(self.metadata_bytes, self.value_bytes).unwrap_or(0) as u64
    }
}

/// All of a journal that can be read.
#[derive(Debug, Default)]
struct Scan {
    /// Ascending by generation.
    records: Vec<Record>,
    /// Where the next record goes; `None` in a journal that is not gone on with.
    free_from: Option<usize>,
    /// Whether it begins as a journal does.
    begins_well: bool,
    /// How many records there may have been behind the last one: as many as places for them that are not empty.
    lost: u64,
}

/// Reads the records of a journal, also behind a header that is damaged.
///
/// # Errors
///
/// Kind `Incompatible` for one of a newer program; `NotFound` and `Io` as the disk says.
fn scan(path: &Path) -> Result<Scan> {
    let file = StoredFile::open(path)?;
    let mut bytes = zeroed(file.length().min(CAPACITY))?;
    file.read_at(&mut bytes, 0)?;
    let begins_well = bytes.starts_with(HEADER);
    if !begins_well && bytes.starts_with(NEWER) {
        return Err(Error::new(
            ErrorKind::Incompatible,
            format!("journal `{}` is of a newer program", path.display()),
        )
        .with_hint("use the newer safepoint that wrote it"));
    }
    let mut scan = Scan {
        begins_well,
        ..Scan::default()
    };
    let (mut at, mut end) = (HEADER_BYTES, HEADER_BYTES);
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEAD) {
        let newest = scan
            .records
            .last()
            .map_or(Generation(0), |record: &Record| record.generation);
        match decode(rest, at, path).filter(|record| record.generation > newest) {
            Some(record) => {
                at += span(record.metadata_bytes, record.value_bytes).unwrap_or(ALIGN);
                end = at;
                scan.records.push(record);
            }
            None => at += ALIGN,
        }
    }
    let behind = bytes.get(end..).unwrap_or_default().chunks(LEAST_RECORD);
    scan.lost = behind
        .filter(|place| place.iter().any(|byte| *byte != 0))
        .count() as u64;
    if begins_well && scan.lost == 0 && bytes.len() as u64 == CAPACITY {
        scan.free_from = Some(end);
    }
    Ok(scan)
}

/// Loads a record.
///
/// # Errors
///
/// Kind `Corrupt` when it is no longer there or its metadata cannot be read; `NotFound` and `Io` as the disk says.
pub(super) fn load(record: &Record) -> Result<Checkpoint> {
    let file = StoredFile::open(&record.journal)?;
    let mut bytes = zeroed(record.bytes())?;
    file.read_at(&mut bytes, record.at as u64)?;
    if decode(&bytes, record.at, &record.journal).as_ref() != Some(record) {
        return Err(damaged("its record in the journal changed"));
    }
    let (metadata, value) = bytes[HEAD..].split_at(record.metadata_bytes);
    let metadata = read_metadata(metadata, record.generation)?;
    Ok(Checkpoint::of_value(
        metadata,
        value[..record.value_bytes].to_vec(),
    ))
}

/// The metadata of a record.
///
/// # Errors
///
/// As [`load`].
pub(super) fn metadata(record: &Record) -> Result<Metadata> {
    load(record).map(Checkpoint::into_metadata)
}

fn read_metadata(json: &[u8], generation: Generation) -> Result<Metadata> {
    let metadata: Metadata = serde_json::from_slice(json)
        .map_err(|error| damaged("its metadata cannot be read").with_source(error))?;
    if metadata.generation != generation {
        return Err(damaged(format!(
            "it says that it is generation {}",
            metadata.generation
        )));
    }
    Ok(metadata)
}

/// A record's length with the zeros behind it.
fn span(metadata_bytes: usize, value_bytes: usize) -> Option<usize> {
    let bytes = HEAD.checked_add(metadata_bytes)?.checked_add(value_bytes)?;
    bytes.checked_next_multiple_of(ALIGN)
}

fn encode(generation: Generation, metadata: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let mut record = vec![0; span(metadata.len(), value.len())?];
    record[..8].copy_from_slice(MAGIC);
    record[8..16].copy_from_slice(&generation.0.to_le_bytes());
    record[16..20].copy_from_slice(&u32::try_from(metadata.len()).ok()?.to_le_bytes());
    record[20..24].copy_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
    let middle = HEAD + metadata.len();
    record[HEAD..middle].copy_from_slice(metadata);
    record[middle..middle + value.len()].copy_from_slice(value);
    let crc = record_crc(&record);
    record[24..28].copy_from_slice(&crc.to_le_bytes());
    Some(record)
}

/// Over all of a record but the place of the checksum.
fn record_crc(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..24]);
    hasher.update(&record[28..]);
    hasher.finalize()
}

/// The record that `bytes` begin with, if they begin with a whole one.
fn decode(bytes: &[u8], at: usize, journal: &Path) -> Option<Record> {
    let head = bytes.first_chunk::<HEAD>()?;
    if head[..8] != *MAGIC {
        return None;
    }
    let word = |from: usize| u32::from_le_bytes(std::array::from_fn(|byte| head[from + byte]));
    let (metadata_bytes, value_bytes) = (word(16) as usize, word(20) as usize);
    let record = bytes.get(..span(metadata_bytes, value_bytes)?)?;
    (word(24) == record_crc(record)).then(|| Record {
        generation: Generation(u64::from_le_bytes(std::array::from_fn(|byte| {
            head[8 + byte]
        }))),
        journal: journal.to_path_buf(),
        at,
        metadata_bytes,
        value_bytes,
    })
}

/// Scans again where something is not whole: its owner may just be writing there.
fn scan_at_rest(path: &Path) -> Result<Scan> {
    let mut found = scan(path)?;
    for _ in 0..LOOKS {
        if found.free_from.is_some() {
            break;
        }
        std::thread::yield_now();
        found = scan(path)?;
    }
    Ok(found)
}

/// How often a journal that is not whole is looked at again.
const LOOKS: u32 = 3;

/// What the journals of a directory hold.
#[derive(Debug, Default)]
pub(super) struct Journals {
    /// Ascending by generation.
    pub(super) records: Vec<Record>,
    /// The journals that are not whole.
    pub(super) torn: Vec<Torn>,
    /// The newest journal, and where the next record goes in it; `None` if there is none or it is not gone on with.
    end: Option<(PathBuf, usize)>,
}

/// Reads all journals of a directory.
///
/// # Errors
///
/// Kind `Io` when the directory cannot be read; `Incompatible` for a journal of a newer program.
pub(super) fn find(directory: &Path) -> Result<Journals> {
    let mut found = Journals::default();
    for base in journals(directory)? {
        let path = directory.join(journal_name(base));
        match scan_at_rest(&path) {
            Ok(scan) => {
                if scan.free_from.is_none() {
                    let last = scan.records.last();
                    found.torn.push(Torn {
                        expected: last.map_or(base, |record| Generation(record.generation.0.saturating_add(1))),
                        lost: scan.lost,
                        begins_well: scan.begins_well,
                        why: format!(
                            "journal `{}` is not whole: a crash tore a record before it was acknowledged, or it was damaged since",
                            path.display()
                        ),
                        journal: path.clone(),
                    });
                }
                found.end = scan.free_from.map(|free_from| (path, free_from));
                found.records.extend(scan.records);
            }
            // Its owner folded it since we looked.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // No regular file: nothing in it can be told.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                found.end = None;
                found.torn.push(Torn {
                    expected: base,
                    lost: 1,
                    begins_well: false,
                    why: error.chain(),
                    journal: path,
                });
            }
            Err(error) => return Err(error),
        }
    }
    found.records.sort_by_key(|record| record.generation);
    Ok(found)
}

/// What is known of what cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Torn {
    /// The number that the record would have, if there was only one and no file came between.
    pub(super) expected: Generation,
    /// How many there may have been.
    pub(super) lost: u64,
    /// Whether only its end is not whole, as a crash leaves it.
    pub(super) begins_well: bool,
    pub(super) why: String,
    pub(super) journal: PathBuf,
}

/// A journal in the hands of its owner.
#[derive(Debug)]
pub(super) struct Journal {
    file: RandomAccessFile,
    free_from: usize,
}

impl Journal {
    /// Makes the journal of a directory whose first record will be `base`, and makes it durable.
    ///
    /// # Errors
    ///
    /// Kind `Io` when it cannot be written.
    pub(super) fn create(directory: &Path, base: Generation) -> Result<Self> {
        let path = directory.join(journal_name(base));
        let fresh = FreshFile::create(&path)?;
        let mut bytes = zeroed(CAPACITY)?;
        bytes[..HEADER.len()].copy_from_slice(HEADER);
        bytes[HEADER.len()..HEADER_BYTES - 1].fill(b' ');
        bytes[HEADER_BYTES - 1] = b'\n';
        fresh.write_at(&bytes, 0)?;
        fresh.publish()?;
        Ok(Self {
            file: RandomAccessFile::open(&path)?,
            free_from: HEADER_BYTES,
        })
    }

    /// Opens the newest of the journals that were found, to go on in it; `None` if there is none or it is not gone on with.
    ///
    /// # Errors
    ///
    /// Kind `Io` when it cannot be opened.
    pub(super) fn open_newest(found: &Journals) -> Result<Option<Self>> {
        let open = |(path, free_from): &(PathBuf, usize)| {
            let file = RandomAccessFile::open(path)?;
            let free_from = *free_from;
            Ok(Self { file, free_from })
        };
        found.end.as_ref().map(open).transpose()
    }

    /// Appends a record and returns its length in bytes; `None` if it does not fit any more.
    ///
    /// # Durability
    ///
    /// When this returns a length, the record survives a power cut.
    ///
    /// # Errors
    ///
    /// Kind `Invalid` when the metadata cannot be written: nothing was. Kind `Io` when the record could not be written or synced; the journal
    /// must not be used any more.
    pub(super) fn append(&mut self, metadata: &Metadata, value: &[u8]) -> Result<Option<u64>> {
        let json = metadata_json(metadata)?;
        let record = encode(metadata.generation, &json, value);
        let capacity = usize::try_from(CAPACITY).unwrap_or(usize::MAX);
        let Some(record) = record.filter(|record| record.len() <= capacity - self.free_from) else {
            return Ok(None);
        };
        self.file.write_at(&record, self.free_from as u64)?;
        self.file.sync()?;
        self.free_from += record.len();
        Ok(Some(record.len() as u64))
    }
}
