//! How a run ended.

use std::path::PathBuf;
use std::time::Duration;

use crate::queue::Counts;
use crate::shutdown::Recorded;

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every item is settled.
    Completed,
    /// A stop was asked for, and there is work left.
    Interrupted,
    /// Too many items died.
    GaveUp,
}

impl Outcome {
    /// The word in `job.db` and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::GaveUp => "failed",
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// Its state directory.
    pub state: PathBuf,
    /// The run's number, from 1.
    pub run: u32,
    /// Why it ended.
    pub outcome: Outcome,
    /// The items by state, over all runs.
    pub counts: Counts,
    /// Items in the input, if known.
    pub total: Option<u64>,
    /// Items done in this run.
    pub done_now: u64,
    /// Attempts that failed in this run.
    pub failures: u64,
    /// Attempts that were given up, to run again.
    pub given_up: u64,
    /// How long the run took, Ctrl-Z left out.
    pub elapsed: Duration,
    /// The stop requests, in order; the first is the reason.
    pub requests: Vec<Recorded>,
    /// Whether `out/` has anything in it.
    pub has_published: bool,
}
