//! An iterator that ends at the safepoint between two items.

use pyo3::prelude::*;
use pyo3::types::PyIterator;
use safepoint::shutdown::ShutdownToken;

/// Gives the items of another iterator until a stop is asked for. The item in progress is not disturbed: the check is between items.
#[pyclass(frozen, name = "Iterate", module = "safepoint")]
pub(crate) struct PyIterate {
    pub(super) token: ShutdownToken,
    pub(super) items: Py<PyIterator>,
}

#[pymethods]
impl PyIterate {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        if self.token.is_stopping() {
            return None;
        }
        self.items.bind(py).clone().next()
    }

    fn __length_hint__(&self, py: Python<'_>) -> PyResult<usize> {
        self.items.bind(py).as_any().len()
    }
}
