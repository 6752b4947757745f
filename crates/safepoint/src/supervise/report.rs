//! How a supervised run ended.

use std::time::Duration;

use super::Verdict;
use crate::process::Exit;
use crate::shutdown::Recorded;

/// What a supervised run was.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The run's number, from 1; 0 where no state is kept.
    pub run: u32,
    /// How the child ended last; nothing when a stop came before it was started.
    pub exit: Option<Exit>,
    /// What that means.
    pub verdict: Verdict,
    /// Whether it has to be gone on with.
    pub is_interrupted: bool,
    /// How often the child was started again.
    pub restarts: u32,
    /// How long the run took, Ctrl-Z left out.
    pub elapsed: Duration,
    /// The stop requests, in order; the first is the reason.
    pub requests: Vec<Recorded>,
    /// The last checkpoint that the child spoke of.
    pub checkpoint: Option<String>,
}
