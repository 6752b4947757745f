//! Where a report goes: standard output, or a file that is old or new and never half.

use std::path::{Path, PathBuf};

use safepoint::disk::FreshFile;
use safepoint::{Error, Result};
use serde_json::Value;

use crate::page::Page;

/// How much is gathered before it is written.
const BUFFER: usize = 256 * 1024;

pub(super) enum Target {
    Stdout(Page),
    File(NewFile),
}

pub(super) struct NewFile {
    file: FreshFile,
    /// As it was named, to be told.
    named: PathBuf,
    buffer: String,
    written: u64,
}

impl Target {
    /// Standard output without a path, or if that is `-`.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        match path {
            None => Ok(Self::Stdout(Page::new())),
            Some(path) if path.as_os_str() == "-" => Ok(Self::Stdout(Page::new())),
            Some(path) => NewFile::begin(path).map(Self::File),
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout(page) if page.is_terminal())
    }

    /// Writes text. Says whether somebody still reads.
    pub(super) fn put(&mut self, text: &str) -> Result<bool> {
        match self {
            Self::Stdout(page) if page.is_terminal() => Ok(page.quote("", text)),
            Self::Stdout(page) => Ok(page.bytes(text.as_bytes())),
            Self::File(file) => file.put(text),
        }
    }

    /// Writes a JSON value as one line. Says whether somebody still reads.
    pub(super) fn json(&mut self, value: &Value) -> Result<bool> {
        match self {
            Self::Stdout(page) => Ok(page.json(value)),
            Self::File(file) => file.put(&format!("{value}\n")),
        }
    }

    /// Ends it, and returns the path of the file that was written.
    pub(super) fn finish(self) -> Result<Option<PathBuf>> {
        match self {
            Self::Stdout(page) => page.finish().map(|()| None),
            Self::File(mut file) => {
                file.flush()?;
                file.file.publish_over()?;
                Ok(Some(file.named))
            }
        }
    }
}

impl NewFile {
    fn begin(named: &Path) -> Result<Self> {
        let refuse = |why: &str| {
            let message = format!("cannot write the report to `{}`: {why}", named.display());
            Error::invalid(message)
        };
        // The file that a link leads to is replaced, not the link.
        let path = match std::fs::canonicalize(named) {
            Ok(path) => path,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => named.to_path_buf(),
            Err(error) => return Err(refuse("it cannot be looked at").with_source(error)),
        };
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                return Err(refuse("it is a directory").with_hint("name a file in it"));
            }
            Ok(found) if !found.is_file() => {
                return Err(refuse("it is no regular file")
                    .with_hint("leave `--output` out to write to standard output"));
            }
            _ => {}
        }
        let file = FreshFile::create_open(&path).map_err(|error| {
            refuse("nothing can be made there")
                .with_source(error)
                .with_hint("name a file in a directory that exists and that you may write to")
        })?;
        Ok(Self {
            file,
            named: named.to_path_buf(),
            buffer: String::new(),
            written: 0,
        })
    }

    fn put(&mut self, text: &str) -> Result<bool> {
        self.buffer.push_str(text);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(self.buffer.as_bytes(), self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
