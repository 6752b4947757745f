//! Money or another counted resource, in exact millionths.

use pyo3::prelude::*;
use safepoint::shutdown::{Amount, Budget};

use crate::errors::raise;

/// A budget whose end asks for a stop.
#[pyclass(frozen, name = "Budget", module = "safepoint")]
pub(crate) struct PyBudget(pub(super) Budget);

/// An amount as Python has it: an `int`, a `float`, a `Decimal` or a text, read by its shortest exact decimal text, so that 0.1 is 0.1.
pub(crate) fn amount(value: &Bound<'_, PyAny>) -> PyResult<Amount> {
    let text = value.str()?;
    match text.to_str()?.parse() {
        Ok(amount) => Ok(amount),
        // `str` of a float may have an exponent.
        Err(refusal) => match value.extract::<f64>() {
            Ok(float) => Amount::try_from_f64(float).map_err(raise),
            Err(_) => Err(raise(refusal)),
        },
    }
}

#[pymethods]
impl PyBudget {
    fn spend(&self, py: Python<'_>, amount: &Bound<'_, PyAny>) -> PyResult<bool> {
        let amount = self::amount(amount)?;
        Ok(py.detach(|| self.0.spend(amount)).reached)
    }

    #[getter(_spent)]
    fn spent(&self) -> String {
        self.0.spent().to_string()
    }

    #[getter(_left)]
    fn left(&self) -> String {
        self.0.left().to_string()
    }

    #[getter(_limit)]
    fn limit(&self) -> String {
        self.0.limit().to_string()
    }

    fn lift(&self) {
        self.0.lift();
    }
}
