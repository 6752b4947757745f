//! A directory that is watched, with a store in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::PROGRAM;
use crate::faults::Faults;
use crate::image::scratch;

/// A store two levels below the directory that is watched: to make its directories is part of the first save, and what was made has to
/// outlive a power cut, too.
#[derive(Debug)]
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A fresh one, in memory where that is possible.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn new() -> io::Result<Self> {
        let place = Self { folder: scratch()? };
        fs::create_dir(place.watched())?;
        Ok(place)
    }

    /// What the faults watch.
    pub fn watched(&self) -> PathBuf {
        self.folder.path().join("watched")
    }

    /// The store's directory, which need not be there yet.
    pub fn store(&self) -> PathBuf {
        self.watched().join("state/checkpoints")
    }

    /// For what belongs to the test.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Faults of the program `saver` below the directory that is watched.
    ///
    /// # Errors
    ///
    /// As [`Faults::new`].
    pub fn faults(&self) -> io::Result<Faults> {
        Faults::new(PROGRAM, &self.watched())
    }

    /// Empties it.
    ///
    /// # Errors
    ///
    /// Something cannot be removed or made.
    pub fn clear(&self) -> io::Result<()> {
        fs::remove_dir_all(self.watched())?;
        fs::create_dir(self.watched())
    }

    /// Puts an earlier copy of what is watched back.
    ///
    /// # Errors
    ///
    /// Something cannot be removed or copied.
    pub fn put_back(&self, copy: &Copy) -> io::Result<()> {
        self.clear()?;
        copy.write_to(&self.watched())
    }

    /// All that is watched, as it is now.
    ///
    /// # Errors
    ///
    /// Something cannot be read.
    pub fn copy(&self) -> io::Result<Copy> {
        let mut copy = Copy::default();
        copy.read(&self.watched(), Path::new(""))?;
        Ok(copy)
    }
}

/// A directory in memory.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    /// Parents before children; none for a directory.
    entries: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Copy {
    fn read(&mut self, root: &Path, below: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.entries.push((path.clone(), None));
                self.read(root, &path)?;
            } else {
                self.entries.push((path, Some(fs::read(entry.path())?)));
            }
        }
        Ok(())
    }

    fn write_to(&self, root: &Path) -> io::Result<()> {
        for (path, content) in &self.entries {
            match content {
                None => fs::create_dir(root.join(path))?,
                Some(bytes) => fs::write(root.join(path), bytes)?,
            }
        }
        Ok(())
    }
}
