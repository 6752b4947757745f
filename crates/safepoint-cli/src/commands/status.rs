//! `safepoint status`: how far a job is, also while it runs.

use std::time::{Duration, Instant};

use safepoint::Result;
use safepoint::clock::rfc_3339;
use safepoint::job::{Entry, InProgressView, JobPath, Status};
use safepoint::queue::{Progress, RunRow};
use serde_json::{Value, json};

use crate::args::StatusArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::safe;
use crate::time::{show_count, show_duration, show_number_of, since};

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(1);
/// How many samples the rate of `--watch` is taken over.
const SAMPLES: usize = 10;
/// How many runs and items in progress are shown to a person.
const SHOWN: usize = 10;

/// Runs `safepoint status`.
pub(crate) fn command(context: &Context, args: &StatusArgs) -> Result<Exit> {
    let path = context.job(args.job.job.as_deref())?;
    let mut page = Page::new();
    if args.watch {
        watch(context, &path, &mut page)?;
    } else {
        let state = Status::read(&path)?;
        let speed = Speed::of_run(&state);
        if context.is_json {
            page.json(&object(&state, speed));
        } else {
            for line in lines(&state, speed) {
                page.line(&line);
            }
        }
    }
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

/// Looks every second until nobody owns the job or nobody reads.
fn watch(context: &Context, path: &JobPath, page: &mut Page) -> Result<()> {
    let mut samples: Vec<(Instant, u64)> = Vec::new();
    let mut drawn = 0;
    loop {
        let state = Status::read(path)?;
        samples.push((now(), state.progress.counts.done));
        if samples.len() > SAMPLES {
            samples.remove(0);
        }
        let speed = Speed::of_samples(&samples).or_else(|| Speed::of_run(&state));
        if context.is_json {
            page.json(&object(&state, speed));
        } else if page.is_terminal() {
            let lines = lines(&state, speed);
            if drawn > 0 {
                // To the first line drawn before, and away with all of them.
                page.bytes(format!("\x1b[{drawn}A\x1b[J").as_bytes());
            }
            drawn = draw(page, &lines);
        } else {
            page.line(&summary(&state, speed));
        }
        if !page.flush() || state.owner.is_none() {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// Draws lines cut to the terminal's size, so that what is above stays countable. Returns how many.
fn draw(page: &mut Page, lines: &[String]) -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let width = size.map_or(80, |size| usize::from(size.ws_col)).max(20);
    let height = size.map_or(24, |size| usize::from(size.ws_row)).max(4) - 1;
    for line in lines.iter().take(height) {
        page.line(&line.chars().take(width - 1).collect::<String>());
    }
    lines.len().min(height)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a display's own samples; no limit depends on them"
)]
fn now() -> Instant {
    Instant::now()
}

/// The numbers of a job as people count them: duplicates are no items.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    pub(crate) total: Option<u64>,
    /// Neither done nor dead.
    pub(crate) left: Option<u64>,
}

impl Tally {
    pub(crate) fn of(progress: &Progress) -> Self {
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

    /// `12/100`, or `12/?` while the input is not counted.
    pub(crate) fn fraction(self) -> String {
        format!("{}/{}", show_count(self.done), self.total_text())
    }

    fn total_text(self) -> String {
        self.total.map_or_else(|| "?".to_owned(), show_count)
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    fn percent(self) -> Option<f64> {
        let total = self.total.filter(|total| *total > 0)?;
        Some(self.done as f64 * 100.0 / total as f64)
    }
}

/// Items per second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Speed(f64);

impl Speed {
    /// Over the time of the last run.
    fn of_run(state: &Status) -> Option<Self> {
        let run = state.runs.last()?;
        let (done, lasted) = match (run.ended_at_ms, run.done_after) {
            (Some(ended), Some(after)) => {
                let lasted = u64::try_from(ended.saturating_sub(run.started_at_ms)).ok()?;
                (after, Duration::from_millis(lasted))
            }
            // A run that crashed did not say when.
            _ if !is_current(run, state) => return None,
            _ => (state.progress.counts.done, since(run.started_at_ms)),
        };
        Self::over(done.checked_sub(run.done_before)?, lasted)
    }

    fn of_samples(samples: &[(Instant, u64)]) -> Option<Self> {
        let ((first, before), (last, after)) = (samples.first()?, samples.last()?);
        Self::over(after.checked_sub(*before)?, last.duration_since(*first))
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn over(done: u64, lasted: Duration) -> Option<Self> {
        (done > 0 && lasted > Duration::from_millis(1))
            .then(|| Self(done as f64 / lasted.as_secs_f64()))
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    fn time_for(self, items: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(items as f64 / self.0).ok()
    }
}

fn is_current(run: &RunRow, state: &Status) -> bool {
    run.outcome.is_none()
        && state
            .owner
            .as_ref()
            .is_some_and(|owner| owner.pid == run.pid)
}

/// The time that is left, where that can be said.
fn remaining(state: &Status, speed: Option<Speed>) -> Option<Duration> {
    state.owner.as_ref()?;
    speed?.time_for(Tally::of(&state.progress).left.filter(|left| *left > 0)?)
}

fn object(state: &Status, speed: Option<Speed>) -> Value {
    let tally = Tally::of(&state.progress);
    let counts = state.progress.counts;
    let in_progress: Vec<Value> = state
        .in_progress
        .entries
        .iter()
        .map(|entry| {
            json!({
                "index": entry.index,
                "attempt": entry.attempt,
                "pid": pid(entry),
                "age_ms": InProgressView::age_ms(entry),
            })
        })
        .collect();
    let runs: Vec<Value> = state
        .runs
        .iter()
        .map(|run| {
            json!({
                "run": run.run,
                "pid": run.pid,
                "host": run.host,
                "version": run.version,
                "started_at": rfc_3339(run.started_at_ms),
                "ended_at": run.ended_at_ms.map(rfc_3339),
                "outcome": outcome(run, state),
                "reason": run.reason,
                "done_before": run.done_before,
                "done_after": run.done_after,
            })
        })
        .collect();
    let mut object = json!({
        "job": state.name,
        "status": state.status,
        "done": counts.done,
        "dead": counts.dead,
        "waiting": counts.waiting,
        "duplicate": counts.duplicate,
        "total": tally.total,
        "left": tally.left,
        "items_per_second": speed.map(|Speed(rate)| rate),
        "eta_seconds": remaining(state, speed).map(|time| time.as_secs_f64()),
        "cost": cost(state),
        "owner": state.owner.as_ref().map(|owner| json!({"pid": owner.pid, "host": owner.host, "since": owner.since})),
        "in_progress": in_progress,
        "runs": runs,
    });
    steps_object(state, &mut object);
    with_schema(object)
}

/// Whether a job has steps instead of items.
pub(crate) fn is_of_steps(state: &Status) -> bool {
    state.steps.steps() + state.steps.effects > 0
}

/// Adds the counts of steps and effects to the object of a job that has any.
pub(crate) fn steps_object(state: &Status, object: &mut Value) {
    let (Value::Object(fields), true) = (object, is_of_steps(state)) else {
        return;
    };
    let steps = state.steps;
    fields.insert(
        "steps".into(),
        json!({
            "complete": steps.complete,
            "running": steps.running,
            "failed": steps.failed,
            "effects": steps.effects,
            "held": steps.held,
        }),
    );
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sum for people; the file has it exactly"
)]
fn cost(state: &Status) -> Option<f64> {
    (state.progress.cost_micros > 0).then(|| state.progress.cost_micros as f64 / 1e6)
}

/// The process of an item in progress; none for the instant in which it is being started.
pub(crate) fn pid(entry: &Entry) -> Option<u32> {
    (entry.pid != 0).then_some(entry.pid)
}

/// The same for a person.
pub(crate) fn process(entry: &Entry) -> String {
    pid(entry).map_or_else(|| "starting".to_owned(), |pid| format!("process {pid}"))
}

fn outcome<'a>(run: &'a RunRow, state: &Status) -> &'a str {
    match &run.outcome {
        Some(outcome) => outcome,
        None if is_current(run, state) => "running",
        None => "crashed",
    }
}

/// One line, where lines follow each other.
fn summary(state: &Status, speed: Option<Speed>) -> String {
    let mut line = format!(
        "{}: {}, {}",
        state.name,
        safe(&state.status, false),
        counted(state)
    );
    if !state.in_progress.entries.is_empty() {
        line.push_str(&format!(
            ", {} in progress",
            state.in_progress.entries.len()
        ));
    }
    if let Some(text) = speed_text(state, speed) {
        line.push_str(&format!(", {text}"));
    }
    line
}

fn counted(state: &Status) -> String {
    if is_of_steps(state) {
        return counted_steps(state);
    }
    let tally = Tally::of(&state.progress);
    let counts = state.progress.counts;
    let mut text = format!(
        "{} of {} items done",
        show_count(tally.done),
        tally.total_text()
    );
    if let Some(percent) = tally.percent() {
        text.push_str(&format!(" ({percent:.0} %)"));
    }
    for (count, what) in [
        (counts.dead, "dead"),
        (counts.waiting, "waiting"),
        (counts.duplicate, "left out as duplicates"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", show_count(count)));
        }
    }
    text
}

pub(crate) fn counted_steps(state: &Status) -> String {
    let steps = state.steps;
    let running = if state.owner.is_some() {
        "in progress"
    } else {
        "cut off"
    };
    let mut text = format!("{} complete", show_number_of(steps.complete, "step"));
    for (count, what) in [(steps.running, running), (steps.failed, "failed")] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", show_count(count)));
        }
    }
    if steps.effects > 0 {
        text.push_str(&format!(", {}", show_number_of(steps.effects, "effect")));
    }
    if steps.held > 0 {
        text.push_str(&format!(", {} held for a person", show_count(steps.held)));
    }
    text
}

