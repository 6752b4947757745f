//! The last 64 bytes: where the tables are, and the checksums that cover what is not a frame. All numbers are little-endian.

use super::header::HEADER_BYTES;
use super::{FormatVersion, MAX_TABLE_BYTES, checksum, damaged};
use crate::error::Result;

/// Its length in bytes.
pub(crate) const TRAILER_BYTES: usize = 64;

const MAGIC: &[u8; 16] = b"safepoint-end-1\n";

/// What the trailer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// As in the header.
    pub(crate) version: FormatVersion,
    /// The length of the whole file: tells a file that was cut or grew.
    pub(crate) file_bytes: u64,
    /// Where the contents begin, and the frames end.
    pub(crate) contents_at: u64,
    pub(crate) contents_bytes: u32,
    pub(crate) contents_crc: u32,
    /// The metadata follow the contents.
    pub(crate) metadata_bytes: u32,
    pub(crate) metadata_crc: u32,
    pub(crate) header_crc: u32,
}

impl Trailer {
    pub(crate) fn metadata_at(&self) -> u64 {
        self.contents_at + u64::from(self.contents_bytes)
    }

    pub(crate) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[0..8].copy_from_slice(&self.file_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.contents_at.to_le_bytes());
        let words = [
            self.contents_bytes,
            self.contents_crc,
            self.metadata_bytes,
            self.metadata_crc,
            self.header_crc,
            self.version.0,
        ];
        for (place, word) in bytes[16..40].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes[40..44].copy_from_slice(&[0; 4]);
        bytes[48..].copy_from_slice(MAGIC);
        let crc = checksum(&bytes[..44]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the last bytes of a file of `file_bytes`, all of whose places it bounds.
    ///
    /// # Errors
    ///
    /// Kind `Corrupt` when they are not a trailer, fail its checksum, or name places outside the file; `Incompatible` when a newer
    /// program wrote them.
    pub(crate) fn decode(bytes: &[u8; TRAILER_BYTES], file_bytes: u64) -> Result<Self> {
        if bytes[48..] != *MAGIC {
            return Err(damaged("it does not end as a checkpoint does"));
        }
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        if word(44) != checksum(&bytes[..44]) {
            return Err(damaged("its trailer fails its checksum"));
        }
        let trailer = Self {
            version: FormatVersion(word(36)),
            file_bytes: long(0),
            contents_at: long(8),
            contents_bytes: word(16),
            contents_crc: word(20),
            metadata_bytes: word(24),
            metadata_crc: word(28),
            header_crc: word(32),
        };
        trailer.version.check_readable()?;
        if trailer.file_bytes != file_bytes {
            return Err(damaged(format!(
                "it has {file_bytes} bytes instead of {}",
                trailer.file_bytes
            )));
        }
        let tables = u64::from(trailer.contents_bytes) + u64::from(trailer.metadata_bytes);
        let end = trailer
            .contents_at
            .checked_add(tables + TRAILER_BYTES as u64);
        if trailer.contents_at < HEADER_BYTES as u64
            || end != Some(file_bytes)
            || u64::from(trailer.contents_bytes) > MAX_TABLE_BYTES
            || u64::from(trailer.metadata_bytes) > MAX_TABLE_BYTES
        {
            return Err(damaged("its trailer names places outside the file"));
        }
        Ok(trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const TRAILER: Trailer = Trailer {
        version: FormatVersion(1),
        file_bytes: 128 + 1000 + 20 + 30 + 64,
        contents_at: 1128,
        contents_bytes: 20,
        contents_crc: 7,
        metadata_bytes: 30,
        metadata_crc: 8,
        header_crc: 9,
    };

    #[test]
    fn a_trailer_reads_back_and_no_bit_of_it_can_change() {
        let bytes = TRAILER.encode();
        assert_eq!(
            Trailer::decode(&bytes, TRAILER.file_bytes).unwrap(),
            TRAILER
        );
        for bit in 0..TRAILER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refused = Trailer::decode(&flipped, TRAILER.file_bytes);
            assert!(
                refused.is_err_and(|error| error.kind() == ErrorKind::Corrupt),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_trailer_of_another_length_of_file_or_of_a_newer_program_is_refused_by_kind() {
        let bytes = TRAILER.encode();
        for length in [0, 64, TRAILER.file_bytes - 1, TRAILER.file_bytes + 1] {
            let refused = Trailer::decode(&bytes, length);
            assert!(refused.is_err_and(|error| error.kind() == ErrorKind::Corrupt));
        }
        let newer = Trailer {
            version: FormatVersion(2),
            ..TRAILER
        };
        let refused = Trailer::decode(&newer.encode(), TRAILER.file_bytes);
        assert!(refused.is_err_and(|error| error.kind() == ErrorKind::Incompatible));
    }
}
