//! The SQLite backend: one file, WAL, `synchronous=FULL`, one writer thread.
//!
//! The file's format has a page of its own in the book (`formats/job-db`). Writers take the file through [`Database`] and then
//! [`Store`]; everybody else reads it through [`View`].

mod attempt_rows;
mod database;
mod failure;
mod known_rows;
mod queue_claims;
mod queue_file;
mod queue_rows;
mod queue_schema;
mod queue_view;
mod schema;
mod step_rows;
mod step_store;
mod store;
mod view;
mod write;

pub use attempt_rows::{AttemptInBrief, AttemptOrder, ItemInBrief};
pub use database::{Database, JobRow, Locking, MAX_CRASHES, Progress, Renewed};
pub use known_rows::KnownItem;
pub(super) use queue_file::{QueueFile, Terms};
pub use queue_schema::{QUEUE_DB, QUEUE_FORMAT_VERSION};
pub(super) use queue_view::validate_queue;
pub use schema::{FORMAT_VERSION, FormatVersion, JOB_DB};
pub use step_store::{InProgress, StepStore};
pub use store::{Committed, Store, StoreOptions};
pub use view::{AttemptRow, FailureRow, ItemRow, Problem, RunRow, View, ViewFilter};

/// The version of SQLite that is built in.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
