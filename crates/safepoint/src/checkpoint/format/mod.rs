//! The file of one generation, version 1. The book's page `formats/checkpoint` shows it byte by byte.
//!
//! ```text
//! 0            128                                              end - 64     end
//! | header     | frames: raw or compressed | contents | metadata | trailer   |
//! | text, 128  | each with its checksum    | JSON     | JSON     | binary 64 |
//! ```
//!
//! The payload is one stream of bytes: the value, then the named buffers, without gaps. It is cut into frames of
//! [`FRAME_BYTES`]; the last one is shorter. A frame is stored raw or as zstd, whichever pays. Frames lie in the file in the
//! order in which they were finished; the [table of contents](table) says where.
//!
//! Every byte is covered: the header, the contents and the metadata by checksums in the trailer, each frame by one in the
//! contents, the trailer by its own. Checksums are CRC-32 as in gzip (ISO-HDLC), so that `zlib.crc32` of Python or any other
//! tool can check them.
//!
//! # Sources
//!
//! CRC-32/ISO-HDLC: RFC 1952, section 8. zstd: RFC 8878.

pub(super) mod header;
pub(super) mod table;
pub(super) mod trailer;

use crate::error::{Error, ErrorKind, Result};

/// The version of the format that this program writes.
pub const FORMAT_VERSION: FormatVersion = FormatVersion(1);

/// A version of the format of a checkpoint's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormatVersion(pub u32);

impl FormatVersion {
    /// Whether this program can read the version; newer ones are refused by kind.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] for a newer version, [`ErrorKind::Corrupt`] for one that never existed.
    pub fn check_readable(self) -> Result<()> {
        if self > FORMAT_VERSION {
            let message = format!(
                "it has format {}, newer than this program's {}",
                self.0, FORMAT_VERSION.0
            );
            return Err(Error::new(ErrorKind::Incompatible, message)
                .with_hint("use the newer safepoint that wrote it"));
        }
        if self.0 < 1 {
            return Err(damaged("its header names no format version"));
        }
        Ok(())
    }
}

/// The payload's bytes in one frame. Small enough that two workers need little memory, large enough that a frame costs nothing.
pub(super) const FRAME_BYTES: usize = 2 << 20;
/// The largest frame that is read; a later version may write larger ones.
pub(super) const MAX_FRAME_BYTES: u64 = 16 << 20;
/// No frame shrinks further than to a thousandth, so that a small file never asks for a large allocation.
pub(super) const MAX_RATIO: u64 = 1024;
/// The longest contents and the longest metadata that are read, in bytes each.
pub(super) const MAX_TABLE_BYTES: u64 = 256 << 20;

/// CRC-32/ISO-HDLC.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The error for a file that is not what it must be; who knows the file's name puts it around this.
pub(super) fn damaged(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}
