//! What is stored of items, keys and results.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use safepoint::Error;

use crate::errors::raise;
use crate::json::{self, Problem};

/// A value as JSON text; `name` is what a message calls it.
pub(super) fn json(value: &Bound<'_, PyAny>, name: &str, hint: &str) -> PyResult<Vec<u8>> {
    let mut text = Vec::with_capacity(64);
    match json::write(value, &mut text) {
        Ok(()) => Ok(text),
        Err(Problem::Raised(raised)) => Err(raised),
        Err(Problem::Unsayable(why)) => Err(raise(
            Error::invalid(why.of(name)).with_hint(hint.to_owned()),
        )),
    }
}

/// The hint for a result that cannot be stored.
pub(super) const RESULT_HINT: &str = "make it of numbers, texts, lists and dictionaries; put anything large into a file or a checkpoint and record its name";

/// A value as JSON, for results of other processes.
#[pyfunction]
pub(crate) fn as_json<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &json(value, name, RESULT_HINT)?))
}

/// A key as text: a text is itself, anything else its JSON.
pub(super) fn key(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = value.cast::<PyString>() {
        return text.extract();
    }
    if value.is_none() {
        let error = Error::invalid("an item has no key: `key` gave None");
        return Err(raise(
            error.with_hint("give each item a text or a number that is its own"),
        ));
    }
    let text = json(value, "a key", "let `key` give a text or a number")?;
    String::from_utf8(text).map_err(|_| raise(Error::invalid("a key is no text")))
}

/// What is kept of an item for people, and without a key to tell it from another.
pub(super) fn content(item: &Bound<'_, PyAny>, is_keyed: bool) -> PyResult<Vec<u8>> {
    let mut text = Vec::with_capacity(64);
    match json::write(item, &mut text) {
        Ok(()) => Ok(text),
        // With a key nobody compares it.
        Err(_) if is_keyed => {
            text.clear();
            let class = item.get_type().qualname()?.to_string();
            // A text is always JSON.
            let _ = serde_json::to_writer(&mut text, &format!("<{class}>"));
            Ok(text)
        }
        Err(Problem::Raised(raised)) => Err(raised),
        Err(Problem::Unsayable(why)) => Err(raise(
            Error::invalid(why.of("an item")).with_hint(
                "without a key an item is known by its place and its content; give `key=`, a function that names it",
            ),
        )),
    }
}
