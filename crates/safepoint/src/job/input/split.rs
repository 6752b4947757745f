//! Cutting bytes at a separator, with a bound on what is held.

use super::MAX_ITEM;
use super::spool::Bytes;
use crate::error::Result;

/// How much is read at a time.
const BLOCK: usize = 256 * 1024;

/// What a cut found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// The bytes between two separators.
    Whole(&'a [u8]),
    /// More than [`MAX_ITEM`] bytes: how many.
    TooLong(u64),
}

/// A reader that cuts at a separator byte.
pub(super) struct Splitter {
    bytes: Bytes,
    separator: u8,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where `start` is in the source.
    offset: u64,
    at_end: bool,
}

impl Splitter {
    /// Reads from `bytes`, which is at `offset`.
    pub(super) fn new(bytes: Bytes, separator: u8, offset: u64) -> Self {
        Self {
            bytes,
            separator,
            buffer: vec![0; BLOCK],
            start: 0,
            end: 0,
            offset,
            at_end: false,
        }
    }

    /// Where the next cut begins, in bytes from the start of the source.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes up to the next separator or the end, without it; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Cut<'_>>> {
        let mut searched = 0;
        loop {
            let held = &self.buffer[self.start..self.end];
            if let Some(found) = memchr::memchr(self.separator, &held[searched..]) {
                let length = searched + found;
                let from = self.start;
                self.start += length + 1;
                self.offset += length as u64 + 1;
                return Ok(Some(Cut::Whole(&self.buffer[from..from + length])));
            }
            searched = held.len();
            if self.at_end {
                if searched == 0 {
                    return Ok(None);
                }
                let from = self.start;
                self.start = self.end;
                self.offset += searched as u64;
                return Ok(Some(Cut::Whole(&self.buffer[from..from + searched])));
            }
            if searched > MAX_ITEM {
                return self.skip().map(|skipped| Some(Cut::TooLong(skipped)));
            }
            self.fill()?;
        }
    }

    /// Passes over what is too long to be held; returns its length.
    fn skip(&mut self) -> Result<u64> {
        let mut skipped = 0;
        loop {
            let held = &self.buffer[self.start..self.end];
            if let Some(found) = memchr::memchr(self.separator, held) {
                self.start += found + 1;
                self.offset += found as u64 + 1;
                self.shrink();
                return Ok(skipped + found as u64);
            }
            skipped += held.len() as u64;
            self.offset += held.len() as u64;
            self.start = 0;
            self.end = 0;
            if self.at_end {
                self.shrink();
                return Ok(skipped);
            }
            self.fill()?;
        }
    }

    /// Gives back the room that a long item took.
    fn shrink(&mut self) {
        if self.buffer.len() > 4 * BLOCK && self.end - self.start <= BLOCK {
            let rest = self.buffer[self.start..self.end].to_vec();
            self.end = rest.len();
            self.start = 0;
            self.buffer = rest;
            self.buffer.resize(BLOCK, 0);
        }
    }

    fn fill(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < BLOCK {
            let longer = self.buffer.len() * 2;
            self.buffer.resize(longer, 0);
        }
        let count = self.bytes.read(&mut self.buffer[self.end..])?;
        self.end += count;
        self.at_end = count == 0;
        Ok(())
    }
}
