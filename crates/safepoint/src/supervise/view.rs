//! `child.json`: the child as it was last heard of, for those who look from outside.
//!
//! Replaced as a whole, at most once in two seconds while the child speaks. It is a help for people: nothing depends on it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::disk::StateDir;
use crate::error::Result;

/// The file's name in the state directory.
pub(super) const CHILD: &str = "child.json";

/// The longest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// A supervised child, as it was last heard of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    pub progress: Option<Box<RawValue>>,
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
}
