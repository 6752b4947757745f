//! The one error type of the crate.
//!
//! Callers decide by [`Error::kind`]; people read the message, the chain of sources and the [hint](Error::hint). A message never
//! repeats its source, so printers walk the chain.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

/// What the crate's fallible functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of thing went wrong, as coarse as a caller's decisions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another live process owns the job.
    Busy,
    /// What had to stay open was closed: a handle, by its owner or because an earlier write failed; a worker, by its own end.
    Closed,
    /// Stored state is damaged. It is never a reason to start anew silently.
    Corrupt,
    /// Stored state is intact, but of another job or a newer program.
    Incompatible,
    /// The caller's arguments or input were refused; nothing was changed.
    Invalid,
    /// The operating system refused an operation (a full disk, a missing right, a failing device).
    Io,
    /// The named thing does not exist.
    NotFound,
}

impl ErrorKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Busy,
        Self::Closed,
        Self::Corrupt,
        Self::Incompatible,
        Self::Invalid,
        Self::Io,
        Self::NotFound,
    ];

    /// The kind's name in JSON and in documents, lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Corrupt => "corrupt",
            Self::Incompatible => "incompatible",
            Self::Invalid => "invalid",
            Self::Io => "io",
            Self::NotFound => "not_found",
        }
    }

    /// What it means, as a sentence for documents.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Busy => "another live process owns the job",
            Self::Closed => {
                "the handle was closed, by its owner or because an earlier write failed"
            }
            Self::Corrupt => "stored state is damaged",
            Self::Incompatible => "stored state is intact, but of another job or a newer program",
            Self::Invalid => "arguments or input were refused; nothing was changed",
            Self::Io => {
                "the operating system refused an operation: a full disk, a missing right, a failing device"
            }
            Self::NotFound => "the named thing does not exist",
        }
    }
}

/// An error with a kind, a message, perhaps a hint, and a chain of sources. One word wide.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error; `message` is a lower-case fragment with its object in backticks.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// Makes an [`ErrorKind::Invalid`] error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Makes an [`ErrorKind::Io`] error for an `action` on a `path` ("cannot write `x`").
    pub fn io(action: &str, path: &Path, source: io::Error) -> Self {
        let hint = match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Some(
                "free some space, then run the same command again: nothing acknowledged is lost",
            ),
            Some(libc::EROFS | libc::EACCES | libc::EPERM) => {
                Some("choose a directory you may write to, for example with `--state-dir`")
            }
            _ => None,
        };
        let error = Self::new(
            ErrorKind::Io,
            format!("cannot {action} `{}`", path.display()),
        );
        let error = error.with_source(source);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// Adds what the person can do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the cause; the message must not repeat it.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts what it happened to in front: `message`, with this error as its source. Kind and hint stay.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn about(self, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            message: message.into(),
            hint: self.0.hint.clone(),
            source: Some(Box::new(self)),
        }))
    }

    /// The kind, to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        self.0.kind == ErrorKind::Busy
    }

    /// What to do next, as a sentence fragment for a person.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// What the operating system said, where that is at the bottom of it.
    #[cfg(feature = "state")]
    pub(crate) fn io_cause(&self) -> Option<&io::Error> {
        let mut cause = self.source();
        while let Some(error) = cause {
            match error.downcast_ref() {
                None => cause = error.source(),
                found => return found,
            }
        }
        None
    }

    /// The operating system's number for what is at the bottom of it.
    #[cfg(any(feature = "job", feature = "checkpoint"))]
    pub(crate) fn os_code(&self) -> Option<i32> {
        self.io_cause()?.raw_os_error()
    }

    /// The message and all sources, joined by colons: one line for a log.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("hint", &self.0.hint)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_and_its_chain_names_each_cause_once() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let error = Error::io(
            "write",
            Path::new("job.db"),
            io::Error::from_raw_os_error(libc::ENOSPC),
        );
        assert_eq!(
            error.chain(),
            "cannot write `job.db`: No space left on device (os error 28)"
        );
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("free some space"))
        );
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
