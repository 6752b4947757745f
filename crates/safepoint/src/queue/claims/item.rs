//! Items of a queue: as they are pushed, and as they stand.

use std::time::Duration;

use super::payload::Payload;
use crate::error::{Error, Result};

/// The longest key, in bytes.
pub const MAX_QUEUE_KEY: usize = 1000;

/// An item to be pushed.
#[derive(Debug, Clone)]
pub struct NewItem {
    pub(in crate::queue) key: Option<Box<str>>,
    pub(in crate::queue) payload: Payload,
    pub(in crate::queue) delay: Duration,
}

impl NewItem {
    /// An item without a key, which is claimed as soon as its turn comes.
    pub fn new(payload: impl Into<Payload>) -> Self {
        Self {
            key: None,
            payload: payload.into(),
            delay: Duration::ZERO,
        }
    }

    /// Gives it a key: of all items that have it, only the first is taken into the queue. At most [`MAX_QUEUE_KEY`] bytes.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into().into());
        self
    }

    /// Lets it be claimed after this time only; in whole milliseconds.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        self.payload.check("payload")?;
        self.key.as_deref().map_or(Ok(()), check_key)
    }
}

/// Refuses what cannot be a key.
fn check_key(key: &str) -> Result<()> {
    let why = if key.is_empty() {
        "it is empty".to_owned()
    } else if key.len() > MAX_QUEUE_KEY {
        format!("it has {} bytes, more than {MAX_QUEUE_KEY}", key.len())
    } else if key.chars().any(char::is_control) {
        "it has a control character".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = key.escape_debug().take(100).collect();
    Err(
        Error::invalid(format!("`{shown}` cannot be a key: {why}")).with_hint(format!(
            "a key has 1 to {MAX_QUEUE_KEY} bytes and no control characters; a hash of long content makes a good one"
        )),
    )
}

/// What a push led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue now.
    New,
    /// An item with this key was there already and stays as it is, whatever its state; nothing was changed.
    Known(QueuedState),
}

/// Where an item of a queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueuedState {
    /// It can be claimed.
    Pending,
    /// It can be claimed after a time: it was pushed or released with a delay, or an attempt failed.
    Waiting,
    /// Somebody has claimed it, until the lease expires.
    Leased,
    /// It was acknowledged.
    Done,
    /// It will not be attempted again, unless a person [says so](super::Queue::retry).
    Dead,
}

impl QueuedState {
    /// All of them, in the order of an item's life.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Waiting,
        Self::Leased,
        Self::Done,
        Self::Dead,
    ];

    /// The word for it in files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// How many items a queue has, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueCounts {
    /// Items that can be claimed.
    pub pending: u64,
    /// Items that can be claimed after a time, also if that time has come and nobody has claimed them.
    pub waiting: u64,
    /// Items that somebody has claimed, also if the lease has expired and nobody else has claimed them.
    pub leased: u64,
    /// Items that were acknowledged.
    pub done: u64,
    /// Items that will not be attempted again.
    pub dead: u64,
}

impl QueueCounts {
    /// The count of one state.
    pub fn of(&self, state: QueuedState) -> u64 {
        match state {
            QueuedState::Pending => self.pending,
            QueuedState::Waiting => self.waiting,
            QueuedState::Leased => self.leased,
            QueuedState::Done => self.done,
            QueuedState::Dead => self.dead,
        }
    }

    /// Items that are neither done nor dead.
    pub fn open(&self) -> u64 {
        self.pending + self.waiting + self.leased
    }

    /// All items.
    pub fn all(&self) -> u64 {
        self.open() + self.done + self.dead
    }
}

/// An item of a queue as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedItem {
    /// Its number, from 1, in the order of pushing. A number is never used again.
    pub number: u64,
    /// Its key, if it was given one.
    pub key: Option<Box<str>>,
    /// Where it stands.
    pub state: QueuedState,
    /// Attempts that counted; claims that were released do not.
    pub attempts: u32,
    /// When it was pushed, in milliseconds since 1970 UTC.
    pub pushed_at_ms: i64,
    /// Waiting: when it can be claimed. Leased: when the lease expires. In milliseconds since 1970 UTC.
    pub due_at_ms: Option<i64>,
    /// When it was done or died, in milliseconds since 1970 UTC.
    pub settled_at_ms: Option<i64>,
    /// Leased: the process that claimed it.
    pub pid: Option<u32>,
    /// What was pushed.
    pub payload: Payload,
    /// Done: what the acknowledgement gave.
    pub result: Option<Payload>,
    /// Waiting or dead: why the last attempt failed.
    pub error: Option<String>,
}

impl QueuedItem {
    /// Its key, or its number where it has none.
    pub fn name(&self) -> String {
        name_of(self.key.as_deref(), self.number)
    }
}

/// What an item is called: by its key, or by its number.
pub(in crate::queue) fn name_of(key: Option<&str>, number: u64) -> String {
    key.map_or_else(|| number.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_by_its_name() {
        for state in QueuedState::ALL {
            assert_eq!(QueuedState::from_name(state.name()), Some(state));
        }
        assert_eq!(QueuedState::from_name("failed"), None);
    }

    #[test]
    fn keys_are_short_and_steer_no_terminal() {
        let longest = "x".repeat(MAX_QUEUE_KEY);
        for good in ["a", " ", "größe/1", &longest] {
            assert!(NewItem::new("").key(good).check().is_ok(), "{good}");
        }
        let long = "x".repeat(MAX_QUEUE_KEY + 1);
        for bad in ["", "a\nb", "\u{1b}[2J", "\u{9b}", &long] {
            let error = NewItem::new("").key(bad).check().expect_err("refused");
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert!(!error.to_string().contains('\u{1b}'));
        }
    }
}
