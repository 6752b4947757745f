//! The cache, in two moves: ask, and keep what was computed. Who computes is Python code, which may suspend.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;
use safepoint::checkpoint::Fingerprint;
use safepoint::checkpoint::cache::{Cache, Claim, Claimed};
use safepoint::{Error, ErrorKind};

use crate::checkpoint::{Buffer, Notices, choose, compression, from_json, loaded, state};
use crate::errors::raise;

/// Results that are kept by key and fingerprint.
#[pyclass(frozen, name = "Results", module = "safepoint._native")]
pub(crate) struct PyResults {
    cache: Arc<Cache>,
    notices: Notices,
}

/// The right to compute an entry.
#[pyclass(frozen, name = "Claim", module = "safepoint._native")]
pub(crate) struct PyClaim {
    cache: Arc<Cache>,
    claim: Mutex<Option<Claim>>,
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyClaim>()?;
    module.add_class::<PyResults>()
}

/// What was asked for: an entry, the right to compute it, or neither while somebody else computes it.
type Asked<'py> = (Option<Bound<'py, PyDict>>, Option<PyClaim>);

#[pymethods]
impl PyResults {
    #[new]
    #[pyo3(signature = (path, max_bytes, compression))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        max_bytes: Option<u64>,
        compression: &str,
    ) -> PyResult<Self> {
        let notices = Notices::default();
        let told = notices.clone();
        let mut builder = Cache::builder(path)
            .compression(self::compression(compression)?)
            .on_notice(move |notice| told.push(notice.to_string()));
        if let Some(bytes) = max_bytes {
            builder = builder.at_most_bytes(bytes);
        }
        let cache = py.detach(|| builder.open()).map_err(raise)?;
        Ok(Self {
            cache: Arc::new(cache),
            notices,
        })
    }

    fn path(&self) -> PathBuf {
        self.cache.path().to_path_buf()
    }

    fn notices(&self) -> Vec<String> {
        self.notices.take()
    }

    /// Asks for an entry without waiting for others that compute it; its buffers go where `place` says.
    fn claim<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        fingerprint: &str,
        place: Py<PyAny>,
    ) -> PyResult<Asked<'py>> {
        let fingerprint: Fingerprint = from_json(fingerprint, "the fingerprint")?;
        let mut held = Vec::new();
        let claimed = py.detach(|| {
            let choose = |checkpoint: &_| choose(&place, &mut held, checkpoint);
            self.cache.claim(key, &fingerprint, choose)
        });
        Ok(match claimed.map_err(raise)? {
            Claimed::Kept(checkpoint) => (Some(loaded(py, &checkpoint)?), None),
            Claimed::Ours(claim) => {
                let cache = Arc::clone(&self.cache);
                let claim = Mutex::new(Some(claim));
                (None, Some(PyClaim { cache, claim }))
            }
            _ => (None, None),
        })
    }

    /// Hits, computed, computed anew, not kept, evicted.
    fn statistics(&self) -> (u64, u64, u64, u64, u64) {
        let counted = self.cache.statistics();
        (
            counted.hits,
            counted.computed,
            counted.computed_anew,
            counted.not_kept,
            counted.evicted,
        )
    }

    fn remove(&self, py: Python<'_>, key: &str) -> PyResult<(u64, u64)> {
        let cleared = py.detach(|| self.cache.remove(key)).map_err(raise)?;
        Ok((cleared.entries, cleared.file_bytes))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let cleared = py.detach(|| self.cache.clear()).map_err(raise)?;
        Ok((cleared.entries, cleared.file_bytes))
    }
}

impl PyClaim {
    fn take(&self) -> Option<Claim> {
        self.claim
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

#[pymethods]
impl PyClaim {
    /// Keeps what was computed. Whether that could be done is a notice.
    fn keep(
        &self,
        py: Python<'_>,
        value: Option<(String, PyBackedBytes)>,
        buffers: Vec<Buffer>,
    ) -> PyResult<()> {
        let Some(claim) = self.take() else {
            return Err(raise(Error::new(ErrorKind::Closed, "the claim is over")));
        };
        let value = value
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), bytes.as_ref()));
        let state = state(py, value, &buffers)?;
        py.detach(|| self.cache.keep_claimed(claim, &state));
        Ok(())
    }

    /// Lets the next one who asks compute.
    fn release(&self, py: Python<'_>) {
        if let Some(claim) = self.take() {
            py.detach(|| drop(claim));
        }
    }
}
