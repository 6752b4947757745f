//! A lock that is waited for, by a file that is there only as long as somebody has it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// An exclusive lock between threads and processes, until this value is dropped or its process dies.
///
/// Whoever has it removes the file at the end, before the lock is free: so no files pile up. Whoever waited for a file that is gone by then has locked nothing
/// and begins anew.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
    /// The process that took it.
    pid: u32,
}

impl LockFile {
    /// Takes the lock at `path`, and waits as long as another has it. The kernel wakes who waits; one that was killed holds nobody up.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file cannot be made or the file system refuses locks.
    ///
    /// # Cancel safety
    ///
    /// The wait has no limit. A process that is killed meanwhile leaves the file, which the next one uses.
    pub fn wait(path: &Path) -> Result<Self> {
        loop {
            let file = open(path)?;
            #[expect(
                clippy::disallowed_methods,
                reason = "no owner of a directory is decided here"
            )]
            let locked = file.lock();
            match locked {
                Ok(()) if has_name(&file, path) => return Ok(Self::of(file, path)),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("lock", path, error)),
            }
        }
    }

    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        loop {
            let file = open(path)?;
            #[expect(
                clippy::disallowed_methods,
                reason = "no owner of a directory is decided here"
            )]
            let locked = file.try_lock();
            match locked {
                Ok(()) if has_name(&file, path) => return Ok(Some(Self::of(file, path))),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path, error)),
            }
        }
    }

    fn of(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.to_path_buf(),
            pid: std::process::id(),
        }
    }
}

impl Drop for LockFile {
    /// In a fork of who has it, it is only closed: the lock is the parent's.
    fn drop(&mut self) {
        if std::process::id() != self.pid {
            return;
        }
        // A file that stays is used by the next one.
        let _ = std::fs::remove_file(&self.path);
        // Closing would do, but for a child that was just forked and shares the descriptor until it executes something.
        let _ = self.file.unlock();
    }
}

/// Opens a file to be locked (0600), and makes it where there is none.
pub(super) fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| Error::io("open", path, error))
}

/// Whether `path` still names this file.
fn has_name(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let ours = file.metadata().map(identity);
    let named = std::fs::symlink_metadata(path).map(identity);
    matches!((ours, named), (Ok(ours), Ok(named)) if ours == named)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_has_it_and_no_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let lock = LockFile::wait(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(lock);
                    }
                });
            }
        });
        assert!(!path.exists());
        let lock = LockFile::try_take(&path).unwrap();
        assert!(lock.is_some());
        assert!(LockFile::try_take(&path).unwrap().is_none());
        drop(lock);
        assert!(LockFile::try_take(&path).unwrap().is_some());
    }
}
