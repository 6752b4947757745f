//! `child.json`: the child of a supervised job as it was last heard of, for those who look from outside.
//!
//! Replaced as a whole, at most once in two seconds while the child speaks. It is a help for people: nothing depends on it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::rfc_3339;
use crate::disk::{self, StateDir};
use crate::error::Result;

/// The file's name in the state directory.
const CHILD: &str = "child.json";

/// The longest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// A supervised child, as it was last heard of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChildView {
    /// Its process; 0 between two children, and after the last.
    pub pid: u32,
    /// When it was started, in milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// How often a child was started again in this run.
    pub restarts: u32,
    /// How the child before it ended in this run: `exit 1`, `killed by SIGKILL`.
    pub last_exit: Option<String>,
    /// When it said something last, in milliseconds since 1970 UTC.
    pub heard_at_ms: Option<i64>,
    /// How far it is, in its own words: any JSON.
    pub progress: Option<Value>,
    /// What it spent in this run, in millionths.
    pub cost_micros: u64,
    /// The last checkpoint that it spoke of.
    pub checkpoint: Option<String>,
    /// When it did, in milliseconds since 1970 UTC.
    pub checkpoint_at_ms: Option<i64>,
}

impl ChildView {
    /// Reads it; nothing when there is none, or it cannot be understood.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it exists and cannot be read.
    pub fn read(dir: &StateDir) -> Result<Option<Self>> {
        let bytes = dir.read(CHILD, LIMIT)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Puts it where others look.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be written.
    pub(crate) fn show(&self, dir: &StateDir) -> Result<()> {
        disk::show(
            &dir.file(CHILD),
            &serde_json::to_vec(self).unwrap_or_default(),
        )
    }

    /// The process, while there is one.
    pub fn process(&self) -> Option<u32> {
        (self.pid != 0).then_some(self.pid)
    }

    /// What it spent, in whole units.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a sum for people; the file has it exactly"
    )]
    pub fn cost(&self) -> Option<f64> {
        (self.cost_micros > 0).then(|| self.cost_micros as f64 / 1e6)
    }

    /// As it stands in a status.
    pub fn object(&self) -> Value {
        json!({
            "pid": self.process(),
            "started_at": rfc_3339(self.started_at_ms),
            "restarts": self.restarts,
            "last_exit": self.last_exit,
            "heard_at": self.heard_at_ms.map(rfc_3339),
            "progress": self.progress,
            "cost": self.cost(),
            "checkpoint": self.checkpoint,
            "checkpoint_at": self.checkpoint_at_ms.map(rfc_3339),
        })
    }
}
