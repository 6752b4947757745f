//! Files that only grow: whole lines at the end, and logs with a bound.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

fn open_append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| Error::io("open", path, error))
}

/// Whether a file has bytes after its last newline.
fn ends_in_the_middle(path: &Path) -> bool {
    let last_byte = || -> std::io::Result<u8> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        Ok(last[0])
    };
    // A file that cannot be read may still be appended to.
    matches!(last_byte(), Ok(last) if last != b'\n')
}

/// A file to which whole lines are appended, each in one write.
#[derive(Debug)]
pub struct AppendFile {
    file: File,
    path: PathBuf,
}

impl AppendFile {
    /// Opens or makes the file (0600).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = open_append(path)?;
        if ends_in_the_middle(path) {
            // A crash cut the last line short; the next one must not be glued to it.
            file.write_all(b"\n")
                .map_err(|error| Error::io("write", path, error))?;
        }
        Ok(Self {
            file,
            path: path.to_path_buf(),
        })
    }

    /// Appends `line`, which must end with a newline, in one write.
    ///
    /// # Durability
    ///
    /// Survives a kill; survives a power cut after [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be written.
    pub fn append(&mut self, line: &[u8]) -> Result<()> {
        self.file
            .write_all(line)
            .map_err(|error| Error::io("write", &self.path, error))
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the sync fails.
    pub fn sync(&mut self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io("sync", &self.path, error))
    }
}

/// A log of at most twice `limit` bytes: the current file and one older.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limit: u64,
}

impl RotatingLog {
    /// A log at `path`, made at the first write. `limit` is the size in bytes at which the file becomes `<name>.old`.
    pub fn new(path: PathBuf, limit: u64) -> Self {
        Self {
            path,
            file: None,
            size: 0,
            limit,
        }
    }

    /// Appends bytes. Logs are a help, not state: they are not synced.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.file.is_none() {
            let file = open_append(&self.path)?;
            self.size = file.metadata().map_or(0, |metadata| metadata.len());
            self.file = Some(file);
        }
        if self.size > 0 && self.size + bytes.len() as u64 > self.limit {
            let mut old = self.path.clone().into_os_string();
            old.push(".old");
            #[expect(
                clippy::disallowed_methods,
                reason = "a log's rotation need not survive a power cut"
            )]
            fs::rename(&self.path, &old).map_err(|error| Error::io("rotate", &self.path, error))?;
            self.file = Some(open_append(&self.path)?);
            self.size = 0;
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes)
                .map_err(|error| Error::io("write", &self.path, error))?;
            self.size += bytes.len() as u64;
        }
        Ok(())
    }
}
