//! What is pushed, and what an acknowledgement gives: a text or bytes.

use crate::error::{Error, ErrorKind, Result};

/// The longest payload or result, in bytes: 16 MiB.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// A text or bytes, which stay what they are: a text comes back as a text, and any SQLite tool shows it as one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Payload {
    /// A text, for example JSON.
    Text(Box<str>),
    /// Bytes.
    Bytes(Box<[u8]>),
}

impl Payload {
    /// The bytes of the one or the other.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(_) => None,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Refuses what is too long; `what` is its name.
    pub(super) fn check(&self, what: &str) -> Result<()> {
        let length = self.as_bytes().len();
        if length <= MAX_PAYLOAD {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Invalid,
            format!("the {what} has {length} bytes, more than {MAX_PAYLOAD}"),
        )
        .with_hint("put large data into a file and push its path"))
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Text("".into())
    }
}

impl std::fmt::Debug for Payload {
    /// Only how long it is: it may be large, and may hold what belongs in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "a text of {} bytes", text.len()),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<()> for Payload {
    /// Nothing.
    fn from((): ()) -> Self {
        Self::default()
    }
}
