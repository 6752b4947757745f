//! Errors of the library as exceptions, and exceptions that pass through the library.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use safepoint::{Error, ErrorKind};

/// The class of each kind, as `safepoint._errors` makes it.
fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<Bound<'_, PyType>> {
    static CLASSES: PyOnceLock<Vec<(ErrorKind, Py<PyType>)>> = PyOnceLock::new();
    let classes = CLASSES.get_or_try_init(py, || {
        let by_kind = py.import("safepoint._errors")?.getattr("BY_KIND")?;
        ErrorKind::ALL
            .into_iter()
            .map(|kind| {
                let class = by_kind.get_item(kind.name())?.cast_into::<PyType>()?;
                Ok::<_, PyErr>((kind, class.unbind()))
            })
            .collect::<PyResult<Vec<_>>>()
    })?;
    let found = classes.iter().find(|(known, _)| *known == kind);
    Ok(match found {
        Some((_, class)) => class.bind(py).clone(),
        None => py.get_type::<pyo3::exceptions::PyRuntimeError>(),
    })
}

/// The exception that says what `error` says: its class by kind, its chain of messages, its hint, the system's number if it has one. An
/// exception that was [carried](Carried) comes out as it went in.
pub(crate) fn raise(error: Error) -> PyErr {
    match Carried::take(error) {
        Ok(carried) => carried,
        Err(error) => Python::attach(|py| {
            let class = match class(py, error.kind()) {
                Ok(class) => class,
                Err(problem) => return problem,
            };
            let made = class.call1((error.chain(), error.hint(), errno(&error)));
            made.map_or_else(|problem| problem, PyErr::from_value)
        }),
    }
}

/// What is raised where a value would have to be returned and a stop was asked for.
pub(crate) fn stopped(message: &str) -> PyErr {
    Python::attach(|py| {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = CLASS.import(py, "safepoint._errors", "Stopped");
        let made = class.and_then(|class| class.call1((message,)));
        made.map_or_else(|problem| problem, PyErr::from_value)
    })
}

/// The system's number of the failure below an error.
fn errno(error: &Error) -> Option<i32> {
    let mut source = error.source();
    while let Some(below) = source {
        if let Some(number) = below
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return Some(number);
        }
        source = below.source();
    }
    None
}

/// An exception of a Python function on its way through the library.
///
/// The library sees an error with a text, as it does of any body that fails; [`raise`] gives the exception back.
pub(crate) struct Carried(PyErr);

impl Carried {
    /// Wraps an exception as an error that [`raise`] knows again.
    pub(crate) fn error(exception: PyErr) -> Error {
        let text = text(&exception);
        Error::new(ErrorKind::Invalid, text).with_source(Self(exception))
    }

    /// Looks below what the library said of it on the way.
    fn take(error: Error) -> Result<PyErr, Error> {
        let mut below = error.source();
        while let Some(source) = below {
            if let Some(carried) = source.downcast_ref::<Self>() {
                return Ok(Python::attach(|py| carried.0.clone_ref(py)));
            }
            below = source.source();
        }
        Err(error)
    }
}

/// An exception in words, `ValueError: not a number`, as the last line of a traceback has it.
pub(crate) fn text(exception: &PyErr) -> String {
    Python::attach(|py| {
        let value = exception.value(py);
        let class = exception
            .get_type(py)
            .qualname()
            .map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
        match value.str() {
            Ok(text) if text.len().is_ok_and(|length| length > 0) => {
                format!("{class}: {}", text.to_string_lossy())
            }
            _ => class,
        }
    })
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(&self.0))
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("raised by the function")
    }
}

impl StdError for Carried {}
