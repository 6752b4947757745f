//! The store, and a reader of one that somebody else may own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;
use safepoint::checkpoint::{
    CheckpointReader, CheckpointStore, Details, Fingerprint, Generation, HandedOver, Retention,
    Saved, SavedNow, Validated,
};
use safepoint::{Error, ErrorKind};

use super::memory::{Buffer, choose, loaded, state};
use super::settings::{Notices, compression, from_json, to_json, when_busy};
use crate::errors::raise;

/// The longest time without a look at Python's signals.
const SLICE: Duration = Duration::from_millis(100);

/// The newest, each so many, the metric with how many of its smallest or largest, bytes.
type Rules = (
    Option<usize>,
    u64,
    Option<(String, usize, bool)>,
    Option<u64>,
);

/// Generation, bytes of the file, bytes of the payload, seconds.
type Told = (u64, u64, u64, f64);

/// A directory of checkpoints, owned or only read.
#[pyclass(frozen, name = "Store", module = "safepoint._native")]
pub(crate) struct PyStore {
    /// `None` in a reader, and in a store that was closed.
    store: Mutex<Option<Arc<CheckpointStore>>>,
    reader: CheckpointReader,
    owns: bool,
    notices: Notices,
    /// The process that opened it; in a fork of that it is of no use.
    pid: u32,
}

fn told(saved: &Saved) -> Told {
    let took = saved.took.as_secs_f64();
    (
        saved.generation.0,
        saved.file_bytes,
        saved.payload_bytes,
        took,
    )
}

fn retention((newest, every, best, bytes): Rules) -> Retention {
    let mut retention = newest
        .map_or_else(Retention::all, Retention::newest)
        .keep_every(every);
    if let Some((metric, count, smallest)) = best {
        retention = if smallest {
            retention.keep_smallest(metric, count)
        } else {
            retention.keep_best(metric, count)
        };
    }
    match bytes {
        Some(bytes) => retention.at_most_bytes(bytes),
        None => retention,
    }
}

impl PyStore {
    fn open(&self) -> PyResult<Arc<CheckpointStore>> {
        if std::process::id() != self.pid {
            let error = Error::new(
                ErrorKind::Closed,
                format!(
                    "the store belongs to process {}, of which this is a fork",
                    self.pid
                ),
            );
            return Err(raise(error.with_hint(
                "open a `CheckpointReader` here, or save in the process that opened the store",
            )));
        }
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store
            .clone()
            .ok_or_else(|| raise(Error::new(ErrorKind::Closed, "the store was closed")))
    }

    /// Calls with the store.
    pub(super) fn with<T>(&self, call: impl FnOnce(&CheckpointStore) -> T) -> PyResult<T> {
        Ok(call(&*self.open()?))
    }
}

