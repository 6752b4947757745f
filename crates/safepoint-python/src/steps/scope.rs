//! Names within names, and what can be asked of them.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use safepoint::steps::{EffectBegin, Resolution, Scope, StepBegin};

use super::effect::{PyEffectInDoubt, PyEffectInProgress};
use super::stage::PyStageInProgress;
use super::step::PyStepInProgress;
use super::value::{self, Value};
use super::{PyRecorded, WHAT};
use crate::errors::{Carried, raise, stopped};
use crate::ours::Ours;

/// A place for names; the base of `safepoint.Steps`.
#[pyclass(frozen, name = "Scope", module = "safepoint._native")]
pub(crate) struct PyScope(Ours<Scope>);

impl PyScope {
    pub(super) fn of(scope: Scope) -> Self {
        Self(Ours::new(scope))
    }

    fn get(&self) -> PyResult<&Scope> {
        self.0.get(WHAT).map_err(raise)
    }
}

#[pymethods]
impl PyScope {
    #[getter]
    fn name(&self) -> PyResult<&str> {
        Ok(self.get()?.name())
    }

    fn scope(&self, name: &str) -> PyResult<Self> {
        Ok(Self::of(self.get()?.scope(name)))
    }

    /// A recorded result, or a step that has begun; raises `Stopped` instead of beginning one once a stop was asked for.
    #[pyo3(signature = (name, withins, check=None, memoises_errors=false))]
    fn begin_step(
        &self,
        py: Python<'_>,
        name: &str,
        withins: &Bound<'_, PyTuple>,
        check: Option<Py<PyAny>>,
        memoises_errors: bool,
    ) -> PyResult<Py<PyAny>> {
        let scope = self.get()?;
        let begin = super::inside(withins, || {
            let mut step = scope.at::<Value>(name);
            if memoises_errors {
                step = step.memoise_errors();
            }
            if let Some(check) = check {
                step = step.try_check(move |value| holds(&check, value));
            }
            step.begin()
        })?;
        match begin {
            StepBegin::Recorded(value) => value.recorded(py),
            StepBegin::Begun(step) => Ok(Py::new(py, PyStepInProgress::new(py, step)?)?.into_any()),
            StepBegin::Stopped => Err(stopped(&format!(
                "step `{name}` does not begin: a stop was asked for"
            ))),
        }
    }

    /// A recorded result, an effect whose intent is durable, one that is in doubt, or `None` for one that is held.
    fn begin_effect(
        &self,
        py: Python<'_>,
        key: &str,
        withins: &Bound<'_, PyTuple>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let scope = self.get()?;
        let begin = super::inside(withins, || scope.begin_effect::<Value>(key))?;
        match begin {
            EffectBegin::Complete(value) => value.recorded(py).map(Some),
            EffectBegin::Begun(effect) => {
                let effect = PyEffectInProgress::new(py, effect)?;
                Ok(Some(Py::new(py, effect)?.into_any()))
            }
            EffectBegin::InDoubt(doubt) => {
                let doubt = PyEffectInDoubt::new(key.to_owned(), doubt);
                Ok(Some(Py::new(py, doubt)?.into_any()))
            }
            EffectBegin::Held => Ok(None),
            EffectBegin::Stopped => Err(stopped(&format!(
                "effect `{key}` does not begin: a stop was asked for"
            ))),
        }
    }

    fn begin_stage(
        &self,
        py: Python<'_>,
        name: &str,
        withins: &Bound<'_, PyTuple>,
    ) -> PyResult<PyStageInProgress> {
        let scope = self.get()?;
        let stage = super::inside(withins, || scope.begin_stage(name))?;
        PyStageInProgress::new(py, stage)
    }

    fn recorded(&self, py: Python<'_>, name: &str) -> PyResult<Option<PyRecorded>> {
        let scope = self.get()?;
        let recorded = py.detach(|| scope.recorded::<Value>(name)).map_err(raise)?;
        recorded
            .map(|value| {
                let value = value.read(py)?.unbind();
                Ok(PyRecorded { value })
            })
            .transpose()
    }

    fn forget(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        let scope = self.get()?;
        py.detach(|| scope.forget(name)).map_err(raise)
    }

    fn resolve_done(&self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let scope = self.get()?;
        let result = value::text(value, &format!("the result of effect `{key}`"))?;
        let resolution = Resolution::Done(result);
        let resolve = || scope.resolve(key, resolution);
        value.py().detach(resolve).map_err(raise)
    }

    fn resolve_again(&self, py: Python<'_>, key: &str) -> PyResult<()> {
        let scope = self.get()?;
        py.detach(|| scope.resolve(key, Resolution::Again))
            .map_err(raise)
    }
}

/// Asks a function of the program whether a recorded result still holds.
fn holds(check: &Py<PyAny>, value: &Value) -> safepoint::Result<bool> {
    Python::attach(|py| {
        let value = value.read(py)?;
        check.bind(py).call1((value,))?.is_truthy()
    })
    .map_err(Carried::error)
}