fn speed_text(state: &Status, speed: Option<Speed>) -> Option<String> {
    if is_of_steps(state) {
        return None;
    }
    let Speed(rate) = speed?;
    let mut text = if rate >= 10.0 {
        format!("{rate:.0} items/s")
    } else if rate >= 0.1 {
        format!("{rate:.1} items/s")
    } else {
        format!("{:.1} items/h", rate * 3600.0)
    };
    if let Some(time) = remaining(state, speed) {
        text.push_str(&format!(", about {} left", show_duration(time)));
    }
    Some(text)
}

fn lines(state: &Status, speed: Option<Speed>) -> Vec<String> {
    let mut lines = vec![
        format!("job {}: {}", state.name, safe(&state.status, false)),
        format!(
            "  {:11}  {}",
            if is_of_steps(state) { "steps" } else { "items" },
            counted(state)
        ),
    ];
    if let Some(text) = speed_text(state, speed) {
        lines.push(format!("  speed        {text}"));
    }
    if let Some(cost) = cost(state) {
        lines.push(format!("  cost         {cost:.2}"));
    }
    if let Some(owner) = &state.owner {
        let (host, from) = (safe(&owner.host, false), safe(&owner.since, false));
        lines.push(format!(
            "  owner        process {} on `{host}` since {from}",
            owner.pid
        ));
    }
    let entries = &state.in_progress.entries;
    for (place, entry) in entries.iter().take(SHOWN).enumerate() {
        lines.push(format!(
            "  {:11}  item {}, attempt {}, {}, {}",
            if place == 0 { "in progress" } else { "" },
            entry.index,
            entry.attempt,
            process(entry),
            show_duration(Duration::from_millis(InProgressView::age_ms(entry)))
        ));
    }
    if entries.len() > SHOWN {
        lines.push(format!("  {:11}  and {} more", "", entries.len() - SHOWN));
    }
    let hidden = state.runs.len().saturating_sub(SHOWN);
    for (place, run) in state.runs.iter().skip(hidden).enumerate() {
        let mut line = format!(
            "  {:11}  {}: {}, {}",
            if place == 0 { "runs" } else { "" },
            run.run,
            rfc_3339(run.started_at_ms),
            safe(outcome(run, state), false)
        );
        if let Some(reason) = &run.reason {
            line.push_str(&format!(" ({})", safe(reason, false)));
        }
        if let Some(done) = run.done_after {
            line.push_str(&format!(
                ", {} done",
                show_number_of(
                    done.saturating_sub(run.done_before),
                    if is_of_steps(state) { "step" } else { "item" }
                )
            ));
        }
        lines.push(line);
    }
    lines
}
