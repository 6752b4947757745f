//! The lines of an export on their way through gzip to a file.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::disk::{FreshFile, FreshWriter};
use crate::error::{Error, Result};

/// Writes JSON objects, one in a line.
pub(super) struct Lines<'a> {
    to: GzEncoder<BufWriter<FreshWriter<'a>>>,
    path: &'a Path,
    /// What went wrong while somebody wrote by [`Write`], who keeps only a word of it.
    failure: Option<io::Error>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(file: &'a FreshFile, path: &'a Path) -> Self {
        let to = BufWriter::with_capacity(256 << 10, file.writer());
        // What base64 can be shrunk by, the lowest level finds too.
        let to = GzEncoder::new(to, Compression::fast());
        Self {
            to,
            path,
            failure: None,
        }
    }

    /// Writes a line.
    pub(super) fn object(&mut self, object: &Value) -> Result<()> {
        let line = object.to_string();
        self.put(&[line.as_bytes(), b"\n"])
    }

    /// Begins a line that has the fields of `head` and then one called `field`, whose value is to follow.
    pub(super) fn begin(&mut self, head: &Value, field: &str) -> Result<()> {
        let head = head.to_string();
        let open = head.strip_suffix('}').unwrap_or(&head);
        self.put(&[open.as_bytes(), b",\"", field.as_bytes(), b"\":"])
    }

    /// Ends the value, by `quote` if it is a text, and the line.
    pub(super) fn end(&mut self, quote: &str) -> Result<()> {
        self.put(&[quote.as_bytes(), b"}\n"])
    }

    /// Writes some of a JSON value. Line breaks can only stand between its words there, where a space does as well.
    pub(super) fn json(&mut self, some: &[u8]) -> Result<()> {
        let mut lines = some.split(|byte| matches!(byte, b'\n' | b'\r'));
        self.put(&[lines.next().unwrap_or_default()])?;
        lines.try_for_each(|line| self.put(&[b" ", line]))
    }

    /// Writes a line with base64 of the bytes from `offset` on.
    pub(super) fn chunk(&mut self, head: &Value, offset: u64, text: &[u8]) -> Result<()> {
        self.begin(head, "offset")?;
        self.put(&[offset.to_string().as_bytes(), b",\"base64\":\"", text])?;
        self.end("\"")
    }

    fn put(&mut self, parts: &[&[u8]]) -> Result<()> {
        parts
            .iter()
            .try_for_each(|part| self.to.write_all(part))
            .map_err(|error| Error::io("write", self.path, error))
    }

    /// Why a [`Write`] failed, if that was the reason.
    pub(super) fn failure(&mut self) -> Option<Error> {
        let failure = self.failure.take()?;
        Some(Error::io("write", self.path, failure))
    }

    /// Writes what is still on the way.
    pub(super) fn finish(self) -> Result<()> {
        self.to
            .finish()
            .and_then(|to| to.into_inner().map_err(io::IntoInnerError::into_error))
            .map(drop)
            .map_err(|error| Error::io("write", self.path, error))
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes).map_err(|error| {
            let told = io::Error::from(error.kind());
            self.failure = Some(error);
            told
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
