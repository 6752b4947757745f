//! A status as one JSON object: what `safepoint status --json` prints, and what `/status` begins with.

use std::time::Duration;

use serde_json::{Value, json};

use super::in_progress::{Entry, InProgressView};
use super::status::Status;
use crate::clock::{rfc_3339, wall_ms};
use crate::queue::{Progress, RunRow};

/// The numbers of a job as people count them: duplicates are no items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Items that are done.
    pub done: u64,
    /// Items in the input, once they are counted.
    pub total: Option<u64>,
    /// Items that are neither done nor dead.
    pub left: Option<u64>,
}

impl Tally {
    /// The numbers of a job that is so far.
    pub fn of(progress: &Progress) -> Self {
        let counts = progress.counts;
        let total = progress
            .total
            .map(|total| total.saturating_sub(counts.duplicate));
        Self {
            done: counts.done,
            total,
            left: total.map(|total| total.saturating_sub(counts.done + counts.dead)),
        }
    }
}

impl Entry {
    /// The process; none for the instant in which it is being started.
    pub fn process(&self) -> Option<u32> {
        (self.pid != 0).then_some(self.pid)
    }
}

impl Status {
    /// Items per second over the time of the last run; none where that cannot be said.
    pub fn items_per_second(&self) -> Option<f64> {
        let run = self.runs.last()?;
        let (done, ended_at_ms) = match (run.ended_at_ms, run.done_after) {
            (Some(ended), Some(after)) => (after, ended),
            // A run that crashed did not say when.
            _ if !self.is_current(run) => return None,
            _ => (self.progress.counts.done, wall_ms()),
        };
        let lasted = u64::try_from(ended_at_ms.saturating_sub(run.started_at_ms)).ok()?;
        rate(
            done.checked_sub(run.done_before)?,
            Duration::from_millis(lasted),
        )
    }

    /// The time for what is left at so many items per second; none when nobody works on it, or it is not known how much is left.
    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    pub fn remaining(&self, items_per_second: Option<f64>) -> Option<Duration> {
        self.owner.as_ref()?;
        let left = Tally::of(&self.progress).left.filter(|left| *left > 0)?;
        Duration::try_from_secs_f64(left as f64 / items_per_second?).ok()
    }

    /// Whether the job has steps instead of items.
    pub fn is_of_steps(&self) -> bool {
        self.steps.steps() + self.steps.effects > 0
    }

    /// How a run ended, or `running`.
    pub fn outcome<'a>(&self, run: &'a RunRow) -> &'a str {
        match &run.outcome {
            Some(outcome) => outcome,
            None if self.is_current(run) => "running",
            None => "crashed",
        }
    }

    /// What was spent, in whole units; none if nothing was.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a sum for people; the file has it exactly"
    )]
    pub fn cost(&self) -> Option<f64> {
        (self.progress.cost_micros > 0).then(|| self.progress.cost_micros as f64 / 1e6)
    }

    /// The counts of steps and effects, if it has any.
    pub fn steps_object(&self) -> Option<Value> {
        let steps = self.steps;
        self.is_of_steps().then(|| {
            json!({
                "complete": steps.complete,
                "running": steps.running,
                "failed": steps.failed,
                "effects": steps.effects,
                "held": steps.held,
            })
        })
    }

    /// All of it as one object, at this speed.
    pub fn object(&self, items_per_second: Option<f64>) -> Value {
        let tally = Tally::of(&self.progress);
        let counts = self.progress.counts;
        let in_progress = self.in_progress.entries.iter().map(|entry| {
            json!({
                "index": entry.index,
                "attempt": entry.attempt,
                "pid": entry.process(),
                "age_ms": InProgressView::age_ms(entry),
            })
        });
        let runs = self.runs.iter().map(|run| {
            json!({
                "run": run.run,
                "pid": run.pid,
                "host": run.host,
                "version": run.version,
                "started_at": rfc_3339(run.started_at_ms),
                "ended_at": run.ended_at_ms.map(rfc_3339),
                "outcome": self.outcome(run),
                "reason": run.reason,
                "done_before": run.done_before,
                "done_after": run.done_after,
            })
        });
        let mut object = json!({
            "job": self.name,
            "status": self.status,
            "done": counts.done,
            "dead": counts.dead,
            "waiting": counts.waiting,
            "duplicate": counts.duplicate,
            "total": tally.total,
            "left": tally.left,
            "items_per_second": items_per_second,
            "eta_seconds": self.remaining(items_per_second).map(|time| time.as_secs_f64()),
            "cost": self.cost(),
            "owner": self.owner.as_ref().map(|owner| json!({"pid": owner.pid, "host": owner.host, "since": owner.since})),
            "in_progress": in_progress.collect::<Vec<_>>(),
            "runs": runs.collect::<Vec<_>>(),
        });
        if let (Value::Object(fields), Some(steps)) = (&mut object, self.steps_object()) {
            fields.insert("steps".into(), steps);
        }
        if let (Value::Object(fields), Some(child)) = (&mut object, &self.child) {
            fields.insert("child".into(), child.object());
        }
        object
    }

    fn is_current(&self, run: &RunRow) -> bool {
        run.outcome.is_none()
            && self
                .owner
                .as_ref()
                .is_some_and(|owner| owner.pid == run.pid)
    }
}

/// So many things in a time, per second; none when there is nothing to say.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub fn rate(done: u64, lasted: Duration) -> Option<f64> {
    (done > 0 && lasted > Duration::from_millis(1)).then(|| done as f64 / lasted.as_secs_f64())
}
