//! Python values as JSON, without the way through text objects of Python.
//!
//! What JSON can say: `None`, booleans, numbers, texts, lists, tuples, dictionaries with texts or numbers as keys. Also what says by itself what it is in
//! those terms: numpy's numbers and arrays (`tolist`), paths (`__fspath__`), dataclasses. Anything else is refused with its place, never written as something else.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Deeper than this it is taken for a value that holds itself.
const MAX_DEPTH: usize = 100;

/// Why a value is no JSON: a path from the value, and what stands there.
#[derive(Debug)]
pub(crate) struct Unsayable {
    place: String,
    what: String,
}

impl Unsayable {
    fn new(what: impl Into<String>) -> Self {
        Self {
            place: String::new(),
            what: what.into(),
        }
    }

    fn within(mut self, outer: &str) -> Self {
        self.place.insert_str(0, outer);
        self
    }

    /// The reason, after the name of the value: "the result", "item 3".
    pub(crate) fn of(&self, name: &str) -> String {
        if self.place.is_empty() {
            format!("{name} is {}, which JSON cannot say", self.what)
        } else {
            format!(
                "{name} has {} at `{}`, which JSON cannot say",
                self.what, self.place
            )
        }
    }
}

/// A failure to write a value: it is no JSON, or its own code raised.
#[derive(Debug)]
pub(crate) enum Problem {
    Unsayable(Unsayable),
    Raised(PyErr),
}

impl From<PyErr> for Problem {
    fn from(raised: PyErr) -> Self {
        Self::Raised(raised)
    }
}

/// The value of a JSON text.
pub(crate) fn read<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "json", "loads")?.call1((text,))
}

/// Appends `value` as JSON.
pub(crate) fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<(), Problem> {
    value_at(value, out, 0)
}

fn unsayable(what: impl Into<String>) -> Problem {
    Problem::Unsayable(Unsayable::new(what))
}

fn within(problem: Problem, outer: &str) -> Problem {
    match problem {
        Problem::Unsayable(why) => Problem::Unsayable(why.within(outer)),
        raised @ Problem::Raised(_) => raised,
    }
}

fn value_at(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Result<(), Problem> {
    if depth > MAX_DEPTH {
        return Err(unsayable("values nested deeper than 100"));
    }
    if value.is_none() {
        out.extend_from_slice(b"null");
    } else if let Ok(text) = value.cast::<PyString>() {
        string(text, out)?;
    } else if let Ok(truth) = value.cast::<PyBool>() {
        out.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
    } else if let Ok(number) = value.cast::<PyInt>() {
        integer(number, out)?;
    } else if let Ok(number) = value.cast::<PyFloat>() {
        float(number.value(), out)?;
    } else if let Ok(dict) = value.cast::<PyDict>() {
        object(dict, out, depth)?;
    } else if let Ok(list) = value.cast::<PyList>() {
        array(list.iter(), out, depth)?;
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        array(tuple.iter(), out, depth)?;
    } else {
        other(value, out, depth)?;
    }
    Ok(())
}

fn string(text: &Bound<'_, PyString>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let Ok(text) = text.to_cow() else {
        return Err(unsayable("a text with half a surrogate pair"));
    };
    // Writing to memory cannot fail.
    serde_json::to_writer(out, text.as_ref()).map_err(|error| unsayable(error.to_string()))
}

fn integer(number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> Result<(), Problem> {
    if let Ok(small) = number.extract::<i64>() {
        serde_json::to_writer(out, &small).map_err(|error| unsayable(error.to_string()))
    } else {
        // `int.__repr__`, as an enumeration has another of its own.
        let plain = number.py().get_type::<PyInt>();
        let plain = plain.call_method1("__repr__", (number,));
        let plain = plain.map_err(|_| unsayable("an integer of more digits than Python writes"))?;
        out.extend_from_slice(plain.extract::<String>()?.as_bytes());
        Ok(())
    }
}

fn float(number: f64, out: &mut Vec<u8>) -> Result<(), Problem> {
    if !number.is_finite() {
        return Err(unsayable(format!("the number {number}")));
    }
    serde_json::to_writer(out, &number).map_err(|error| unsayable(error.to_string()))
}

fn array<'py>(
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Problem> {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        value_at(&item, out, depth + 1)
            .map_err(|problem| within(problem, &format!("[{index}]")))?;
    }
    out.push(b']');
    Ok(())
}

fn object(dict: &Bound<'_, PyDict>, out: &mut Vec<u8>, depth: usize) -> Result<(), Problem> {
    out.push(b'{');
    for (index, (name, value)) in dict.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if let Ok(text) = name.cast::<PyString>() {
            string(text, out)?;
        } else if name.is_none()
            || name.is_instance_of::<PyInt>()
            || name.is_instance_of::<PyFloat>()
        {
            // As Python's own `json` has it: 1 is "1", True is "true".
            out.push(b'"');
            value_at(&name, out, depth + 1)?;
            out.push(b'"');
        } else {
            return Err(unsayable(format!("{} as a key", kind(&name))));
        }
        out.push(b':');
        value_at(&value, out, depth + 1)
            .map_err(|problem| within(problem, &format!("[{}]", shown(&name))))?;
    }
    out.push(b'}');
    Ok(())
}

/// What says by itself what it is.
fn other(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Result<(), Problem> {
    if let Ok(to_list) = value.getattr("tolist") {
        let plain = to_list.call0()?;
        if plain.get_type().is(value.get_type()) {
            return Err(unsayable(kind(value)));
        }
        return value_at(&plain, out, depth + 1);
    }
    if let Ok(path) = value.getattr("__fspath__") {
        return value_at(&path.call0()?, out, depth + 1);
    }
    if let Ok(fields) = value.getattr("__dataclass_fields__")
        && let Ok(fields) = fields.cast::<PyDict>()
        && !value.is_instance_of::<pyo3::types::PyType>()
    {
        let plain = PyDict::new(value.py());
        for name in fields.keys() {
            let name = name.cast_into::<PyString>().map_err(PyErr::from)?;
            plain.set_item(&name, value.getattr(&name)?)?;
        }
        return object(&plain, out, depth);
    }
    Err(unsayable(kind(value)))
}

fn kind(value: &Bound<'_, PyAny>) -> String {
    let class = value.get_type();
    let name = class
        .qualname()
        .map_or_else(|_| "object".to_owned(), |name| name.to_string());
    let article = if name.starts_with(['A', 'E', 'I', 'O', 'a', 'e', 'i', 'o']) {
        "an"
    } else {
        "a"
    };
    format!("{article} `{name}`")
}

fn shown(name: &Bound<'_, PyAny>) -> String {
    name.repr().map_or_else(
        |_| "?".to_owned(),
        |text| text.to_string_lossy().into_owned(),
    )
}
