//! Finding a program as a shell would.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Access, FileType, Mode, OFlags, access, open, stat};

use crate::error::{Error, Result};

/// A program that cannot be started.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// There is a file of that name, which cannot be executed.
    pub(crate) is_there: bool,
    /// Why.
    pub(crate) error: Error,
}

/// Finds `name` in the directories of `path` (the value of `PATH`), or takes it as it is when it has a slash.
///
/// # Errors
///
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when there is no such program or it may not be executed.
pub fn find_program(name: &OsStr, path: Option<&OsStr>) -> Result<CString> {
    look_for(name, path).map_err(|unfit| {
        if unfit.is_there {
            unfit.error
        } else {
            unfit.error.with_hint(
                "check its spelling and PATH; shell built-ins and pipelines need `--shell`",
            )
        }
    })
}

/// As [`find_program`], saying which it was.
pub(crate) fn look_for(name: &OsStr, path: Option<&OsStr>) -> std::result::Result<CString, Unfit> {
    let shown = name.to_string_lossy();
    let unfit = |is_there, error| Unfit { is_there, error };
    let nul = || {
        let error = Error::invalid(format!("command `{shown}` contains a NUL byte"));
        unfit(false, error)
    };
    if name.is_empty() {
        return Err(unfit(false, Error::invalid("the command is empty")));
    }
    let mut found_unusable = false;
    let mut candidates = Vec::new();
    if name.as_bytes().contains(&b'/') {
        candidates.push(name.as_bytes().to_vec());
    } else {
        let path = path.map_or(&b"/usr/local/bin:/usr/bin:/bin"[..], OsStrExt::as_bytes);
        for directory in path.split(|byte| *byte == b':') {
            let directory = if directory.is_empty() {
                &b"."[..]
            } else {
                directory
            };
            candidates.push([directory, b"/", name.as_bytes()].concat());
        }
    }
    for candidate in candidates {
        let candidate = CString::new(candidate).map_err(|_| nul())?;
        let Ok(metadata) = stat(candidate.as_c_str()) else {
            continue;
        };
        let is_file = FileType::from_raw_mode(metadata.st_mode) == FileType::RegularFile;
        if is_file && access(candidate.as_c_str(), Access::EXEC_OK).is_ok() {
            return Ok(candidate);
        }
        found_unusable = true;
    }
    Err(if found_unusable {
        let error = Error::invalid(format!("command `{shown}` is not an executable file"))
            .with_hint("make it executable with `chmod +x`, or name its interpreter first");
        unfit(true, error)
    } else {
        let error = Error::invalid(format!("command `{shown}` was not found"));
        unfit(false, error)
    })
}

/// `/dev/null`, for a child that is to read nothing.
///
/// # Errors
///
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be opened.
pub fn open_null() -> Result<OwnedFd> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::io("open", std::path::Path::new("/dev/null"), error.into()))
}
