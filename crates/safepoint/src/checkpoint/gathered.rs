//! A state in the moment in which it is saved.

use std::collections::HashSet;

use super::format::FRAME_BYTES;
use super::format::table::{BufferPart, Table, ValuePart};
use super::pieces::Pieces;
use super::state::{MAX_BUFFER_NAME, State};
use crate::error::{Error, Result};

/// The slices of a state and what they are, each asked for once: shared memory is the caller's code, which is not called with anything
/// locked, and which might not say the same twice.
#[derive(Debug)]
pub(super) struct Gathered<'a> {
    pub(super) pieces: Pieces<'a>,
    /// Without frames.
    pub(super) table: Table,
    /// The value's bytes.
    pub(super) value: Option<&'a [u8]>,
}

impl<'a> Gathered<'a> {
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a name or a shape is wrong, with which.
    pub(super) fn of(state: &'a State<'_>) -> Result<Self> {
        let value = state.value.as_ref().map(|(_, bytes)| bytes.get());
        let mut parts: Vec<&[u8]> = value.into_iter().collect();
        let mut names = HashSet::new();
        let mut buffers = Vec::with_capacity(state.buffers.len());
        for buffer in &state.buffers {
            let name = buffer.name.escape_debug();
            if buffer.name.is_empty() || buffer.name.len() > MAX_BUFFER_NAME {
                return Err(Error::invalid(format!(
                    "buffer `{name}` has a name of {} bytes; 1 to {MAX_BUFFER_NAME} are allowed",
                    buffer.name.len()
                )));
            }
            if !names.insert(buffer.name.as_ref()) {
                return Err(Error::invalid(format!("two buffers are called `{name}`")));
            }
            let part = buffer.bytes.get();
            let bytes = part.len() as u64;
            if buffer.element.bytes_of(&buffer.shape) != Some(bytes) {
                return Err(Error::invalid(format!(
                    "buffer `{name}` has {bytes} bytes, which does not fit {} of shape {:?}",
                    buffer.element.name(),
                    buffer.shape
                )));
            }
            parts.push(part);
            buffers.push(BufferPart {
                name: buffer.name.clone().into_owned(),
                element: buffer.element,
                shape: buffer.shape.clone(),
                bytes,
            });
        }
        let pieces = Pieces::new(parts.into_iter());
        let table = Table {
            value: state
                .value
                .as_ref()
                .zip(value)
                .map(|((encoding, _), bytes)| ValuePart {
                    encoding: *encoding,
                    bytes: bytes.len() as u64,
                }),
            buffers,
            payload_bytes: pieces.bytes(),
            frame_bytes: FRAME_BYTES as u64,
            frames: Vec::new(),
        };
        Ok(Self {
            pieces,
            table,
            value,
        })
    }

    pub(super) fn payload_bytes(&self) -> u64 {
        self.table.payload_bytes
    }
}
