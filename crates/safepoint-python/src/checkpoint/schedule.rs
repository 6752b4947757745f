//! When to save.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use safepoint::Error;
use safepoint::checkpoint::Schedule;

use super::store::PyStore;
use crate::errors::raise;

/// The base of `safepoint.Schedule`.
#[pyclass(frozen, subclass, name = "Schedule", module = "safepoint._native")]
pub(crate) struct PySchedule(Mutex<Schedule>);

impl PySchedule {
    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| raise(Error::invalid(format!("{seconds} seconds cannot be"))))
}

#[pymethods]
impl PySchedule {
    #[new]
    #[pyo3(signature = (steps, seconds, automatic))]
    fn new(steps: Option<u64>, seconds: Option<f64>, automatic: Option<f64>) -> PyResult<Self> {
        let schedule = match (steps, seconds.map(duration).transpose()?, automatic) {
            (None, None, Some(between)) => Schedule::automatic(duration(between)?),
            (Some(steps), None, None) => Schedule::every_steps(steps),
            (None, Some(interval), None) => Schedule::every_interval(interval),
            (Some(steps), Some(interval), None) => Schedule::every(steps, interval),
            _ => {
                let error = Error::invalid(
                    "a schedule needs `steps`, `seconds` or both, or `automatic` alone",
                );
                return Err(raise(error));
            }
        };
        Ok(Self(Mutex::new(schedule)))
    }

    /// Whether to save at the end of this step; while `store` saves in the background, if one is given.
    #[pyo3(signature = (store=None))]
    fn _due(&self, store: Option<&PyStore>) -> PyResult<bool> {
        let is_due = match store {
            None => self.lock().due(),
            Some(store) => store.with(|store| self.lock().due_while(store))?,
        };
        Ok(is_due)
    }

    #[getter]
    fn interval(&self) -> Option<f64> {
        self.lock()
            .interval()
            .map(|interval| interval.as_secs_f64())
    }

    #[getter]
    fn cost(&self) -> Option<f64> {
        self.lock().cost().map(|cost| cost.as_secs_f64())
    }
}
