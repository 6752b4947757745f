//! The owner of a stop: installs the handlers, runs the end.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pyo3::prelude::*;
use safepoint::shutdown::{Shutdown, ShutdownToken, Source};
use safepoint::{Error, ErrorKind};

use super::interrupt::Interrupt;
use super::report::PyStopReport;
use super::token::{PyToken, seconds};
use crate::errors::raise;

/// A shutdown from its handlers to its report.
#[pyclass(frozen, name = "Owner", module = "safepoint._native")]
pub(crate) struct PyOwner {
    token: ShutdownToken,
    shutdown: Mutex<Option<Shutdown>>,
    interrupt: OnceLock<Arc<Interrupt>>,
}

#[pymethods]
impl PyOwner {
    /// `signals` are the stop signals with their sources; with none, no handler is touched. With `announces`, the first request is told on standard error; `info_signal`
    /// makes that signal write what is in progress there.
    #[new]
    #[pyo3(signature = (grace, signals, reserve=None, ready_delay=0.0, info_signal=None, announces=false))]
    fn new(
        grace: f64,
        signals: Vec<(i32, String)>,
        reserve: Option<f64>,
        ready_delay: f64,
        info_signal: Option<i32>,
        announces: bool,
    ) -> PyResult<Self> {
        let grace = seconds(grace, "a grace period")?;
        let pid = std::process::id();
        let mut builder = Shutdown::builder()
            .grace(grace)
            .ready_delay(seconds(ready_delay, "a ready delay")?);
        if let Some(reserve) = reserve {
            builder = builder.reserve(seconds(reserve, "a reserve")?);
        }
        for signal in [1, 2, 15] {
            builder = builder.no_stop_signal(signal);
        }
        for (signal, source) in &signals {
            let source: Source = super::request::source(source)?;
            builder = builder.stop_signal(*signal, source);
        }
        if let Some(signal) = info_signal {
            builder = builder.info_signal(signal, move |status| say(pid, &status.to_string()));
        }
        if announces {
            builder = builder.before_stop(move |request| {
                let line = format!(
                    "safepoint: {request}: what is in progress may finish (up to {:.0} s); once more ends it now",
                    grace.as_secs_f64()
                );
                say(pid, &line);
            });
        }
        let built = if signals.is_empty() && info_signal.is_none() {
            builder.build()
        } else {
            builder.install()
        };
        let shutdown = built.map_err(raise)?;
        Ok(Self {
            token: shutdown.token(),
            shutdown: Mutex::new(Some(shutdown)),
            interrupt: OnceLock::new(),
        })
    }

    fn token(&self) -> PyToken {
        PyToken::of(self.token.clone(), None)
    }

    /// From now on each new phase makes the main thread run Python's handler of `signal`, which the front has made one that raises. `thread` is the main thread's
    /// number.
    fn interrupt(&self, thread: u64, signal: i32) -> PyResult<()> {
        let made = Interrupt::attach(&self.token, thread, signal).map_err(raise)?;
        // A second call changes nothing: there is one main thread.
        let _ = self.interrupt.set(made);
        Ok(())
    }

    /// The main thread knows that the stop has got to `reached`: 1 for draining, 2 for terminating.
    fn heard(&self, reached: u8) {
        if let Some(interrupt) = self.interrupt.get() {
            interrupt.heard(reached);
        }
    }

    fn interrupt_no_more(&self) {
        if let Some(interrupt) = self.interrupt.get() {
            interrupt.close();
        }
    }

    /// Runs the hooks, waits for what is in progress, and puts the handlers back.
    fn finish(&self, py: Python<'_>) -> PyResult<PyStopReport> {
        let shutdown = self
            .shutdown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(shutdown) = shutdown else {
            return Err(raise(Error::new(
                ErrorKind::Closed,
                "the shutdown has ended already",
            )));
        };
        Ok(PyStopReport(py.detach(|| shutdown.finish())))
    }
}

/// Writes a line for a person. Not by Python's `sys.stderr`: its lock may be held by a thread that waits for this stop.
///
/// Nothing in a fork of the process `pid`, whose copy of the request is its parent's.
fn say(pid: u32, text: &str) {
    if std::process::id() != pid {
        return;
    }
    // In a terminal something may stand on the line already: a progress bar, or the `^C` that was typed.
    let fresh = if std::io::stderr().is_terminal() {
        "\n"
    } else {
        ""
    };
    let line = format!("{fresh}{text}\n");
    // Nobody is left to be told when standard error is closed.
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}

/// How often a signal has come to the native handler.
#[pyfunction]
pub(crate) fn arrivals(signal: i32) -> u32 {
    safepoint::shutdown::arrivals(signal)
}
