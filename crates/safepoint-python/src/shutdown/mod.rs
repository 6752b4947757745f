//! Stopping: the token, its owner, units, limits, the iterator, and how other processes of the program hear of it.

mod budget;
mod ending;
mod interrupt;
mod iterate;
mod owner;
mod parent;
mod pipe;
mod report;
mod request;
mod requested;
mod time_limit;
mod token;
mod unit;

pub(crate) use ending::{PyEnding, begin};
pub(crate) use token::{PyToken, seconds};

use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<budget::PyBudget>()?;
    module.add_class::<ending::PyEnding>()?;
    module.add_class::<iterate::PyIterate>()?;
    module.add_class::<owner::PyOwner>()?;
    module.add_class::<parent::PyParent>()?;
    module.add_class::<report::PyStopReport>()?;
    module.add_class::<request::PyStopRequest>()?;
    module.add_class::<time_limit::PyTimeLimit>()?;
    module.add_class::<token::PyToken>()?;
    requested::add(&module.py().get_type::<token::PyToken>())?;
    module.add_class::<unit::PyUnit>()?;
    module.add_function(wrap_pyfunction!(owner::arrivals, module)?)?;
    module.add_function(wrap_pyfunction!(parent::end_with, module)?)
}
