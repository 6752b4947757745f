//! What is told of a generation without reading its payload.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fingerprint::Fingerprint;
use super::state::Encoding;

/// The number of a committed state, from 1; it only grows, and none is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the caller says of a state that it saves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// The step that the work is at, counted as the caller counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Items processed so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items_processed: Option<u64>,
    /// Items there are in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items_total: Option<u64>,
    /// The last item that is part of the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_item: Option<String>,
    /// Figures by name, such as the loss; one of them may decide which generations are [kept](super::Retention::keep_best).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Never pruned.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// Anything else.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub extra: Value,
}

impl Details {
    /// Says nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says at which step the work is.
    pub fn step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }

    /// Says how many items are processed, of how many, if that is known.
    pub fn items(mut self, processed: u64, total: Option<u64>) -> Self {
        self.items_processed = Some(processed);
        self.items_total = total;
        self
    }

    /// Says which item was the last.
    pub fn last_item(mut self, item: impl Into<String>) -> Self {
        self.last_item = Some(item.into());
        self
    }

    /// Adds a figure. One that is not finite is left out: it is no measure of anything.
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        if value.is_finite() {
            self.metrics.insert(name.into(), value);
        }
        self
    }

    /// Keeps this generation from being pruned.
    pub fn pinned(mut self) -> Self {
        self.pinned = true;
        self
    }

    /// Adds anything that JSON can say.
    pub fn extra(mut self, extra: impl Into<Value>) -> Self {
        self.extra = extra.into();
        self
    }
}

/// Which generation a state was [forked](super::CheckpointStore::fork) from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its name.
    pub name: String,
    /// Its generation.
    pub generation: Generation,
}

/// What is told of a generation without reading its payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Flat")]
#[non_exhaustive]
pub struct Metadata {
    /// What the state is called.
    pub name: String,
    /// Its number.
    pub generation: Generation,
    /// When it was saved, in milliseconds since 1970 UTC.
    pub saved_at_ms: i64,
    /// When the work began whose state this is, kept over resumes.
    pub started_at_ms: i64,
    /// The run that saved it: how often the store had been opened, from 1.
    pub run: u32,
    /// What the caller said.
    #[serde(flatten)]
    pub details: Details,
    /// What it was forked from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What it is of.
    pub fingerprint: Fingerprint,
    /// How its value is encoded.
    pub encoding: Encoding,
    /// The bytes of its payload, before compression.
    pub payload_bytes: u64,
    /// The named buffers.
    pub buffers: u64,
    /// The version of the program that wrote it.
    pub written_by: String,
}

/// The same on one level, as it is in the file. A flattened struct is read by way of a map, which takes longer than all the rest of listing.
#[derive(Deserialize)]
struct Flat {
    name: String,
    generation: Generation,
    saved_at_ms: i64,
    started_at_ms: i64,
    run: u32,
    step: Option<u64>,
    items_processed: Option<u64>,
    items_total: Option<u64>,
    last_item: Option<String>,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
    #[serde(default)]
    pinned: bool,
    #[serde(default)]
    extra: Value,
    parent: Option<Parent>,
    #[serde(default)]
    fingerprint: Fingerprint,
    encoding: Encoding,
    payload_bytes: u64,
    buffers: u64,
    written_by: String,
}

impl From<Flat> for Metadata {
    fn from(flat: Flat) -> Self {
        Self {
            name: flat.name,
            generation: flat.generation,
            saved_at_ms: flat.saved_at_ms,
            started_at_ms: flat.started_at_ms,
            run: flat.run,
            details: Details {
                step: flat.step,
                items_processed: flat.items_processed,
                items_total: flat.items_total,
                last_item: flat.last_item,
                metrics: flat.metrics,
                pinned: flat.pinned,
                extra: flat.extra,
            },
            parent: flat.parent,
            fingerprint: flat.fingerprint,
            encoding: flat.encoding,
            payload_bytes: flat.payload_bytes,
            buffers: flat.buffers,
            written_by: flat.written_by,
        }
    }
}
