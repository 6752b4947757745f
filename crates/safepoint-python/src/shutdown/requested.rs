//! `token.requested`, the question that every loop asks.
//!
//! A descriptor made by hand: the general one of `PyO3` counts attachments and catches panics, which costs more than the answer. This one is a load and a constant.

#![expect(unsafe_code, reason = "a getter as the interpreter calls it")]

use std::ffi::{CStr, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::token::PyToken;

const NAME: &CStr = c"requested";
const DOC: &CStr = c"Whether a stop was asked for. One load: ask in every loop.";

/// A definition as the interpreter wants it: for ever in one place.
struct Definition(ffi::PyGetSetDef);

// SAFETY: it is never written, and what it points to is constant.
unsafe impl Sync for Definition {}

static DEFINITION: Definition = Definition(ffi::PyGetSetDef {
    name: NAME.as_ptr(),
    get: Some(get),
    set: None,
    doc: DOC.as_ptr(),
    closure: ptr::null_mut(),
});

unsafe extern "C" fn get(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this attached, with an object whose class it has checked: a descriptor of a class is for its instances. Neither the load nor
    // what follows it panics.
    unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, object);
        let token = object.cast_unchecked::<PyToken>();
        let token = &token.get().token;
        // The end of a block is the end of its phases, too, though nobody asked for a stop.
        let is_requested = token.is_stopping() && token.reason().is_some();
        ffi::PyBool_FromLong(is_requested.into())
    }
}

/// Adds the descriptor to the class.
pub(super) fn add(class: &Bound<'_, PyType>) -> PyResult<()> {
    let definition = (&raw const DEFINITION.0).cast_mut();
    // SAFETY: the class is one, the definition is static and never written; what is returned is a new reference, or null with an exception set.
    let descriptor = unsafe {
        let made = ffi::PyDescr_NewGetSet(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(class.py(), made)?
    };
    class.setattr("requested", descriptor)
}
