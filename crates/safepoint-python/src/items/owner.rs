//! The open directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use safepoint::items::{Begun, End, Items};
use safepoint::queue::RetryPolicy;

use super::item::PyItem;
use super::passage::PyPassage;
use super::value;
use crate::errors::raise;
use crate::shutdown::PyToken;

/// Items of one job, durable in one directory.
#[pyclass(frozen, name = "Items", module = "safepoint._native")]
pub(crate) struct PyItems {
    pub(super) items: Arc<Items>,
    is_keyed: bool,
}

#[pymethods]
impl PyItems {
    #[new]
    #[pyo3(signature = (directory, token, *, keyed, total, attempts, wait, retry_dead, fresh, in_flight, wait_in_line))]
    #[expect(clippy::too_many_arguments, reason = "called once, by name")]
    #[expect(clippy::fn_params_excessive_bools, reason = "called once, by name")]
    fn new(
        py: Python<'_>,
        directory: PathBuf,
        token: Option<PyRef<'_, PyToken>>,
        keyed: bool,
        total: Option<u64>,
        attempts: u32,
        wait: f64,
        retry_dead: bool,
        fresh: bool,
        in_flight: usize,
        wait_in_line: bool,
    ) -> PyResult<Self> {
        let base = crate::shutdown::seconds(wait, "a wait")?;
        let mut builder = Items::builder(directory)
            .keyed(keyed)
            .retry(RetryPolicy {
                max_attempts: attempts,
                base,
                ..RetryPolicy::default()
            })
            .retry_dead(retry_dead)
            .fresh(fresh)
            .in_flight(in_flight)
            .wait_in_line(wait_in_line);
        if let Some(token) = &token {
            builder = builder.token(&token.token);
        }
        if let Some(total) = total {
            builder = builder.total(total);
        }
        let items = py.detach(|| builder.open()).map_err(raise)?;
        Ok(Self {
            items: Arc::new(items),
            is_keyed: keyed,
        })
    }

    #[getter]
    fn run(&self) -> u32 {
        self.items.run()
    }

    /// Whether a stop was asked for.
    #[getter]
    fn stopping(&self) -> bool {
        self.items.token().is_stopping()
    }

    /// Whether a stop is not to wait for what is in progress any more.
    #[getter]
    fn terminating(&self) -> bool {
        self.items.token().phase() >= safepoint::shutdown::Phase::Terminating
    }

    /// What asked for the stop first: its message, and its signal if it was one.
    #[getter]
    fn reason(&self) -> Option<(String, Option<i32>)> {
        let reason = self.items.token().reason();
        reason.map(|request| (request.to_string(), request.signal))
    }

    /// Done, dead, waiting, pending: over all runs, as of the last commit.
    fn counts(&self) -> (u64, u64, u64, u64) {
        let counts = self.items.counts();
        (counts.done, counts.dead, counts.waiting, counts.pending)
    }

    /// What this run did so far.
    fn tally<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tally = self.items.tally();
        let said = PyDict::new(py);
        for (name, number) in [
            ("done", tally.done),
            ("failures", tally.failures),
            ("died", tally.died),
            ("skipped", tally.skipped),
            ("dead", tally.dead),
            ("duplicates", tally.duplicates),
            ("put_back", tally.put_back),
        ] {
            said.set_item(name, number)?;
        }
        Ok(said)
    }

    /// Begins an item: `("open", index, item)`, or `("done" | "dead", index, None)`, or `("duplicate" | "stopping", None, None)`.
    #[pyo3(signature = (content, key=None))]
    fn begin(
        &self,
        py: Python<'_>,
        content: &Bound<'_, PyAny>,
        key: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(&'static str, Option<u64>, Option<PyItem>)> {
        let key = key.map(value::key).transpose()?;
        let content = value::content(content, self.is_keyed)?;
        let begun = py.detach(|| {
            if self.items.is_ahead() {
                self.items.catch_up()?;
            }
            match &key {
                Some(key) => self.items.begin_with_key(key, &content),
                None => self.items.begin(&content),
            }
        });
        Ok(match begun.map_err(raise)? {
            Begun::Open(item) => ("open", Some(item.index()), Some(PyItem::new(item))),
            Begun::Done { index } => ("done", Some(index), None),
            Begun::Dead { index } => ("dead", Some(index), None),
            Begun::Duplicate => ("duplicate", None, None),
            Begun::Stopping => ("stopping", None, None),
        })
    }

    /// The recorded result of a done item, as JSON.
    fn result_at<'py>(&self, py: Python<'py>, index: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let result = py.detach(|| self.items.result_at(index)).map_err(raise)?;
        Ok(result.map(|bytes| PyBytes::new(py, &bytes)))
    }

    /// Of what a dead item died: its key, the last error, and after how many attempts.
    fn failure_at(&self, py: Python<'_>, index: u64) -> PyResult<(Option<String>, String, u32)> {
        let row = py.detach(|| self.items.item_at(index)).map_err(raise)?;
        let row = row.ok_or_else(|| {
            raise(safepoint::Error::new(
                safepoint::ErrorKind::NotFound,
                format!("there is no item {index}"),
            ))
        })?;
        Ok((row.key, row.error.unwrap_or_default(), row.attempts))
    }

    /// Goes over other items in a loop; `key` is a function, or `None`.
    fn passage(&self, source: Bound<'_, PyAny>, key: Option<Py<PyAny>>) -> PyPassage {
        PyPassage::new(Arc::clone(&self.items), source, key)
    }

    /// Waits until all that was said so far is durable.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.items.sync()).map_err(raise)
    }

    /// Ends the run. `left` says why there are more items; `None` if all were given.
    fn close<'py>(&self, py: Python<'py>, left: Option<String>) -> PyResult<Bound<'py, PyDict>> {
        let end = left.map_or(End::Exhausted, End::Left);
        let report = py.detach(|| self.items.close(end)).map_err(raise)?;
        let said = PyDict::new(py);
        said.set_item("run", report.run)?;
        said.set_item("outcome", report.outcome.name())?;
        said.set_item("done", report.counts.done)?;
        said.set_item("dead", report.counts.dead)?;
        said.set_item("waiting", report.counts.waiting)?;
        said.set_item("pending", report.counts.pending)?;
        said.set_item("total", report.total)?;
        said.set_item("done_now", report.done_now)?;
        said.set_item("failures", report.failures)?;
        said.set_item("put_back", report.given_up)?;
        said.set_item("elapsed", report.elapsed.as_secs_f64())?;
        said.set_item(
            "reason",
            report
                .requests
                .first()
                .map(|first| first.request.to_string()),
        )?;
        Ok(said)
    }
}

/// The longest time without a look at Python's own signals.
pub(super) const SLICE: Duration = Duration::from_millis(100);
