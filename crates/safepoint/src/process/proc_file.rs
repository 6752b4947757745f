//! A file of `/proc`, read whole.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};

/// The first bytes of a file, some more than `limit` at most; `None` if it cannot be read.
pub(super) fn read(path: &str, limit: usize) -> Option<Vec<u8>> {
    let path = CString::new(path).ok()?;
    let file: OwnedFd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    while bytes.len() < limit {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(bytes)
}
