//! Results on their way into the library, and out of it.

use pyo3::prelude::*;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::PyRecorded;
use safepoint::Error;

use crate::errors::raise;
use crate::json::{self, Problem};

/// The JSON text of a value. `what` names it in a refusal.
pub(super) fn text(value: &Bound<'_, PyAny>, what: &str) -> PyResult<String> {
    let mut text = Vec::new();
    match json::write(value, &mut text) {
        Ok(()) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(Problem::Raised(exception)) => Err(exception),
        Err(Problem::Unsayable(why)) => {
            let error = Error::invalid(why.of(what));
            Err(raise(error.with_hint(
                "`sorted(..)` makes a list of a set, `.isoformat()` a text of a time; write bytes to a file, and give its path",
            )))
        }
    }
}

/// A result as JSON, which the library takes and gives as it is.
pub(super) enum Value {
    Json(Box<RawValue>),
    /// JSON cannot hold it: the library is to treat it so.
    Refused(String),
}

impl Value {
    /// Of a result. `what` names it, as in "the result of step `fetch`".
    pub(super) fn of(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Self> {
        let raw = RawValue::from_string(text(value, what)?).map_err(|error| {
            let error = Error::invalid(format!("{what} makes no JSON")).with_source(error);
            raise(error)
        })?;
        Ok(Self::Json(raw))
    }

    pub(super) fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Json(raw) => json::read(py, raw.get()),
            Self::Refused(_) => Ok(py.None().into_bound(py)),
        }
    }

    pub(super) fn recorded(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let value = self.read(py)?.unbind();
        Ok(Py::new(py, PyRecorded { value })?.into_any())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json(raw) => raw.serialize(serializer),
            Self::Refused(why) => Err(S::Error::custom(why)),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::Json)
    }
}
