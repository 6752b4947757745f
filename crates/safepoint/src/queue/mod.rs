//! Durable items: what was done, what failed, what waits, in one SQLite file. And durable steps and effects, in the same file.
//!
//! The input of a job is itself the durable list of what is pending, so the file has rows only for items that were *touched*: done,
//! dead, waiting for another attempt, or put aside. One row holds the state of an item and its result, so that a result and its
//! acknowledgement cannot come apart.
//!
//! Invariants:
//!
//! 1. What is written is a [`Change`]; what it implies is a [`State`]. Only changes are submitted, only states are read.
//! 2. All writing happens on one thread ([`Store`] for items, [`StepStore`] for steps), in transactions that many changes share. A change is told to be durable
//!    after its transaction was committed and synced, never before.
//! 3. Every index below `frontier` has a row, in every committed state of the file.
//! 4. The counters in `progress` equal the counts of the rows, in every committed state of the file.
//! 5. After a failed write the store is closed for good.
//! 6. A [`StepChange`] that was waited for is durable; one that was only submitted is durable when a later one is.
//!
//! Deliberately absent: signals, processes, and what an item's content means.

mod change;
mod claims;
mod group;
mod item;
mod retry;
mod sqlite;
mod step;

pub use change::{Change, Chunk, Settlement, SourceRow, Verdict};
pub use claims::{
    Builder, DEFAULT_LEASE, DEFAULT_READ_AHEAD, Durability, Lease, LeaseToken, MAX_CLAIM,
    MAX_PAYLOAD, MAX_QUEUE_KEY, NewItem, Payload, Pushed, Queue, QueueCounts, QueuedItem,
    QueuedState,
};
pub use item::{Counts, OpenItem, State};
pub use retry::RetryPolicy;
pub use sqlite::{
    AttemptInBrief, AttemptOrder, AttemptRow, Committed, Database, FORMAT_VERSION, FailureRow,
    FormatVersion, InProgress, ItemInBrief, ItemRow, JOB_DB, JobRow, KnownItem, Locking,
    MAX_CRASHES, Problem, Progress, QUEUE_DB, QUEUE_FORMAT_VERSION, Renewed, RunRow, StepStore,
    Store, StoreOptions, View, ViewFilter, sqlite_version,
};
pub use step::{EffectRow, EffectState, StepChange, StepCounts, StepRow, StepState};
