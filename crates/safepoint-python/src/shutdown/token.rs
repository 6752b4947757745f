//! The token: asked in every loop, so its check is one load.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use safepoint::shutdown::{Order, Phase, ShutdownToken, StopRequest};

use super::budget::{self, PyBudget};
use super::ending::{PyEnding, begin};
use super::iterate::PyIterate;
use super::parent::PyParent;
use super::pipe::StopPipe;
use super::request::{self, PyStopRequest};
use super::time_limit::PyTimeLimit;
use super::unit::PyUnit;
use crate::errors::raise;

/// The longest time without a look at Python's own signals.
const SLICE: Duration = Duration::from_millis(100);

/// One place in the tree of a stop; the base of `safepoint.ShutdownToken`.
#[pyclass(frozen, subclass, name = "Token", module = "safepoint._native")]
pub(crate) struct PyToken {
    pub(crate) token: ShutdownToken,
    pipe: Mutex<Option<StopPipe>>,
    /// In another process of the program: what tells the token of the parent's stop.
    parent: Option<Py<PyParent>>,
}

impl PyToken {
    pub(super) fn of(token: ShutdownToken, parent: Option<Py<PyParent>>) -> Self {
        Self {
            token,
            pipe: Mutex::new(None),
            parent,
        }
    }
}

/// Seconds as Python has them.
pub(crate) fn seconds(value: f64, what: &str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| {
        let error = safepoint::Error::invalid(format!("{what} of {value} seconds cannot be"));
        raise(error.with_hint("give a number of seconds from 0 on"))
    })
}

/// An order of hooks by its name.
fn order(name: &str) -> PyResult<Order> {
    let all = [
        Order::Accept,
        Order::Drain,
        Order::Save,
        Order::Close,
        Order::Report,
    ];
    all.into_iter()
        .find(|order| order.name() == name)
        .ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|order| order.name()).collect();
            let error = safepoint::Error::invalid(format!("`{name}` is no order of a hook"));
            raise(error.with_hint(format!("one of {}", names.join(", "))))
        })
}

#[pymethods]
impl PyToken {
    /// Another object for the same place: how the class of the front is made from what the native half returns.
    #[new]
    fn new(of: &Bound<'_, Self>) -> Self {
        let (token, parent) = (&of.get().token, &of.get().parent);
        let parent = parent.as_ref().map(|parent| parent.clone_ref(of.py()));
        Self::of(token.clone(), parent)
    }

