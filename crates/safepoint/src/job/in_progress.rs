//! `in-progress`: which items are in progress in which child, for `status` and for the next run after a kill.
//!
//! Written in place and never synced: it has to survive a kill of the owner, not a power cut, after which no child lives anyway.
//! The format has a page in the book (`formats/in-progress`).

use crate::clock::wall_ms;
use crate::disk::{RandomAccessFile, StateDir};
use crate::error::Result;
use crate::process::{Suspect, boot_id};

use super::layout::IN_PROGRESS;

const MAGIC: &[u8; 8] = b"SFPTIP01";
const HEADER: usize = 32;
const RECORD: usize = 48;
/// The flag of the header for a stop that is under way.
const STOPPING: u32 = 1;
/// The index of a record that is not in use.
const EMPTY: u64 = u64::MAX;

/// One item in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The item's index.
    pub index: u64,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The process.
    pub pid: u32,
    /// When it began, in milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// Clock ticks since boot before and after the process was started.
    pub ticks: (u64, u64),
}

impl Entry {
    fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[0..8].copy_from_slice(&self.index.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.attempt.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.pid.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.started_at_ms.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.ticks.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.ticks.1.to_le_bytes());
        let check = xxhash_rust::xxh3::xxh3_64(&bytes[..40]);
        bytes[40..48].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |from: usize| {
            Some(u64::from_le_bytes(
                bytes.get(from..from + 8)?.try_into().ok()?,
            ))
        };
        let half = |from: usize| {
            Some(u32::from_le_bytes(
                bytes.get(from..from + 4)?.try_into().ok()?,
            ))
        };
        let intact = number(40)? == xxhash_rust::xxh3::xxh3_64(bytes.get(..40)?);
        let index = number(0)?;
        (intact && index != EMPTY).then_some(Self {
            index,
            attempt: half(8)?,
            pid: half(12)?,
            started_at_ms: number(16)?.cast_signed(),
            ticks: (number(24)?, number(32)?),
        })
    }
}

/// The file in its owner's hands: lanes of records, one per item that can be in progress at a time.
pub(crate) struct InProgressFile {
    file: RandomAccessFile,
    buffer: Vec<u8>,
}

impl InProgressFile {
    /// Makes the file anew, all lanes empty.
    pub(crate) fn create(dir: &StateDir, run: u32, slots: usize, per_slot: usize) -> Result<Self> {
        let lanes = slots * per_slot;
        let file = RandomAccessFile::create(&dir.file(IN_PROGRESS))?;
        let mut bytes = vec![0; HEADER + lanes * RECORD];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&run.to_le_bytes());
        bytes[16..24].copy_from_slice(&boot_id().to_le_bytes());
        bytes[24..28].copy_from_slice(&std::process::id().to_le_bytes());
        bytes[28..32].copy_from_slice(&u32::try_from(per_slot).unwrap_or(u32::MAX).to_le_bytes());
        for lane in bytes[HEADER..].chunks_exact_mut(RECORD) {
            lane[0..8].copy_from_slice(&EMPTY.to_le_bytes());
        }
        file.write_at(&bytes, 0)?;
        Ok(Self {
            file,
            buffer: Vec::new(),
        })
    }

    /// Notes that a stop is under way: a kill that follows is part of it, and no item's fault.
    pub(crate) fn mark_stopping(&self) -> Result<()> {
        self.file.write_at(&STOPPING.to_le_bytes(), 12)
    }

    /// Writes consecutive lanes from `first` on; lanes beyond the entries, up to `lanes`, become empty.
    pub(crate) fn write(
        &mut self,
        first: usize,
        lanes: usize,
        entries: impl Iterator<Item = Entry>,
    ) -> Result<()> {
        self.buffer.clear();
        for entry in entries.take(lanes) {
            self.buffer.extend_from_slice(&entry.to_bytes());
        }
        if self.buffer.len() < lanes * RECORD {
            // One empty record ends the list of a slot; those behind it are not looked at.
            self.buffer.extend_from_slice(&EMPTY.to_le_bytes());
            self.buffer
                .resize(self.buffer.len().next_multiple_of(RECORD), 0);
        }
        self.file
            .write_at(&self.buffer, (HEADER + first * RECORD) as u64)
    }
}

