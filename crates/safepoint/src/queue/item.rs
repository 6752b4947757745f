//! What the rows of a job say.

/// The state of an item that has a row. An item without one is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Not done, and may be attempted now.
    Pending,
    /// An attempt failed; another one may begin at a given time.
    Waiting,
    /// Done, with its result.
    Done,
    /// Will not be attempted again unless it is retried by a person.
    Dead,
    /// Its key is that of an earlier item, so it was never attempted.
    Duplicate,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Waiting,
        Self::Done,
        Self::Dead,
        Self::Duplicate,
    ];

    /// The word in the file and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Duplicate => "duplicate",
        }
    }

    /// The state with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// How many rows are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Done.
    pub done: u64,
    /// Dead.
    pub dead: u64,
    /// Waiting for another attempt.
    pub waiting: u64,
    /// Put aside as pending.
    pub pending: u64,
    /// Left out as duplicates.
    pub duplicate: u64,
}

impl Counts {
    /// Items that need no more work.
    pub fn settled(self) -> u64 {
        self.done + self.dead + self.duplicate
    }

    /// Items that have a row.
    pub fn touched(self) -> u64 {
        self.settled() + self.waiting + self.pending
    }

    /// The count of one state.
    pub fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Pending => &mut self.pending,
            State::Waiting => &mut self.waiting,
            State::Done => &mut self.done,
            State::Dead => &mut self.dead,
            State::Duplicate => &mut self.duplicate,
        }
    }
}

/// An item that has a row and may be attempted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenItem {
    /// Its index in the input, from 0.
    pub index: u64,
    /// Its key, if that is not the index.
    pub key: Option<Box<str>>,
    /// Its state: pending or waiting.
    pub state: State,
    /// Attempts that failed, so far.
    pub attempts: u32,
    /// Runners that crashed while it was in progress.
    pub crashes: u32,
    /// What the input says of it.
    pub content: Box<[u8]>,
}
