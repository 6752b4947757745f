//! Old or new, never half: the order of a durable replacement.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Replaces the file at `path` by `bytes` (mode 0600).
///
/// # Durability
///
/// When this returns, the new content survives a kill and a power cut. Before it returns, a crash leaves the old content or the new
/// one. The order is: private file in the same directory, write, sync, rename, sync of the directory.
///
/// # Errors
///
/// [`ErrorKind::Io`] when any step fails; the old content is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = write_beside(path, bytes, fs::File::sync_all)?;
    rename(&temporary, path)
}

/// Replaces the file at `path` by `bytes` (mode 0600), for what is only looked at: whoever opens it sees the old content or the new one, but neither
/// need survive a power cut. Costs no sync.
///
/// # Errors
///
/// [`ErrorKind::Io`] when any step fails; the old content is then still there.
pub fn show(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = write_beside(path, bytes, |_| Ok(()))?;
    #[expect(clippy::disallowed_methods, reason = "it need not be durable")]
    fs::rename(&temporary, path).map_err(|error| Error::io("rename to", path, error))
}

/// Writes a private file in the directory of `path`, and returns its path.
fn write_beside(
    path: &Path,
    bytes: &[u8],
    finish: impl FnOnce(&fs::File) -> std::io::Result<()>,
) -> Result<PathBuf> {
    let parent = parent_of(path)?;
    let name = path.file_name().unwrap_or_default();
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = parent.join(temporary);
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        file.write_all(bytes)?;
        finish(&file)
    })();
    if let Err(error) = written {
        // The half-written private file must not stay; that it could not be removed adds nothing to the first error.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io("write", path, error));
    }
    Ok(temporary)
}

/// Renames `from` to `to` and makes that durable, in both directories if there are two.
///
/// # Errors
///
/// [`ErrorKind::Io`] when the rename or the sync of the directory fails.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the function that syncs the directory afterwards"
    )]
    fs::rename(from, to).map_err(|error| Error::io("rename to", to, error))?;
    let (left, arrived) = (parent_of(from)?, parent_of(to)?);
    // First where it is now: a crash between the two leaves both names rather than none.
    sync_dir(arrived)?;
    if left != arrived {
        sync_dir(left)?;
    }
    Ok(())
}

/// Makes the names in a directory durable.
///
/// # Errors
///
/// [`ErrorKind::Io`] when it cannot be opened or synced.
pub fn sync_dir(path: &Path) -> Result<()> {
    fs::File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::io("sync the directory", path, error))
}

pub(super) fn parent_of(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(Error::new(
            ErrorKind::Invalid,
            format!("`{}` has no directory", path.display()),
        )),
    }
}

/// Moves the directory `from` to `to` in one step. If `to` exists, the two change places, so that `to` is never absent.
///
/// # Durability
///
/// When this returns, the new names survive a power cut.
///
/// # Errors
///
/// [`ErrorKind::Io`] when the move or a sync fails.
pub fn swap_into(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    #[expect(
        clippy::disallowed_methods,
        reason = "the directories are synced below; a plain rename is seen by the faults of tests"
    )]
    let moved = match fs::rename(from, to) {
        // Only an empty directory is replaced by a rename; what is not empty has to change places.
        Err(error) if is_occupied(&error) => {
            renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).map_err(std::io::Error::from)
        }
        moved => moved,
    };
    moved.map_err(|error| Error::io("move to", to, error))?;
    sync_dir(parent_of(to)?)?;
    sync_dir(parent_of(from)?)
}

fn is_occupied(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    matches!(
        error.kind(),
        AlreadyExists | DirectoryNotEmpty | NotADirectory
    )
}
