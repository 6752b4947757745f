//! Whose turn it is to write, among the processes that share a file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::lock_file;
use crate::error::{Error, Result};

/// A lock that processes take by turns, often and for a short time. The kernel wakes who waits, and frees the turn of one that died.
///
/// A database's own lock is asked for again and again by those who wait, so that one of them may get nearly all turns; here they stand in line.
#[derive(Debug)]
pub struct Turns {
    file: File,
    path: PathBuf,
}

/// The turn of this process, until it is dropped.
#[derive(Debug)]
#[must_use = "the turn is over when it is dropped"]
pub struct Turn<'a>(&'a File);

impl Turns {
    /// Opens the file that stands for the turns (0600), and makes it where there is none. It stays.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be made.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            file: lock_file::open(path)?,
            path: path.to_path_buf(),
        })
    }

    /// Waits for this process's turn. Threads of one process share this value and therefore must not both ask.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file system refuses locks.
    ///
    /// # Cancel safety
    ///
    /// The wait has no limit: it lasts as long as another process has its turn.
    pub fn wait(&mut self) -> Result<Turn<'_>> {
        loop {
            #[expect(
                clippy::disallowed_methods,
                reason = "no owner of a directory is decided here"
            )]
            match self.file.lock() {
                Ok(()) => return Ok(Turn(&self.file)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("lock", &self.path, error)),
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // What cannot be given back goes with the descriptor.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_has_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turns");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // As a process has: a description of its own.
                    let mut turns = Turns::open(&path).unwrap();
                    for _ in 0..500 {
                        let turn = turns.wait().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(turn);
                    }
                });
            }
        });
    }
}
