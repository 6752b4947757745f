//! The native half of the Python package: what Python cannot do itself, wrapped without policy.
//!
//! The typed front in `python/safepoint/` is what people import. It decides defaults, reads the environment and speaks to the terminal; here are only
//! conversions, and the rule that whatever waits or writes lets go of the interpreter.
//!
//! Invariants:
//!
//! 1. No class here is mutable from Python; what changes is behind a lock or an atomic of its own.
//! 2. No lock is held while Python code runs, and none is taken while the interpreter is held by a thread that waits for it.
//! 3. An exception of a Python function that Rust calls comes out as the same object.

#![expect(
    clippy::needless_pass_by_value,
    reason = "what Python passes is extracted into values"
)]

mod cache;
mod checkpoint;
mod command;
mod errors;
mod health;
mod items;
mod json;
mod ours;
mod queue;
mod shutdown;
mod steps;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    cache::register(module)?;
    checkpoint::register(module)?;
    command::register(module)?;
    health::register(module)?;
    items::register(module)?;
    queue::register(module)?;
    shutdown::register(module)?;
    steps::register(module)?;
    Ok(())
}
