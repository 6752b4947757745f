//! Python values as JSON text, and back.
//!
//! What JSON cannot hold is refused with the place where it is. `json.dumps` would name a type without its place, turn keys that are numbers into texts, and write
//! `NaN`, which is no JSON.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use safepoint::Error;

/// How deep lists and dictionaries may stand in each other: what reads JSON elsewhere refuses more than 128.
const MAX_DEPTH: usize = 120;

/// The JSON text of a value. `what` names it in a refusal, as in "the result of step `fetch`".
pub(crate) fn write(value: &Bound<'_, PyAny>, what: &str) -> Result<String, Error> {
    Writer::new(false).write(value, what, "value")
}

/// The one JSON text of a value: keys in order, and neither control characters nor `/`. `root` is what the path of a refusal begins with.
pub(crate) fn canonical(value: &Bound<'_, PyAny>, what: &str, root: &str) -> Result<String, Error> {
    let text = Writer::new(true).write(value, what, root)?;
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter == '/' || letter.is_control() {
            escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
    }
    Ok(escaped)
}

/// The value of a JSON text.
pub(crate) fn read<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "json", "loads")?.call1((text,))
}

struct Writer {
    text: String,
    is_canonical: bool,
    /// Where it is: keys as JSON, numbers of places.
    path: Vec<String>,
}

