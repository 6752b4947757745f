//! The queue that programs push to and claim from: [`Queue`], [`Lease`] and what they are made of.
//!
//! Callers put what they want into an inbox; one thread, the writer, does all of it in transactions that many callers share, and claims in the same
//! transactions. The file itself is the backend's (`sqlite/queue_file`).

mod builder;
mod durability;
mod handle;
mod inbox;
mod item;
mod lease;
mod operation;
mod payload;
#[cfg(test)]
mod tests;
mod writer;

pub use builder::{Builder, DEFAULT_LEASE, DEFAULT_READ_AHEAD};
pub use durability::Durability;
pub use handle::{MAX_CLAIM, Queue};
pub(super) use item::name_of;
pub use item::{MAX_QUEUE_KEY, NewItem, Pushed, QueueCounts, QueuedItem, QueuedState};
pub use lease::{Lease, LeaseToken};
pub(super) use operation::{Answer, Claimed, Demand, Fence, Operation, Round, Settle, Settlement};
pub use payload::{MAX_PAYLOAD, Payload};
