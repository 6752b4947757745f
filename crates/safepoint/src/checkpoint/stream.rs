//! The payload of a generation from its beginning to its end, in the memory of one frame.

use std::io::{self, Read};

use super::codec::Unpacker;
use super::format::damaged;
use super::format::table::Table;
use super::read::OpenFile;
use crate::error::{Error, Result};

/// Reads frames one after the other; nothing is given out that did not pass its checksum.
pub(super) struct Stream<'a> {
    /// `None` if all of it is in memory: that of a record in a journal.
    source: Option<(&'a OpenFile, &'a Table)>,
    unpacker: Unpacker,
    /// The number of the frame that is read next.
    next: usize,
    frame: Vec<u8>,
    /// How much of the frame was taken.
    taken: usize,
    /// Why a [`Part`] could not be read: what reads it knows errors of its own only.
    failure: Option<Error>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(file: &'a OpenFile, table: &'a Table) -> Self {
        Self {
            source: Some((file, table)),
            ..Self::of_memory(Vec::new())
        }
    }

    /// A payload that was read already.
    pub(super) fn of_memory(payload: Vec<u8>) -> Self {
        Self {
            source: None,
            unpacker: Unpacker::new(),
            next: 0,
            frame: payload,
            taken: 0,
            failure: None,
        }
    }

    /// The next bytes, at least one and at most `limit`; none at the end.
    ///
    /// # Errors
    ///
    /// Kind `Corrupt` with the frame that is damaged; `Io` as the disk says.
    pub(super) fn next(&mut self, limit: usize) -> Result<&[u8]> {
        if self.taken == self.frame.len()
            && let Some((file, table)) = self.source
            && self.next < table.frames.len()
        {
            self.frame.resize(table.raw_bytes(self.next), 0);
            // Until it is found whole, nothing of it is there.
            self.taken = self.frame.len();
            let slots = &mut [self.frame.as_mut_slice()];
            file.read_frame(table, self.next, &mut self.unpacker, slots)?;
            self.taken = 0;
            self.next += 1;
        }
        let from = self.taken;
        self.taken += limit.min(self.frame.len() - from);
        Ok(&self.frame[from..self.taken])
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), and kind `Corrupt` where the payload ends before.
    pub(super) fn fill(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            let some = self.next(bytes.len())?;
            if some.is_empty() {
                return Err(damaged("its payload ends too early"));
            }
            let (here, rest) = bytes.split_at_mut(some.len());
            here.copy_from_slice(some);
            bytes = rest;
        }
        Ok(())
    }

    /// The next `bytes` bytes for whom reads from a [`Read`].
    pub(super) fn part(&mut self, bytes: u64) -> Part<'_, 'a> {
        Part {
            stream: self,
            left: bytes,
        }
    }

    /// Why a part could not be read, if that was the reason.
    pub(super) fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }
}

/// A part of the payload.
pub(super) struct Part<'a, 'b> {
    stream: &'a mut Stream<'b>,
    left: u64,
}

impl Read for Part<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX);
        match self.stream.next(limit.min(bytes.len())) {
            Ok(some) => {
                bytes[..some.len()].copy_from_slice(some);
                self.left -= some.len() as u64;
                Ok(some.len())
            }
            Err(error) => {
                self.stream.failure = Some(error);
                Err(io::Error::other("the payload cannot be read"))
            }
        }
    }
}
