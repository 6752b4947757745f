//! The directory of a cache: that it is one, and which file is what.

use std::path::{Path, PathBuf};

use super::name::Name;
use crate::disk::{self, FreshFile, LockFile, StateDir};
use crate::error::{Error, ErrorKind, Result};

/// Tells backups to leave the directory out. Source: the Cache Directory Tagging Specification, <https://bford.info/cachedir/>.
pub(super) const TAG: &str = "CACHEDIR.TAG";
const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55\n";
/// The second line, with the version of the format behind it.
const FORMAT_LINE: &str = "# A cache of safepoint, format ";
const FORMAT: u32 = 1;
/// Where the lock files are of entries that are being computed.
const LOCKS: &str = "locks";
/// The tag is a few lines.
const MAX_TAG: u64 = 4096;

/// A directory that is a cache.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: StateDir,
    locks: PathBuf,
}

impl Place {
    /// # Errors
    ///
    /// As [`CacheBuilder::open`](super::CacheBuilder::open).
    pub(super) fn create(path: &Path) -> Result<Self> {
        let dir = StateDir::create(path)?;
        // What else is in it is looked at first: another process may be marking it as well.
        let others = others(&dir)?;
        if !is_tagged(&dir)? {
            if let Some(other) = others.first() {
                return Err(Error::invalid(format!(
                    "`{}` is no cache, and holds `{}`",
                    dir.path().display(),
                    other.escape_debug()
                ))
                .with_hint("name a directory that does not exist or is empty"));
            }
            tag(&dir)?;
            dir.make_private()?;
        }
        let locks = dir.subdir(LOCKS)?.path().to_path_buf();
        Ok(Self { dir, locks })
    }

    /// # Errors
    ///
    /// As [`CacheBuilder::open_existing`](super::CacheBuilder::open_existing).
    pub(super) fn open(path: &Path) -> Result<Self> {
        let dir = StateDir::open(path)?;
        if !is_tagged(&dir)? {
            return Err(Error::invalid(format!("`{}` is no cache", path.display()))
                .with_hint("a cache has a file `CACHEDIR.TAG` that says that safepoint made it"));
        }
        let locks = dir.file(LOCKS);
        Ok(Self { dir, locks })
    }

    pub(super) fn entry(&self, name: &Name) -> PathBuf {
        self.dir.file(&name.file())
    }

    pub(super) fn lock(&self, name: &Name) -> PathBuf {
        self.locks.join(name.lock())
    }

    /// Removes what killed processes left: lock files, and where the file system needs private names for new files, those.
    ///
    /// # Errors
    ///
    /// Kind `Io` when something cannot be read, locked or removed.
    pub(super) fn sweep(&self) -> Result<()> {
        for file in disk::list_files(self.dir.path())? {
            // Nobody writes an entry without its lock.
            if let Some(name) = entry_of_unfinished(&file)
                && let Some(_lock) = LockFile::try_take(&self.lock(&name))?
            {
                self.dir.remove(&file)?;
            }
        }
        for lock in disk::list_files(&self.locks)? {
            if let Some(name) = Name::of_lock(&lock) {
                // Dropping the lock removes its file.
                drop(LockFile::try_take(&self.lock(&name))?);
            }
        }
        Ok(())
    }
}

/// The entry that a private file was to become: `.ENTRY.NUMBER.new`.
fn entry_of_unfinished(file: &str) -> Option<Name> {
    let inner = file.strip_prefix('.')?.strip_suffix(".new")?;
    Name::of_file(inner.rsplit_once('.')?.0)
}

fn others(dir: &StateDir) -> Result<Vec<String>> {
    let mut names = disk::list_files(dir.path())?;
    names.extend(disk::list_dirs(dir.path())?);
    // The tag's own private name, where it needs one.
    names.retain(|name| name != TAG && !name.starts_with(&format!(".{TAG}.")));
    names.sort();
    Ok(names)
}

/// Whether the directory says that it is ours.
///
/// # Errors
///
/// Kind `Incompatible` when a newer program made it.
fn is_tagged(dir: &StateDir) -> Result<bool> {
    let tag = dir.read(TAG, MAX_TAG)?.unwrap_or_default();
    let tag = String::from_utf8_lossy(&tag);
    let Some(format) = tag
        .strip_prefix(SIGNATURE)
        .and_then(|rest| rest.strip_prefix(FORMAT_LINE))
    else {
        return Ok(false);
    };
    let digits = format.split(|letter: char| !letter.is_ascii_digit()).next();
    match digits.and_then(|digits| digits.parse::<u32>().ok()) {
        Some(format) if format > FORMAT => {
            let message = format!(
                "cache `{}` has format {format}, newer than this program's {FORMAT}",
                dir.path().display()
            );
            Err(Error::new(ErrorKind::Incompatible, message)
                .with_hint("use the newer safepoint that made it"))
        }
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

fn tag(dir: &StateDir) -> Result<()> {
    let text = format!(
        "{SIGNATURE}{FORMAT_LINE}{FORMAT}: what is lost here is computed again.\n# See https://bford.info/cachedir/ for what this file is for.\n"
    );
    let made = FreshFile::create(&dir.file(TAG)).and_then(|file| {
        file.write_at(text.as_bytes(), 0)?;
        file.publish()
    });
    // Another process may have been quicker.
    if is_tagged(dir)? { Ok(()) } else { made }
}
