//! One pass over all that a job did.

use std::collections::{HashMap, VecDeque};

use super::durations::Durations;
use super::log::Child;
use super::longest::{Longest, Span, SpanEnd};
use super::over_time::Filling;
use super::past_run::PastRun;
use super::{MAX_SLOWEST, MAX_SPANS};
use crate::error::Result;
use crate::queue::{AttemptOrder, StepState, View};

/// What is counted while it is read.
pub(super) struct Reading {
    ends: HashMap<u32, i64>,
    pub(super) over_time: Filling,
    pub(super) busy_us: u64,
    pub(super) done: Durations,
    pub(super) failed: Durations,
    pub(super) slowest: Longest,
    pub(super) spans: Longest,
}

impl Reading {
    pub(super) fn over(runs: &[PastRun]) -> Self {
        Self {
            ends: runs.iter().map(|run| (run.run, run.ended_at_ms)).collect(),
            over_time: Filling::over(runs),
            busy_us: 0,
            done: Durations::default(),
            failed: Durations::default(),
            slowest: Longest::new(MAX_SLOWEST),
            spans: Longest::new(MAX_SPANS),
        }
    }

    pub(super) fn attempts(&mut self, view: &View) -> Result<()> {
        view.for_each_attempt(AttemptOrder::Any, |attempt| {
            let end = if attempt.error.is_some() {
                SpanEnd::Failed
            } else {
                SpanEnd::Done
            };
            self.span(&Span {
                index: Some(attempt.index),
                name: attempt.key,
                attempt: attempt.attempt,
                run: attempt.run,
                started_at_ms: attempt.started_at_ms,
                duration_us: attempt.duration_us,
                end,
            });
            Ok(true)
        })
    }

    pub(super) fn steps(&mut self, view: &View) -> Result<()> {
        view.for_each_step_in_brief(|step| {
            let end = match step.state {
                StepState::Running => SpanEnd::CutOff,
                StepState::Complete => SpanEnd::Done,
                StepState::Failed => SpanEnd::Failed,
            };
            let cut_off = || self.until_the_end(step.run, step.started_at_ms);
            self.span(&Span {
                index: None,
                attempt: 1,
                run: step.run,
                started_at_ms: step.started_at_ms,
                duration_us: step.duration_us.unwrap_or_else(cut_off),
                name: Some(step.name),
                end,
            });
            Ok(true)
        })
    }

    pub(super) fn children(&mut self, children: &VecDeque<Child>) {
        for child in children {
            let end = match child.ended_at_ms {
                None => SpanEnd::CutOff,
                Some(_) if child.is_finished => SpanEnd::Done,
                Some(_) => SpanEnd::Failed,
            };
            let duration_us = match child.ended_at_ms {
                Some(ended) => us_between(child.started_at_ms, ended),
                None => self.until_the_end(child.run, child.started_at_ms),
            };
            self.span(&Span {
                index: None,
                name: None,
                attempt: child.restart.saturating_add(1),
                run: child.run,
                started_at_ms: child.started_at_ms,
                duration_us,
                end,
            });
        }
    }

    /// How long something lasted that nobody saw end.
    fn until_the_end(&self, run: u32, started_at_ms: i64) -> u64 {
        let ended = self.ends.get(&run).copied().unwrap_or(started_at_ms);
        us_between(started_at_ms, ended)
    }

    fn span(&mut self, span: &Span) {
        self.busy_us = self.busy_us.saturating_add(span.duration_us);
        self.over_time.add(span);
        match span.end {
            SpanEnd::Done => self.done.add(span.duration_us),
            SpanEnd::Failed => self.failed.add(span.duration_us),
            SpanEnd::CutOff => {}
        }
        self.slowest.offer(span);
        self.spans.offer(span);
    }
}

fn us_between(from_ms: i64, to_ms: i64) -> u64 {
    u64::try_from(to_ms.saturating_sub(from_ms))
        .unwrap_or(0)
        .saturating_mul(1000)
}
