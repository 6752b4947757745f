//! A state as it was when this process forked.

use std::path::Path;

use super::format::FRAME_BYTES;
use super::format::header::HEADER_BYTES;
use super::format::table::Table;
use super::gathered::Gathered;
use crate::disk::{Forked, ForkedWrite, FreshFile};
use crate::error::Result;

/// A copy of a state that a child is writing to a file without a name, in raw frames.
#[derive(Debug)]
pub(super) struct ForkedCopy {
    file: FreshFile,
    table: Table,
    child: Forked,
}

impl ForkedCopy {
    /// Forks; `directory` is where the file will have its name.
    ///
    /// # Errors
    ///
    /// Kind `Io` when no file or no process can be made.
    pub(super) fn begin(directory: &Path, state: &Gathered<'_>) -> Result<Self> {
        let pieces = &state.pieces;
        let writes: Vec<_> = (0..pieces.frames())
            .map(|number| ForkedWrite {
                offset: (HEADER_BYTES + number * FRAME_BYTES) as u64,
                slices: pieces.frame(number).collect(),
            })
            .collect();
        let file = FreshFile::create(&directory.join("forked"))?;
        let child = Forked::begin(&file, &writes, go_on_summing)?;
        Ok(Self {
            file,
            table: state.table.clone(),
            child,
        })
    }

    /// The table of contents, without its frames.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Waits for the child: the file, its table without frames, and the checksum of each frame.
    ///
    /// # Errors
    ///
    /// Kind `Io` when the child could not write, or was killed.
    pub(super) fn finish(self) -> Result<(FreshFile, Table, Vec<u32>)> {
        let sums = self.child.finish()?;
        Ok((self.file, self.table, sums))
    }
}

/// CRC-32 over slices in turn; neither allocates nor locks.
fn go_on_summing(sum: u32, slice: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(sum);
    hasher.update(slice);
    hasher.finalize()
}
