//! A job as a server tells of it: its state directory, the run's numbers as they are now, and how they got there.

use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::handle::Handle;
use super::layout::JobPath;
use super::samples::Samples;
use super::status::{Status, view};
use super::status_object::rate;
use crate::clock::{rfc_3339, wall_ms};
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::health::{Exposition, Subject, stop_requests};
use crate::queue::{FailureRow, Progress, State};
use crate::shutdown::ShutdownToken;

/// The number of the schema of a status as JSON.
pub const STATUS_SCHEMA: u32 = 1;

/// How often the line over time gets a point.
const EVERY: Duration = Duration::from_secs(1);
/// How many failures are told, and how many bytes of what each wrote to standard error.
const FAILURES: usize = 20;
const STDERR: usize = 2048;

/// What `/status` and `/metrics` tell of a job: as `safepoint status` reads it, and what only its run knows.
///
/// It notes once a second how many items are done, on a thread that ends when this is dropped. Everything else is read when somebody asks.
pub struct Live {
    path: JobPath,
    token: ShutdownToken,
    handle: Option<Handle>,
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
}

/// The line over time, and whether it goes on.
#[derive(Default)]
struct Line {
    state: Mutex<(Samples, bool)>,
    ended: Condvar,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, (Samples, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Tells of the job at `path`, which `token` stops. With its run's `handle` the numbers are those of now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when there is no thread to be had.
    pub fn new(path: &JobPath, token: &ShutdownToken, handle: Option<&Handle>) -> Result<Self> {
        let line = Arc::new(Line::default());
        let thread = match handle.cloned() {
            None => None,
            Some(handle) => {
                let line = Arc::clone(&line);
                let thread = std::thread::Builder::new()
                    .name("safepoint-samples".into())
                    .spawn(move || sample(&handle, &line));
                Some(thread.map_err(|error| {
                    Error::new(ErrorKind::Io, "cannot start a thread").with_source(error)
                })?)
            }
        };
        Ok(Self {
            path: path.clone(),
            token: token.clone(),
            handle: handle.cloned(),
            line,
            thread,
        })
    }

    /// The job's state, with the numbers of now.
    fn read(&self) -> Result<Status> {
        let mut status = match Status::read(&self.path) {
            Ok(status) => status,
            // On a network file system nobody else can read the file while it is written: what the run knows is enough.
            Err(error) if error.kind() == ErrorKind::Busy && self.handle.is_some() => Status {
                name: self.path.name.clone(),
                status: "running".to_owned(),
                owner: super::current_owner(&self.path)?,
                progress: Progress::default(),
                steps: crate::queue::StepCounts::default(),
                child: None,
                runs: Vec::new(),
                in_progress: super::InProgressView::default(),
            },
            Err(error) => return Err(error),
        };
        if let Some(handle) = &self.handle {
            let gauge = handle.gauge();
            // Relaxed: numbers to look at, each on its own. They are zero until the run has begun.
            let counts = &mut status.progress.counts;
            counts.done = counts.done.max(gauge.done.load(Ordering::Relaxed));
            counts.dead = counts.dead.max(gauge.dead.load(Ordering::Relaxed));
            counts.duplicate = counts
                .duplicate
                .max(gauge.duplicate.load(Ordering::Relaxed));
            let total = gauge.total.load(Ordering::Relaxed);
            if total != u64::MAX {
                status.progress.total = Some(total);
            }
        }
        Ok(status)
    }

    /// The speed of the last half minute, if there is a line to see it by.
    fn recent_rate(&self) -> Option<f64> {
        let state = self.line.state();
        let points: Vec<_> = state.0.points().collect();
        let (first_at, first) = *points.get(points.len().saturating_sub(30))?;
        let (last_at, last) = *points.last()?;
        let lasted = Duration::from_millis(u64::try_from(last_at - first_at).ok()?);
        rate(last.checked_sub(first)?, lasted)
    }

    fn samples(&self) -> Value {
        let state = self.line.state();
        let point = |(at_ms, done)| json!({"at_ms": at_ms, "done": done});
        state.0.points().map(point).collect()
    }

    fn object(&self) -> Result<Value> {
        let status = self.read()?;
        let rate = self.recent_rate().or_else(|| status.items_per_second());
        let mut object = Map::new();
        object.insert("schema".into(), STATUS_SCHEMA.into());
        if let Value::Object(fields) = status.object(rate) {
            object.extend(fields);
        }
        object.insert("phase".into(), self.token.phase().name().into());
        object.insert("stop_requests".into(), stop_requests(&self.token));
        let rows = Rows::read(&self.path, &status);
        let rows = rows.unwrap_or_default();
        if let Some(Value::Array(entries)) = object.get_mut("in_progress") {
            for (entry, key) in entries.iter_mut().zip(rows.keys) {
                entry["key"] = key.into();
            }
        }
        object.insert(
            "failures".into(),
            rows.failures.iter().map(failure_object).collect(),
        );
        object.insert("samples".into(), self.samples());
        Ok(Value::Object(object))
    }
}

/// What only the rows of the file say.
#[derive(Default)]
struct Rows {
    /// Of what is in progress, in its order. An item has a row from its first failure on; before, only its run knows a key that is not the index.
    keys: Vec<Option<String>>,
    failures: Vec<FailureRow>,
}

impl Rows {
    fn read(path: &JobPath, status: &Status) -> Result<Self> {
        let view = view(path)?;
        let definition = view.definition()?;
        let by_index = definition
            .iter()
            .any(|(name, value)| name == "key" && value == "index");
        let entries = status.in_progress.entries.iter();
        let keys = entries.map(|entry| {
            Ok(if by_index {
                Some(entry.index.to_string())
            } else {
                view.item_at(entry.index)?.and_then(|row| row.key)
            })
        });
        Ok(Self {
            keys: keys.collect::<Result<_>>()?,
            failures: view.recent_failures(FAILURES)?,
        })
    }
}

fn failure_object(row: &FailureRow) -> Value {
    let tail = &row.stderr[row.stderr.len().saturating_sub(STDERR)..];
    json!({
        "key": row.key.clone().unwrap_or_else(|| row.index.to_string()),
        "index": row.index,
        "attempt": row.attempt,
        "is_dead": row.state == State::Dead,
        "error": row.error,
        "stderr": String::from_utf8_lossy(tail),
        "at": rfc_3339(row.at_ms),
    })
}

/// Adds a point a second until told to end.
fn sample(handle: &Handle, line: &Line) {
    let mut state = line.state();
    while !state.1 {
        let gauge = handle.gauge();
        // Before the run has begun there is nothing to draw.
        if gauge.elapsed_us.load(Ordering::Relaxed) > 0 {
            let done = gauge.done.load(Ordering::Relaxed);
            state.0.add(wall_ms(), done);
        }
        let waited = line.ended.wait_timeout(state, EVERY);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Subject for Live {
    fn status(&self) -> String {
        let object = self.object().unwrap_or_else(|error| {
            json!({
                "schema": STATUS_SCHEMA,
                "job": self.path.name,
                "status": Value::Null,
                "error": {"kind": error.kind().name(), "message": error.chain()},
                "phase": self.token.phase().name(),
                "stop_requests": stop_requests(&self.token),
            })
        });
        object.to_string()
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a metric is a float, exact up to 2^53"
    )]
    fn metrics(&self, exposition: &mut Exposition) {
        if let Ok(status) = self.read() {
            let mut job = exposition.info("safepoint_job", "The job and its status.");
            job.text(&[("job", &self.path.name), ("status", &status.status)]);
            let counts = status.progress.counts;
            let mut items =
                exposition.counter("safepoint_items", "Items that are settled, in all runs.");
            for (name, count) in [
                ("done", counts.done),
                ("dead", counts.dead),
                ("duplicate", counts.duplicate),
            ] {
                items.count(&[("status", name)], count);
            }
            let waiting = counts.waiting + counts.pending;
            let help = "Items that failed and wait for another attempt.";
            exposition
                .gauge("safepoint_items_waiting", help)
                .value(&[], waiting as f64);
            if let Some(total) = status.progress.total {
                exposition
                    .gauge("safepoint_items_expected", "Items in the input.")
                    .value(&[], total as f64);
            }
            if let Some(cost) = status.cost() {
                exposition
                    .counter("safepoint_cost", "What the items cost.")
                    .amount(&[], cost);
            }
            let in_progress = match &self.handle {
                Some(handle) => handle.gauge().in_progress.load(Ordering::Relaxed),
                None => status.in_progress.entries.len() as u64,
            };
            exposition
                .gauge("safepoint_items_in_progress", "Attempts in progress.")
                .value(&[], in_progress as f64);
        }
        if let Some(handle) = &self.handle {
            let gauge = handle.gauge();
            exposition
                .counter(
                    "safepoint_attempt_failures",
                    "Attempts that failed in this run.",
                )
                .count(&[], gauge.failures.load(Ordering::Relaxed));
            let durations = &gauge.durations;
            let at_most = durations.at_most();
            let bounded = at_most.last().map_or(0, |(_, count)| *count);
            exposition
                .histogram(
                    "safepoint_item_duration_seconds",
                    "How long attempts took in this run.",
                )
                .distribution(
                    &at_most,
                    bounded + durations.beyond(),
                    durations.sum().as_secs_f64(),
                );
        }
        if let Some(saved_ms) = last_checkpoint_ms(&self.path) {
            exposition
                .gauge(
                    "safepoint_last_checkpoint_timestamp_seconds",
                    "When the newest checkpoint was saved, in seconds since 1970.",
                )
                .value(&[], saved_ms as f64 / 1000.0);
        }
    }
}

/// When the newest checkpoint in the job's own directory was saved.
fn last_checkpoint_ms(path: &JobPath) -> Option<i64> {
    let root = path.dir().join("checkpoints");
    let names = disk::list_dirs(&root).ok()?;
    let files = names
        .iter()
        .filter_map(|name| disk::status_of_files(&root.join(name)).ok());
    let is_one =
        |file: &disk::FileStatus| Path::new(&file.name).extension() == Some("ckpt".as_ref());
    let saved = files.flatten().filter(is_one);
    saved.map(|file| file.modified_ms).max()
}

impl Drop for Live {
    fn drop(&mut self) {
        self.line.state().1 = true;
        self.line.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there was told when it happened.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
