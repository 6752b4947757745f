//! The report of a stop.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use safepoint::shutdown::{HookOutcome, StopReport};

use super::request::PyStopRequest;

/// How a stop went: who asked, what was held up, what the hooks did.
#[pyclass(frozen, name = "StopReport", module = "safepoint")]
pub(crate) struct PyStopReport(pub(super) StopReport);

#[pymethods]
impl PyStopReport {
    #[getter]
    fn reason(&self) -> Option<PyStopRequest> {
        self.0.reason().map(PyStopRequest::from)
    }

    #[getter]
    fn requests(&self) -> Vec<PyStopRequest> {
        let requests = self.0.requests.iter();
        requests
            .map(|recorded| PyStopRequest::from(&recorded.request))
            .collect()
    }

    #[getter]
    fn exit_code(&self) -> u8 {
        self.0.exit_code()
    }

    #[getter]
    fn is_clean(&self) -> bool {
        self.0.is_clean()
    }

    #[getter]
    fn took(&self) -> f64 {
        self.0.took.as_secs_f64()
    }

    #[getter]
    fn total_interrupts(&self) -> usize {
        self.0.graceful_interrupts + self.0.immediate_interrupts
    }

    #[getter]
    fn graceful_interrupts(&self) -> usize {
        self.0.graceful_interrupts
    }

    #[getter]
    fn immediate_interrupts(&self) -> usize {
        self.0.immediate_interrupts
    }

    /// Units that were committed, rolled back and refused.
    #[getter]
    fn units(&self) -> (u64, u64, u64) {
        let units = &self.0.units;
        (units.committed, units.rolled_back, units.refused)
    }

    /// What was still in progress when the grace period was over.
    #[getter]
    fn given_up(&self) -> Vec<String> {
        let given_up = self.0.given_up.iter();
        given_up.map(|held| held.open.to_string()).collect()
    }

    /// Rollbacks that failed, as (unit, message).
    #[getter]
    fn failures(&self) -> Vec<(String, String)> {
        let failures = self.0.failures.iter();
        failures
            .map(|failure| (failure.unit.clone(), failure.message.clone()))
            .collect()
    }

    /// One dictionary a hook: order, name, outcome, error, seconds.
    #[getter]
    fn hooks<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let hooks = self.0.hooks.iter();
        hooks
            .map(|hook| {
                let (outcome, error) = match &hook.outcome {
                    HookOutcome::Failed(error) => ("failed", Some(error.as_str())),
                    HookOutcome::Panicked(error) => ("panicked", Some(error.as_str())),
                    HookOutcome::Done => ("done", None),
                    _ => ("hung", None),
                };
                let said = PyDict::new(py);
                said.set_item("order", hook.order.name())?;
                said.set_item("name", &hook.name)?;
                said.set_item("outcome", outcome)?;
                said.set_item("error", error)?;
                said.set_item("seconds", hook.took.as_secs_f64())?;
                Ok(said)
            })
            .collect()
    }

    /// The lines `interrupt_initiated` and `interrupt_completed` of `events.jsonl`.
    #[pyo3(signature = (**fields))]
    fn event_lines(&self, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<String>> {
        let mut pairs = Vec::new();
        if let Some(fields) = fields {
            for (name, value) in fields {
                pairs.push((name.extract::<String>()?, value.str()?.to_string()));
            }
        }
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Ok(self.0.event_lines(&pairs))
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        let reason = self.0.reason().map(ToString::to_string);
        format!(
            "<StopReport: {}>",
            reason.as_deref().unwrap_or("no stop was asked for")
        )
    }
}
