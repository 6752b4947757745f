//! Alive, ready, status, metrics and a stop over HTTP, for a program of one's own.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use safepoint::health::{Address, Health, Secret, Server};

use crate::errors::raise;
use crate::shutdown::{PyEnding, PyToken, begin, seconds};

/// A server that answers for a token until it is closed.
#[pyclass(frozen, name = "HealthServer", module = "safepoint")]
pub(crate) struct PyHealthServer {
    health: Health,
    server: Mutex<Option<Server>>,
    address: String,
}

#[pymethods]
impl PyHealthServer {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "named ones, in Python")]
    #[pyo3(signature = (token, address, checks, ready, check_limit=None, secret=None, hosts=Vec::new()))]
    fn new(
        py: Python<'_>,
        token: &Bound<'_, PyToken>,
        address: &str,
        checks: Vec<(String, Py<PyAny>)>,
        ready: bool,
        check_limit: Option<f64>,
        secret: Option<&str>,
        hosts: Vec<String>,
    ) -> PyResult<Self> {
        let address = Address::parse(address).map_err(raise)?;
        let mut builder = Health::builder(&token.get().token);
        for (name, check) in checks {
            builder = builder.check(name, move || run(&check));
        }
        if let Some(limit) = check_limit {
            builder = builder.check_limit(seconds(limit, "a limit of checks")?);
        }
        if let Some(secret) = secret {
            builder = builder.secret(Secret::new(secret).map_err(raise)?);
        }
        for host in hosts {
            builder = builder.host(host);
        }
        let health = builder.build();
        health.set_ready(ready);
        let server = py.detach(|| health.serve(&address)).map_err(raise)?;
        Ok(Self {
            address: server.address().to_string(),
            health,
            server: Mutex::new(Some(server)),
        })
    }

    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    #[getter]
    fn ready(&self) -> bool {
        self.health.is_ready()
    }

    #[pyo3(name = "_set_ready")]
    fn set_ready(&self, ready: bool) {
        self.health.set_ready(ready);
    }

    fn close(&self, py: Python<'_>) {
        let server = self
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        py.detach(|| drop(server));
    }
}

/// A check of Python, on a thread of Python's: `run(ending)` tells how it went.
fn run(check: &Py<PyAny>) -> Result<(), String> {
    let (ending, ended) = PyEnding::new();
    Python::attach(|py| begin(py, check, (ending,)))?;
    ended.recv().unwrap_or(Ok(()))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyHealthServer>()
}
