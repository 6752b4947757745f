//! What a run of steps came to.

use pyo3::prelude::*;
use safepoint::steps::StepsReport;

/// What a run of steps came to. `str()` is one line for a person.
#[pyclass(frozen, name = "StepsReport", module = "safepoint")]
pub(crate) struct PyStepsReport(pub(super) StepsReport);

#[pymethods]
impl PyStepsReport {
    #[getter]
    fn run(&self) -> u32 {
        self.0.run
    }

    #[getter]
    fn complete(&self) -> u64 {
        self.0.complete
    }

    #[getter]
    fn ran_again(&self) -> u64 {
        self.0.ran_again
    }

    #[getter]
    fn skipped(&self) -> u64 {
        self.0.skipped
    }

    #[getter]
    fn failed(&self) -> u64 {
        self.0.failed
    }

    #[getter]
    fn effects(&self) -> u64 {
        self.0.effects
    }

    #[getter]
    fn held(&self) -> u64 {
        self.0.held
    }

    /// The first hundred of those that were recorded and not asked for.
    #[getter]
    fn not_asked_for(&self) -> Vec<String> {
        self.0.not_asked_for.clone()
    }

    #[getter]
    fn not_asked_for_count(&self) -> u64 {
        self.0.not_asked_for_count
    }

    #[getter]
    fn was_stopped(&self) -> bool {
        self.0.was_stopped
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<StepsReport: {}>", self.0)
    }
}
