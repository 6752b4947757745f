//! `--format csv`: a line for each attempt, step or child.

use safepoint::Result;
use safepoint::clock::rfc_3339;
use safepoint::job::history::{History, Kind};
use safepoint::queue::{AttemptOrder, StepState, View};

use super::target::Target;
use crate::commands::results::quoted;

const COLUMNS: &str =
    "kind,index,key,attempt,run,end,started_at,duration_us,exit_code,signal,error\n";

/// A line of the file.
struct Line<'a> {
    kind: &'static str,
    index: Option<u64>,
    key: &'a str,
    attempt: u32,
    run: u32,
    end: &'static str,
    started_at_ms: i64,
    duration_us: Option<u64>,
    exit_code: Option<i64>,
    signal: Option<i64>,
    error: Option<&'a str>,
}

impl Line<'_> {
    fn text(&self) -> String {
        let number = |number: Option<String>| number.unwrap_or_default();
        format!(
            "{},{},{},{},{},{},{},{},{},{},{}\n",
            self.kind,
            number(self.index.map(|index| index.to_string())),
            quoted(self.key),
            self.attempt,
            self.run,
            self.end,
            rfc_3339(self.started_at_ms),
            number(self.duration_us.map(|us| us.to_string())),
            number(self.exit_code.map(|code| code.to_string())),
            number(self.signal.map(|signal| signal.to_string())),
            quoted(self.error.unwrap_or_default()),
        )
    }
}

pub(super) fn write(target: &mut Target, view: &View, history: &History) -> Result<()> {
    target.put(COLUMNS)?;
    match history.kind {
        Kind::Items => view.for_each_attempt(AttemptOrder::Item, |attempt| {
            let index = attempt.index.to_string();
            let line = Line {
                kind: "attempt",
                index: Some(attempt.index),
                key: attempt.key.as_deref().unwrap_or(&index),
                attempt: attempt.attempt,
                run: attempt.run,
                end: if attempt.error.is_some() {
                    "failed"
                } else {
                    "done"
                },
                started_at_ms: attempt.started_at_ms,
                duration_us: Some(attempt.duration_us),
                exit_code: attempt.exit_code.map(i64::from),
                signal: attempt.signal.map(i64::from),
                error: attempt.error.as_deref(),
            };
            target.put(&line.text())
        }),
        Kind::Steps => view.for_each_step_in_brief(|step| {
            let line = Line {
                kind: "step",
                index: None,
                key: &step.name,
                attempt: 1,
                run: step.run,
                end: match step.state {
                    StepState::Complete => "done",
                    StepState::Failed => "failed",
                    StepState::Running => "cut_off",
                },
                started_at_ms: step.started_at_ms,
                duration_us: step.duration_us,
                exit_code: None,
                signal: None,
                error: step.error.as_deref(),
            };
            target.put(&line.text())
        }),
        Kind::Supervised => {
            for child in &history.children {
                let lasted = child.ended_at_ms.map(|end| end - child.started_at_ms);
                let line = Line {
                    kind: "child",
                    index: None,
                    key: "",
                    attempt: child.restart.saturating_add(1),
                    run: child.run,
                    end: match child.ended_at_ms {
                        None => "cut_off",
                        Some(_) if child.is_finished => "done",
                        Some(_) => "failed",
                    },
                    started_at_ms: child.started_at_ms,
                    duration_us: lasted.and_then(|ms| u64::try_from(ms.max(0) * 1000).ok()),
                    exit_code: child.code,
                    signal: child.signal,
                    error: child.exit.as_deref().filter(|_| !child.is_finished),
                };
                target.put(&line.text())?;
            }
            Ok(())
        }
    }
}
