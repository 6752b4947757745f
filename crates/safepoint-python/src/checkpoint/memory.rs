//! Memory of Python objects: lent to a save, filled by a load. Nothing here is copied.
//!
//! The stable interface of Python 3.10 has no buffer protocol, so the front says where memory is, by address and length, and passes the object that it
//! belongs to. Only the front can call what is here, and only `_arrays.py` in it makes addresses.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use safepoint::checkpoint::{Checkpoint, Element, Encoding, SharedBytes, State, Target};

use super::settings::to_json;
use crate::errors::{Carried, raise};

/// A named piece of memory: name, type of its elements, shape, address, length, the object it belongs to, and whether it never changes.
pub(crate) type Buffer = (String, String, Vec<usize>, usize, usize, Py<PyAny>, bool);

/// Where a buffer goes: name, address, length, and the object it belongs to. The address of `bytes` is their own.
pub(crate) type Place = (String, usize, usize, Py<PyAny>);

/// Types by their names in the file.
const ELEMENTS: [Element; 13] = [
    Element::F64,
    Element::F32,
    Element::F16,
    Element::Bf16,
    Element::I64,
    Element::I32,
    Element::I16,
    Element::I8,
    Element::U64,
    Element::U32,
    Element::U16,
    Element::U8,
    Element::Bool,
];

fn element(name: &str) -> PyResult<Element> {
    ELEMENTS
        .into_iter()
        .find(|element| element.name() == name)
        .ok_or_else(|| PyValueError::new_err(format!("`{name}` is no type of an element")))
}

/// Memory that never changes, held by its object.
struct Frozen {
    address: usize,
    length: usize,
    _owner: Py<PyAny>,
}

impl SharedBytes for Frozen {
    #[expect(unsafe_code, reason = "memory of Python objects")]
    fn bytes(&self) -> &[u8] {
        // SAFETY: as `lent`, and the object is held as long as this is.
        unsafe { lent(self.address, self.length) }
    }
}

/// # Safety
///
/// So many bytes must be readable there for as long as the result lives.
#[expect(unsafe_code, reason = "memory of Python objects")]
unsafe fn lent<'a>(address: usize, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(address as *const u8, length) }
}

/// The state of a value and buffers. The buffers are read as long as it lives, so `buffers` must, too.
pub(crate) fn state<'a>(
    py: Python<'_>,
    value: Option<(&str, &'a [u8])>,
    buffers: &'a [Buffer],
) -> PyResult<State<'a>> {
    let mut state = match value {
        None => State::new(),
        Some(("json", json)) => State::json_text(json),
        Some((_, bytes)) => State::bytes(bytes),
    };
    for (name, kind, shape, address, length, owner, frozen) in buffers {
        let element = element(kind)?;
        let address = own_address(owner.bind(py)).unwrap_or(*address);
        state = if *frozen {
            let shared = Frozen {
                address,
                length: *length,
                _owner: owner.clone_ref(py),
            };
            state.with_shared_buffer(name.as_str(), element, shape, Arc::new(shared))
        } else {
            #[expect(unsafe_code, reason = "memory of Python objects")]
            // SAFETY: the object that has it is in `buffers`.
            let bytes = unsafe { lent(address, *length) };
            state.with_buffer(name.as_str(), element, shape, bytes)
        };
    }
    Ok(state)
}

/// Where the bytes of a `bytes` object are.
fn own_address(object: &Bound<'_, PyAny>) -> Option<usize> {
    let bytes = object.cast::<PyBytes>().ok()?;
    Some(bytes.as_bytes().as_ptr() as usize)
}

/// Asks `place(value, encoding, buffers)` of the front where the buffers go. What it returns is pushed to `held`, so that the memory stays.
pub(crate) fn choose<'t>(
    place: &Py<PyAny>,
    held: &mut Vec<Vec<Place>>,
    checkpoint: &Checkpoint,
) -> safepoint::Result<Vec<Target<'t>>> {
    Python::attach(|py| {
        let mut asked = || -> PyResult<Vec<Target<'t>>> {
            let (encoding, value) = value(py, checkpoint)?;
            let buffers: Vec<_> = checkpoint
                .buffers()
                .map(|info| {
                    let kind = info.element.name();
                    (info.name.clone(), kind, info.shape.clone(), info.bytes)
                })
                .collect();
            let places: Vec<Place> = place.call1(py, (value, encoding, buffers))?.extract(py)?;
            let targets = places
                .iter()
                .map(|(name, address, length, owner)| {
                    let element = checkpoint.buffers().find(|info| info.name == *name);
                    let element = element.map_or(Element::U8, |info| info.element);
                    let address = own_address(owner.bind(py)).unwrap_or(*address);
                    Target::buffer(name.clone(), element, filled(address, *length))
                })
                .collect();
            held.push(places);
            Ok(targets)
        };
        asked().map_err(Carried::error)
    })
}

/// The memory at an address, to be written.
#[expect(unsafe_code, reason = "memory of Python objects")]
fn filled<'t>(address: usize, length: usize) -> &'t mut [u8] {
    if length == 0 {
        return &mut [];
    }
    // SAFETY: the object that has the memory is held until it is filled, and the front gives out each piece once.
    unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length) }
}

/// A `bytes` object of this length, to be filled before anybody has seen it.
#[pyfunction]
pub(crate) fn blank_bytes(py: Python<'_>, length: usize) -> PyResult<Bound<'_, PyBytes>> {
    PyBytes::new_with(py, length, |_| Ok(()))
}

/// The value's encoding and bytes. MessagePack, which other programs write, comes as JSON.
fn value<'py>(
    py: Python<'py>,
    checkpoint: &Checkpoint,
) -> PyResult<(&'static str, Option<Bound<'py, PyBytes>>)> {
    let Some(bytes) = checkpoint.bytes() else {
        return Ok(("none", None));
    };
    let encoding = checkpoint.metadata().encoding;
    if encoding == Encoding::MessagePack {
        let value: serde_json::Value = checkpoint.value().map_err(raise)?;
        let json = serde_json::to_vec(&value)
            .map_err(|error| PyValueError::new_err(format!("the value is no JSON: {error}")))?;
        return Ok(("json", Some(PyBytes::new(py, &json))));
    }
    Ok((encoding.name(), Some(PyBytes::new(py, bytes))))
}

/// What the front makes a `Checkpoint` of: metadata as JSON, the value's encoding and bytes, and what was skipped.
pub(crate) fn loaded<'py>(
    py: Python<'py>,
    checkpoint: &Checkpoint,
) -> PyResult<Bound<'py, PyDict>> {
    let (encoding, value) = value(py, checkpoint)?;
    let skipped: Vec<_> = checkpoint
        .skipped()
        .iter()
        .map(|skipped| {
            let quarantined = skipped.quarantined.clone();
            (skipped.generation.0, skipped.why.clone(), quarantined)
        })
        .collect();
    let loaded = PyDict::new(py);
    loaded.set_item("metadata", to_json(checkpoint.metadata())?)?;
    loaded.set_item("encoding", encoding)?;
    loaded.set_item("value", value)?;
    loaded.set_item("skipped", skipped)?;
    Ok(loaded)
}
