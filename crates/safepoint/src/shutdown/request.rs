//! Who asks for a stop, how, and why.

use std::fmt;

use super::open::Printable;

/// Where a stop request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A person: Ctrl-C, `safepoint stop`.
    User,
    /// The machine or its orchestrator: SIGTERM, SIGHUP.
    System,
    /// The program itself.
    Programmatic,
    /// A time limit.
    Timeout,
    /// A limit of money or of another counted resource.
    Budget,
    /// The parent of this token or process.
    Parent,
}

impl Source {
    /// The word in `events.jsonl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::System => "SYSTEM",
            Self::Programmatic => "PROGRAMMATIC",
            Self::Timeout => "TIMEOUT",
            Self::Budget => "BUDGET",
            Self::Parent => "PARENT",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_lowercase())
    }
}

/// How a stop is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// What is in progress finishes first.
    Graceful,
    /// What is in progress is given up.
    Immediate,
}

impl Mode {
    /// The word in `events.jsonl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Graceful => "GRACEFUL",
            Self::Immediate => "IMMEDIATE",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_lowercase())
    }
}

/// A request to stop: source, mode, a message for people, and the signal if it came by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    /// Where it comes from.
    pub source: Source,
    /// How the stop is wanted.
    pub mode: Mode,
    /// Why, in a few words for people.
    pub message: String,
    /// The signal's number, when a signal brought it.
    pub signal: Option<i32>,
}

impl StopRequest {
    /// A graceful request.
    pub fn graceful(source: Source, message: impl Into<String>) -> Self {
        Self {
            source,
            mode: Mode::Graceful,
            message: message.into(),
            signal: None,
        }
    }

    /// An immediate request.
    pub fn immediate(source: Source, message: impl Into<String>) -> Self {
        Self {
            source,
            mode: Mode::Immediate,
            message: message.into(),
            signal: None,
        }
    }
}

/// For people: `SIGTERM (system, graceful)`.
impl fmt::Display for StopRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, mode, .. } = self;
        write!(f, "{} ({source}, {mode})", Printable(&self.message))
    }
}

/// A request as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The request.
    pub request: StopRequest,
    /// When, in milliseconds since 1970 UTC.
    pub at_ms: i64,
}
