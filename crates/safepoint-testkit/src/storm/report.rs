//! What a storm found.

use std::fmt;

/// Counts, and what was wrong in words.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What decided the storm.
    pub seed: u64,
    /// Runs of the command.
    pub runs: u64,
    /// Runs that were to be killed.
    pub kills: u64,
    /// Runs that were.
    pub fired: u64,
    /// Results that were printed.
    pub acknowledged: u64,
    /// Printed results that are not there at the end.
    pub lost: u64,
    /// Items that ran again after their result was printed, or were printed twice.
    pub doubled: u64,
    /// Processes that outlived their job, and attempts that lived on beside a later run's of their item.
    pub orphans: u64,
    /// Jobs that finished.
    pub finished: u64,
    /// Everything that is wrong, the counts above included.
    pub problems: Vec<String>,
}

impl Report {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    pub(super) fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills {}, fired {}, acknowledged {}, ",
            self.kills, self.fired, self.acknowledged
        )?;
        write!(
            f,
            "lost {}, doubled {}, orphans {}, ",
            self.lost, self.doubled, self.orphans
        )?;
        write!(
            f,
            "finished {} (runs {}, seed {})",
            self.finished, self.runs, self.seed
        )?;
        for problem in self.problems.iter().take(20) {
            write!(f, "\n  {problem}")?;
        }
        match self.problems.len().saturating_sub(20) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
