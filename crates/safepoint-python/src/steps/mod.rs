//! Steps and effects: the library's room, with values as JSON.
//!
//! A body is Python code, and may be a coroutine, so everything here is the long form: something begins, the front runs the body, and ends it. What runs inside
//! of what is in a context variable of the front, and comes along with every beginning as a tuple of [`PyWithin`], the outermost first.

mod effect;
mod notice;
mod owner;
mod report;
mod scope;
mod stage;
mod step;
mod value;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use safepoint::steps::Within;

use crate::json;
use crate::ours::Ours;

/// What a closed or foreign handle is of.
const WHAT: &str = "these steps";

/// The inside of something in progress.
#[pyclass(frozen, name = "Within", module = "safepoint._native")]
pub(crate) struct PyWithin(Ours<Within>);

/// Runs `code`, without the interpreter, as a part of all that is in `withins`.
fn inside<R: Send>(
    withins: &Bound<'_, PyTuple>,
    code: impl FnOnce() -> safepoint::Result<R> + Send,
) -> PyResult<R> {
    let entered = withins
        .iter()
        .map(|within| {
            let within = within.cast_into::<PyWithin>()?;
            let within = within.get().0.get(WHAT).map_err(crate::errors::raise)?;
            Ok(within.clone())
        })
        .collect::<PyResult<Vec<_>>>()?;
    let py = withins.py();
    py.detach(|| enter(&entered, code))
        .map_err(crate::errors::raise)
}

fn enter<R>(withins: &[Within], code: impl FnOnce() -> R) -> R {
    match withins.split_first() {
        None => code(),
        Some((outermost, inner)) => outermost.run(|| enter(inner, code)),
    }
}

/// A result that was recorded.
#[pyclass(frozen, name = "Recorded", module = "safepoint._native")]
pub(crate) struct PyRecorded {
    #[pyo3(get)]
    value: Py<PyAny>,
}

#[pymethods]
impl PyRecorded {
    /// For a result that the front has come by itself.
    #[new]
    fn new(value: Py<PyAny>) -> Self {
        Self { value }
    }
}

/// For the front: a value as it is after its way through JSON. `what` names it in a refusal.
#[pyfunction]
#[pyo3(name = "_plain")]
fn plain<'py>(value: &Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyAny>> {
    json::read(value.py(), &value::text(value, what)?)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<effect::PyEffectInDoubt>()?;
    module.add_class::<effect::PyEffectInProgress>()?;
    module.add_class::<notice::PyNotice>()?;
    module.add_class::<owner::PySteps>()?;
    module.add_class::<report::PyStepsReport>()?;
    module.add_class::<scope::PyScope>()?;
    module.add_class::<stage::PyStageInProgress>()?;
    module.add_class::<step::PyStepInProgress>()?;
    module.add_class::<PyRecorded>()?;
    module.add_class::<PyWithin>()?;
    module.add_function(wrap_pyfunction!(plain, module)?)
}
