//! What is written: changes, each to be durable once its transaction is.

use super::State;

/// One thing to write.
#[derive(Debug)]
pub enum Change {
    /// An attempt ended, or an item was settled without one.
    Settle(Box<Settlement>),
    /// A stretch of the input was read.
    Chunk(Chunk),
    /// How many items the input has is now known.
    Total(u64),
    /// A source was opened, or its identity is known anew.
    Source(SourceRow),
    /// Money or another counted resource was spent, in millionths.
    Cost(u64),
}

/// How an item came out of an attempt.
#[derive(Debug)]
pub struct Settlement {
    /// Its index in the input, from 0.
    pub index: u64,
    /// Its key, if that is not the index.
    pub key: Option<Box<str>>,
    /// What the input says of it.
    pub content: Box<[u8]>,
    /// The state of its row before, if it had one.
    pub from: Option<State>,
    /// Attempts that counted, this one included.
    pub attempts: u32,
    /// Runners that crashed while it was in progress.
    pub crashes: u32,
    /// When the attempt began, in milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// How long the attempt took, in microseconds.
    pub duration_us: u64,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of an item.
#[derive(Debug)]
pub enum Verdict {
    /// Done, with a result.
    Done {
        /// The exit code of its command, if it was one.
        exit_code: Option<i32>,
        /// Standard output, or a worker's answer.
        result: Vec<u8>,
        /// Bytes of the result that were left out because it was too long.
        omitted: u64,
    },
    /// The attempt failed.
    Failed {
        /// Why, in words.
        error: String,
        /// The exit code of its command, if it ended by one.
        exit_code: Option<i32>,
        /// The signal that ended its command.
        signal: Option<i32>,
        /// The end of what it wrote to standard error.
        stderr: Vec<u8>,
        /// When it may be attempted again (milliseconds since 1970 UTC); never, if `None`: the item is dead.
        again_at_ms: Option<i64>,
    },
    /// Never attempted, and never to be: its content cannot be worked on.
    Refused {
        /// Why, in words.
        error: String,
    },
    /// Put aside as pending, with its counts.
    PutAside,
    /// Its key is that of an earlier item.
    Duplicate {
        /// The index of the earlier item.
        of: u64,
    },
}

impl Verdict {
    /// The state that the verdict implies.
    pub fn state(&self) -> State {
        match self {
            Self::Done { .. } => State::Done,
            Self::Failed {
                again_at_ms: Some(_),
                ..
            } => State::Waiting,
            Self::Failed {
                again_at_ms: None, ..
            }
            | Self::Refused { .. } => State::Dead,
            Self::PutAside => State::Pending,
            Self::Duplicate { .. } => State::Duplicate,
        }
    }
}

/// A stretch of the input that was read: where it begins, so that a resumed run can seek to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The index of its first item.
    pub first_index: u64,
    /// The source it is in, counted from 0 in the order of the arguments.
    pub source: u32,
    /// The line of its first item, from 1.
    pub line: u64,
    /// Where it begins, in bytes from the start of its source.
    pub offset: u64,
    /// How many items it has.
    pub items: u64,
}

/// A source of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// Counted from 0 in the order of the arguments.
    pub source: u32,
    /// Its path, or `-`.
    pub path: String,
    /// Device, inode, size, change times: unchanged means that it need not be verified.
    pub identity: crate::disk::FileIdentity,
    /// The fields that a CSV header names, as JSON.
    pub header: Option<String>,
    /// Whether it was read to its end (of standard input: whether the spool is whole).
    pub complete: bool,
}
