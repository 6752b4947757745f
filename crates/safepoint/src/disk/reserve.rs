//! Room kept back, so that a full disk does not keep us from recording how it ended.

use std::fs;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};
use std::os::unix::fs::OpenOptionsExt;

/// How much is kept back, in bytes: enough for the last rows, events and the -shm file of a reader.
const RESERVED_BYTES: u64 = 256 * 1024;

/// A file whose only purpose is the room that it takes.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Takes the room if the disk has it; a disk without room has nothing to reserve, which is no error.
    pub fn take(path: PathBuf) -> Self {
        let opened = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let taken = opened.and_then(|file| {
            let full = fallocate(&file, FallocateFlags::empty(), 0, RESERVED_BYTES);
            full.map_err(std::io::Error::from)
        });
        if taken.is_err() {
            let _ = fs::remove_file(&path);
        }
        Self { path }
    }

    /// Gives the room back, for what must be written now.
    pub fn give_back(&self) {
        let _ = fs::remove_file(&self.path);
    }
}
