//! Checkpoints: the store, a reader, the memory that goes in and comes out, and the schedule.
//!
//! What a state looks like is decided in `python/safepoint/_tree.py`; here it is a value of some bytes and named pieces of memory.

mod memory;
mod schedule;
mod settings;
mod store;

use pyo3::prelude::*;

pub(crate) use memory::{Buffer, choose, loaded, state};
pub(crate) use settings::{Notices, compression, from_json};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<schedule::PySchedule>()?;
    module.add_class::<store::PyStore>()?;
    module.add_function(wrap_pyfunction!(memory::blank_bytes, module)?)
}
