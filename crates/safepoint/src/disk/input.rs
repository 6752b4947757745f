//! Files that are read from front to back: inputs and the spool of standard input.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// What tells that a file is still the one that was read, without reading it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of content, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of content or metadata, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// An open file to read from, at a position.
#[derive(Debug)]
pub struct InputFile {
    file: File,
    path: PathBuf,
}

/// Opens a regular file, pipe or device for reading.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] when it does not exist, is a directory or may not be read: inputs are arguments of the caller.
pub fn open_input(path: &Path) -> Result<InputFile> {
    let refuse = |error: io::Error| {
        Error::new(
            ErrorKind::Invalid,
            format!("cannot read input `{}`", path.display()),
        )
        .with_source(error)
    };
    let file = File::open(path).map_err(refuse)?;
    if file.metadata().map_err(refuse)?.is_dir() {
        return Err(
            Error::invalid(format!("input `{}` is a directory", path.display())).with_hint(
                "make a list of its files first, for example `find DIR -type f > files.txt`",
            ),
        );
    }
    Ok(InputFile {
        file,
        path: path.to_path_buf(),
    })
}

impl InputFile {
    /// Opens or makes a private file (0600) that is appended to and read again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when it cannot be opened.
    pub fn spool(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|error| Error::io("open", path, error))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
        })
    }

    /// A second handle with its own position.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when it cannot be opened again.
    pub fn reopen(&self) -> Result<Self> {
        let file = File::open(&self.path).map_err(|error| Error::io("open", &self.path, error))?;
        Ok(Self {
            file,
            path: self.path.clone(),
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can be read again from any position; a pipe or a terminal cannot.
    pub fn is_regular(&self) -> bool {
        self.file
            .metadata()
            .is_ok_and(|metadata| metadata.is_file())
    }

    /// What identifies the file as it is now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when its metadata cannot be read.
    pub fn identity(&self) -> Result<FileIdentity> {
        let metadata = self
            .file
            .metadata()
            .map_err(|error| Error::io("read", &self.path, error))?;
        Ok(FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
            ctime_ns: metadata
                .ctime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.ctime_nsec()),
        })
    }

    /// Moves the position to `offset` bytes from the start.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the file has no positions.
    pub fn seek(&mut self, offset: u64) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(offset))
            .map_err(|error| Error::io("seek in", &self.path, error))?;
        Ok(())
    }

    /// Reads some bytes at the position; 0 means the end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when reading fails.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &self.path, error)),
            }
        }
    }

    /// Appends bytes (for a [spool](Self::spool)).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when writing fails.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::io("write", &self.path, error))
    }

    /// Makes the appended bytes durable.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the sync fails.
    pub fn sync(&mut self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|error| Error::io("sync", &self.path, error))
    }
}
