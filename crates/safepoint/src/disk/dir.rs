//! A private directory, made and opened without following links.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::replace::{parent_of, sync_dir};
use crate::error::{Error, ErrorKind, Result};

/// A directory of state, private to its user.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// Makes a directory whose parent exists; false if it was there.
fn make_dir(path: &Path) -> Result<bool> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::io("make the directory", path, error)),
    }
}

/// Makes a directory with its parents, each of whose names is durable before anything is put into it.
///
/// So a directory that has an entry has a durable name. One that is empty may be what a run made that was killed before its sync.
fn make_durable(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    if path.exists() {
        return match is_empty(path).map(|empty| empty.then(|| sync_dir(parent_of(path)?))) {
            // Where we may not even look, we made nothing.
            Ok(Some(Err(error))) if !is_denied(&error) => Err(error),
            _ => Ok(()),
        };
    }
    if !parent.as_os_str().is_empty() {
        make_durable(parent)?;
    }
    if make_dir(path)? {
        sync_dir(parent_of(path)?).inspect_err(|_| {
            // The next one makes it anew: a sync that failed says nothing when it is asked again.
            let _ = fs::remove_dir(path);
        })?;
    }
    Ok(())
}

fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none())
}

fn is_denied(error: &Error) -> bool {
    let cause = error.io_cause();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

impl StateDir {
    /// Makes the directory (0700) where it does not exist, with its parents, and opens it.
    ///
    /// # Durability
    ///
    /// When this returns, a directory that it made survives a power cut: a file in it can be no more durable than its name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the path is a link, not a directory, or of another user;
    /// [`ErrorKind::Io`] when it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        make_durable(path)?;
        Self::open(path)
    }

    /// Opens an existing directory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none; otherwise as [`create`](Self::create).
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("no directory `{}`", path.display()),
                ));
            }
            Err(error) => return Err(Error::io("open the directory", path, error)),
        };
        if metadata.file_type().is_symlink() {
            return Err(Error::invalid(format!(
                "state directory `{}` is a link, and links are not followed",
                path.display()
            ))
            .with_hint("name the directory itself, for example with `--state-dir`"));
        }
        if !metadata.is_dir() {
            return Err(Error::invalid(format!(
                "`{}` is not a directory",
                path.display()
            )));
        }
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user {
            return Err(Error::invalid(format!(
                "state directory `{}` belongs to user {}, not to user {user}",
                path.display(),
                metadata.uid()
            ))
            .with_hint("run as its owner, or choose another directory with `--state-dir`"));
        }
        let absolute = fs::canonicalize(path).map_err(|error| Error::io("resolve", path, error))?;
        Ok(Self { path: absolute })
    }

    /// The directory's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether a file of that name exists; a link counts as one.
    pub fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path.join(name)).is_ok()
    }

    /// Takes group's and others' rights from the directory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the mode cannot be changed.
    pub fn make_private(&self) -> Result<()> {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700))
            .map_err(|error| Error::io("make private", &self.path, error))
    }

    /// Makes a directory inside (0700); an existing one is kept. It need not survive a power cut: it is not synced.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn subdir(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        make_dir(&path)?;
        Self::open(&path)
    }

    /// Makes an empty file (0600) for somebody else to fill, who would make it with the rights of any file. It is not synced.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when it cannot be made, or is there already.
    pub fn make_empty(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map(drop)
            .map_err(|error| Error::io("make", &path, error))
    }

    /// Reads a small file whole, `None` if there is none. At most `limit` bytes are read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when it exists and cannot be read.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        use std::io::Read;
        let path = self.file(name);
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let mut bytes = Vec::new();
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read", &path, error))?;
        Ok(Some(bytes))
    }

    /// Removes a file; one that does not exist is fine.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when it exists and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("remove", &path, error)),
        }
    }

    /// Whether the directory has no entry.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when it cannot be read.
    pub fn is_empty(&self) -> Result<bool> {
        is_empty(&self.path).map_err(|error| Error::io("read", &self.path, error))
    }

    /// Syncs every file and directory below, deepest first, so that a rename of the whole can be made durable.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when something cannot be read or synced.
    pub fn sync_tree(&self) -> Result<()> {
        sync_tree(&self.path)
    }
}

