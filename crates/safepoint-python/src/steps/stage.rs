//! A stage between its beginning and its end.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use safepoint::steps::{Scope, StageInProgress};
use safepoint::{Error, ErrorKind};

use super::scope::PyScope;
use super::{PyWithin, WHAT};
use crate::errors::{self, raise};
use crate::ours::Ours;

/// A stage that has begun.
#[pyclass(frozen, name = "StageInProgress", module = "safepoint._native")]
pub(crate) struct PyStageInProgress {
    scope: Ours<Scope>,
    stage: Ours<Mutex<Option<StageInProgress>>>,
    #[pyo3(get)]
    within: Py<PyWithin>,
}

impl PyStageInProgress {
    pub(super) fn new(py: Python<'_>, stage: StageInProgress) -> PyResult<Self> {
        Ok(Self {
            scope: Ours::new(stage.scope().clone()),
            within: Py::new(py, PyWithin(Ours::new(stage.within())))?,
            stage: Ours::new(Mutex::new(Some(stage))),
        })
    }

    fn take(&self) -> PyResult<StageInProgress> {
        let stage = self.stage.get(WHAT).map_err(raise)?;
        let taken = stage.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| {
            raise(Error::new(
                ErrorKind::Closed,
                "this stage has ended already",
            ))
        })
    }
}

#[pymethods]
impl PyStageInProgress {
    fn scope(&self) -> PyResult<PyScope> {
        let scope = self.scope.get(WHAT).map_err(raise)?;
        Ok(PyScope::of(scope.clone()))
    }

    fn complete(&self, py: Python<'_>) -> PyResult<()> {
        let stage = self.take()?;
        py.detach(|| stage.complete());
        Ok(())
    }

    fn cut_off(&self, py: Python<'_>) -> PyResult<()> {
        let stage = self.take()?;
        py.detach(|| stage.cut_off());
        Ok(())
    }

    fn fail(&self, py: Python<'_>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let error = errors::text(&PyErr::from_value(exception.clone()));
        let stage = self.take()?;
        py.detach(|| stage.fail(error));
        Ok(())
    }
}
