//! The queue: claims that can be stopped, leases that many threads settle together.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use safepoint::clock::Clock;
use safepoint::queue::{
    Durability, Lease, LeaseToken, NewItem, Payload, Pushed, QueueCounts, QueuedItem, QueuedState,
    RetryPolicy,
};
use safepoint::shutdown::ShutdownToken;
use safepoint::{Error, ErrorKind, Queue};

use crate::errors::raise;
use crate::shutdown::PyToken;

/// The longest time without a look at Python's own signals and at the stop.
const SLICE: Duration = Duration::from_millis(100);

/// A queue; the base of what `safepoint.Queue` does.
#[pyclass(frozen, name = "Queue", module = "safepoint._native")]
struct PyQueue {
    /// None once it was closed. A claim holds it for a slice, so it is shared.
    queue: std::sync::RwLock<Option<Queue>>,
}

/// A lease. What it says of its item can be read after it was settled, too.
#[pyclass(frozen, name = "Lease", module = "safepoint._native")]
struct PyLease {
    lease: Mutex<Option<Lease>>,
    /// `str` or `bytes`.
    payload: Py<PyAny>,
    #[pyo3(get)]
    key: Option<String>,
    #[pyo3(get)]
    name: String,
    #[pyo3(get)]
    number: u64,
    #[pyo3(get)]
    attempt: u32,
    #[pyo3(get)]
    idempotency_key: String,
    #[pyo3(get)]
    token: String,
    expires_at_ms: std::sync::atomic::AtomicI64,
}

/// One item, in the order of the fields of the front's `QueuedItem`.
type Row = (
    u64,
    Option<String>,
    &'static str,
    u32,
    f64,
    Option<f64>,
    Option<f64>,
    Option<u32>,
    Py<PyAny>,
    Option<Py<PyAny>>,
    Option<String>,
);

fn seconds(value: f64, what: &str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| {
        let error = Error::invalid(format!("{what} of {value} seconds cannot be"));
        raise(error.with_hint("give a number of seconds from 0 on"))
    })
}

/// A text or bytes, as the front has encoded it.
fn payload(value: &Bound<'_, PyAny>) -> PyResult<Payload> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_str()?.into());
    }
    Ok(value.cast::<PyBytes>()?.as_bytes().into())
}

fn value(py: Python<'_>, payload: &Payload) -> Py<PyAny> {
    match payload {
        Payload::Text(text) => PyString::new(py, text).into_any().unbind(),
        Payload::Bytes(bytes) => PyBytes::new(py, bytes).into_any().unbind(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of this age are exact"
)]
fn time(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn row(py: Python<'_>, item: QueuedItem) -> Row {
    (
        item.number,
        item.key.map(String::from),
        item.state.name(),
        item.attempts,
        time(item.pushed_at_ms),
        item.due_at_ms.map(time),
        item.settled_at_ms.map(time),
        item.pid,
        value(py, &item.payload),
        item.result.map(|result| value(py, &result)),
        item.error,
    )
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the queue was closed")
}

impl PyQueue {
    /// Asks the queue, without the interpreter.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        question: impl FnOnce(&Queue) -> safepoint::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
            question(queue.as_ref().ok_or_else(closed)?)
        })
        .map_err(raise)
    }
}

