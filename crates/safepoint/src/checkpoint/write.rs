//! Writes the file of one generation in one pass.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::codec::{Compression, Packed, Packer};
use super::forked::ForkedCopy;
use super::format::header::{self, HEADER_BYTES};
use super::format::table::{Codec, Frame, Table};
use super::format::trailer::{TRAILER_BYTES, Trailer};
use super::format::{FORMAT_VERSION, MAX_TABLE_BYTES, checksum};
use super::gathered::Gathered;
use super::metadata::Metadata;
use super::pieces::Pieces;
use crate::disk::FreshFile;
use crate::error::{Error, ErrorKind, Result};

/// Up to this many bytes of payload are put together in memory and written at once: one call instead of four.
const SMALL_BYTES: u64 = 256 << 10;

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing {
    pub(super) compression: Compression,
    /// Threads that pack and write frames, the caller's included; at least 1.
    pub(super) workers: usize,
}

/// Writes `state` to a new file at `path`, whose name must be free, and returns the file's length in bytes.
///
/// # Durability
///
/// When this returns, the file survives a power cut. A crash before leaves nothing of that name, or all of it.
///
/// # Errors
///
/// Kind `Io` when a step fails; there is no file then, or one that is whole and need not stay.
pub(super) fn write(
    path: &Path,
    state: &Gathered<'_>,
    metadata: &Metadata,
    how: Writing,
) -> Result<u64> {
    let pieces = &state.pieces;
    let header = header(metadata);
    let mut table = state.table.clone();
    let file = FreshFile::create(path)?;
    let length = if pieces.bytes() <= SMALL_BYTES {
        let mut whole = header.to_vec();
        let mut packer = Packer::new(how.compression);
        for number in 0..pieces.frames() {
            let packed = packer.pack(pieces.frame(number));
            table.frames.push(frame(whole.len() as u64, &packed));
            whole.extend_from_slice(packed.stored);
        }
        let tail = tail(&table, metadata, &header, whole.len() as u64)?;
        whole.extend_from_slice(&tail);
        file.write_at(&whole, 0)?;
        whole.len() as u64
    } else {
        file.write_at(&header, 0)?;
        let (frames, end) = write_frames(&file, pieces, how)?;
        table.frames = frames;
        let tail = tail(&table, metadata, &header, end)?;
        file.write_at(&tail, end)?;
        end + tail.len() as u64
    };
    file.publish()?;
    Ok(length)
}

/// Completes a file at `path` whose frames, all of them raw, are being written by a child, and returns its length in bytes.
///
/// # Durability
///
/// As [`write`].
///
/// # Errors
///
/// Kind `Io` when the child or a step fails; there is no file then.
pub(super) fn complete(copy: ForkedCopy, path: &Path, metadata: &Metadata) -> Result<u64> {
    let (file, mut table, sums) = copy.finish()?;
    let header = header(metadata);
    file.write_at(&header, 0)?;
    let mut end = HEADER_BYTES as u64;
    for (number, crc) in sums.into_iter().enumerate() {
        let bytes = table.raw_bytes(number);
        let stored = u32::try_from(bytes).unwrap_or(u32::MAX);
        table.frames.push(Frame(end, stored, crc, Codec::Raw));
        end += bytes as u64;
    }
    let tail = tail(&table, metadata, &header, end)?;
    file.write_at(&tail, end)?;
    file.publish_as(path)?;
    Ok(end + tail.len() as u64)
}

fn header(metadata: &Metadata) -> [u8; HEADER_BYTES] {
    header::encode(
        FORMAT_VERSION,
        metadata.generation.0,
        metadata.encoding.name(),
    )
}

fn frame(at: u64, packed: &Packed<'_>) -> Frame {
    // A frame is bounded far below 4 GiB.
    let stored = u32::try_from(packed.stored.len()).unwrap_or(u32::MAX);
    Frame(at, stored, packed.crc, packed.codec)
}

/// What workers share while they write frames.
struct Shared<'a> {
    file: &'a FreshFile,
    pieces: &'a Pieces<'a>,
    compression: Compression,
    next: AtomicUsize,
    /// Where the next frame that is ready goes.
    end: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

