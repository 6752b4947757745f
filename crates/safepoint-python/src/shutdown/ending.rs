//! Work on a thread of Python's that a thread of Rust's waits for.
//!
//! Never on the thread of Rust's: when the interpreter ends, `CPython` before 3.14 ends every other thread that is inside it by `pthread_exit`, and frames of Rust cannot be
//! unwound that way. What happens here inside the interpreter is one call of C.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::errors;

/// Told once, when the work has ended. Dropped untold, whoever waits is released, too.
#[pyclass(frozen, name = "Ending", module = "safepoint._native")]
pub(crate) struct PyEnding(SyncSender<Result<(), String>>);

/// What a waiting thread hears: nothing, if the interpreter has gone first.
pub(crate) type Ended = Receiver<Result<(), String>>;

impl PyEnding {
    pub(crate) fn new() -> (Self, Ended) {
        let (sender, receiver) = sync_channel(1);
        (Self(sender), receiver)
    }
}

#[pymethods]
impl PyEnding {
    /// It ended, with this failure or none.
    fn tell(&self, failure: Option<String>) {
        // A second word is one too many, and nobody may be waiting any more.
        let _ = self.0.try_send(failure.map_or(Ok(()), Err));
    }
}

/// Begins `function(*arguments)` on a thread of Python's.
pub(crate) fn begin<'py>(
    py: Python<'py>,
    function: &Py<PyAny>,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> Result<(), String> {
    static START: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let begun = START
        .get_or_try_init(py, || {
            let threads = py.import("_thread")?;
            threads.getattr("start_new_thread").map(Bound::unbind)
        })
        .and_then(|start| {
            let arguments = arguments.into_pyobject(py)?;
            start.bind(py).call1((function, arguments))
        });
    begun
        .map(drop)
        .map_err(|exception| errors::text(&exception))
}
