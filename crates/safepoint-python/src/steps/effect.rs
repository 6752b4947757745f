//! An effect between its beginning and its end, and one in doubt.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use safepoint::steps::{EffectInDoubt, EffectInProgress};
use safepoint::{Error, ErrorKind};

use super::value::Value;
use super::{PyWithin, WHAT};
use crate::errors::{self, raise};
use crate::ours::Ours;

/// An effect whose intent is durable. Collected without an end, it is in doubt.
#[pyclass(frozen, name = "EffectInProgress", module = "safepoint._native")]
pub(crate) struct PyEffectInProgress {
    key: String,
    #[pyo3(get)]
    idempotency_key: String,
    effect: Ours<Mutex<Option<EffectInProgress>>>,
    #[pyo3(get)]
    within: Py<PyWithin>,
}

impl PyEffectInProgress {
    pub(super) fn new(py: Python<'_>, effect: EffectInProgress) -> PyResult<Self> {
        Ok(Self {
            key: effect.key().to_owned(),
            idempotency_key: effect.idempotency_key().to_owned(),
            within: Py::new(py, PyWithin(Ours::new(effect.within())))?,
            effect: Ours::new(Mutex::new(Some(effect))),
        })
    }
}

/// What is left in `place`, once.
fn take<T>(place: &Ours<Mutex<Option<T>>>, key: &str) -> PyResult<T> {
    let taken = place.get(WHAT).map_err(raise)?;
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
    taken.ok_or_else(|| {
        let message = format!("effect `{key}` has ended already");
        raise(Error::new(ErrorKind::Closed, message))
    })
}

#[pymethods]
impl PyEffectInProgress {
    /// Records the result and gives it as it is read back.
    fn complete<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let effect = take(&self.effect, &self.key)?;
        match Value::of(value, &format!("the result of effect `{}`", self.key)) {
            Ok(value) => py
                .detach(|| effect.complete(&value))
                .map_err(raise)?
                .read(py),
            Err(refusal) => {
                // The library notes that it has happened, and is in doubt.
                let refused = Value::Refused(errors::text(&refusal));
                let _ = py.detach(|| effect.complete(&refused));
                Err(refusal)
            }
        }
    }

    /// Ends it with an exception: it is in doubt.
    fn fail(&self, py: Python<'_>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let error = errors::text(&PyErr::from_value(exception.clone()));
        let effect = take(&self.effect, &self.key)?;
        py.detach(|| effect.fail(error));
        Ok(())
    }

    /// Ends it with an exception that says that it has certainly not happened.
    fn not_done(&self, py: Python<'_>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let error = errors::text(&PyErr::from_value(exception.clone()));
        let effect = take(&self.effect, &self.key)?;
        py.detach(|| effect.not_done(error)).map_err(raise)
    }
}

/// An effect that was begun earlier, and may have happened or not. Collected, it stays so.
#[pyclass(frozen, name = "EffectInDoubt", module = "safepoint._native")]
pub(crate) struct PyEffectInDoubt {
    key: String,
    #[pyo3(get)]
    idempotency_key: String,
    doubt: Ours<Mutex<Option<EffectInDoubt>>>,
}

impl PyEffectInDoubt {
    pub(super) fn new(key: String, doubt: EffectInDoubt) -> Self {
        Self {
            key,
            idempotency_key: doubt.idempotency_key().to_owned(),
            doubt: Ours::new(Mutex::new(Some(doubt))),
        }
    }
}

#[pymethods]
impl PyEffectInDoubt {
    fn run_again(
        &self,
        py: Python<'_>,
        withins: &Bound<'_, PyTuple>,
    ) -> PyResult<PyEffectInProgress> {
        let doubt = take(&self.doubt, &self.key)?;
        let effect = super::inside(withins, || doubt.run_again())?;
        PyEffectInProgress::new(py, effect)
    }

    fn hold(&self, py: Python<'_>) -> PyResult<()> {
        let doubt = take(&self.doubt, &self.key)?;
        py.detach(|| doubt.hold()).map_err(raise)
    }

    /// It has happened, with this result, which is given as it is read back.
    fn complete<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        // Taken first: what cannot be recorded leaves it in doubt, to be asked for again.
        let doubt = take(&self.doubt, &self.key)?;
        let value = Value::of(value, &format!("the result of effect `{}`", self.key));
        let value = value?;
        py.detach(|| doubt.complete(&value))
            .map_err(raise)?
            .read(py)
    }

    /// Lets go of it: it stays in doubt.
    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        let doubt = take(&self.doubt, &self.key)?;
        py.detach(|| drop(doubt));
        Ok(())
    }
}
