//! What is stored, to read, also while somebody writes.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use safepoint::queue::{JOB_DB, State, View, ViewFilter};
use safepoint::{Error, ErrorKind, Result};

use crate::errors::raise;

fn open(directory: &Path) -> Result<View> {
    let file = directory.join(JOB_DB);
    if !file.exists() {
        let error = Error::new(
            ErrorKind::NotFound,
            format!("nothing has run in `{}` yet", directory.display()),
        );
        return Err(error.with_hint("it is made by the first run"));
    }
    View::open(&file)
}

/// Done, dead, waiting, pending, and the total if it is known.
#[pyfunction]
pub(crate) fn read_counts(
    py: Python<'_>,
    directory: PathBuf,
) -> PyResult<(u64, u64, u64, u64, Option<u64>)> {
    let progress = py.detach(|| open(&directory)?.progress()).map_err(raise)?;
    let counts = progress.counts;
    Ok((
        counts.done,
        counts.dead,
        counts.waiting,
        counts.pending,
        progress.total,
    ))
}

/// A result as Python gets it: index, key, JSON.
type Row<'py> = (u64, Option<String>, Bound<'py, PyBytes>);

/// Results of done items from index `first` on, in order, at most `limit`.
#[pyfunction]
pub(crate) fn read_results(
    py: Python<'_>,
    directory: PathBuf,
    first: u64,
    limit: u64,
) -> PyResult<Vec<Row<'_>>> {
    let read = || {
        let filter = ViewFilter {
            state: Some(State::Done),
            first,
            limit: Some(limit),
        };
        let mut rows = Vec::new();
        open(&directory)?.for_each(filter, |row| {
            rows.push((row.index, row.key, row.result.unwrap_or_default()));
            Ok(true)
        })?;
        Ok(rows)
    };
    let rows = py.detach(read).map_err(raise)?;
    Ok(rows
        .into_iter()
        .map(|(index, key, result)| (index, key, PyBytes::new(py, &result)))
        .collect())
}
