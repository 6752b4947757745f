//! Settings and words that the front passes as text.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use safepoint::Error;
use safepoint::checkpoint::{Compression, WhenBusy};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::errors::raise;

/// What was noticed and not told yet. The front asks after each call: an observer is called with the state locked, where no Python code may run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notices(Arc<Mutex<Vec<String>>>);

impl Notices {
    pub(crate) fn push(&self, notice: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(notice);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the front wrote as JSON.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str, what: &str) -> PyResult<T> {
    serde_json::from_str(json)
        .map_err(|error| raise(Error::invalid(format!("{what} cannot be used")).with_source(error)))
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> PyResult<String> {
    serde_json::to_string(value)
        .map_err(|error| raise(Error::invalid("this cannot be told as JSON").with_source(error)))
}

/// One of `words` by its name.
fn word<T: Copy>(name: &str, what: &str, words: &[(&str, T)]) -> PyResult<T> {
    let found = words.iter().find(|(word, _)| *word == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let error = Error::invalid(format!("{what} cannot be `{}`", name.escape_debug()));
        raise(error.with_hint(format!("one of {}", all.join(", "))))
    })
}

pub(crate) fn compression(name: &str) -> PyResult<Compression> {
    let words = [
        ("where_pays", Compression::default()),
        ("never", Compression::Never),
    ];
    word(name, "compression", &words)
}

pub(super) fn when_busy(name: &str) -> PyResult<WhenBusy> {
    let words = [
        ("replace", WhenBusy::Replace),
        ("skip", WhenBusy::Skip),
        ("wait", WhenBusy::Wait),
    ];
    word(name, "when_busy", &words)
}
