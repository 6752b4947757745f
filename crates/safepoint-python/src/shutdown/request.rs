//! Stop requests as values.

use pyo3::prelude::*;
use safepoint::shutdown::{Mode, Source, StopRequest};

use crate::errors::raise;

/// Why a stop was asked for.
#[pyclass(frozen, eq, hash, name = "StopRequest", module = "safepoint")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PyStopRequest {
    #[pyo3(get)]
    source: &'static str,
    #[pyo3(get)]
    mode: &'static str,
    #[pyo3(get)]
    message: String,
    #[pyo3(get)]
    signal: Option<i32>,
    text: String,
}

impl From<&StopRequest> for PyStopRequest {
    fn from(request: &StopRequest) -> Self {
        Self {
            source: request.source.name(),
            mode: request.mode.name(),
            message: request.message.clone(),
            signal: request.signal,
            text: request.to_string(),
        }
    }
}

#[pymethods]
impl PyStopRequest {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        let Self {
            source,
            mode,
            message,
            signal,
            ..
        } = self;
        let signal = signal.map_or_else(String::new, |signal| format!(", signal={signal}"));
        format!("StopRequest(source={source:?}, mode={mode:?}, message={message:?}{signal})")
    }
}

/// A source by its name in events.
pub(super) fn source(name: &str) -> PyResult<Source> {
    let all = [
        Source::User,
        Source::System,
        Source::Programmatic,
        Source::Timeout,
        Source::Budget,
        Source::Parent,
    ];
    all.into_iter()
        .find(|source| source.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|source| source.name()).collect();
            let error = safepoint::Error::invalid(format!("`{name}` is no source of a stop"));
            raise(error.with_hint(format!("one of {}", names.join(", "))))
        })
}

/// A mode by its name in events.
pub(super) fn mode(name: &str) -> PyResult<Mode> {
    [Mode::Graceful, Mode::Immediate]
        .into_iter()
        .find(|mode| mode.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let error = safepoint::Error::invalid(format!("`{name}` is no mode of a stop"));
            raise(error.with_hint("`graceful` or `immediate`"))
        })
}