fn sync_tree(path: &Path) -> Result<()> {
    let entries = fs::read_dir(path).map_err(|error| Error::io("read", path, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", path, error))?;
        let kind = entry
            .file_type()
            .map_err(|error| Error::io("read", path, error))?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            let path = entry.path();
            let file = fs::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)
                .map_err(|error| Error::io("sync", &path, error))?;
            file.sync_all()
                .map_err(|error| Error::io("sync", &path, error))?;
        }
    }
    super::sync_dir(path)
}

/// The names of the directories in `path`, sorted; none when `path` does not exist. Links are not directories.
///
/// # Errors
///
/// [`ErrorKind::Io`] when `path` exists and cannot be read.
pub fn list_dirs(path: &Path) -> Result<Vec<String>> {
    let mut names = list(path, fs::FileType::is_dir)?;
    names.sort();
    Ok(names)
}

/// The names of the entries whose kind is wanted; none when `path` does not exist.
fn list(path: &Path, is_wanted: impl Fn(&fs::FileType) -> bool) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", path, error))?;
        if entry.file_type().is_ok_and(|kind| is_wanted(&kind))
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a directory and all below it, following no link; one that does not exist is fine.
///
/// # Errors
///
/// [`ErrorKind::Io`] when something cannot be removed.
pub fn remove_tree(path: &Path) -> Result<()> {
    let mut looks_left = 5;
    loop {
        looks_left -= 1;
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Somebody left directories read-only, or a process that is dying still wrote: that must not stand in the way.
            Err(error) if looks_left > 0 && is_passing(&error) => make_removable(path),
            Err(error) => return Err(Error::io("remove", path, error)),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::DirectoryNotEmpty
    )
}

/// Gives ourselves the right to empty a directory and all below it, as far as that is ours to give.
fn make_removable(path: &Path) {
    // What cannot be changed is told by the removal that follows.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_removable(&entry.path());
        }
    }
}

/// Whether there is a link at `path`.
pub fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_symlink())
}

/// A file's size in bytes; `None` if there is no such file.
pub fn size(path: &Path) -> Option<u64> {
    Some(fs::symlink_metadata(path).ok()?.len())
}

/// When a file's content last changed, in milliseconds since 1970 UTC; `None` if there is no such file.
pub fn modified_ms(path: &Path) -> Option<i64> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some(modified_ms_of(&metadata))
}

pub(super) fn modified_ms_of(metadata: &fs::Metadata) -> i64 {
    metadata
        .mtime()
        .saturating_mul(1000)
        .saturating_add(metadata.mtime_nsec() / 1_000_000)
}

/// A file in a directory, without a look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When its content last changed, or was said to, in milliseconds since 1970 UTC.
    pub modified_ms: i64,
}

/// What [`list_files`] finds in `path`, with sizes and times. One that goes meanwhile is left out.
///
/// # Errors
///
/// As [`list_files`].
pub fn status_of_files(path: &Path) -> Result<Vec<FileStatus>> {
    let look = |name: String| {
        let metadata = fs::symlink_metadata(path.join(&name)).ok()?;
        Some(FileStatus {
            name,
            bytes: metadata.len(),
            modified_ms: modified_ms_of(&metadata),
        })
    };
    Ok(list_files(path)?.into_iter().filter_map(look).collect())
}

/// The names of all that is no directory in `path`, in no order; none when `path` does not exist. Links are among them, so that nobody takes one
/// for nothing. Names that are not UTF-8 are left out.
///
/// # Errors
///
/// [`ErrorKind::Io`] when `path` exists and cannot be read.
pub fn list_files(path: &Path) -> Result<Vec<String>> {
    list(path, |kind| !kind.is_dir())
}
