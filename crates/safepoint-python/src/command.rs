//! The command `safepoint`, as the wheel's console script calls it.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs a command line (the program's name first) and gives its exit code. A forced stop ends the process by its signal.
#[pyfunction]
fn command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| safepoint_cli::command(arguments))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(command, module)?)
}
