//! The input: files and standard input, cut into items and streamed.
//!
//! Memory does not grow with the input: at most a few batches are read ahead. An item that cannot be worked on (too long, not valid
//! JSON, a CSV record of the wrong width) is *refused*: it becomes dead with a reason, and the others go on.

mod csv;
mod items;
mod reader;
mod reconcile;
mod split;
mod spool;

pub(super) use items::{InputItem, ItemReader, Position};
pub(super) use reader::{Batch, Feed, Reader, start_reader};
pub(super) use reconcile::{Reconciled, reconcile};
pub(super) use spool::Spool;

/// The longest item, in bytes. A longer one is dead without ever being loaded.
pub const MAX_ITEM: usize = 16 * 1024 * 1024;

/// Items between two places of the input that are remembered for seeking.
pub const CHUNK_ITEMS: u64 = 4096;
