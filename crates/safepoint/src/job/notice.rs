//! What a running job tells whoever watches it.

use std::time::Duration;

use crate::shutdown::StopRequest;

/// Something that happened. The library never prints: the command decides how to say it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// The run has begun.
    Started {
        /// Its number, from 1.
        run: u32,
        /// Items that were done before.
        done: u64,
        /// Whether the run before this one crashed.
        after_crash: bool,
        /// Processes that a killed owner left behind, and that were ended now.
        ended_strays: usize,
        /// Items whose changed content was taken over.
        renewed: usize,
        /// Dead items that were made pending again.
        retried: u64,
    },
    /// An attempt failed.
    AttemptFailed {
        /// The item's key.
        key: String,
        /// The attempt's number, from 1.
        attempt: u32,
        /// Why.
        error: String,
        /// When it is attempted again; never, if `None`: the item is dead.
        again_in: Option<Duration>,
    },
    /// An item was found unfit to be worked on, and is dead.
    Refused {
        /// Its key.
        key: String,
        /// Why.
        error: String,
    },
    /// An item's key is that of an earlier one.
    Duplicate {
        /// The key.
        key: String,
        /// The earlier item's index.
        of: u64,
    },
    /// A persistent worker broke its protocol or ended.
    WorkerFault {
        /// Its slot, from 0.
        slot: usize,
        /// What it did.
        error: String,
    },
    /// A command said "not now" (exit 75): nothing begins for a while.
    Paused {
        /// For how long.
        lasts: Duration,
    },
    /// A stop was asked for.
    Stopping {
        /// The request.
        request: StopRequest,
        /// Attempts in progress.
        in_progress: usize,
        /// What is left of the grace period.
        remaining: Duration,
    },
    /// What is in progress is being ended.
    Terminating {
        /// Attempts in progress.
        in_progress: usize,
    },
    /// What is in progress, oldest first.
    InProgress(Vec<InProgress>),
    /// All children are suspended and this process is about to be (Ctrl-Z).
    Suspending,
    /// This process and its children go on.
    Continued,
    /// Processes that attempts left behind were ended at the end of the run.
    LeftBehind(usize),
    /// Something that does not stop the run but that somebody should know.
    Warning(String),
}

/// An attempt in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct InProgress {
    /// The item's key.
    pub key: String,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The process.
    pub pid: u32,
    /// How long it has taken so far.
    pub age: Duration,
    /// The last progress that it reported, as JSON.
    pub progress: Option<String>,
}

/// Whoever watches a running job.
pub trait Observer: Send {
    /// Is told what happened, on the dispatcher's thread: it must not wait for anything slow.
    fn notice(&mut self, notice: Notice);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn notice(&mut self, _: Notice) {}
}
