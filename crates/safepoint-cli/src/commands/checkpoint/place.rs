//! Whose checkpoints are meant: a directory of them, or a job that has some.

use std::path::{Path, PathBuf};

use safepoint::checkpoint::{CheckpointReader, Generation};
use safepoint::job::JobPath;
use safepoint::{Error, ErrorKind, Result};

use crate::context::Context;
use crate::render::safe;

/// The folder of checkpoints in a state directory.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// Opens the checkpoints of a job (`.safepoint/JOB/checkpoints`), or those in a directory.
///
/// # Errors
///
/// Kind `NotFound` when there is neither.
pub(super) fn open(context: &Context, place: &Path) -> Result<CheckpointReader> {
    CheckpointReader::open(find(context, place)?)
}

/// # Errors
///
/// Kind `NotFound` when there is neither.
pub(super) fn find(context: &Context, place: &Path) -> Result<PathBuf> {
    let job = place
        .to_str()
        .and_then(|name| JobPath::new(&context.state_dir, name).ok());
    let of_job = job.map(|job| job.dir().join(CHECKPOINTS));
    if let Some(of_job) = of_job.filter(|path| path.is_dir()) {
        return Ok(of_job);
    }
    let inside = place.join(CHECKPOINTS);
    if inside.is_dir() {
        return Ok(inside);
    }
    if place.is_dir() {
        return Ok(place.to_path_buf());
    }
    let shown = safe(&place.to_string_lossy(), false);
    let message = format!(
        "`{shown}` is neither a directory nor a job with checkpoints in `{}`",
        context.state_dir.display()
    );
    Err(Error::new(ErrorKind::NotFound, message)
        .with_hint("name the directory that the program gave to `CheckpointStore::open`"))
}

/// The names of the states that have generations, or the one asked for.
///
/// # Errors
///
/// Kind `NotFound` when the one asked for is not there.
pub(super) fn names(reader: &CheckpointReader, wanted: Option<&str>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in reader.names()? {
        // Any folder could be a state by its name.
        if !reader.list(&name)?.is_empty() {
            names.push(name);
        }
    }
    let Some(wanted) = wanted else {
        return Ok(names);
    };
    if names.iter().any(|name| name == wanted) {
        return Ok(vec![wanted.to_owned()]);
    }
    let message = format!(
        "no state `{}` in `{}`",
        safe(wanted, false),
        reader.path().display()
    );
    Err(Error::new(ErrorKind::NotFound, message).with_hint(there_are(&names)))
}

/// The one state that is meant.
///
/// # Errors
///
/// Kind `Invalid` when there are several and none was named; `NotFound` when there is none.
pub(super) fn name(reader: &CheckpointReader, wanted: Option<&str>) -> Result<String> {
    let mut names = names(reader, wanted)?;
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => Err(nothing(reader)),
        (Some(last), false) => {
            names.push(last);
            let message = format!("`{}` has several states", reader.path().display());
            Err(Error::invalid(message).with_hint(there_are(&names)))
        }
    }
}

fn there_are(names: &[String]) -> String {
    match names {
        [] => "there are no checkpoints".to_owned(),
        _ => format!("name one of: {}", names.join(", ")),
    }
}

pub(super) fn nothing(reader: &CheckpointReader) -> Error {
    let message = format!("there are no checkpoints in `{}`", reader.path().display());
    Error::new(ErrorKind::NotFound, message)
        .with_hint("name the directory that the program gave to `CheckpointStore::open`")
}

/// The generation that is meant: the newest unless one was named.
///
/// # Errors
///
/// Kind `NotFound` when there is none.
pub(super) fn generation(
    reader: &CheckpointReader,
    name: &str,
    wanted: Option<u64>,
) -> Result<Generation> {
    if let Some(number) = wanted {
        return Ok(Generation(number));
    }
    let listed = reader.list(name)?;
    let newest = listed.last().map(|listed| listed.generation);
    newest.ok_or_else(|| nothing(reader))
}
