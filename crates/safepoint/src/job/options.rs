//! What decides the speed and the bounds of a run, but not its results.

use std::ffi::OsString;
use std::time::Duration;

use crate::queue::{MAX_CRASHES, RetryPolicy};

/// How many items may die before the run stops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxFailures {
    /// So many items.
    Count(u64),
    /// So many percent of the items that were settled in this run (0 to 100), once at least ten were.
    Percent(f64),
}

/// In which order results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they come.
    #[default]
    Arrival,
    /// As the input has them.
    Input,
    /// Not at all.
    Silent,
}

/// Settings of one run; free to change from run to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Attempts, or persistent workers, at a time. At least 1; default 1.
    pub slots: usize,
    /// Items in flight per persistent worker. At least 1; default 1.
    pub pipeline: usize,
    /// When a failed item is attempted again.
    pub retry: RetryPolicy,
    /// Make dead items pending before the run begins. Default no.
    pub retry_failed: bool,
    /// Runners that may crash while an item is in progress before it is dead. Default 3.
    pub crash_limit: u32,
    /// How long an attempt may take. Default: any time.
    pub timeout: Option<Duration>,
    /// How long the run may take before it stops gracefully. Default: any time.
    pub time_limit: Option<Duration>,
    /// After a graceful stop request, go on beginning items for so long: the time in which whoever sends work, and asks whether this program is ready,
    /// notices. It is part of the grace period, and a second request cuts it short. Default none.
    pub ready_delay: Duration,
    /// From SIGTERM to SIGKILL for a child that is to end. Default 2 s.
    pub kill_after: Duration,
    /// Stop when so many items died in this run.
    pub max_failures: Option<MaxFailures>,
    /// Begin at most so many items in this run.
    pub limit: Option<u64>,
    /// Go on although the command or earlier lines of the input changed. Default no.
    pub accept_changes: bool,
    /// Move earlier state of the job aside and begin anew. Default no.
    pub fresh: bool,
    /// In which order results are told.
    pub order: Order,
    /// Whether this process has no other children than the run's: whatever descends from it is then adopted, reaped, and ended when the
    /// run ends, also what left its process group. Default no: then only descendants that kept the run's environment are found.
    pub owns_process: bool,
    /// The environment of the children, without what the run adds.
    pub environment: Vec<(OsString, OsString)>,
    /// The version to record for the run.
    pub version: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            slots: 1,
            pipeline: 1,
            retry: RetryPolicy::default(),
            retry_failed: false,
            crash_limit: MAX_CRASHES,
            timeout: None,
            time_limit: None,
            ready_delay: Duration::ZERO,
            kill_after: Duration::from_secs(2),
            max_failures: None,
            limit: None,
            accept_changes: false,
            fresh: false,
            order: Order::default(),
            owns_process: false,
            environment: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
