//! The file two numbers are kept in, mapped by the program under test, so that they outlive its death.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Counts the matching calls of a program, over all its threads and over all its runs until reset.
#[derive(Debug)]
pub struct Counter {
    path: PathBuf,
}

impl Counter {
    /// A counter at 0, kept in the file `path`, which should not be below the directory that is watched.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn new(path: &Path) -> io::Result<Self> {
        fs::write(path, [0; 16])?;
        Ok(Self {
            path: path.canonicalize()?,
        })
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn number(&self, at: usize) -> io::Result<u64> {
        let bytes = fs::read(&self.path)?;
        let number = bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(u64::from_ne_bytes(*number))
    }

    /// Matching calls so far.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn calls(&self) -> io::Result<u64> {
        self.number(0)
    }

    /// Faults that fired so far: kills, errors, forged syncs.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn fired(&self) -> io::Result<u64> {
        self.number(8)
    }

    /// Back to 0.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn reset(&self) -> io::Result<()> {
        fs::write(&self.path, [0; 16])
    }
}
