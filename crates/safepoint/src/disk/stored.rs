//! A file that is read by position.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// A regular file, opened to be read without following a link; several threads may read it at once.
#[derive(Debug)]
pub struct StoredFile {
    file: File,
    path: PathBuf,
    length: u64,
}

impl StoredFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none; [`ErrorKind::Io`] when it cannot be opened or is not a regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = OpenOptions::new()
            .read(true)
            // A pipe of that name must not hold us up.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, format!("no file `{}`", path.display()))
            }
            _ => Error::io("open", path, error),
        })?;
        let metadata = file
            .metadata()
            .map_err(|error| Error::io("open", path, error))?;
        if !metadata.is_file() {
            let message = format!("`{}` is not a regular file", path.display());
            return Err(Error::new(ErrorKind::Io, message));
        }
        Ok(Self {
            file,
            path: path.to_path_buf(),
            length: metadata.len(),
        })
    }

    /// Its size in bytes when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the file ends before or cannot be read.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(bytes, offset)
            .map_err(|error| Error::io("read", &self.path, error))
    }
}