#[pymethods]
impl PyStore {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "each is named in Python")]
    #[pyo3(signature = (path, fingerprint, ignore, accept_changes, retention, compression, when_busy, workers))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        fingerprint: &str,
        ignore: Vec<String>,
        accept_changes: bool,
        retention: Rules,
        compression: &str,
        when_busy: &str,
        workers: usize,
    ) -> PyResult<Self> {
        let notices = Notices::default();
        let fingerprint: Fingerprint = from_json(fingerprint, "the fingerprint")?;
        let told = notices.clone();
        let mut builder = CheckpointStore::builder(path)
            .fingerprint(fingerprint)
            .ignore(ignore)
            .retention(self::retention(retention))
            .compression(self::compression(compression)?)
            .when_busy(self::when_busy(when_busy)?)
            .workers(workers)
            .on_notice(move |notice| told.push(notice.to_string()));
        if accept_changes {
            builder = builder.accept_changes();
        }
        let store = py.detach(|| builder.open()).map_err(raise)?;
        Ok(Self {
            reader: store.reader().clone(),
            store: Mutex::new(Some(Arc::new(store))),
            owns: true,
            notices,
            pid: std::process::id(),
        })
    }

    /// Reads what another process may own.
    #[staticmethod]
    fn reader(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let reader = py.detach(|| CheckpointReader::open(path)).map_err(raise)?;
        Ok(Self {
            store: Mutex::new(None),
            reader,
            owns: false,
            notices: Notices::default(),
            pid: std::process::id(),
        })
    }

    fn path(&self) -> PathBuf {
        self.reader.path().to_path_buf()
    }

    fn run(&self) -> PyResult<u32> {
        self.with(CheckpointStore::run)
    }

    fn notices(&self) -> Vec<String> {
        self.notices.take()
    }

    /// Saves and waits: `how` is `save` or `small`.
    fn save(
        &self,
        py: Python<'_>,
        how: &str,
        name: &str,
        value: Option<(String, PyBackedBytes)>,
        buffers: Vec<Buffer>,
        details: &str,
    ) -> PyResult<Told> {
        let store = self.open()?;
        let details: Details = from_json(details, "what is said of the state")?;
        let value = value
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), bytes.as_ref()));
        let state = state(py, value, &buffers)?;
        let saved = py.detach(|| match how {
            "small" => store.save_small(name, &state, &details),
            _ => store.save(name, &state, &details),
        });
        Ok(told(&saved.map_err(raise)?))
    }

    /// Saves at a stop. Says whether it is the state that was given.
    fn save_now(
        &self,
        py: Python<'_>,
        name: &str,
        value: Option<(String, PyBackedBytes)>,
        buffers: Vec<Buffer>,
        details: &str,
        within: f64,
    ) -> PyResult<(Told, bool)> {
        let store = self.open()?;
        let details: Details = from_json(details, "what is said of the state")?;
        let value = value
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), bytes.as_ref()));
        let state = state(py, value, &buffers)?;
        let within = Duration::try_from_secs_f64(within.max(0.0)).unwrap_or(Duration::MAX);
        let saved = py.detach(|| store.save_now(name, &state, &details, within));
        let saved = saved.map_err(raise)?;
        let is_given = matches!(saved, SavedNow::Given(_));
        let (SavedNow::Given(saved) | SavedNow::InFlight(saved)) = saved else {
            return Err(raise(Error::invalid(
                "this version does not know what was saved",
            )));
        };
        Ok((told(&saved), is_given))
    }

    /// Hands a save over to the background, copied by `memory` or `fork`.
    fn save_in_background(
        &self,
        py: Python<'_>,
        by: &str,
        name: &str,
        value: Option<(String, PyBackedBytes)>,
        buffers: Vec<Buffer>,
        details: &str,
    ) -> PyResult<&'static str> {
        let store = self.open()?;
        let details: Details = from_json(details, "what is said of the state")?;
        let value = value
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), bytes.as_ref()));
        let state = state(py, value, &buffers)?;
        let handed_over = py.detach(|| match by {
            "fork" => store.save_by_fork(name, state, details),
            _ => store.save_in_background(name, state, details),
        });
        Ok(match handed_over.map_err(raise)? {
            HandedOver::Replaced => "replaced",
            HandedOver::Skipped => "skipped",
            _ => "accepted",
        })
    }

    fn prepare_background(&self, py: Python<'_>, bytes: usize) -> PyResult<()> {
        let store = self.open()?;
        py.detach(|| store.prepare_background(bytes)).map_err(raise)
    }

    fn is_saving(&self) -> PyResult<bool> {
        self.with(CheckpointStore::is_saving)
    }

    fn finish_background(&self, py: Python<'_>) -> PyResult<Option<Told>> {
        let store = self.open()?;
        while !py.detach(|| store.wait_background(SLICE)) {
            py.check_signals()?;
        }
        let finished = py.detach(|| store.finish_background()).map_err(raise)?;
        Ok(finished.as_ref().map(told))
    }

    /// Sees the background through and gives the directory up; a call that is under way elsewhere keeps it until it is over.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if std::process::id() != self.pid {
            return Ok(());
        }
        let taken = self
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(store) = taken else { return Ok(()) };
        let outcome = py.detach(|| {
            let finished = store.finish_background();
            drop(store);
            finished
        });
        outcome.map(drop).map_err(raise)
    }

    /// In a fork: the directory stays the parent's.
    fn leave_to_parent(&self) {
        // Whoever held this at the fork is not here to let go.
        if let Ok(mut store) = self.store.try_lock()
            && let Some(store) = store.take()
        {
            store.leave_to_parent();
        }
    }

    /// The newest generation that is whole, its buffers put where `place` says.
    fn latest<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        place: Py<PyAny>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        // The memory stays until all is read.
        let mut held = Vec::new();
        let found = if self.owns {
            let store = self.open()?;
            py.detach(|| {
                store.latest_with(name, |checkpoint| choose(&place, &mut held, checkpoint))
            })
        } else {
            py.detach(|| {
                let choose = |checkpoint: &_| choose(&place, &mut held, checkpoint);
                self.reader.latest_with(name, choose)
            })
        };
        match found.map_err(raise)? {
            Some(checkpoint) => loaded(py, &checkpoint).map(Some),
            None => Ok(None),
        }
    }

    fn load<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        generation: u64,
        place: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let generation = Generation(generation);
        let mut held = Vec::new();
        let found = if self.owns {
            let store = self.open()?;
            py.detach(|| {
                let choose = |checkpoint: &_| choose(&place, &mut held, checkpoint);
                store.load_with(name, generation, choose)
            })
        } else {
            py.detach(|| {
                let choose = |checkpoint: &_| choose(&place, &mut held, checkpoint);
                self.reader.load_with(name, generation, choose)
            })
        };
        loaded(py, &found.map_err(raise)?)
    }

    fn names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        py.detach(|| self.reader.names()).map_err(raise)
    }

    /// Of each generation its number, the bytes of its file, its metadata as JSON or why they cannot be read.
    #[expect(clippy::type_complexity, reason = "a row for the front")]
    fn list(
        &self,
        py: Python<'_>,
        name: &str,
    ) -> PyResult<Vec<(u64, u64, Option<String>, Option<String>)>> {
        let listed = py.detach(|| self.reader.list(name)).map_err(raise)?;
        let row = |listed: safepoint::checkpoint::Listed| {
            let (metadata, why) = match &listed.metadata {
                Ok(metadata) => (Some(to_json(metadata)?), None),
                Err(error) => (None, Some(error.chain())),
            };
            Ok((listed.generation.0, listed.file_bytes, metadata, why))
        };
        listed.into_iter().map(row).collect()
    }

    /// Of each generation its number, its file, the bytes of its payload or what is wrong.
    #[expect(clippy::type_complexity, reason = "a row for the front")]
    fn validate(
        &self,
        py: Python<'_>,
        name: &str,
    ) -> PyResult<Vec<(u64, PathBuf, Option<u64>, Option<String>)>> {
        let validated = py.detach(|| self.reader.validate(name)).map_err(raise)?;
        let row = |validated: Validated| {
            let (bytes, why) = match validated.outcome {
                Ok(bytes) => (Some(bytes), None),
                Err(error) => (None, Some(error.chain())),
            };
            (validated.generation.0, validated.path, bytes, why)
        };
        Ok(validated.into_iter().map(row).collect())
    }

    fn prune(&self, py: Python<'_>, name: &str) -> PyResult<Vec<u64>> {
        let store = self.open()?;
        let pruned = py.detach(|| store.prune(name)).map_err(raise)?;
        Ok(pruned.into_iter().map(|generation| generation.0).collect())
    }

    fn fork(&self, py: Python<'_>, name: &str, generation: u64, to: &str) -> PyResult<Told> {
        let store = self.open()?;
        let saved = py.detach(|| store.fork(name, Generation(generation), to));
        Ok(told(&saved.map_err(raise)?))
    }

    fn export(
        &self,
        py: Python<'_>,
        name: &str,
        generation: u64,
        folder: PathBuf,
    ) -> PyResult<PathBuf> {
        py.detach(|| self.reader.export(name, Generation(generation), folder))
            .map_err(raise)
    }
}

impl Drop for PyStore {
    fn drop(&mut self) {
        // What is inherited by a fork is not ours to close.
        if std::process::id() != self.pid {
            self.leave_to_parent();
        }
    }
}
