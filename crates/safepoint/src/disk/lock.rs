//! One owner per directory, by an advisory lock that the kernel drops with its holder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::lock_file;
use crate::error::{Error, Result};

/// The exclusive lock on a directory; dropped with this value or with the process. With this value goes what its owner said of itself.
#[derive(Debug)]
pub struct OwnerLock {
    file: File,
    path: PathBuf,
    /// The process that took it.
    pid: u32,
}

/// What trying to take the lock led to.
#[derive(Debug)]
pub enum LockAttempt {
    /// It is ours.
    Taken(OwnerLock),
    /// A live process holds it; the bytes are what that process [described](OwnerLock::describe) itself as.
    Held(Vec<u8>),
}

impl OwnerLock {
    /// Tries to take the lock file at `path`, without waiting.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file cannot be made or the file system refuses locks.
    pub fn try_take(path: &Path) -> Result<LockAttempt> {
        let mut file = lock_file::open(path)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that takes the lock"
        )]
        match file.try_lock() {
            Ok(()) => Ok(LockAttempt::Taken(Self {
                file,
                path: path.to_path_buf(),
                pid: std::process::id(),
            })),
            Err(TryLockError::WouldBlock) => {
                let mut owner = Vec::new();
                // Who holds it is only a help for the reader: an unreadable file leaves it empty.
                let _ = Read::by_ref(&mut file).take(4096).read_to_end(&mut owner);
                Ok(LockAttempt::Held(owner))
            }
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
        }
    }

    /// Writes who the owner is, for others to read. Not synced: it says nothing once the owner is dead.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be written.
    pub fn describe(&mut self, owner: &[u8]) -> Result<()> {
        (|| {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(owner)
        })()
        .map_err(|error| Error::io("write", &self.path, error))
    }
}

impl Drop for OwnerLock {
    /// Empties the file first: whoever takes the lock next, if only to look, holds it for a moment before it says who it is, and who asks then would
    /// read of an owner that has let go and may live on for long.
    ///
    /// Gives it back by name: closing the file would not do while a child that another thread is just starting shares its descriptors, and
    /// who asks meanwhile would be refused in the name of an owner that has let go.
    ///
    /// In a fork of its owner it is only closed: the lock is the parent's.
    fn drop(&mut self) {
        if std::process::id() != self.pid {
            return;
        }
        // If it stays, it is only a wrong word to somebody who asks in that moment.
        let _ = self.file.set_len(0);
        // What cannot be given back goes with the descriptor.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_was_given_back_is_free_while_a_child_still_shares_its_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner.lock");
        let LockAttempt::Taken(lock) = OwnerLock::try_take(&path).unwrap() else {
            panic!("nobody else has it")
        };
        // As a fork does, too: one open file, two descriptors.
        let shared = lock.file.try_clone().unwrap();
        drop(lock);
        assert!(matches!(
            OwnerLock::try_take(&path).unwrap(),
            LockAttempt::Taken(_)
        ));
        drop(shared);
    }

    #[test]
    fn who_only_looks_is_not_taken_for_the_owner_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner.lock");
        let taken = || match OwnerLock::try_take(&path).unwrap() {
            LockAttempt::Taken(lock) => lock,
            LockAttempt::Held(owner) => panic!("{}", String::from_utf8_lossy(&owner)),
        };
        let mut owner = taken();
        owner.describe(b"process 4711, which lives on").unwrap();
        drop(owner);
        let _looking = taken();
        assert!(matches!(
            OwnerLock::try_take(&path).unwrap(),
            LockAttempt::Held(owner) if owner.is_empty()
        ));
    }
}
