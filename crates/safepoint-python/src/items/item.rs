//! One item in progress, for those who work on several at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use safepoint::items::{Failed, Item, Retry, Waiting};
use safepoint::{Error, ErrorKind};

use crate::errors::raise;

/// An item that is being worked on.
#[pyclass(frozen, name = "Item", module = "safepoint._native")]
pub(crate) struct PyItem(Mutex<Option<Item>>);

/// An item between two attempts.
#[pyclass(frozen, name = "Waiting", module = "safepoint._native")]
pub(crate) struct PyWaiting(Mutex<Option<Waiting>>);

fn taken<T>(place: &Mutex<Option<T>>) -> PyResult<T> {
    let value = place.lock().unwrap_or_else(PoisonError::into_inner).take();
    value.ok_or_else(|| {
        raise(Error::new(
            ErrorKind::Closed,
            "it was said already what came of this item",
        ))
    })
}

/// What the front says of another attempt: `retry` false for never, `after` seconds, or as usual.
pub(super) fn retry(retry: bool, after: Option<f64>) -> PyResult<Retry> {
    Ok(match (retry, after) {
        (false, _) => Retry::Never,
        (true, Some(after)) => Retry::After(crate::shutdown::seconds(after, "a wait")?),
        (true, None) => Retry::AsUsual,
    })
}

impl PyItem {
    pub(super) fn new(item: Item) -> Self {
        Self(Mutex::new(Some(item)))
    }
}

impl PyWaiting {
    pub(super) fn new(waiting: Waiting) -> Self {
        Self(Mutex::new(Some(waiting)))
    }
}

#[pymethods]
impl PyItem {
    /// The number of this attempt, from 1.
    #[getter]
    fn attempt(&self) -> Option<u32> {
        let item = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        item.as_ref().map(Item::attempt)
    }

    /// It is worked on from now on, in this process.
    fn in_process(&self, pid: u32) {
        let mut item = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(item) = &mut *item {
            item.in_process(pid);
        }
    }

    /// Done, with a result in JSON.
    fn done(&self, py: Python<'_>, result: Vec<u8>) -> PyResult<()> {
        let item = taken(&self.0)?;
        py.detach(|| item.done(result)).map_err(raise)
    }

    /// Its attempt failed. What waits for another one, if it is not dead.
    #[pyo3(signature = (error, details, again=true, after=None))]
    fn failed(
        &self,
        py: Python<'_>,
        error: &str,
        details: &str,
        again: bool,
        after: Option<f64>,
    ) -> PyResult<Option<PyWaiting>> {
        let again = retry(again, after)?;
        let item = taken(&self.0)?;
        let failed = py
            .detach(|| item.failed(error, details.as_bytes(), again))
            .map_err(raise)?;
        Ok(match failed {
            Failed::Waiting(waiting) => Some(PyWaiting::new(waiting)),
            Failed::Dead => None,
        })
    }

    /// As if it had not been begun.
    fn put_back(&self) {
        drop(taken(&self.0));
    }
}

#[pymethods]
impl PyWaiting {
    /// Seconds until its time.
    #[getter]
    fn remaining(&self) -> f64 {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting
            .as_ref()
            .map_or(Duration::ZERO, Waiting::remaining)
            .as_secs_f64()
    }

    /// Begins the next attempt; `None` once a stop was asked for.
    fn begin(&self) -> PyResult<Option<PyItem>> {
        let waiting = taken(&self.0)?;
        Ok(waiting.begin().ok().map(PyItem::new))
    }
}