/// What the file of a job says, as far as it can be read. Entries of a slot end at its first empty record, so one that is stale may
/// follow; each is checked by whoever uses it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InProgressView {
    /// The run that wrote it.
    pub run: u32,
    /// Whether a stop was under way when it was written last.
    pub is_stopping: bool,
    /// Whether it was written since this machine was booted.
    pub is_of_this_boot: bool,
    /// The items in progress.
    pub entries: Vec<Entry>,
}

impl InProgressView {
    /// Reads the file; nothing in progress when there is none or it is not whole.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it exists and cannot be read.
    pub fn read(dir: &StateDir) -> Result<Self> {
        let Some(bytes) = dir.read(IN_PROGRESS, 64 << 20)? else {
            return Ok(Self::default());
        };
        Ok(Self::parse(&bytes).unwrap_or_default())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(0..8)? != MAGIC {
            return None;
        }
        let run = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
        let per_slot = u32::from_le_bytes(bytes.get(28..32)?.try_into().ok()?) as usize;
        let flags = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?);
        let boot = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
        let records: Vec<&[u8]> = bytes.get(HEADER..)?.chunks_exact(RECORD).collect();
        let entries = records
            .chunks(per_slot.max(1))
            .flat_map(|slot| slot.iter().map_while(|record| Entry::from_bytes(record)))
            .collect();
        Some(Self {
            run,
            is_stopping: flags & STOPPING != 0,
            is_of_this_boot: boot == boot_id(),
            entries,
        })
    }

    /// The children, to be found again.
    pub(crate) fn suspects(&self) -> Vec<Suspect> {
        if !self.is_of_this_boot {
            return Vec::new();
        }
        let suspect = |entry: &Entry| {
            let pid = rustix::process::Pid::from_raw(i32::try_from(entry.pid).ok()?)?;
            Some(Suspect {
                pid,
                not_before: entry.ticks.0,
                not_after: entry.ticks.1,
            })
        };
        self.entries.iter().filter_map(suspect).collect()
    }

    /// How long an entry has been in progress, in milliseconds.
    pub fn age_ms(entry: &Entry) -> u64 {
        u64::try_from(wall_ms().saturating_sub(entry.started_at_ms)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_flipped_bit_is_noticed() {
        let entry = Entry {
            index: 7,
            attempt: 2,
            pid: 42,
            started_at_ms: 1_000,
            ticks: (5, 6),
        };
        let mut bytes = entry.to_bytes();
        assert_eq!(Entry::from_bytes(&bytes), Some(entry));
        bytes[9] ^= 1;
        assert_eq!(Entry::from_bytes(&bytes), None);
        assert_eq!(Entry::from_bytes(&[0; 10]), None);
    }

    #[test]
    fn the_entries_of_a_slot_end_at_its_first_empty_record() {
        let directory = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(directory.path()).expect("opens");
        let entry = |index| Entry {
            index,
            attempt: 1,
            pid: 1,
            started_at_ms: 0,
            ticks: (0, 0),
        };
        let mut file = InProgressFile::create(&dir, 3, 2, 4).expect("made");
        file.write(0, 4, (0..4).map(entry)).expect("written");
        file.write(4, 4, (10..12).map(entry)).expect("written");
        file.write(0, 4, (5..6).map(entry)).expect("written");
        let view = InProgressView::read(&dir).expect("read");
        assert_eq!((view.run, view.is_of_this_boot), (3, true));
        assert_eq!(
            view.entries
                .iter()
                .map(|entry| entry.index)
                .collect::<Vec<_>>(),
            [5, 10, 11]
        );
    }
}
