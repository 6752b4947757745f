//! `safepoint show`: what died and why, or all there is to know of one item.

use std::path::Path;
use std::time::Duration;

use safepoint::clock::{rfc_3339, wall_ms};
use safepoint::job::{self, Entry, InProgressView, JobPath, Status, Tally};
use safepoint::queue::{AttemptRow, ItemRow, State, View, ViewFilter};
use safepoint::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::args::ShowArgs;
use crate::commands::results::item_object;
use crate::commands::status::{counted_steps, fraction, process};
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::{safe, shorten};
use crate::time::{show_count, show_duration, show_number_of};

/// How many items are listed at most.
const LISTED: u64 = 50;

/// Runs `safepoint show`.
pub(crate) fn command(context: &Context, args: &ShowArgs) -> Result<Exit> {
    let path = context.job(args.job.job.as_deref()).map_err(|error| {
        match &args.job.job {
            // `show 3` is meant as an item more often than as a job.
            Some(name) if args.item.is_none() && error.kind() == ErrorKind::NotFound => error.with_hint(format!(
                "`safepoint list` shows the jobs there are; an item is shown with `safepoint show JOB {}`",
                safe(name, false)
            )),
            _ => error,
        }
    })?;
    let mut page = Page::new();
    match &args.item {
        None => overview(context, &path, &mut page)?,
        Some(name) => item(context, &path, name, &mut page)?,
    }
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

/// The dead and waiting items.
fn overview(context: &Context, path: &JobPath, page: &mut Page) -> Result<()> {
    let state = Status::read(path)?;
    let view = job::view(path)?;
    let mut rows = Vec::new();
    for wanted in [State::Dead, State::Waiting] {
        let filter = ViewFilter {
            state: Some(wanted),
            limit: Some(LISTED - rows.len() as u64),
            ..ViewFilter::default()
        };
        view.for_each(filter, |row| {
            rows.push(row);
            Ok(true)
        })?;
    }
    let counts = state.progress.counts;
    let tally = Tally::of(&state.progress);
    let more = (counts.dead + counts.waiting).saturating_sub(rows.len() as u64);
    if context.is_json {
        let items: Vec<Value> = rows.iter().map(item_object).collect();
        page.json(&with_schema(json!({
            "job": state.name,
            "status": state.status,
            "done": counts.done,
            "total": tally.total,
            "dead": counts.dead,
            "waiting": counts.waiting,
            "items": items,
            "more": more,
        })));
        return Ok(());
    }
    if state.is_of_steps() {
        let (name, status) = (&state.name, safe(&state.status, false));
        page.line(&format!("job {name}: {status}, {}", counted_steps(&state)));
        context.say(&format!("  all of them: safepoint steps list {name}"));
        return Ok(());
    }
    page.line(&format!(
        "job {}: {}, {} items done, {} dead, {} waiting",
        state.name,
        safe(&state.status, false),
        fraction(tally),
        show_count(counts.dead),
        show_count(counts.waiting)
    ));
    for row in &rows {
        let again = match row.not_before_ms {
            Some(at) if row.state == State::Waiting => {
                format!(", again in {}", show_duration(until(at)))
            }
            _ => String::new(),
        };
        page.line(&format!(
            "  {} {}, {}{again}: {}",
            row.state.name(),
            named(row),
            show_number_of(u64::from(row.attempts), "attempt"),
            shorten(row.error.as_deref().unwrap_or("no error was kept"), 200)
        ));
    }
    if more > 0 {
        page.line(&format!(
            "  and {} more: `safepoint results {} --all` has all dead ones",
            show_count(more),
            state.name
        ));
    }
    if let Some(first) = rows.first() {
        context.say(&format!(
            "  all about one of them: safepoint show {} {}",
            state.name,
            job::quote(
                first
                    .key
                    .clone()
                    .unwrap_or_else(|| first.index.to_string())
                    .as_bytes()
            )
        ));
    }
    Ok(())
}

fn until(at_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(at_ms.saturating_sub(wall_ms())).unwrap_or(0))
}

fn named(row: &ItemRow) -> String {
    match &row.key {
        Some(key) => format!("item {} (key {})", row.index, shorten(key, 60)),
        None => format!("item {}", row.index),
    }
}

/// All that is known of one item.
fn item(context: &Context, path: &JobPath, name: &str, page: &mut Page) -> Result<()> {
    let state = Status::read(path)?;
    let view = job::view(path)?;
    let found = view.item(name)?;
    let index = found
        .as_ref()
        .map(|row| row.index)
        .or_else(|| name.parse().ok());
    let entry = state
        .in_progress
        .entries
        .iter()
        .find(|entry| Some(entry.index) == index);
    if let Some(row) = found {
        let attempts = view.attempts(row.index)?;
        let stderr = stderr_of(path, &view, &row)?;
        if context.is_json {
            page.json(&with_schema(object(
                &row,
                entry,
                &attempts,
                stderr.as_deref(),
            )));
        } else {
            print(page, &row, entry, &attempts, stderr.as_deref());
        }
    } else {
        let index = index.filter(|index| state.progress.total.is_none_or(|total| *index < total));
        let Some(index) = index else {
            return Err(unknown(&state, name));
        };
        if context.is_json {
            page.json(&with_schema(
                json!({"index": index, "state": "pending", "in_progress": entry.map(entry_object), "attempts": 0}),
            ));
        } else {
            page.line(&format!("item {index}"));
            page.line("  state      pending");
            print_entry(page, entry);
        }
    }
    Ok(())
}

