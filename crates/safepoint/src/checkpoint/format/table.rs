//! The table of contents: where each frame lies, and which part of the payload is what.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::header::HEADER_BYTES;
use super::{MAX_FRAME_BYTES, MAX_RATIO, damaged};
use crate::checkpoint::element::Element;
use crate::checkpoint::state::Encoding;
use crate::error::Result;

/// How a frame is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Codec {
    Raw,
    Zstd,
}

/// One frame: its place in the file, its stored length in bytes, the checksum of what is stored, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Frame(
    pub(crate) u64,
    pub(crate) u32,
    pub(crate) u32,
    pub(crate) Codec,
);

impl Frame {
    pub(crate) fn at(&self) -> u64 {
        self.0
    }

    pub(crate) fn stored_bytes(&self) -> usize {
        self.1 as usize
    }

    pub(crate) fn crc(&self) -> u32 {
        self.2
    }

    pub(crate) fn codec(&self) -> Codec {
        self.3
    }
}

/// The value, which is the first part of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ValuePart {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: u64,
}

/// A named buffer; they follow the value in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BufferPart {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) element: Element,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: u64,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) value: Option<ValuePart>,
    pub(crate) buffers: Vec<BufferPart>,
    pub(crate) payload_bytes: u64,
    pub(crate) frame_bytes: u64,
    pub(crate) frames: Vec<Frame>,
}

impl Table {
    /// Reads a table whose checksum was right, of a file whose frames end at `frames_end`, and checks all that is relied on: a
    /// file need not have been damaged by chance.
    ///
    /// # Errors
    ///
    /// Kind `Corrupt`, with what does not fit.
    pub(crate) fn decode(json: &[u8], frames_end: u64) -> Result<Self> {
        let table: Self = serde_json::from_slice(json)
            .map_err(|error| damaged("its table of contents cannot be read").with_source(error))?;
        table.check(frames_end)?;
        Ok(table)
    }

    fn check(&self, frames_end: u64) -> Result<()> {
        if self.frame_bytes == 0 || self.frame_bytes > MAX_FRAME_BYTES {
            return Err(damaged(format!(
                "its frames are said to have {} bytes",
                self.frame_bytes
            )));
        }
        if self.payload_bytes.div_ceil(self.frame_bytes) != self.frames.len() as u64 {
            return Err(damaged(
                "it has more or fewer frames than its length asks for",
            ));
        }
        let parts = self.value.iter().map(|value| value.bytes);
        let parts = parts.chain(self.buffers.iter().map(|buffer| buffer.bytes));
        let sum = parts.into_iter().try_fold(0_u64, u64::checked_add);
        if sum != Some(self.payload_bytes) {
            return Err(damaged("its parts are not as long as its payload"));
        }
        let mut names = HashSet::new();
        for buffer in &self.buffers {
            if !names.insert(buffer.name.as_str()) {
                return Err(damaged(format!(
                    "two of its buffers are called `{}`",
                    buffer.name.escape_debug()
                )));
            }
            if buffer.element.bytes_of(&buffer.shape) != Some(buffer.bytes) {
                return Err(damaged(format!(
                    "buffer `{}` is not as long as its shape says",
                    buffer.name.escape_debug()
                )));
            }
        }
        for (number, frame) in self.frames.iter().enumerate() {
            let stored = u64::from(frame.1);
            let raw = self.raw_bytes(number) as u64;
            let inside = frame.0 >= HEADER_BYTES as u64
                && frame
                    .0
                    .checked_add(stored)
                    .is_some_and(|end| end <= frames_end);
            let fits = match frame.3 {
                Codec::Raw => stored == raw,
                // Nothing is compressed that does not shrink, so neither length asks for more memory than the other allows.
                Codec::Zstd => stored <= raw && raw <= stored.saturating_mul(MAX_RATIO),
            };
            if !inside || !fits {
                return Err(damaged(format!(
                    "frame {number} cannot be where it is said to be"
                )));
            }
        }
        if self.stored_bytes() != frames_end - HEADER_BYTES as u64 {
            return Err(damaged("its frames do not fill the place they have"));
        }
        Ok(())
    }

    /// The payload's bytes in this frame.
    pub(crate) fn raw_bytes(&self, frame: usize) -> usize {
        let begin = self.frame_bytes * frame as u64;
        usize::try_from(self.frame_bytes.min(self.payload_bytes - begin)).unwrap_or(usize::MAX)
    }

    /// The bytes of the frames as they are stored.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.1)).sum()
    }
}