#[pymethods]
impl PyQueue {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "the front gives them by name")]
    fn new(
        py: Python<'_>,
        directory: PathBuf,
        lease: f64,
        attempts: u32,
        wait: f64,
        longest_wait: f64,
        survives_power_cut: bool,
        read_ahead: usize,
    ) -> PyResult<Self> {
        let retry = RetryPolicy {
            max_attempts: attempts,
            base: seconds(wait, "a wait")?,
            cap: seconds(longest_wait, "a wait")?,
        };
        let durability = if survives_power_cut {
            Durability::PowerCut
        } else {
            Durability::Kill
        };
        let builder = Queue::builder(directory)
            .lease(seconds(lease, "a lease")?)
            .retry(retry)
            .durability(durability)
            .read_ahead(read_ahead);
        let queue = py.detach(|| builder.open()).map_err(raise)?;
        Ok(Self {
            queue: std::sync::RwLock::new(Some(queue)),
        })
    }

    #[getter]
    fn directory(&self, py: Python<'_>) -> PyResult<PathBuf> {
        self.ask(py, |queue| Ok(queue.directory().to_path_buf()))
    }

    /// The state of the item that has this key already; none if it is new.
    fn push(
        &self,
        py: Python<'_>,
        payload: &Bound<'_, PyAny>,
        key: Option<String>,
        delay: f64,
    ) -> PyResult<Option<&'static str>> {
        let told = self.push_many(py, vec![(payload.clone(), key, delay)])?;
        Ok(told.into_iter().next().flatten())
    }

    fn push_many(
        &self,
        py: Python<'_>,
        items: Vec<(Bound<'_, PyAny>, Option<String>, f64)>,
    ) -> PyResult<Vec<Option<&'static str>>> {
        let items = items.into_iter().map(|(value, key, delay)| {
            let mut item = NewItem::new(payload(&value)?).delay(seconds(delay, "a delay")?);
            if let Some(key) = key {
                item = item.key(key);
            }
            Ok(item)
        });
        let items = items.collect::<PyResult<Vec<_>>>()?;
        let told = self.ask(py, |queue| queue.push_many(items))?;
        let each = told.into_iter().map(|pushed| match pushed {
            Pushed::New => None,
            Pushed::Known(state) => Some(state.name()),
        });
        Ok(each.collect())
    }

    /// Claims up to `count` items: waits so long, or for ever, until there is one or a stop is asked for.
    fn claim(
        &self,
        py: Python<'_>,
        count: usize,
        timeout: Option<f64>,
        stop: Option<&Bound<'_, PyToken>>,
    ) -> PyResult<Vec<PyLease>> {
        if !stop.is_some_and(|stop| stop.get().token.is_stopping()) {
            // Most claims of a busy consumer end here, and letting go of the interpreter would cost more than all the rest.
            let ready = match self.queue.try_read().as_deref() {
                Ok(Some(queue)) => queue.claim_ready(count).map_err(raise)?,
                // It is being closed, which is waited for without the interpreter.
                _ => Vec::new(),
            };
            if !ready.is_empty() {
                let leases = ready.into_iter();
                return Ok(leases.map(|lease| PyLease::new(py, lease)).collect());
            }
        }
        let stop: Option<ShutdownToken> = stop.map(|stop| stop.get().token.clone());
        let limit = timeout
            .map(|value| seconds(value, "a timeout"))
            .transpose()?;
        let clock = Clock::start();
        let begun = clock.now();
        loop {
            let is_stopping = stop.as_ref().is_some_and(ShutdownToken::is_stopping);
            let waited = clock.now().since(begun);
            let left = limit.map_or(SLICE, |limit| limit.saturating_sub(waited).min(SLICE));
            if is_stopping {
                return Ok(Vec::new());
            }
            let leases = self.ask(py, |queue| queue.claim_many(count, left))?;
            if !leases.is_empty() {
                let leases = leases.into_iter();
                return Ok(leases.map(|lease| PyLease::new(py, lease)).collect());
            }
            py.check_signals()?;
            if limit.is_some_and(|limit| clock.now().since(begun) >= limit) {
                return Ok(Vec::new());
            }
        }
    }

    /// Takes up a lease that was detached.
    fn lease(&self, py: Python<'_>, token: &str) -> PyResult<PyLease> {
        let token: LeaseToken = token.parse().map_err(raise)?;
        let lease = self.ask(py, |queue| queue.lease(&token))?;
        Ok(PyLease::new(py, lease))
    }

    fn stop_claims(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, |queue| {
            queue.stop_claims();
            Ok(())
        })
    }

    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, Queue::sync)
    }

    /// Pending, waiting, leased, done and dead.
    fn stats(&self, py: Python<'_>) -> PyResult<(u64, u64, u64, u64, u64)> {
        let QueueCounts {
            pending,
            waiting,
            leased,
            done,
            dead,
        } = self.ask(py, Queue::stats)?;
        Ok((pending, waiting, leased, done, dead))
    }

    fn _list(
        &self,
        py: Python<'_>,
        state: Option<&str>,
        after: u64,
        limit: usize,
    ) -> PyResult<Vec<Row>> {
        let state = state.map(parse_state).transpose()?;
        let items = self.ask(py, |queue| queue.list(state, after, limit))?;
        Ok(items.into_iter().map(|item| row(py, item)).collect())
    }

    fn item(&self, py: Python<'_>, name: &str) -> PyResult<Option<Row>> {
        let item = self.ask(py, |queue| queue.item(name))?;
        Ok(item.map(|item| row(py, item)))
    }

    fn retry(&self, py: Python<'_>, only: Option<Vec<String>>) -> PyResult<u64> {
        self.ask(py, |queue| {
            let names = only.as_ref();
            let names = names.map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
            queue.retry(names.as_deref())
        })
    }

    fn forget_done(&self, py: Python<'_>, age: f64) -> PyResult<u64> {
        let age = seconds(age, "an age")?;
        self.ask(py, |queue| queue.forget_done(age))
    }

    /// A second time it does nothing. Claims that wait meanwhile are let go first.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            if let Some(queue) = &*self.queue.read().unwrap_or_else(PoisonError::into_inner) {
                queue.stop_claims();
            }
            let queue = self
                .queue
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            queue.map_or(Ok(()), Queue::close)
        })
        .map_err(raise)
    }
}

