//! A directory of steps in the hands of a program.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use safepoint::Steps;

use super::WHAT;
use super::notice::PyNotice;
use super::report::PyStepsReport;
use super::scope::PyScope;
use crate::errors::raise;
use crate::ours::Ours;
use crate::shutdown::PyToken;

/// An open directory of steps.
#[pyclass(frozen, name = "Steps", module = "safepoint._native")]
pub(crate) struct PySteps {
    steps: Ours<Mutex<Option<Steps>>>,
    #[pyo3(get)]
    run: u32,
}

impl PySteps {
    fn take(&self) -> PyResult<Option<Steps>> {
        let steps = self.steps.get(WHAT).map_err(raise)?;
        Ok(steps.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

#[pymethods]
impl PySteps {
    /// Gives the steps and their outermost scope.
    #[staticmethod]
    #[pyo3(signature = (directory, token=None, on_notice=None))]
    fn open(
        py: Python<'_>,
        directory: PathBuf,
        token: Option<&Bound<'_, PyToken>>,
        on_notice: Option<Py<PyAny>>,
    ) -> PyResult<(Self, PyScope)> {
        let mut builder = Steps::builder(directory);
        if let Some(token) = token {
            builder = builder.token(&token.get().token);
        }
        if let Some(on_notice) = on_notice {
            builder = builder.on_notice(move |notice| {
                // Nobody is left to tell once the interpreter goes down.
                let _ = Python::try_attach(|py| {
                    if let Err(exception) = on_notice.call1(py, (PyNotice::of(notice),)) {
                        exception.write_unraisable(py, Some(on_notice.bind(py)));
                    }
                });
            });
        }
        let steps = py.detach(|| builder.open()).map_err(raise)?;
        let scope = PyScope::of((*steps).clone());
        let steps = Self {
            run: steps.run(),
            steps: Ours::new(Mutex::new(Some(steps))),
        };
        Ok((steps, scope))
    }

    /// Ends the run, and says what it came to; `None` if it was closed before.
    fn close(&self, py: Python<'_>) -> PyResult<Option<PyStepsReport>> {
        let Some(steps) = self.take()? else {
            return Ok(None);
        };
        let report = py.detach(|| steps.close()).map_err(raise)?;
        Ok(Some(PyStepsReport(report)))
    }

    /// Ends the run early: it counts as interrupted.
    fn end_early(&self, py: Python<'_>) -> PyResult<()> {
        let steps = self.take()?;
        py.detach(|| drop(steps));
        Ok(())
    }
}
