//! A small file of fixed records, written in place.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file whose records are written in place and never synced: it survives a kill, not a power cut.
#[derive(Debug)]
pub struct RandomAccessFile {
    file: File,
    path: PathBuf,
}

impl RandomAccessFile {
    /// Makes the file anew (0600), empty.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|error| Error::io("make", path, error))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
        })
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be written.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| Error::io("write", &self.path, error))
    }
}
