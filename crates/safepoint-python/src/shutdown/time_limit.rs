//! A time limit whose end asks for a stop.

use pyo3::prelude::*;
use safepoint::shutdown::TimeLimit;

/// A time limit whose end asks for a stop.
#[pyclass(frozen, name = "TimeLimit", module = "safepoint")]
pub(crate) struct PyTimeLimit(pub(super) TimeLimit);

#[pymethods]
impl PyTimeLimit {
    #[getter]
    fn remaining(&self) -> f64 {
        self.0.remaining().as_secs_f64()
    }

    fn lift(&self) {
        self.0.lift();
    }
}
