//! One passage over items in a loop: each is begun when it is given out, and done when the next one is asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyIterator;
use safepoint::items::{Begun, Failed, Item, Items, Waiting};
use safepoint::{Error, ErrorKind};

use super::item::retry;
use super::owner::SLICE;
use super::value::{self, RESULT_HINT};
use crate::errors::raise;

/// So many items that failed may wait for another attempt before new ones are taken.
const MAX_WAITING: usize = 1000;

/// After so many items that were done already, Python's signals are looked at.
const LOOK_EVERY: u32 = 1024;

/// The item that was given out last.
struct Current {
    item: Item,
    object: Py<PyAny>,
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    /// Items that failed and may be attempted again in this run.
    waiting: VecDeque<(Waiting, Py<PyAny>)>,
    is_exhausted: bool,
    given: u64,
}

/// Goes over items, one at a time.
#[pyclass(frozen, name = "Passage", module = "safepoint._native")]
pub(crate) struct PyPassage {
    items: Arc<Items>,
    source: Py<PyAny>,
    key: Option<Py<PyAny>>,
    state: Mutex<State>,
}

/// What there is to do next.
enum Next {
    Given(Py<PyAny>),
    /// Nothing but to wait so long.
    Wait(Duration),
    Over,
}

impl PyPassage {
    pub(super) fn new(items: Arc<Items>, source: Bound<'_, PyAny>, key: Option<Py<PyAny>>) -> Self {
        Self {
            items,
            source: source.unbind(),
            key,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The item that was given out last is done, if nothing else was said of it.
    fn finish_current(&self) -> PyResult<()> {
        let current = self.state().current.take();
        match current {
            Some(current) => current.item.done("null").map_err(raise),
            None => Ok(()),
        }
    }

    fn current(&self) -> PyResult<Current> {
        self.state().current.take().ok_or_else(|| {
            let error = Error::new(ErrorKind::Invalid, "no item is in progress");
            raise(error.with_hint("say once what came of an item, and inside the loop"))
        })
    }

    /// Begins `object`; none if it needs no work.
    fn begin(&self, py: Python<'_>, object: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let key = match &self.key {
            Some(key) => Some(value::key(&key.bind(py).call1((object,))?)?),
            None => None,
        };
        let content = value::content(object, key.is_some())?;
        let begun = match &key {
            Some(key) => self.items.begin_with_key(key, &content),
            None => self.items.begin(&content),
        };
        let Begun::Open(item) = begun.map_err(raise)? else {
            return Ok(None);
        };
        let mut state = self.state();
        state.given += 1;
        state.current = Some(Current {
            item,
            object: object.clone().unbind(),
        });
        Ok(Some(object.clone().unbind()))
    }

    /// An item whose next attempt is due, or how long until one is; none when no item waits.
    fn due(&self, py: Python<'_>) -> Option<Result<Py<PyAny>, Duration>> {
        let mut state = self.state();
        let (place, remaining) = state
            .waiting
            .iter()
            .map(|(waiting, _)| waiting.remaining())
            .enumerate()
            .min_by_key(|(_, remaining)| *remaining)?;
        if !remaining.is_zero() {
            return Some(Err(remaining));
        }
        let (waiting, object) = state.waiting.remove(place)?;
        // Once a stop was asked for, it waits for the next run.
        let item = waiting.begin().ok()?;
        let given = object.clone_ref(py);
        state.given += 1;
        state.current = Some(Current { item, object });
        Some(Ok(given))
    }

    fn next(&self, py: Python<'_>) -> PyResult<Next> {
        self.finish_current()?;
        let mut passed = 0;
        loop {
            if self.items.is_ahead() {
                py.detach(|| self.items.catch_up()).map_err(raise)?;
            }
            if self.items.token().is_stopping() {
                return Ok(Next::Over);
            }
            let (has_waiting, is_full, is_exhausted) = {
                let state = self.state();
                let count = state.waiting.len();
                (count > 0, count >= MAX_WAITING, state.is_exhausted)
            };
            if has_waiting {
                match self.due(py) {
                    Some(Ok(object)) => return Ok(Next::Given(object)),
                    Some(Err(remaining)) if is_exhausted || is_full => {
                        return Ok(Next::Wait(remaining));
                    }
                    _ => {}
                }
            }
            if is_exhausted {
                return Ok(Next::Over);
            }
            // Without a lock: the source may be Python code, and may come back here.
            let source = self.source.bind(py).cast::<PyIterator>()?;
            match source.clone().next() {
                None => {
                    self.state().is_exhausted = true;
                    continue;
                }
                Some(object) => {
                    if let Some(object) = self.begin(py, &object?)? {
                        return Ok(Next::Given(object));
                    }
                }
            }
            passed += 1;
            if passed % LOOK_EVERY == 0 {
                py.check_signals()?;
            }
        }
    }
}

#[pymethods]
impl PyPassage {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            match self.next(py)? {
                Next::Given(object) => return Ok(Some(object)),
                Next::Over => return Ok(None),
                Next::Wait(remaining) => {
                    let slice = remaining.min(SLICE);
                    py.detach(|| self.items.token().wait_timeout(slice));
                    py.check_signals()?;
                }
            }
        }
    }

    /// As `__next__` without waiting: `(item,)`, or the seconds to wait, or `None` at the end.
    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self.next(py)? {
            Next::Given(object) => (object,).into_pyobject(py)?.into_any().unbind(),
            Next::Wait(remaining) => remaining
                .as_secs_f64()
                .into_pyobject(py)?
                .into_any()
                .unbind(),
            Next::Over => py.None(),
        })
    }

    /// The item before is done; begins this one, whose source is elsewhere. False if it needs no work.
    fn offer(&self, py: Python<'_>, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.finish_current()?;
        if self.items.is_ahead() {
            py.detach(|| self.items.catch_up()).map_err(raise)?;
        }
        Ok(self.begin(py, object)?.is_some())
    }

    /// The source has no more.
    fn exhaust(&self) -> PyResult<()> {
        self.finish_current()?;
        self.state().is_exhausted = true;
        Ok(())
    }

    /// Whether all items were given.
    #[getter]
    fn exhausted(&self) -> bool {
        let state = self.state();
        state.is_exhausted && state.waiting.is_empty()
    }

    /// Whether an item is in progress.
    #[getter]
    fn busy(&self) -> bool {
        self.state().current.is_some()
    }

    /// The item in progress is done, with this result.
    fn done(&self, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let index = match &self.state().current {
            Some(current) => current.item.index(),
            None => u64::MAX,
        };
        let text = if index == u64::MAX {
            Vec::new()
        } else {
            value::json(result, &format!("the result of item {index}"), RESULT_HINT)?
        };
        self.current()?.item.done(text).map_err(raise)
    }

    /// The attempt of the item in progress failed. With `here`, it is attempted again in this run.
    #[pyo3(signature = (error, details, here, again=true, after=None))]
    fn failed(
        &self,
        error: &str,
        details: &str,
        here: bool,
        again: bool,
        after: Option<f64>,
    ) -> PyResult<()> {
        let again = retry(again, after)?;
        let Current { item, object } = self.current()?;
        let failed = item
            .failed(error, details.as_bytes(), again)
            .map_err(raise)?;
        if let Failed::Waiting(waiting) = failed
            && here
        {
            self.state().waiting.push_back((waiting, object));
        }
        Ok(())
    }

    /// The item in progress is put back: neither done nor failed.
    fn put_back(&self) {
        let current = self.state().current.take();
        drop(current);
    }
}
