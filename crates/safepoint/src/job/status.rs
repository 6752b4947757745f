//! Jobs seen from outside: which there are, how far they are, and what may be done to one that does not run.

use std::path::Path;

use super::child_view::ChildView;
use super::in_progress::InProgressView;
use super::layout::JobPath;
use super::owner::{self, current_owner};
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::owner::Owner;
use crate::queue::{Database, JOB_DB, Locking, Progress, RunRow, StepCounts, View};

/// A job that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub path: JobPath,
    /// When something last happened to it, in milliseconds since 1970 UTC.
    pub changed_at_ms: i64,
}

/// The jobs below `root`, the one that changed last at first.
///
/// # Errors
///
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when the directory cannot be read.
pub fn list(root: &Path) -> Result<Vec<Listed>> {
    let mut jobs = Vec::new();
    for name in disk::list_dirs(root)? {
        let Ok(path) = JobPath::new(root, &name) else {
            continue;
        };
        let changed = [path.events(), path.db()]
            .iter()
            .filter_map(|file| disk::modified_ms(file))
            .max();
        if let Some(changed_at_ms) = changed {
            jobs.push(Listed {
                path,
                changed_at_ms,
            });
        }
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.changed_at_ms));
    Ok(jobs)
}

/// Opens the items and results of a job to read, also while it runs.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] when there is no such job, [`ErrorKind::Corrupt`] when its state is damaged or gone,
/// [`ErrorKind::Busy`] when it runs on a network file system.
pub fn view(path: &JobPath) -> Result<View> {
    let dir = path.open()?;
    if !dir.has(JOB_DB) {
        return Err(gone(path));
    }
    View::open(&dir.file(JOB_DB)).map_err(|error| match (error.kind(), current_owner(path)) {
        (ErrorKind::Busy, Ok(Some(owner))) => owner::refusal(path, &owner),
        _ => error,
    })
}

/// The error for a job with traces of a run and without its database.
pub(crate) fn gone(path: &JobPath) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "job `{}` has run before, but its `{JOB_DB}` is gone",
            path.name
        ),
    )
    .with_hint(format!(
        "put `{}` back from a backup, or begin anew with `--fresh`",
        path.db().display()
    ))
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// `running`, `paused_rate_limit`, `interrupted`, `completed` or `failed`.
    pub status: String,
    /// Who runs it now.
    pub owner: Option<Owner>,
    /// How far it is.
    pub progress: Progress,
    /// Its steps and effects, if it is a job of steps.
    pub steps: StepCounts,
    /// Its child, if it is a supervised job.
    pub child: Option<ChildView>,
    /// Its runs, oldest first.
    pub runs: Vec<RunRow>,
    /// What is in progress.
    pub in_progress: InProgressView,
}

impl Status {
    /// Reads the state of a job, also while it runs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no such job, [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when its state is damaged.
    pub fn read(path: &JobPath) -> Result<Self> {
        let dir = path.open()?;
        let owner = current_owner(path)?;
        let view = view(path)?;
        let runs = view.runs()?;
        let in_progress = if owner.is_some() {
            InProgressView::read(&dir)?
        } else {
            InProgressView::default()
        };
        let progress = view.progress()?;
        let open = progress.counts.pending + progress.counts.waiting;
        let status = match (&owner, runs.last().and_then(|run| run.outcome.as_deref())) {
            (Some(owner), _) => owner.status.clone(),
            // Dead items that became pending again are work for the next run.
            (None, Some("completed")) if open == 0 => "completed".to_owned(),
            (None, Some("failed")) => "failed".to_owned(),
            (None, _) => "interrupted".to_owned(),
        };
        Ok(Self {
            name: path.name.clone(),
            status,
            owner,
            progress,
            steps: view.step_counts()?,
            child: ChildView::read(&dir)?,
            runs,
            in_progress,
        })
    }
}

/// Makes dead items pending again: all, or those with the given indexes. Returns how many.
///
/// # Durability
///
/// When this returns, the change survives a power cut.
///
/// # Errors
///
/// [`ErrorKind::Busy`](crate::ErrorKind::Busy) while somebody runs the job; otherwise as its state is.
pub fn retry(path: &JobPath, only: Option<&[u64]>) -> Result<u64> {
    let dir = path.open()?;
    let _owned = owner::take(path)?;
    let locking = Locking::of(dir.path())?;
    Database::open(&path.db(), locking)?.retry(only)
}

/// Removes a job and all its state, its results and published files included.
///
/// # Errors
///
/// [`ErrorKind::Busy`](crate::ErrorKind::Busy) while somebody runs the job; [`ErrorKind::Io`](crate::ErrorKind::Io) when something cannot be removed.
pub fn clean(path: &JobPath) -> Result<()> {
    let dir = path.open()?;
    let _owned = owner::take(path)?;
    // Out of the way in one step, so that a kill in between leaves no half a job. The name is none that a job can have.
    let aside = path.root.join(format!(".{}.removed", path.name));
    disk::remove_tree(&aside)?;
    disk::rename(dir.path(), &aside)?;
    disk::remove_tree(&aside)
}
