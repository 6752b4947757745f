//! How a child is supervised.

use std::ffi::OsString;
use std::time::Duration;

use super::Restart;
use crate::process::SignalSet;
use crate::shutdown::Amount;

/// Where the child's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The size in bytes at which a file is put aside and a new one begun.
    pub size: u64,
    /// How many files that were put aside are kept.
    pub files: usize,
}

/// Settings of one run; free to change from run to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// From the request to the first step of a stop: the time in which load balancers notice that nothing new is to come. Part of the grace period. Default 0.
    pub ready_delay: Duration,
    /// What is sent for a stop. Default: the signal that asked for it, SIGTERM for what is no signal.
    pub stop_signal: Option<i32>,
    /// A signal that makes the child save its state; sent before the stop signal.
    pub checkpoint_signal: Option<i32>,
    /// How long the child may save before the stop signal follows; cut short when it says that it has saved. Default 5 s.
    pub checkpoint_grace: Duration,
    /// From an immediate request, or from the end of the child, to SIGKILL for what is left. Default 2 s.
    pub kill_after: Duration,
    /// Whether forwarded signals go to the child's whole process group. Default no.
    pub to_group: bool,
    /// What is sent instead of a signal: pairs of from and to. A `to` of 0 sends nothing.
    pub map: Vec<(i32, i32)>,
    /// Whether the child shares our process group, as one must that reads from the terminal we are in the foreground of. Then what the terminal sends reaches
    /// the child without us, and is not sent twice. Default no.
    pub shares_group: bool,

    /// When a child that ended is started again. Default never.
    pub restart: Restart,
    /// Restarts in a row without a healthy time between them, before it is given up as a crash loop. Default 10.
    pub max_restarts: u32,
    /// The wait before the first restart; doubled for each further one, up to a minute. Default 1 s.
    pub restart_delay: Duration,
    /// A child that lived so long was healthy: the next restart counts as the first. Default 60 s.
    pub healthy_after: Duration,

    /// How long the run may take before it stops gracefully.
    pub time_limit: Option<Duration>,
    /// How long the child may neither write nor say anything before it is stopped.
    pub idle_limit: Option<Duration>,
    /// How much memory the child's tree may have resident, in bytes, before it is stopped.
    pub memory_limit: Option<u64>,
    /// What the child may spend, as it says on the control descriptor, before it is stopped.
    pub budget: Option<Amount>,

    /// Keep what the child writes.
    pub log: Option<Log>,

    /// Whether this process has no other children: what comes to it as the reaper of orphans is then reaped. Default no.
    pub owns_process: bool,
    /// The signals that the child is to ignore and those to block: what this process inherited, before it installed handlers.
    pub ignored: SignalSet,
    /// See [`ignored`](Self::ignored).
    pub blocked: SignalSet,
    /// The environment of the child, without what the run adds.
    pub environment: Vec<(OsString, OsString)>,
    /// The version to record for the run.
    pub version: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ready_delay: Duration::ZERO,
            stop_signal: None,
            checkpoint_signal: None,
            checkpoint_grace: Duration::from_secs(5),
            kill_after: Duration::from_secs(2),
            to_group: false,
            map: Vec::new(),
            shares_group: false,
            restart: Restart::Never,
            max_restarts: 10,
            restart_delay: Duration::from_secs(1),
            healthy_after: Duration::from_secs(60),
            time_limit: None,
            idle_limit: None,
            memory_limit: None,
            budget: None,
            log: None,
            owns_process: false,
            ignored: SignalSet::default(),
            blocked: SignalSet::default(),
            environment: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
