//! Runs with a beginning and an end, also those that could not say when they ended.

use super::log::Log;
use crate::error::Result;
use crate::job::status::Status;
use crate::queue::{RunRow, View};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It goes on.
    Running,
    /// All work was settled.
    Completed,
    /// A stop was asked for, and there was work left.
    Interrupted,
    /// It gave up, or an error ended it.
    Failed,
    /// It was killed, or the machine was.
    Crashed,
}

impl Ending {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
        }
    }
}

/// One process's stint on a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRun {
    /// From 1.
    pub run: u32,
    /// Its process.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// The version of the program.
    pub version: String,
    /// In milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// In milliseconds since 1970 UTC, never before its start. Of a run that was killed it is the last that is known of it, of one
    /// that goes on it is now.
    pub ended_at_ms: i64,
    /// Whether the run itself said when it ended.
    pub is_end_told: bool,
    /// How it ended.
    pub ending: Ending,
    /// The message of the stop request or error that ended it.
    pub reason: Option<String>,
    /// Items done, or steps complete, before it.
    pub done_before: u64,
    /// The same after it; none if it did not say.
    pub done_after: Option<u64>,
    /// Where it begins in working time, in milliseconds.
    pub from_ms: u64,
}

impl PastRun {
    /// How long it took, in milliseconds.
    pub fn lasted_ms(&self) -> u64 {
        u64::try_from(self.ended_at_ms.saturating_sub(self.started_at_ms)).unwrap_or(0)
    }

    /// Where a moment of this run is in working time, in milliseconds.
    pub fn working_ms(&self, at_ms: i64) -> u64 {
        let inside = u64::try_from(at_ms.saturating_sub(self.started_at_ms)).unwrap_or(0);
        self.from_ms + inside.min(self.lasted_ms())
    }
}

/// The runs of a job, with their places in working time.
pub(super) fn of(view: &View, status: &Status, log: &Log, now_ms: i64) -> Result<Vec<PastRun>> {
    let owner = status.owner.as_ref().map(|owner| owner.pid);
    let is_current = |run: &RunRow| run.outcome.is_none() && owner == Some(run.pid);
    let is_silent = |run: &&RunRow| run.ended_at_ms.is_none() && !is_current(run);
    // Reading all attempts for their ends alone is worth it only if somebody did not say.
    let attempts = if status.runs.iter().any(|run| is_silent(&run)) {
        view.last_attempts()?
    } else {
        Vec::new()
    };
    let mut from_ms = 0;
    let mut runs = Vec::with_capacity(status.runs.len());
    for (place, row) in status.runs.iter().enumerate() {
        let ending = match row.outcome.as_deref() {
            None if is_current(row) => Ending::Running,
            None | Some("crashed") => Ending::Crashed,
            Some("completed") => Ending::Completed,
            Some("interrupted") => Ending::Interrupted,
            Some(_) => Ending::Failed,
        };
        let ended = match row.ended_at_ms {
            Some(ended) => ended,
            None if ending == Ending::Running => now_ms,
            None => {
                let attempt = attempts.binary_search_by_key(&row.run, |(run, _)| *run);
                let attempt = attempt.ok().map(|found| attempts[found].1);
                let last = attempt.into_iter().chain(log.last_of(row.run)).max();
                let next = status.runs.get(place + 1).map(|next| next.started_at_ms);
                let last = last.unwrap_or(row.started_at_ms);
                next.map_or(last, |next| last.min(next))
            }
        };
        let run = PastRun {
            run: row.run,
            pid: row.pid,
            host: row.host.clone(),
            version: row.version.clone(),
            started_at_ms: row.started_at_ms,
            ended_at_ms: ended.max(row.started_at_ms),
            is_end_told: row.ended_at_ms.is_some(),
            ending,
            reason: row.reason.clone(),
            done_before: row.done_before,
            done_after: row.done_after,
            from_ms,
        };
        from_ms += run.lasted_ms();
        runs.push(run);
    }
    Ok(runs)
}
