//! What is told of generations without loading them.

use std::path::PathBuf;

use super::folder::{check_name, path_of};
use super::loaded::BufferInfo;
use super::metadata::{Generation, Metadata};
use super::reader::{CheckpointReader, of, open};
use super::retention::{Kept, Retention};
use crate::error::{ErrorKind, Result};

/// What a generation holds, without its payload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Contents {
    /// What was told of it when it was saved.
    pub metadata: Metadata,
    /// Its file.
    pub path: PathBuf,
    /// The length of its file, or of its record, in bytes.
    pub file_bytes: u64,
    /// Whether it is a record of a journal rather than a file.
    pub in_journal: bool,
    /// The length of its value in bytes; `None` if only buffers were saved.
    pub value_bytes: Option<u64>,
    /// The named buffers, in the order in which they were added.
    pub buffers: Vec<BufferInfo>,
}

impl CheckpointReader {
    /// Says what a generation holds. Its payload is not read.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), as far as it can be told without the payload.
    pub fn contents(&self, name: &str, generation: Generation) -> Result<Contents> {
        check_name(name)?;
        let folder = self.folder(name)?;
        let file = match open(&folder, name, generation) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (record, checkpoint) = self.read_record(name, generation)?.ok_or(error)?;
                return Ok(Contents {
                    path: record.journal.clone(),
                    file_bytes: record.bytes(),
                    in_journal: true,
                    value_bytes: checkpoint.bytes().map(|bytes| bytes.len() as u64),
                    buffers: checkpoint.buffers().cloned().collect(),
                    metadata: checkpoint.into_metadata(),
                });
            }
            opened => opened?,
        };
        let table = file.table().map_err(|error| of(error, name, generation))?;
        Ok(Contents {
            path: path_of(&folder, generation),
            file_bytes: file.file_bytes(),
            in_journal: false,
            metadata: file.metadata,
            value_bytes: table.value.map(|value| value.bytes),
            buffers: table
                .buffers
                .into_iter()
                .map(|part| BufferInfo {
                    name: part.name,
                    element: part.element,
                    shape: part.shape,
                    bytes: part.bytes,
                })
                .collect(),
        })
    }

    /// The generations that a store with this retention would prune now, ascending.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn to_prune(&self, name: &str, retention: &Retention) -> Result<Vec<Generation>> {
        let listed = self.list(name)?;
        let readable = listed
            .iter()
            // The journal goes as a whole, when it is folded.
            .filter(|listed| !listed.in_journal)
            .filter_map(|listed| Some((listed.metadata.as_ref().ok()?, listed.file_bytes)));
        let kept: Vec<Kept> = readable
            .map(|(metadata, bytes)| Kept::of(metadata, bytes, retention))
            .collect();
        Ok(retention.condemn(&kept))
    }
}
