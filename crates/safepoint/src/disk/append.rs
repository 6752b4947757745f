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

/// A log of bounded size: the current file, and older ones.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limit: u64,
    /// What is put behind the names of older files, the youngest first.
    endings: Vec<String>,
}

impl RotatingLog {
    /// A log at `path`, made at the first write. `limit` is the size in bytes at which the file becomes `<name>.old`.
    pub fn new(path: PathBuf, limit: u64) -> Self {
        Self {
            path,
            file: None,
            size: 0,
            limit,
            endings: vec![".old".into()],
        }
    }

    /// As [`new`](Self::new), with so many older files, which become `<name>.1`, `<name>.2` and so on; none with 0.
    pub fn keeping(path: PathBuf, limit: u64, files: usize) -> Self {
        Self {
            endings: (1..=files).map(|number| format!(".{number}")).collect(),
            ..Self::new(path, limit)
        }
    }

    /// Appends bytes. Logs are a help, not state: they are not synced. A file that somebody removed is begun anew.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be written; the next call tries again.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let longest = usize::try_from(self.limit).unwrap_or(usize::MAX).max(1);
        bytes
            .chunks(longest)
            .try_for_each(|part| self.append_part(part))
    }

    /// Appends what fits into one file.
    fn append_part(&mut self, bytes: &[u8]) -> Result<()> {
        if self.file.is_none() {
            let file = open_append(&self.path)?;
            self.size = file.metadata().map_or(0, |metadata| metadata.len());
            self.file = Some(file);
        }
        if self.size > 0 && self.size + bytes.len() as u64 > self.limit {
            // Whatever fails from here on, the next call begins with the file of that name.
            self.file = None;
            self.put_aside()?;
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

    /// Moves each older file one further, and the current one to the youngest place. The oldest is lost.
    #[expect(
        clippy::disallowed_methods,
        reason = "a log's rotation need not survive a power cut"
    )]
    fn put_aside(&self) -> Result<()> {
        let named = |ending: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        let done = |moved: std::io::Result<()>| match moved {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("rotate", &self.path, error))
            }
            // Somebody may have removed one.
            _ => Ok(()),
        };
        let mut target = None;
        for ending in self.endings.iter().rev() {
            let file = named(ending);
            if let Some(older) = target.replace(file.clone()) {
                done(fs::rename(&file, older))?;
            }
        }
        match target {
            Some(youngest) => done(fs::rename(&self.path, youngest)),
            None => done(fs::remove_file(&self.path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_files_move_on_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("log");
        let mut log = RotatingLog::keeping(path.clone(), 3, 2);
        for line in [b"aa", b"bb", b"cc", b"dd"] {
            log.append(line).expect("written");
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(read("log").as_deref(), Some("dd"));
        assert_eq!(read("log.1").as_deref(), Some("cc"));
        assert_eq!(read("log.2").as_deref(), Some("bb"));
        assert_eq!(read("log.3"), None);
        // Removed by somebody, or too much at once: it goes on.
        fs::remove_file(&path).expect("removed");
        log.append(b"eeeffg").expect("written");
        assert_eq!(read("log").as_deref(), Some("ffg"));
        assert_eq!(read("log.1").as_deref(), Some("eee"));
    }
}
