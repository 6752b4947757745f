//! A unit: a guarded section that a stop waits for.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyList;
use safepoint::shutdown::OwnedUnit;

use crate::errors;

/// An entered unit. Dropped without a commit it is rolled back: also when Python collects it because its generator was abandoned.
#[pyclass(frozen, name = "Unit", module = "safepoint._native")]
pub(crate) struct PyUnit(Mutex<Option<OwnedUnit>>);

impl PyUnit {
    /// `actions` are functions without arguments. The list is shared with the front, which empties it when it has run them itself.
    pub(super) fn new(mut unit: OwnedUnit, actions: Py<PyList>) -> Self {
        unit.on_rollback(move || {
            Python::attach(|py| {
                let mut failures = Vec::new();
                let actions = actions.bind(py);
                while !actions.is_empty() {
                    let action = actions.call_method0("pop");
                    if let Err(exception) = action.and_then(|action| action.call0()) {
                        failures.push(errors::text(&exception));
                    }
                }
                if failures.is_empty() {
                    Ok(())
                } else {
                    Err(failures.join("; "))
                }
            })
        });
        Self(Mutex::new(Some(unit)))
    }

    fn take(&self) -> Option<OwnedUnit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl PyUnit {
    fn commit(&self, py: Python<'_>) {
        if let Some(unit) = self.take() {
            py.detach(|| unit.commit());
        }
    }

    fn roll_back(&self, py: Python<'_>) {
        if let Some(unit) = self.take() {
            py.detach(|| drop(unit));
        }
    }
}
