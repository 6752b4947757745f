//! `safepoint status`: how far a job is, also while it runs.

use std::time::{Duration, Instant};

use safepoint::Result;
use safepoint::clock::rfc_3339;
use safepoint::job::{ChildView, Entry, InProgressView, JobPath, Status, Tally, rate};

use crate::args::StatusArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::{safe, shorten};
use crate::time::{show_ago, show_count, show_duration, show_number_of, since};

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
        let speed = state.items_per_second();
        if context.is_json {
            page.json(&with_schema(state.object(speed)));
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
        let speed = speed_of(&samples).or_else(|| state.items_per_second());
        if context.is_json {
            page.json(&with_schema(state.object(speed)));
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

/// `12/100`, or `12/?` while the input is not counted.
pub(crate) fn fraction(tally: Tally) -> String {
    format!("{}/{}", show_count(tally.done), total_text(tally))
}

fn total_text(tally: Tally) -> String {
    tally.total.map_or_else(|| "?".to_owned(), show_count)
}

#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn percent(tally: Tally) -> Option<f64> {
    let total = tally.total.filter(|total| *total > 0)?;
    Some(tally.done as f64 * 100.0 / total as f64)
}

/// Items per second over these samples.
fn speed_of(samples: &[(Instant, u64)]) -> Option<f64> {
    let ((first, before), (last, after)) = (samples.first()?, samples.last()?);
    rate(after.checked_sub(*before)?, last.duration_since(*first))
}

/// The process of an item in progress, for a person.
pub(crate) fn process(entry: &Entry) -> String {
    entry
        .process()
        .map_or_else(|| "starting".to_owned(), |pid| format!("process {pid}"))
}

/// One line, where lines follow each other.
fn summary(state: &Status, speed: Option<f64>) -> String {
    let mut line = format!(
        "{}: {}, {}",
        state.name,
        safe(&state.status, false),
        counted(state)
    );
    if !state.in_progress.entries.is_empty() && state.child.is_none() {
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
    if let Some(child) = &state.child {
        return counted_restarts(child);
    }
    if state.is_of_steps() {
        return counted_steps(state);
    }
    let tally = Tally::of(&state.progress);
    let counts = state.progress.counts;
    let mut text = format!(
        "{} of {} items done",
        show_count(tally.done),
        total_text(tally)
    );
    if let Some(percent) = percent(tally) {
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

/// How a supervised command is, in a few words.
fn counted_restarts(child: &ChildView) -> String {
    let mut text = match (child.process(), &child.last_exit) {
        (Some(pid), _) => format!(
            "process {pid}, for {}",
            show_duration(since(child.started_at_ms))
        ),
        (None, Some(exit)) => format!("ended: {}", safe(exit, false)),
        (None, None) => "not started".to_owned(),
    };
    if child.restarts > 0 {
        text.push_str(&format!(
            ", {}",
            show_number_of(child.restarts.into(), "restart")
        ));
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

fn speed_text(state: &Status, speed: Option<f64>) -> Option<String> {
    if state.is_of_steps() || state.child.is_some() {
        return None;
    }
    let rate = speed?;
    let mut text = if rate >= 10.0 {
        format!("{rate:.0} items/s")
    } else if rate >= 0.1 {
        format!("{rate:.1} items/s")
    } else {
        format!("{:.1} items/h", rate * 3600.0)
    };
    if let Some(time) = state.remaining(speed) {
        text.push_str(&format!(", about {} left", show_duration(time)));
    }
    Some(text)
}

/// What a job is made of.
fn what(state: &Status) -> &'static str {
    match (&state.child, state.is_of_steps()) {
        (Some(_), _) => "command",
        (None, true) => "steps",
        (None, false) => "items",
    }
}

/// What a supervised command said of itself.
fn said(child: &ChildView) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(progress) = &child.progress {
        lines.push(format!(
            "  progress     {}",
            shorten(&progress.to_string(), 200)
        ));
    }
    if let Some(checkpoint) = &child.checkpoint {
        let at = child
            .checkpoint_at_ms
            .map_or_else(String::new, |at| format!(", {}", show_ago(at)));
        lines.push(format!("  checkpoint   {}{at}", shorten(checkpoint, 200)));
    }
    if let Some(cost) = child.cost() {
        lines.push(format!("  cost         {cost:.2}"));
    }
    lines
}

fn lines(state: &Status, speed: Option<f64>) -> Vec<String> {
    let mut lines = vec![
        format!("job {}: {}", state.name, safe(&state.status, false)),
        format!("  {:11}  {}", what(state), counted(state)),
    ];
    if let Some(text) = speed_text(state, speed) {
        lines.push(format!("  speed        {text}"));
    }
    if let Some(cost) = state.cost() {
        lines.push(format!("  cost         {cost:.2}"));
    }
    if let Some(owner) = &state.owner {
        let (host, from) = (safe(&owner.host, false), safe(&owner.since, false));
        lines.push(format!(
            "  owner        process {} on `{host}` since {from}",
            owner.pid
        ));
    }
    lines.extend(state.child.iter().flat_map(said));
    // Of a supervised command it is said above.
    let entries: &[Entry] = match &state.child {
        Some(_) => &[],
        None => &state.in_progress.entries,
    };
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
            safe(state.outcome(run), false)
        );
        if let Some(reason) = &run.reason {
            line.push_str(&format!(" ({})", safe(reason, false)));
        }
        if let Some(done) = run.done_after.filter(|_| state.child.is_none()) {
            line.push_str(&format!(
                ", {} done",
                show_number_of(
                    done.saturating_sub(run.done_before),
                    if state.is_of_steps() { "step" } else { "item" }
                )
            ));
        }
        lines.push(line);
    }
    lines
}
