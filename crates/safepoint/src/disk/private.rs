//! A file that only its owner can read, wherever it is.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::fresh::FreshFile;
use crate::error::{Error, ErrorKind, Result};

/// Reads at most `limit` bytes of a file that nobody but its owner can read; `None` if there is no file.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] when it is a link or otherwise no regular file, or others than its owner have rights to it;
/// [`ErrorKind::Io`] when it cannot be read.
pub fn read_private(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let refuse = |why: &str| Error::invalid(format!("`{}` {why}", path.display()));
    let opened = fs::OpenOptions::new()
        .read(true)
        // A pipe or a device must not make us wait.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(
                refuse("is a link, and links are not followed").with_hint("name the file itself")
            );
        }
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let metadata = file
        .metadata()
        .map_err(|error| Error::io("read", path, error))?;
    if !metadata.is_file() {
        return Err(refuse("is no regular file"));
    }
    if metadata.mode() & 0o077 != 0 {
        let hint = format!("chmod 600 {}", path.display());
        return Err(refuse("can be read or changed by others than its owner").with_hint(hint));
    }
    let mut bytes = Vec::new();
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", path, error))?;
    Ok(Some(bytes))
}

/// Makes a file (0600) that is whole from the moment it has its name; false if there is one of that name already, which stays as it is.
///
/// # Durability
///
/// When this returns, the file survives a power cut.
///
/// # Errors
///
/// [`ErrorKind::Io`] when it cannot be made.
pub fn make_private(path: &Path, bytes: &[u8]) -> Result<bool> {
    let file = FreshFile::create(path)?;
    file.write_at(bytes, 0)?;
    match file.publish() {
        Ok(()) => Ok(true),
        Err(error) => {
            let cause = error.io_cause().map(io::Error::kind);
            if error.kind() == ErrorKind::Io && cause == Some(io::ErrorKind::AlreadyExists) {
                Ok(false)
            } else {
                Err(error)
            }
        }
    }
}
