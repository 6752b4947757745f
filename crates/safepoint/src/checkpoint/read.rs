//! Reads the file of one generation, and believes nothing that is not covered by a checksum.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::codec::Unpacker;
use super::format::header::{self, HEADER_BYTES};
use super::format::table::Table;
use super::format::trailer::{TRAILER_BYTES, Trailer};
use super::format::{checksum, damaged};
use super::metadata::Metadata;
use super::pieces::cut;
use crate::disk::StoredFile;
use crate::error::{Error, ErrorKind, Result};

/// What is read from the end of a file at once: the trailer, and in nearly every file the metadata.
const TAIL_BYTES: usize = 2048;

/// A file whose trailer and metadata were found whole.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: StoredFile,
    trailer: Trailer,
    pub(super) metadata: Metadata,
}

impl OpenFile {
    /// Opens a file and reads its tail only.
    ///
    /// # Errors
    ///
    /// Kind `Corrupt` with what is wrong; `Incompatible` for a newer version; `NotFound` and `Io` as the disk says.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = StoredFile::open(path)?;
        let length = file.length();
        if length < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(damaged(format!(
                "it has {length} bytes, too few for a checkpoint"
            )));
        }
        let mut tail = [0; TAIL_BYTES];
        let tail = &mut tail[..usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(TAIL_BYTES)];
        let tail_at = length - tail.len() as u64;
        file.read_at(tail, tail_at)?;
        let (before, last) = tail
            .split_last_chunk::<TRAILER_BYTES>()
            .ok_or_else(|| damaged("it is too short"))?;
        let trailer = Trailer::decode(last, length).map_err(|error| say_newer(error, &file))?;
        let metadata_bytes = trailer.metadata_bytes as usize;
        let longer;
        let metadata = if let Some(begin) = before.len().checked_sub(metadata_bytes) {
            &before[begin..]
        } else {
            longer = read_vec(&file, trailer.metadata_at(), metadata_bytes)?;
            &longer
        };
        if checksum(metadata) != trailer.metadata_crc {
            return Err(damaged("its metadata fail their checksum"));
        }
        let metadata = serde_json::from_slice(metadata)
            .map_err(|error| damaged("its metadata cannot be read").with_source(error))?;
        Ok(Self {
            file,
            trailer,
            metadata,
        })
    }

    /// The file itself.
    pub(super) fn stored(&self) -> &StoredFile {
        &self.file
    }

    /// The length of the file in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.trailer.file_bytes
    }

    /// Reads the header and the table of contents.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub(super) fn table(&self) -> Result<Table> {
        let mut line = [0; HEADER_BYTES];
        self.file.read_at(&mut line, 0)?;
        // The trailer, which was whole, says the version too: a header that says another one is damaged, not newer.
        if checksum(&line) != self.trailer.header_crc {
            return Err(damaged("its header fails its checksum"));
        }
        header::version(&line)?.check_readable()?;
        let json = read_vec(
            &self.file,
            self.trailer.contents_at,
            self.trailer.contents_bytes as usize,
        )?;
        if checksum(&json) != self.trailer.contents_crc {
            return Err(damaged("its table of contents fails its checksum"));
        }
        Table::decode(&json, self.trailer.contents_at)
    }

    /// Fills `slots`, which together are as long as the payload of this frame, by the caller's unpacker.
    ///
    /// # Errors
    ///
    /// As [`read_payload`](Self::read_payload).
    pub(super) fn read_frame(
        &self,
        table: &Table,
        number: usize,
        unpacker: &mut Unpacker,
        slots: &mut [&mut [u8]],
    ) -> Result<()> {
        let read = |bytes: &mut [u8], at| self.file.read_at(bytes, at);
        unpacker.unpack(number, &table.frames[number], slots, read)
    }

    /// Fills `parts`, which together are as long as the payload, with `workers` threads, the caller's included.
    ///
    /// # Errors
    ///
    /// Kind `Corrupt` with the first frame found damaged, in which case `parts` hold anything; `Io` as the disk says.
    pub(super) fn read_payload<'a>(
        &self,
        table: &Table,
        parts: impl Iterator<Item = &'a mut [u8]>,
        workers: usize,
    ) -> Result<()> {
        let frame_bytes = usize::try_from(table.frame_bytes).unwrap_or(usize::MAX);
        let slots = cut(parts, frame_bytes);
        debug_assert_eq!(
            slots.len(),
            table.frames.len(),
            "the parts are as long as the payload"
        );
        let workers = workers.min(slots.len());
        let work = Work {
            file: self,
            table,
            slots: Mutex::new(slots.into_iter().enumerate()),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        };
        std::thread::scope(|scope| {
            for _ in 1..workers {
                let spawned = std::thread::Builder::new()
                    .name("safepoint-frames".into())
                    .spawn_scoped(scope, || work.run());
                // A thread that cannot be started is no loss but of time.
                drop(spawned);
            }
            work.run();
        });
        match work
            .failure
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// A newer program may have another trailer: then the header says that it is newer.
fn say_newer(error: Error, file: &StoredFile) -> Error {
    let mut line = [0; HEADER_BYTES];
    let newer = file
        .read_at(&mut line, 0)
        .and_then(|()| header::version(&line))
        .and_then(super::format::FormatVersion::check_readable);
    match newer {
        Err(newer) if newer.kind() == ErrorKind::Incompatible => newer,
        _ => error,
    }
}

fn read_vec(file: &StoredFile, at: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = zeroed(length as u64)?;
    file.read_at(&mut bytes, at)?;
    Ok(bytes)
}

/// Memory for `bytes` bytes.
///
/// # Errors
///
/// Kind `Io` when there is not so much.
pub(super) fn zeroed(bytes: u64) -> Result<Vec<u8>> {
    let memory = usize::try_from(bytes)
        .ok()
        // Fresh pages of zeros from the kernel, which the workers touch in parallel.
        .and_then(|length| bytemuck::allocation::try_zeroed_vec(length).ok());
    memory.ok_or_else(|| {
        Error::new(
            ErrorKind::Io,
            format!("there is no memory for {bytes} bytes"),
        )
    })
}

type Slots<'a> = Vec<&'a mut [u8]>;

/// What workers share while they read frames.
struct Work<'a, 'b> {
    file: &'a OpenFile,
    table: &'a Table,
    slots: Mutex<std::iter::Enumerate<std::vec::IntoIter<Slots<'b>>>>,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Work<'_, '_> {
    fn run(&self) {
        let mut unpacker = Unpacker::new();
        while !self.failed.load(Ordering::Relaxed) {
            let taken = self
                .slots
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next();
            let Some((number, mut slots)) = taken else {
                break;
            };
            let read = self
                .file
                .read_frame(self.table, number, &mut unpacker, &mut slots);
            if let Err(error) = read {
                self.failed.store(true, Ordering::Relaxed);
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
            }
        }
    }
}
