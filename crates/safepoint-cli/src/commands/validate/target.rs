//! What is to be checked: a job by its name, or a path.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use safepoint::checkpoint::CheckpointReader;
use safepoint::checkpoint::cache::Cache;
use safepoint::job::JobPath;
use safepoint::queue::JOB_DB;
use safepoint::{ErrorKind, Result};

use crate::commands::checkpoint::CHECKPOINTS;
use crate::context::Context;

const EVENTS: &str = "events.jsonl";

/// What is to be checked.
pub(super) struct Target {
    /// The job, if it is one of the state directory's.
    pub(super) name: Option<String>,
    /// The state directory, unless a `job.db` alone was named.
    directory: Option<PathBuf>,
    /// The database of a job, which is missed if it is not there.
    pub(super) database: Option<PathBuf>,
    pub(super) events: Option<PathBuf>,
    pub(super) checkpoints: Vec<CheckpointReader>,
    pub(super) caches: Vec<Cache>,
}

impl Target {
    /// A job by its name, or else a path.
    pub(super) fn find(context: &Context, name: Option<&str>) -> Result<Self> {
        let error = match context.job(name) {
            Ok(job) => return Self::directory(&job.dir(), Some(job.name)),
            Err(error) => error,
        };
        let (ErrorKind::NotFound, Some(name)) = (error.kind(), name) else {
            return Err(error);
        };
        // A program that saves checkpoints and has no items.
        let of_program = JobPath::new(&context.state_dir, name).map(|job| job.dir());
        if let Some(directory) = of_program.ok().filter(|path| path.is_dir()) {
            return Self::directory(&directory, Some(name.to_owned()));
        }
        let path = Path::new(name);
        if path.is_dir() {
            Self::directory(path, None)
        } else if path.exists() {
            Ok(Self {
                name: None,
                directory: None,
                database: Some(path.to_path_buf()),
                events: None,
                checkpoints: Vec::new(),
                caches: Vec::new(),
            })
        } else {
            Err(error.with_hint(
                "name a job (`safepoint list` shows them), a state directory or a `job.db`",
            ))
        }
    }

    fn directory(path: &Path, name: Option<String>) -> Result<Self> {
        let checkpoints = checkpoints(path)?;
        let caches = caches(path)?;
        let (database, events) = (path.join(JOB_DB), path.join(EVENTS));
        let is_job = database.exists() || events.exists();
        // A directory without anything is one whose database is gone.
        let is_job = is_job || (checkpoints.is_empty() && caches.is_empty());
        Ok(Self {
            name,
            directory: Some(path.to_path_buf()),
            database: is_job.then_some(database),
            events: is_job.then_some(events),
            checkpoints,
            caches,
        })
    }

    /// What was found by the name that was given.
    pub(super) fn path(&self) -> &Path {
        let whole = self.database.as_deref().or(self.directory.as_deref());
        whole.unwrap_or(Path::new("."))
    }

    pub(super) fn text(&self) -> String {
        if let Some(name) = &self.name {
            return format!("job `{name}`");
        }
        let path = self.directory.as_deref().unwrap_or(self.path());
        format!("`{}`", path.display())
    }

    /// What to do about a damaged database.
    pub(super) fn way_out(&self) -> String {
        let database = self.path();
        let path = safepoint::job::quote(database.as_os_str().as_bytes());
        let fresh = match &self.name {
            Some(name) => format!(
                "; or begin anew with `safepoint run --fresh`, which keeps this state as `{name}.previous`"
            ),
            None => String::new(),
        };
        if !database.exists() {
            return format!("put a backup back{fresh}");
        }
        format!(
            "put a backup back; or copy what is readable with SQLite's own shell: `sqlite3 {path} .recover | sqlite3 recovered.db` (or `.dump`, if it was built without that){fresh}"
        )
    }
}

/// The checkpoints that a directory is of, or has.
fn checkpoints(path: &Path) -> Result<Vec<CheckpointReader>> {
    let mut found = Vec::new();
    for path in [path.to_path_buf(), path.join(CHECKPOINTS)] {
        if !path.is_dir() {
            continue;
        }
        let reader = CheckpointReader::open(path)?;
        for name in reader.names()? {
            if !reader.list(&name)?.is_empty() {
                found.push(reader);
                break;
            }
        }
    }
    Ok(found)
}

/// The caches that a directory is, or has.
fn caches(path: &Path) -> Result<Vec<Cache>> {
    let mut paths = vec![path.to_path_buf()];
    for name in safepoint::disk::list_dirs(path)? {
        paths.push(path.join(name));
    }
    let mut found = Vec::new();
    for path in paths {
        match Cache::builder(path).open_existing() {
            Ok(cache) => found.push(cache),
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
