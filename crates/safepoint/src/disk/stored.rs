//! A file that is read by position.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::dir::modified_ms_of;
use crate::error::{Error, ErrorKind, Result};

/// A regular file, opened to be read without following a link; several threads may read it at once.
#[derive(Debug)]
pub struct StoredFile {
    file: File,
    path: PathBuf,
    length: u64,
    modified_ms: i64,
}

impl StoredFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none; [`ErrorKind::Corrupt`] when it is a link or otherwise no regular file;
    /// [`ErrorKind::Io`] when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let no_file = |why| {
            let message = format!(
                "`{}` {why}, and only regular files are read",
                path.display()
            );
            Error::new(ErrorKind::Corrupt, message)
        };
        let opened = OpenOptions::new()
            .read(true)
            // A pipe of that name must not hold us up.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, format!("no file `{}`", path.display()))
            }
            _ if error.raw_os_error() == Some(libc::ELOOP) => no_file("is a link"),
            _ => Error::io("open", path, error),
        })?;
        let metadata = file
            .metadata()
            .map_err(|error| Error::io("open", path, error))?;
        if !metadata.is_file() {
            return Err(no_file("is no regular file"));
        }
        Ok(Self {
            file,
            path: path.to_path_buf(),
            length: metadata.len(),
            modified_ms: modified_ms_of(&metadata),
        })
    }

    /// Its size in bytes when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// When its content last changed, or was said to, in milliseconds since 1970 UTC, as it was when it was opened.
    pub fn modified_ms(&self) -> i64 {
        self.modified_ms
    }

    /// Says that its content changed just now. Not synced.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the file system refuses, one that is mounted to be read only for instance.
    pub fn touch(&self) -> Result<()> {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
        let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let times = Timestamps {
            last_access: at(UTIME_OMIT),
            last_modification: at(UTIME_NOW),
        };
        futimens(&self.file, &times).map_err(|error| Error::io("touch", &self.path, error.into()))
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
