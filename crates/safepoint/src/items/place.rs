//! The directory of items: made, taken, and refused where it is of another kind.

use std::path::Path;

use crate::clock::wall_ms;
use crate::disk::StateDir;
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobPath;
use crate::queue::{Database, JOB_DB, JobRow};

/// What tells a job of items that a program gives from one of a command, in its definition.
const KIND: (&str, &str) = ("kind", "items");

/// The job that a directory is.
pub(super) fn job_path(directory: &Path) -> Result<JobPath> {
    let name = directory.file_name().and_then(|name| name.to_str());
    let Some(name) = name else {
        return Err(Error::invalid(format!(
            "`{}` cannot be the directory of a job",
            directory.display()
        ))
        .with_hint("give one whose last part is a name"));
    };
    let root = match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    // Any name that a directory can have; the command finds those that are below `.safepoint`.
    Ok(JobPath {
        root: root.to_path_buf(),
        name: name.to_owned(),
    })
}

fn definition(is_keyed: bool) -> [(String, String); 2] {
    let told_by = if is_keyed { "key" } else { "place" };
    [
        (KIND.0.to_owned(), KIND.1.to_owned()),
        ("told_by".to_owned(), told_by.to_owned()),
    ]
}

/// Makes the file where there is none.
pub(super) fn make_database(path: &JobPath, dir: &StateDir, is_keyed: bool) -> Result<()> {
    if dir.has(JOB_DB) {
        return Ok(());
    }
    if dir.has(&format!("{JOB_DB}-wal")) || path.events().exists() {
        return Err(crate::job::gone(path));
    }
    let job = JobRow {
        uuid: uuid::Uuid::now_v7().to_string(),
        name: path.name.clone(),
        created_at_ms: wall_ms(),
        created_by: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Database::create(&path.db(), &job, &definition(is_keyed))
}

/// Refuses the directory of a job of another kind, and items that are told apart in another way.
pub(super) fn check(path: &JobPath, is_keyed: bool, stored: &[(String, String)]) -> Result<()> {
    let ours = definition(is_keyed);
    let has = |pair: &(String, String)| stored.contains(pair);
    if !has(&ours[0]) {
        return Err(Error::new(
            ErrorKind::Incompatible,
            format!(
                "`{}` is a job, but not one of a program's own items",
                path.dir().display()
            ),
        )
        .with_hint("give the items a directory of their own"));
    }
    if !has(&ours[1]) {
        let (before, now) = if is_keyed {
            ("their place", "a key")
        } else {
            ("a key", "their place")
        };
        return Err(Error::new(
            ErrorKind::Incompatible,
            format!(
                "the items of `{}` were told apart by {before}, not by {now}",
                path.name
            ),
        )
        .with_hint(
            "give them as they were given at first, begin anew (fresh), or take another directory",
        ));
    }
    Ok(())
}