    #[getter]
    fn phase(&self) -> &'static str {
        self.token.phase().name()
    }

    #[getter]
    fn name(&self) -> &str {
        self.token.name()
    }

    #[getter]
    fn reason(&self) -> Option<PyStopRequest> {
        self.token.reason().as_ref().map(PyStopRequest::from)
    }

    #[getter]
    fn requests(&self) -> Vec<PyStopRequest> {
        let requests = self.token.requests();
        requests
            .iter()
            .map(|recorded| PyStopRequest::from(&recorded.request))
            .collect()
    }

    #[getter]
    fn remaining(&self) -> Option<f64> {
        self.token.remaining().map(|left| left.as_secs_f64())
    }

    /// Waits in slices, so that Python's own handlers run in between.
    fn _wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        let mut left = seconds
            .map(|value| self::seconds(value, "a wait"))
            .transpose()?;
        let clock = self.token.clock().clone();
        let begun = clock.now();
        loop {
            py.check_signals()?;
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            if py.detach(|| self.token.wait_timeout(slice)) {
                py.check_signals()?;
                return Ok(true);
            }
            if let Some(value) = seconds {
                let waited = clock.now().since(begun);
                let all = Duration::from_secs_f64(value);
                left = Some(all.saturating_sub(waited));
                if waited >= all {
                    return Ok(false);
                }
            }
        }
    }

    #[pyo3(signature = (source, mode, message, signal=None))]
    fn _request(
        &self,
        py: Python<'_>,
        source: &str,
        mode: &str,
        message: String,
        signal: Option<i32>,
    ) -> PyResult<()> {
        let source = request::source(source)?;
        let mut request = match request::mode(mode)? {
            safepoint::shutdown::Mode::Graceful => StopRequest::graceful(source, message),
            safepoint::shutdown::Mode::Immediate => StopRequest::immediate(source, message),
        };
        request.signal = signal;
        // Observers are told on this thread.
        py.detach(|| self.token.request(request));
        Ok(())
    }

    fn _child(&self, name: String) -> Self {
        Self::of(self.token.child(name), None)
    }

    /// Enters a unit; `None` once a stop was asked for. `actions` is the list of its rollback actions, last one first out.
    fn _unit(&self, name: String, actions: Py<pyo3::types::PyList>) -> Option<PyUnit> {
        let unit = self.token.owned_unit(name)?;
        Some(PyUnit::new(unit, actions))
    }

    /// Registers a hook: `run(seconds, phase, ending)` is called on a thread of Python's, and tells the [ending](PyEnding).
    fn _hook(&self, order: &str, name: String, run: Py<PyAny>) -> PyResult<()> {
        let order = self::order(order)?;
        let work = move |share: &safepoint::shutdown::Share| -> Result<(), String> {
            let (ending, ended) = PyEnding::new();
            let (seconds, phase) = (share.remaining().as_secs_f64(), share.phase().name());
            Python::attach(|py| begin(py, &run, (seconds, phase, ending)))?;
            ended.recv().unwrap_or(Ok(()))
        };
        self.token.hook(order, name, work).map_err(raise)
    }

    fn _iterate(&self, items: &Bound<'_, PyAny>) -> PyResult<PyIterate> {
        Ok(PyIterate {
            token: self.token.clone(),
            items: items.try_iter()?.unbind(),
        })
    }

    fn _time_limit(&self, seconds: f64) -> PyResult<PyTimeLimit> {
        let limit = self::seconds(seconds, "a time limit")?;
        self.token.time_limit(limit).map(PyTimeLimit).map_err(raise)
    }

    #[pyo3(signature = (limit, warning=None))]
    fn _budget(&self, limit: &Bound<'_, PyAny>, warning: Option<Py<PyAny>>) -> PyResult<PyBudget> {
        let mut budget = self.token.budget(budget::amount(limit)?);
        if let Some(warning) = warning {
            budget = budget.on_warning(move |left| {
                // Its failure is shown by the thread itself; that no thread can be had is told to nobody.
                let _ = Python::attach(|py| begin(py, &warning, (left.to_string(),)));
            });
        }
        Ok(PyBudget(budget))
    }

    /// What is in progress, in words.
    fn status(&self, py: Python<'_>) -> String {
        py.detach(|| self.token.status().to_string())
    }

    /// The stop descriptor: readable from the stop request on, hang-up when the stop is immediate. Never to be read or closed.
    fn fileno(&self) -> PyResult<i32> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = &*pipe {
            return Ok(pipe.number());
        }
        let made = StopPipe::new(&self.token).map_err(raise)?;
        let number = made.number();
        *pipe = Some(made);
        Ok(number)
    }

    /// In a fork: the parent's stop becomes this one's, by a thread of the fork. Returns what to hold on to.
    fn _after_fork(&self, py: Python<'_>) -> PyResult<Option<Py<PyParent>>> {
        let Ok(pipe) = self.pipe.try_lock() else {
            return Ok(None);
        };
        let Some(pipe) = &*pipe else { return Ok(None) };
        pipe.leave_to_parent();
        let descriptor = pipe.another().map_err(raise)?;
        let parent = PyParent::watch(descriptor, &self.token).map_err(raise)?;
        Py::new(py, parent).map(Some)
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let token = &this.get().token;
        let name = match token.name() {
            "" => String::new(),
            name => format!(" `{name}`"),
        };
        let class = this.get_type().qualname()?;
        let phase = match token.phase() {
            Phase::Running => "running",
            phase => phase.name(),
        };
        Ok(format!("<{class}{name}: {phase}>"))
    }
}
