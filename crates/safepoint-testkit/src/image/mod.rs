//! The directory that a power cut, or a kill, would have left at any point of a recording.
//!
//! 1. What happened to a file before the begin of a sync of it that has ended is durable.
//! 2. What happened to a name is durable once its directory was synced in the same sense; see [`Names`] for
//!    the one case in which file systems do more.
//! 3. Of all else a [`Policy`] says what is left. Every image it makes is one that hardware may leave; it does
//!    not make all of them.
//!
//! The recording must begin with an empty directory. Appended recordings of several runs count as one.

mod build;
mod history;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use history::History;

/// What makes the name of a new file durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Only a sync of its directory: what POSIX promises.
    DirectorySync,
    /// A sync of the file after its creation does too, as on ext4.
    FileSync,
}

/// What is left at a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Everything: what `kill -9` leaves.
    KeepAll,
    /// What is durable and nothing else.
    DropUnsynced(Names),
    /// What is durable; of each other write all, nothing or its first sectors of 512 bytes; and the other
    /// changes of names up to some point, as a journal keeps them.
    Torn {
        /// Decides all of it.
        seed: u64,
        /// As above.
        names: Names,
    },
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory,
    /// A file with its bytes.
    File(Vec<u8>),
}

/// A directory as it was left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// By relative path, parents before children.
    pub entries: BTreeMap<PathBuf, Entry>,
}

impl Image {
    /// Builds the image in `directory`, which is emptied first.
    ///
    /// # Errors
    ///
    /// An input or output error.
    pub fn write_to(&self, directory: &Path) -> io::Result<()> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        for (path, entry) in &self.entries {
            match entry {
                Entry::Directory => fs::create_dir(directory.join(path))?,
                Entry::File(bytes) => fs::write(directory.join(path), bytes)?,
            }
        }
        Ok(())
    }
}

/// A temporary directory in memory where there is one (`/dev/shm`), as storms want: ten times as fast as a disk.
///
/// # Errors
///
/// It cannot be made.
pub fn scratch() -> io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
}
