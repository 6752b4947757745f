//! How a thread of Python's tells that it is done.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use pyo3::prelude::*;

/// Told once, when a hook has ended. Dropped untold, whoever waits is released, too.
#[pyclass(frozen, name = "Ending", module = "safepoint._native")]
pub(crate) struct PyEnding(SyncSender<Result<(), String>>);

impl PyEnding {
    pub(super) fn new() -> (Self, Receiver<Result<(), String>>) {
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