/// Why a value is refused, and what to do.
type Refusal = (String, &'static str);

impl Writer {
    fn new(is_canonical: bool) -> Self {
        Self {
            text: String::new(),
            is_canonical,
            path: Vec::new(),
        }
    }

    fn write(mut self, value: &Bound<'_, PyAny>, what: &str, root: &str) -> Result<String, Error> {
        match self.value(value) {
            Ok(()) => Ok(self.text),
            Err((why, hint)) => {
                let path: String = self.path.iter().map(|place| format!("[{place}]")).collect();
                let message = format!("{what} cannot be written as JSON: `{root}{path}` {why}");
                Err(Error::invalid(message).with_hint(hint))
            }
        }
    }

    fn value(&mut self, value: &Bound<'_, PyAny>) -> Result<(), Refusal> {
        if value.is_none() {
            self.text.push_str("null");
        } else if let Ok(text) = value.cast::<PyString>() {
            self.string(text)?;
        } else if let Ok(truth) = value.cast::<PyBool>() {
            self.text
                .push_str(if truth.is_true() { "true" } else { "false" });
        } else if let Ok(number) = value.cast::<PyInt>() {
            self.integer(number)?;
        } else if let Ok(number) = value.cast::<PyFloat>() {
            self.float(number)?;
        } else if let Ok(list) = value.cast::<PyList>() {
            self.list(list.iter())?;
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            self.list(tuple.iter())?;
        } else if let Ok(dict) = value.cast::<PyDict>() {
            self.dict(dict)?;
        } else {
            return Err(of_another_type(value));
        }
        Ok(())
    }

    fn string(&mut self, text: &Bound<'_, PyString>) -> Result<(), Refusal> {
        let text = text.to_str().map_err(|_| {
            (
                "has half of a surrogate pair, which is no text".to_owned(),
                "it was read as bytes in another encoding, perhaps: `errors=\"replace\"`",
            )
        })?;
        self.quoted(text);
        Ok(())
    }

    fn quoted(&mut self, text: &str) {
        // A text always has a JSON.
        self.text
            .push_str(&serde_json::to_string(text).unwrap_or_default());
    }

    fn integer(&mut self, number: &Bound<'_, PyInt>) -> Result<(), Refusal> {
        if let Ok(small) = number.extract::<i64>() {
            self.text.push_str(&small.to_string());
            return Ok(());
        }
        // Not `str`, which a subclass may have changed.
        let digits = number
            .py()
            .get_type::<PyInt>()
            .call_method1("__repr__", (number,));
        let digits = digits.and_then(|digits| digits.extract::<String>());
        let digits = digits.map_err(|_| {
            (
                "is an integer of too many digits".to_owned(),
                "write it as a text: hex(..)",
            )
        })?;
        self.text.push_str(&digits);
        Ok(())
    }

    fn float(&mut self, number: &Bound<'_, PyFloat>) -> Result<(), Refusal> {
        let number = number.value();
        if !number.is_finite() {
            let why = format!("is {number}, and JSON has finite numbers only").to_lowercase();
            return Err((why, "return None for it"));
        }
        self.text
            .push_str(&serde_json::to_string(&number).unwrap_or_default());
        Ok(())
    }

    fn deeper(&self) -> Result<(), Refusal> {
        if self.path.len() < MAX_DEPTH {
            return Ok(());
        }
        let why = format!("is nested deeper than {MAX_DEPTH}, or contains itself");
        Err((
            why,
            "return something flatter, or write it to a file and return its path",
        ))
    }

    fn list<'py>(&mut self, items: impl Iterator<Item = Bound<'py, PyAny>>) -> Result<(), Refusal> {
        self.deeper()?;
        self.text.push('[');
        for (place, item) in items.enumerate() {
            if place > 0 {
                self.text.push(',');
            }
            self.path.push(place.to_string());
            self.value(&item)?;
            self.path.pop();
        }
        self.text.push(']');
        Ok(())
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>) -> Result<(), Refusal> {
        self.deeper()?;
        let mut pairs = Vec::with_capacity(dict.len());
        // A copy, for the dictionary may be another thread's, too.
        for pair in dict.items() {
            let pair: (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract().map_err(|_| {
                (
                    "changed while it was read".to_owned(),
                    "return a copy of it",
                )
            })?;
            let key = pair
                .0
                .cast::<PyString>()
                .ok()
                .and_then(|key| key.to_str().ok());
            let Some(key) = key else {
                let key = pair
                    .0
                    .repr()
                    .map_or_else(|_| "?".to_owned(), |key| key.to_string());
                let why = format!("has the key {key}, and JSON has keys that are texts only");
                return Err((
                    why,
                    "make the keys texts: {str(key): value for key, value in ..}",
                ));
            };
            pairs.push((key.to_owned(), pair.1));
        }
        if self.is_canonical {
            pairs.sort_by(|one, other| one.0.cmp(&other.0));
        }
        self.text.push('{');
        for (place, (key, value)) in pairs.into_iter().enumerate() {
            if place > 0 {
                self.text.push(',');
            }
            self.quoted(&key);
            self.text.push(':');
            self.path
                .push(serde_json::to_string(&key).unwrap_or_default());
            self.value(&value)?;
            self.path.pop();
        }
        self.text.push('}');
        Ok(())
    }
}

/// What to do about a value that is none of JSON's.
fn of_another_type(value: &Bound<'_, PyAny>) -> Refusal {
    let class = value.get_type();
    let name = class.fully_qualified_name();
    let name = name.map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    let has = |attribute: &str| value.hasattr(attribute).unwrap_or(false);
    let hint = if has("tolist") {
        "`.tolist()` makes it plain; write large arrays to a file, and return the path"
    } else if has("__dataclass_fields__") {
        "`dataclasses.asdict(..)` makes it plain"
    } else if has("isoformat") {
        "`.isoformat()` makes it a text"
    } else if has("__fspath__") {
        "`str(..)` makes a path a text"
    } else if name == "set" || name == "frozenset" {
        "`sorted(..)` makes it a list"
    } else if name == "bytes" || name == "bytearray" {
        "write bytes to a file and return its path, or make them a text: `.hex()`"
    } else if name == "decimal.Decimal" {
        "`str(..)` keeps every digit"
    } else if name == "coroutine" {
        "await it first"
    } else {
        "return dictionaries, lists, texts, numbers, booleans and None"
    };
    (format!("is a {name}"), hint)
}

/// For the front: the one JSON text of the arguments of a call.
#[pyfunction]
#[pyo3(name = "_canonical")]
pub(crate) fn canonical_arguments(arguments: &Bound<'_, PyAny>, what: &str) -> PyResult<String> {
    if !arguments.is_instance_of::<PyDict>() {
        return Err(PyTypeError::new_err("a dictionary of arguments is wanted"));
    }
    canonical(arguments, what, "arguments").map_err(crate::errors::raise)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(canonical_arguments, module)?)
}
