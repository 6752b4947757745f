//! What kind of file system a path is on, and how much room it has.

use std::path::Path;

use rustix::fs::statfs;

use crate::error::{Error, Result};

/// What may be relied on in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilesystemKind {
    /// A disk or memory of this machine: shared memory maps and locks work between its processes.
    Local(&'static str),
    /// A network or user-space file system: shared memory maps between processes cannot be relied on.
    Network(&'static str),
    /// Not known by name; treated as local. The number is `f_type` of `statfs(2)`.
    Unknown(u64),
}

/// `f_type` values. Source: statfs(2), and the kernel's include/uapi/linux/magic.h; Lustre's and GPFS's from their own headers.
const KINDS: &[(u64, FilesystemKind)] = &[
    (0xEF53, FilesystemKind::Local("ext4")),
    (0x5846_5342, FilesystemKind::Local("xfs")),
    (0x9123_683E, FilesystemKind::Local("btrfs")),
    (0x2FC1_2FC1, FilesystemKind::Local("zfs")),
    (0xF2F5_2010, FilesystemKind::Local("f2fs")),
    (0x0102_1994, FilesystemKind::Local("tmpfs")),
    (0x794C_7630, FilesystemKind::Local("overlayfs")),
    (0xCA45_1A4E, FilesystemKind::Local("bcachefs")),
    (0x6969, FilesystemKind::Network("nfs")),
    (0x517B, FilesystemKind::Network("smb")),
    (0xFF53_4D42, FilesystemKind::Network("cifs")),
    (0xFE53_4D42, FilesystemKind::Network("smb2")),
    (0x0BD0_0BD0, FilesystemKind::Network("lustre")),
    (0x4750_4653, FilesystemKind::Network("gpfs")),
    (0x00C3_6400, FilesystemKind::Network("ceph")),
    (0x0102_1997, FilesystemKind::Network("9p")),
    (0x6573_5546, FilesystemKind::Network("fuse")),
    (0x7461_636F, FilesystemKind::Network("ocfs2")),
    (0x1983_0326, FilesystemKind::Network("beegfs")),
];

impl FilesystemKind {
    /// The kind of the file system that holds `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the path cannot be asked about.
    pub fn of(path: &Path) -> Result<Self> {
        let found = statfs(path)
            .map_err(|error| Error::io("ask for the file system of", path, error.into()))?;
        #[expect(
            clippy::cast_sign_loss,
            reason = "f_type is a bit pattern whose C type differs by platform"
        )]
        Ok(Self::from_type(found.f_type as u64))
    }

    /// The kind with this `f_type`; only the low 32 bits are looked at, as some platforms extend the sign.
    pub fn from_type(f_type: u64) -> Self {
        let low = f_type & 0xFFFF_FFFF;
        KINDS
            .iter()
            .find(|(known, _)| *known == low)
            .map_or(Self::Unknown(low), |(_, kind)| *kind)
    }

    /// Whether processes may share a memory map of a file there.
    pub fn is_network(self) -> bool {
        matches!(self, Self::Network(_))
    }

    /// The name people know it by.
    pub fn name(self) -> String {
        match self {
            Self::Local(name) | Self::Network(name) => name.to_owned(),
            Self::Unknown(number) => format!("unknown (type {number:#x})"),
        }
    }
}

/// The bytes that this user may still write on the file system that holds `path`.
///
/// # Errors
///
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when the path cannot be asked about.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(path)
        .map_err(|error| Error::io("ask for the room on", path, error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_type() {
        assert_eq!(
            FilesystemKind::from_type(0x6969),
            FilesystemKind::Network("nfs")
        );
        assert_eq!(
            FilesystemKind::from_type(0xFFFF_FFFF_FF53_4D42),
            FilesystemKind::Network("cifs")
        );
        assert!(FilesystemKind::from_type(0x0BD0_0BD0).is_network());
        assert!(!FilesystemKind::from_type(0xEF53).is_network());
        assert_eq!(
            FilesystemKind::from_type(0x42),
            FilesystemKind::Unknown(0x42)
        );
    }
}
