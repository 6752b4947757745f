//! What the state of a job says of all its runs, as numbers and moments: what `safepoint report` shows.
//!
//! ```
//! use safepoint::job::{JobPath, history::History};
//!
//! # fn main() -> safepoint::Result<()> {
//! # let directory = tempfile::tempdir().expect("a directory");
//! # let (root, name) = (directory.path(), "words");
//! let job = JobPath::new(root, name)?;
//! match History::read(&job) {
//!     Ok(history) => println!("{} of work in {} runs", history.worked_ms, history.runs.len()),
//!     Err(error) => println!("{error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Working time
//!
//! A job may have run for an hour in March and for another one in May. The time between its runs is nobody's work, so all that is
//! drawn over time is drawn over *working time*: the runs one behind the other, without what lies between them.
//!
//! # Invariants
//!
//! 1. Memory does not grow with the number of items: they are counted while they are read, and what is kept one by one has a limit, of
//!    which the documentation of each field says the number.
//! 2. Nothing is changed, and nobody who runs the job is held up.
//!
//! Deliberately absent: how it looks.

mod durations;
mod log;
mod longest;
mod over_time;
mod past_run;
mod reading;

pub use durations::{Bar, Durations};
pub use log::{Child, Mark, Pause, StopTold};
pub use longest::{Span, SpanEnd};
pub use over_time::{Bucket, OverTime};
pub use past_run::{Ending, PastRun};

use self::log::Log;
use self::reading::Reading;
use super::layout::JobPath;
use super::status::{self, Status};
use crate::clock::wall_ms;
use crate::error::Result;
use crate::queue::{ItemInBrief, JobRow};

/// How many spans are kept, the longest ones, of all that a job did.
pub const MAX_SPANS: usize = 1000;
/// How many of the slowest are kept.
pub const MAX_SLOWEST: usize = 20;
/// How many dead items are kept, the first ones.
pub const MAX_DEAD: u32 = 100;
/// How many kinds of errors are kept, the most frequent ones.
pub const MAX_ERRORS: u32 = 20;
/// How many stop requests, pauses, children and marks are kept, the last ones of each.
pub const MAX_MOMENTS: usize = 2000;
/// How many characters are kept of each text that came from elsewhere.
pub const MAX_TEXT: u32 = 4096;

/// What a job works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The items of an input.
    Items,
    /// The steps of a program.
    Steps,
    /// One command, supervised.
    Supervised,
}

impl Kind {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Steps => "steps",
            Self::Supervised => "supervise",
        }
    }

    fn of(definition: &[(String, String)]) -> Self {
        let kind = definition.iter().find(|(name, _)| name == "kind");
        match kind.map(|(_, value)| value.as_str()) {
            Some("steps") => Self::Steps,
            Some("supervise") => Self::Supervised,
            _ => Self::Items,
        }
    }
}

/// All runs of a job, put together.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// How far it is, and who runs it now.
    pub status: Status,
    /// Who it is.
    pub job: JobRow,
    /// What it works on.
    pub kind: Kind,
    /// What decides its results, by name.
    pub definition: Vec<(String, String)>,
    /// When this was read, in milliseconds since 1970 UTC.
    pub read_at_ms: i64,
    /// Its runs, oldest first.
    pub runs: Vec<PastRun>,
    /// How long all runs took together, in milliseconds.
    pub worked_ms: u64,
    /// How long its attempts, steps or children took together, in microseconds.
    pub busy_us: u64,
    /// What ended and what was in progress, over working time.
    pub over_time: OverTime,
    /// How long it took until something was done: attempts, steps, or children that finished.
    pub done: Durations,
    /// How long it took until something failed.
    pub failed: Durations,
    /// What took longest, at most [`MAX_SLOWEST`], the slowest first; with what is known of the items.
    pub slowest: Vec<(Span, Option<ItemInBrief>)>,
    /// Attempts, steps or children with their beginning and end, as they began; the longest [`MAX_SPANS`] if there are more.
    pub spans: Vec<Span>,
    /// How many there are of which [`spans`](Self::spans) has the longest.
    pub total_spans: u64,
    /// The first dead items, at most [`MAX_DEAD`].
    pub dead: Vec<ItemInBrief>,
    /// Of what the dead items died, the most frequent first, at most [`MAX_ERRORS`].
    pub dead_by_error: Vec<(String, u64)>,
    /// The stop requests, oldest first; the last [`MAX_MOMENTS`].
    pub stops: Vec<StopTold>,
    /// When the job stood still; the last [`MAX_MOMENTS`].
    pub pauses: Vec<Pause>,
    /// The children of a supervised job; the last [`MAX_MOMENTS`].
    pub children: Vec<Child>,
    /// What else happened: restarts, warnings, checkpoints; the last [`MAX_MOMENTS`].
    pub marks: Vec<Mark>,
}

impl History {
    /// Reads the history of a job, also while it runs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no such job, [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt)
    /// when its state is damaged, [`ErrorKind::Busy`](crate::ErrorKind::Busy) when it runs on a network file system,
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when its events cannot be read.
    pub fn read(path: &JobPath) -> Result<Self> {
        let status = Status::read(path)?;
        let view = status::view(path)?;
        let log = Log::read(&path.events())?;
        let read_at_ms = wall_ms();
        let runs = past_run::of(&view, &status, &log, read_at_ms)?;
        let definition = view.definition()?;
        let kind = Kind::of(&definition);
        let mut reading = Reading::over(&runs);
        match kind {
            Kind::Items => reading.attempts(&view)?,
            Kind::Steps => reading.steps(&view)?,
            Kind::Supervised => reading.children(&log.children),
        }
        let dead = view.first_dead(MAX_DEAD)?.into_iter();
        let dead = dead.filter_map(|index| view.item_in_brief(index, MAX_TEXT).transpose());
        let slowest = reading.slowest.slowest_first().into_iter().map(|span| {
            let item = span.index.map(|index| view.item_in_brief(index, MAX_TEXT));
            Ok((span, item.transpose()?.flatten()))
        });
        Ok(Self {
            job: view.job()?,
            kind,
            definition,
            read_at_ms,
            worked_ms: runs.iter().map(PastRun::lasted_ms).sum(),
            busy_us: reading.busy_us,
            slowest: slowest.collect::<Result<_>>()?,
            total_spans: reading.spans.total(),
            spans: reading.spans.by_start(),
            dead: dead.collect::<Result<_>>()?,
            dead_by_error: view.dead_by_error(MAX_ERRORS)?,
            over_time: reading.over_time.summed(),
            done: reading.done,
            failed: reading.failed,
            stops: log.stops.into(),
            pauses: log.pauses.into(),
            children: log.children.into(),
            marks: log.marks.into(),
            runs,
            status,
        })
    }
}