fn parse_state(name: &str) -> PyResult<QueuedState> {
    QueuedState::from_name(name).ok_or_else(|| {
        let names = QueuedState::ALL.map(QueuedState::name).join(", ");
        let error = Error::invalid(format!("`{name}` is no state of an item"));
        raise(error.with_hint(format!("one of {names}")))
    })
}

impl PyLease {
    fn new(py: Python<'_>, lease: Lease) -> Self {
        Self {
            payload: value(py, lease.payload()),
            key: lease.key().map(str::to_owned),
            name: lease.name(),
            number: lease.number(),
            attempt: lease.attempt(),
            idempotency_key: lease.idempotency_key(),
            token: lease.token().to_string(),
            expires_at_ms: lease.expires_at_ms().into(),
            lease: Mutex::new(Some(lease)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles it, without the interpreter.
    fn settle<T: Send>(
        &self,
        py: Python<'_>,
        how: impl FnOnce(Lease) -> safepoint::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let lease = self.lock().take();
            how(lease.ok_or_else(|| self.settled())?)
        })
        .map_err(raise)
    }

    fn settled(&self) -> Error {
        Error::new(
            ErrorKind::Closed,
            format!(
                "the lease on item `{}` was settled before",
                self.name.escape_debug()
            ),
        )
    }
}

fn result(value: Option<&Bound<'_, PyAny>>) -> PyResult<Payload> {
    value.map_or_else(|| Ok(Payload::default()), payload)
}

#[pymethods]
impl PyLease {
    #[getter]
    fn payload(&self, py: Python<'_>) -> Py<PyAny> {
        self.payload.clone_ref(py)
    }

    #[getter]
    fn expires_at(&self) -> f64 {
        // Relaxed: a time alone.
        time(
            self.expires_at_ms
                .load(std::sync::atomic::Ordering::Relaxed),
        )
    }

    /// Whether it can still be settled.
    #[getter]
    fn is_held(&self) -> bool {
        self.lock().is_some()
    }

    fn acknowledge(&self, py: Python<'_>, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let result = result(value)?;
        self.settle(py, |lease| lease.acknowledge(result))
    }

    fn acknowledge_later(&self, py: Python<'_>, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let result = result(value)?;
        self.settle(py, |lease| lease.acknowledge_later(result))
    }

    fn release(&self, py: Python<'_>, delay: f64) -> PyResult<()> {
        let delay = seconds(delay, "a delay")?;
        self.settle(py, |lease| lease.release(delay))
    }

    fn release_later(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, |lease| lease.release_later(Duration::ZERO))
    }

    /// The state that the item is in then.
    fn fail(&self, py: Python<'_>, error: String) -> PyResult<&'static str> {
        self.settle(py, |lease| lease.fail(error))
            .map(QueuedState::name)
    }

    fn extend(&self, py: Python<'_>, time: f64) -> PyResult<()> {
        let time = seconds(time, "a lease")?;
        let expires_at_ms = py
            .detach(|| {
                let mut lease = self.lock();
                let lease = lease.as_mut().ok_or_else(|| self.settled())?;
                lease.extend(time)?;
                Ok(lease.expires_at_ms())
            })
            .map_err(raise)?;
        self.expires_at_ms
            .store(expires_at_ms, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn detach(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, |lease| {
            lease.detach();
            Ok(())
        })
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyQueue>()?;
    module.add_class::<PyLease>()
}
