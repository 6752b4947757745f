//! Durable items of a program's own: `safepoint.batch`, and what `safepoint.map` keeps.

mod item;
mod owner;
mod passage;
mod reading;
mod value;

use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<item::PyItem>()?;
    module.add_class::<item::PyWaiting>()?;
    module.add_class::<owner::PyItems>()?;
    module.add_class::<passage::PyPassage>()?;
    module.add_function(wrap_pyfunction!(reading::read_counts, module)?)?;
    module.add_function(wrap_pyfunction!(reading::read_results, module)?)?;
    module.add_function(wrap_pyfunction!(value::as_json, module)?)
}
