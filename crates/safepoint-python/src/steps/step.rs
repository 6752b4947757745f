//! A step between its beginning and its end.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use safepoint::steps::StepInProgress;
use safepoint::{Error, ErrorKind};

use super::value::Value;
use super::{PyWithin, WHAT};
use crate::errors::{self, raise};
use crate::ours::Ours;

/// A step that has begun. Collected without an end, it is cut off.
#[pyclass(frozen, name = "StepInProgress", module = "safepoint._native")]
pub(crate) struct PyStepInProgress {
    name: String,
    step: Ours<Mutex<Option<StepInProgress>>>,
    #[pyo3(get)]
    within: Py<PyWithin>,
}

impl PyStepInProgress {
    pub(super) fn new(py: Python<'_>, step: StepInProgress) -> PyResult<Self> {
        Ok(Self {
            name: step.name().to_owned(),
            within: Py::new(py, PyWithin(Ours::new(step.within())))?,
            step: Ours::new(Mutex::new(Some(step))),
        })
    }

    fn take(&self) -> safepoint::Result<StepInProgress> {
        let step = self.step.get(WHAT)?;
        let taken = step.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| {
            Error::new(
                ErrorKind::Closed,
                format!("step `{}` has ended already", self.name),
            )
        })
    }
}

#[pymethods]
impl PyStepInProgress {
    /// Records the result and gives it as it is read back.
    fn complete<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let step = self.take().map_err(raise)?;
        match Value::of(value, &format!("the result of step `{}`", self.name)) {
            Ok(value) => py.detach(|| step.complete(&value)).map_err(raise)?.read(py),
            Err(refusal) => {
                // The library notes that the step has ended so; this refusal says more than its own.
                let refused = Value::Refused(errors::text(&refusal));
                let _ = py.detach(|| step.complete(&refused));
                Err(refusal)
            }
        }
    }

    /// Ends it with an exception of the body.
    fn fail(&self, py: Python<'_>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let error = errors::text(&PyErr::from_value(exception.clone()));
        let step = self.take().map_err(raise)?;
        py.detach(|| step.fail(error)).map_err(raise)
    }

    /// Gives it up: it is neither complete nor failed.
    fn cut_off(&self, py: Python<'_>) -> PyResult<()> {
        let step = self.take().map_err(raise)?;
        py.detach(|| drop(step));
        Ok(())
    }
}
