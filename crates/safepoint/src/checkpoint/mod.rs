//! Generations of state on disk.
//!
//! A checkpoint is a committed state to resume from. Save it as often as you like: each save makes a new *generation*, a file of its own, and
//! whatever ends the program, the next one finds the newest generation that is whole.
//!
//! ```
//! use safepoint::checkpoint::{CheckpointStore, Details, State, Target};
//!
//! #[derive(Default, serde::Serialize, serde::Deserialize)]
//! struct Progress { epoch: u32, losses: Vec<f64> }
//!
//! # fn main() -> safepoint::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("checkpoints");
//! let store = CheckpointStore::open(path)?;
//! let mut weights = vec![0.0_f32; 1024];
//! let found = store.latest_into("model", &mut [Target::array("weights", &mut weights)])?;
//! let mut progress = match &found {
//!     Some(checkpoint) => checkpoint.value()?, // goes on where it was
//!     None => Progress::default(),             // nothing was ever saved
//! };
//! while progress.epoch < 3 {
//!     weights.iter_mut().for_each(|weight| *weight += 0.5); // the work
//!     progress.epoch += 1;
//!     let state = State::json(&progress)?.with_array("weights", &[32, 32], &weights);
//!     store.save("model", &state, &Details::new().step(progress.epoch.into()))?;
//! }
//! # assert_eq!(store.latest("model")?.unwrap().generation().0, 3);
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//!
//! 1. A generation has its name when all of it is durable, never before. It is never written again.
//! 2. Names of files are the truth: there is no index that could be wrong, and no pointer to the latest.
//! 3. No number is used twice, not even that of a damaged generation.
//! 4. Nothing is returned from a file that did not pass a checksum.
//! 5. The newest two generations whose metadata can be read are never pruned.
//! 6. What cannot be read is never taken for nothing: all damaged is an error.
//! 7. One process writes a directory at a time; any number may [read](CheckpointReader) it.
//!
//! Lock order: the map of states before a state. No lock is held while an observer is called but that of the state.
//!
//! Deliberately absent: signals (ask a [token](crate::shutdown::ShutdownToken) when to save), processes, and code that runs when something is
//! loaded.

mod background;
pub mod cache;
mod codec;
mod contents;
mod element;
mod export;
mod fingerprint;
mod folder;
mod forked;
mod format;
mod gathered;
mod journal;
mod loaded;
mod metadata;
mod named;
mod notice;
mod options;
mod pieces;
mod read;
mod reader;
mod retention;
mod schedule;
mod staging;
mod state;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod write;

pub use background::{HandedOver, SavedNow, WhenBusy};
pub use codec::Compression;
pub use contents::Contents;
pub use element::{Element, ElementType};
pub use fingerprint::Fingerprint;
pub use folder::MAX_NAME;
pub use format::{FORMAT_VERSION, FormatVersion};
pub use journal::MAX_SMALL;
pub use loaded::{BufferInfo, Checkpoint, Target};
pub use metadata::{Details, Generation, Metadata, Parent};
pub use named::Saved;
pub use notice::{Notice, Skipped};
pub use options::StoreBuilder;
pub use reader::{CheckpointReader, Listed, Validated};
pub use retention::Retention;
pub use schedule::{MAX_OVERHEAD, Schedule};
pub use state::{Encoding, MAX_BUFFER_NAME, SharedBytes, State};
pub use store::CheckpointStore;
