//! The last lines of a run: what was done, where the results are, and how to go on.

use safepoint::job::{Outcome, Report};

use crate::context::Context;
use crate::render::safe;
use crate::time::{show_count, show_duration};

/// Says how the run ended.
pub(super) fn say(context: &Context, report: &Report) {
    if context.verbosity <= -2 {
        return;
    }
    let counts = report.counts;
    let total = report.total.map_or_else(
        || "?".to_owned(),
        |total| show_count(total.saturating_sub(counts.duplicate)),
    );
    let what = match (&report.outcome, report.requests.first()) {
        (Outcome::Completed, _) if report.done_now == 0 && counts.dead == 0 => {
            "nothing left to do".to_owned()
        }
        (Outcome::Completed, _) => "finished".to_owned(),
        (Outcome::GaveUp, _) => "gave up".to_owned(),
        (Outcome::Interrupted, Some(reason)) => {
            format!("stopped by {}", safe(&reason.request.message, false))
        }
        (Outcome::Interrupted, None) => "stopped".to_owned(),
    };
    let mut parts = vec![format!("{} of {total} items done", show_count(counts.done))];
    if report.done_now > 0 && report.done_now != counts.done {
        parts.push(format!("{} in this run", show_count(report.done_now)));
    }
    if counts.dead > 0 {
        parts.push(format!("{} dead", show_count(counts.dead)));
    }
    if counts.waiting > 0 {
        parts.push(format!("{} waiting", show_count(counts.waiting)));
    }
    if counts.duplicate > 0 {
        parts.push(format!(
            "{} left out as duplicates",
            show_count(counts.duplicate)
        ));
    }
    if report.given_up > 0 {
        parts.push(format!(
            "{} given up in the middle",
            show_count(report.given_up)
        ));
    }
    context.say(&format!(
        "safepoint: {what} after {}: {}",
        show_duration(report.elapsed),
        parts.join(", ")
    ));
    let name = &report.job;
    if counts.done > 0 {
        let out = if report.has_published {
            format!("; files: {}", report.state.join("out").display())
        } else {
            String::new()
        };
        context.say(&format!("  results: safepoint results {name}{out}"));
    }
    if counts.dead > 0 {
        context.say(&format!("  dead items: safepoint show {name}; attempt them again: the same command with --retry-failed"));
    }
    if report.outcome == Outcome::Interrupted {
        context.say("  to go on: the same command again");
    }
}
