//! What a run of steps came to.

use std::fmt;

/// How many names a list of them has at most.
pub const NAMED: usize = 100;

/// What [`Steps::close`](super::Steps::close) says of its run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StepsReport {
    /// The run's number, from 1.
    pub run: u32,
    /// Steps that ran in this run, and whose results were recorded.
    pub complete: u64,
    /// Those of them that had run before: cut off, failed, or with a result that did not pass its check.
    pub ran_again: u64,
    /// Steps whose recorded result, or memoised error, was taken.
    pub skipped: u64,
    /// Times that a step returned an error of its own in this run.
    pub failed: u64,
    /// Effects that were brought about in this run.
    pub effects: u64,
    /// Times that an effect was not brought about because it is held for a person.
    pub held: u64,
    /// Recorded steps that were not asked for: sorted, the first [`NAMED`].
    pub not_asked_for: Vec<String>,
    /// How many they are.
    pub not_asked_for_count: u64,
    /// Whether a stop was asked for.
    pub was_stopped: bool,
}

impl fmt::Display for StepsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "run {}{}: {} steps complete",
            self.run,
            if self.was_stopped { ", stopped" } else { "" },
            self.complete
        )?;
        for (count, what) in [
            (self.ran_again, "of them once more"),
            (self.skipped, "skipped"),
            (self.failed, "failed"),
            (self.effects, "effects brought about"),
            (self.held, "effects held for a person"),
            (self.not_asked_for_count, "recorded ones not asked for"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}