/// Packs and writes all frames, and returns them with the place where they end.
fn write_frames(file: &FreshFile, pieces: &Pieces<'_>, how: Writing) -> Result<(Vec<Frame>, u64)> {
    let shared = Shared {
        file,
        pieces,
        compression: how.compression,
        next: AtomicUsize::new(0),
        end: AtomicU64::new(HEADER_BYTES as u64),
        failed: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    let mut frames = std::thread::scope(|scope| {
        let spawn = |_| {
            // A thread that cannot be started is no loss but of time: the caller's own does all the work.
            std::thread::Builder::new()
                .name("safepoint-frames".into())
                .spawn_scoped(scope, || shared.work())
                .ok()
        };
        let others: Vec<_> = (1..how.workers.min(pieces.frames()))
            .filter_map(spawn)
            .collect();
        let mut frames = shared.work();
        for other in others {
            frames.extend(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        frames
    });
    if let Some(error) = shared
        .failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        return Err(error);
    }
    frames.sort_unstable_by_key(|(number, _)| *number);
    let frames = frames.into_iter().map(|(_, frame)| frame).collect();
    Ok((frames, shared.end.into_inner()))
}

impl Shared<'_> {
    /// Takes frames until there are none left or somebody failed. The orderings are relaxed: the counters only hand out numbers
    /// and places, and what is written is read by others only after the threads were joined.
    fn work(&self) -> Vec<(usize, Frame)> {
        let mut packer = Packer::new(self.compression);
        let mut frames = Vec::new();
        while !self.failed.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.pieces.frames() {
                break;
            }
            let packed = packer.pack(self.pieces.frame(number));
            let length = packed.stored.len();
            let at = self.end.fetch_add(length as u64, Ordering::Relaxed);
            if let Err(error) = self.file.write_at(packed.stored, at) {
                self.failed.store(true, Ordering::Relaxed);
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
                break;
            }
            self.file.begin_write_back(at, length);
            frames.push((number, frame(at, &packed)));
        }
        frames
    }
}

/// Contents, metadata and trailer, for frames that end at `end`.
fn tail(table: &Table, metadata: &Metadata, header: &[u8], end: u64) -> Result<Vec<u8>> {
    let contents = to_json(table)?;
    let metadata = metadata_json(metadata)?;
    let too_large = || {
        Error::invalid(format!(
            "the names and shapes of the buffers, or the metadata, have more than {MAX_TABLE_BYTES} bytes of JSON"
        ))
    };
    let length = |json: &[u8]| {
        let length = u32::try_from(json.len()).ok();
        let fits = length.filter(|length| u64::from(*length) <= MAX_TABLE_BYTES);
        fits.ok_or_else(too_large)
    };
    let trailer = Trailer {
        version: FORMAT_VERSION,
        file_bytes: end + (contents.len() + metadata.len() + TRAILER_BYTES) as u64,
        contents_at: end,
        contents_bytes: length(&contents)?,
        contents_crc: checksum(&contents),
        metadata_bytes: length(&metadata)?,
        metadata_crc: checksum(&metadata),
        header_crc: checksum(header),
    };
    let mut tail = contents;
    tail.extend_from_slice(&metadata);
    tail.extend_from_slice(&trailer.encode());
    Ok(tail)
}

/// Metadata as they are written, which can be read back: what cannot, JSON nested too deeply for one, is refused before it is somebody's
/// only state.
///
/// # Errors
///
/// Kind `Invalid`.
pub(super) fn metadata_json(metadata: &Metadata) -> Result<Vec<u8>> {
    let json = to_json(metadata)?;
    let read: std::result::Result<Metadata, _> = serde_json::from_slice(&json);
    match read {
        Ok(_) => Ok(json),
        Err(error) => Err(Error::invalid("the metadata could not be read back").with_source(error)),
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| {
        Error::new(ErrorKind::Invalid, "the metadata cannot be written as JSON").with_source(error)
    })
}