fn unknown(state: &Status, name: &str) -> Error {
    let error = Error::new(
        ErrorKind::NotFound,
        format!("job `{}` has no item `{}`", state.name, safe(name, false)),
    );
    match state.progress.total {
        Some(0) => error.with_hint("its input has no items"),
        Some(total) => error.with_hint(format!(
            "its items are 0 to {}; a key is known from its first attempt on",
            total - 1
        )),
        None => error.with_hint(
            "its input has not been counted yet; a key is known from its first attempt on",
        ),
    }
}

fn object(
    row: &ItemRow,
    entry: Option<&Entry>,
    attempts: &[AttemptRow],
    stderr: Option<&str>,
) -> Value {
    let mut object = item_object(row);
    let failed: Vec<Value> = attempts
        .iter()
        .map(|attempt| {
            json!({
                "attempt": attempt.attempt,
                "run": attempt.run,
                "started_at": rfc_3339(attempt.started_at_ms),
                "duration_us": attempt.duration_us,
                "exit_code": attempt.exit_code,
                "signal": attempt.signal,
                "error": attempt.error,
                "stderr": String::from_utf8_lossy(&attempt.stderr),
            })
        })
        .collect();
    object["run"] = row.run.into();
    object["crashes"] = row.crashes.into();
    object["started_at"] = row.started_at_ms.map(rfc_3339).into();
    object["not_before"] = not_before(row).map(rfc_3339).into();
    object["in_progress"] = entry.map(entry_object).into();
    object["failed_attempts"] = failed.into();
    object["stderr"] = stderr.into();
    object
}

fn entry_object(entry: &Entry) -> Value {
    json!({"attempt": entry.attempt, "pid": entry.process(), "age_ms": InProgressView::age_ms(entry)})
}

fn not_before(row: &ItemRow) -> Option<i64> {
    row.not_before_ms.filter(|_| row.state == State::Waiting)
}

fn print(
    page: &mut Page,
    row: &ItemRow,
    entry: Option<&Entry>,
    attempts: &[AttemptRow],
    stderr: Option<&str>,
) {
    page.line(&format!("item {}", row.index));
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            page.line(&format!("  {name:9}  {value}"));
        }
    };
    field("key", row.key.as_deref().map(|key| safe(key, false)));
    field("state", Some(row.state.name().to_owned()));
    field(
        "error",
        row.error.as_deref().map(|error| safe(error, false)),
    );
    field("attempts", Some(row.attempts.to_string()));
    field(
        "crashes",
        (row.crashes > 0).then(|| row.crashes.to_string()),
    );
    field("run", Some(row.run.to_string()));
    field("started", row.started_at_ms.map(rfc_3339));
    field(
        "took",
        row.duration_us
            .map(|us| show_duration(Duration::from_micros(us))),
    );
    field("exit code", row.exit_code.map(|code| code.to_string()));
    field("again at", not_before(row).map(rfc_3339));
    print_entry(page, entry);
    page.line("  content");
    page.quote("    ", &String::from_utf8_lossy(&row.content));
    if let Some(result) = &row.result {
        page.line("  result");
        page.quote("    ", &readable(result));
        if row.omitted > 0 {
            page.line(&format!("    [safepoint: {} bytes left out]", row.omitted));
        }
    }
    for attempt in attempts {
        page.line(&format!(
            "  attempt {} failed in run {}, {}, after {}: {}",
            attempt.attempt,
            attempt.run,
            rfc_3339(attempt.started_at_ms),
            show_duration(Duration::from_micros(attempt.duration_us)),
            safe(&attempt.error, false)
        ));
        page.quote("    ", &String::from_utf8_lossy(&attempt.stderr));
    }
    if let Some(stderr) = stderr {
        page.line("  stderr");
        page.quote("    ", stderr);
    }
}

fn print_entry(page: &mut Page, entry: Option<&Entry>) {
    if let Some(entry) = entry {
        page.line(&format!(
            "  now        in progress: attempt {}, {}, {}",
            entry.attempt,
            process(entry),
            show_duration(Duration::from_millis(InProgressView::age_ms(entry)))
        ));
    }
}

/// A result as text: JSON in lines if it is an object or a list.
fn readable(result: &[u8]) -> String {
    match serde_json::from_slice(result) {
        Ok(Value::String(text)) => text,
        Ok(value @ (Value::Object(_) | Value::Array(_))) => {
            serde_json::to_string_pretty(&value).unwrap_or_default()
        }
        _ => String::from_utf8_lossy(result).into_owned(),
    }
}

/// What the attempt of a done item wrote to standard error, if the logs still have it. A persistent worker's is not told apart.
fn stderr_of(path: &JobPath, view: &View, row: &ItemRow) -> Result<Option<String>> {
    let is_worker = view
        .definition()?
        .iter()
        .any(|(name, value)| name == "delivery" && value == "worker");
    if row.state != State::Done || is_worker {
        return Ok(None);
    }
    let key = row.key.clone().unwrap_or_else(|| row.index.to_string());
    let heading = format!(
        "== item {} key {} attempt {} ==",
        row.index,
        key.escape_debug(),
        row.attempts
    );
    let Ok(entries) = std::fs::read_dir(path.logs()) else {
        return Ok(None);
    };
    // The older file of a slot has the same name and an ending, so it comes later.
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    Ok(files.iter().find_map(|file| section(file, &heading)))
}

/// The last section of a log below that heading.
fn section(file: &Path, heading: &str) -> Option<String> {
    let log = std::fs::read(file).ok()?;
    let log = String::from_utf8_lossy(&log);
    let mut found: Option<String> = None;
    let mut is_inside = false;
    for line in log.lines() {
        if line == heading {
            is_inside = true;
            found = Some(String::new());
        } else if line.starts_with("== item ") && line.ends_with(" ==") {
            is_inside = false;
        } else if is_inside && let Some(text) = &mut found {
            text.push_str(line);
            text.push('\n');
        }
    }
    found
}
