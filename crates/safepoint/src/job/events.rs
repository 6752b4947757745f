//! `events.jsonl`: what happened to a job, one JSON object a line.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::report::Report;
use crate::clock::{rfc_3339, wall_ms};
use crate::disk::AppendFile;
use crate::error::Result;
use crate::shutdown::{Mode, StopRequest};

/// The open log of a job's events.
pub(crate) struct Events {
    file: AppendFile,
    job: String,
    run: u32,
}

impl Events {
    /// Opens the log to append events of a run.
    pub(crate) fn open(path: &Path, job: &str, run: u32) -> Result<Self> {
        Ok(Self {
            file: AppendFile::open(path)?,
            job: job.to_owned(),
            run,
        })
    }

    /// Appends an event; `fields` is an object.
    pub(crate) fn write(&mut self, event: &str, fields: Value) -> Result<()> {
        let mut line = Map::new();
        line.insert("timestamp".into(), rfc_3339(wall_ms()).into());
        line.insert("event".into(), event.into());
        line.insert("job".into(), self.job.clone().into());
        line.insert("run".into(), self.run.into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        self.file.append(text.as_bytes())
    }

    /// A stop was asked for.
    pub(crate) fn interrupt_initiated(&mut self, request: &StopRequest) -> Result<()> {
        self.write(
            "interrupt_initiated",
            json!({"source": request.source.name(), "mode": request.mode.name(), "message": request.message}),
        )
    }

    /// The run has ended.
    pub(crate) fn run_ended(&mut self, report: &Report) -> Result<()> {
        if !report.requests.is_empty() {
            let count = |mode| {
                report
                    .requests
                    .iter()
                    .filter(|recorded| recorded.request.mode == mode)
                    .count()
            };
            self.write(
                "interrupt_completed",
                json!({
                    "checkpoint_id": Value::Null,
                    "total_interrupts": report.requests.len(),
                    "graceful_interrupts": count(Mode::Graceful),
                    "immediate_interrupts": count(Mode::Immediate),
                    "given_up": report.given_up,
                }),
            )?;
        }
        let counts = report.counts;
        self.write(
            "run_ended",
            json!({
                "outcome": report.outcome.name(),
                "done": counts.done,
                "dead": counts.dead,
                "waiting": counts.waiting,
                "total": report.total,
                "done_in_run": report.done_now,
                "elapsed_seconds": report.elapsed.as_secs_f64(),
            }),
        )?;
        self.file.sync()
    }
}
