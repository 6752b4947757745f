//! Durable items of a program's own: what was done is remembered, wherever the items come from.
//!
//! One process goes over items that it gets from anywhere and says of each what came of it. All of that is in the `job.db` that a job of the
//! command has, so that `safepoint list`, `status`, `show`, `results`, `events`, `report`, `retry`, `stop` and `validate` work on it. Started again, it is given
//! the same items, and told of each whether it is done.
//!
//! # Example
//!
//! ```
//! use safepoint::items::{Begun, End, Items};
//!
//! # fn main() -> safepoint::Result<()> {
//! # let directory = tempfile::tempdir().expect("a directory");
//! # let directory = directory.path().join("words");
//! let items = Items::builder(&directory).total(3).open()?; // `.safepoint/words` is seen by the command
//! for word in ["one", "two", "three"] {
//!     match items.begin(word.as_bytes())? {
//!         Begun::Open(item) => item.done(word.len().to_string())?, // written soon, many in one sync
//!         Begun::Done { .. } | Begun::Dead { .. } | Begun::Duplicate => {} // from an earlier run
//!         Begun::Stopping => break, // a stop was asked for
//!     }
//! }
//! let report = items.close(End::Exhausted)?;
//! assert_eq!(report.counts.done, 3);
//! # Ok(())
//! # }
//! ```
//!
//! # Identity
//!
//! Without keys an item is its place in the order *and* its content: another content at the same place is refused. With keys
//! ([`Builder::keyed`]) an item is its key, whatever its place and content, and its index is the order in which keys were first seen.
//!
//! # Invariants
//!
//! 1. What [`sync`](Items::sync) or [`close`](Items::close) returned for is durable; [`done`](Item::done) alone is so some ten milliseconds later.
//! 2. An item has at most one result. One that is done is never open again.
//! 3. An item that is dropped without a word is as it was: neither done nor failed.
//! 4. Whatever number of items: memory is bounded by those that are open or not yet durable, and by the gaps that stops left.
//! 5. After a failed write nothing begins any more.
//!
//! Lock order: the books, then the lookup or the writer's inbox. What is durable, and the list of what is in progress, have a lock each that is taken last.
//!
//! Deliberately absent: where items come from, what works on them, several processes, and waiting for the time of another attempt.

mod books;
mod builder;
mod content;
mod durable;
mod item;
mod lookup;
mod owner;
mod place;
mod room;
mod watch;

pub use crate::job::{Outcome, Report};
pub use builder::Builder;
pub use content::MAX_CONTENT;
pub use item::{Begun, Failed, Item, Retry, Waiting};
pub use owner::{End, Items};
pub use room::{MAX_RESULT, Tally};

#[cfg(test)]
mod tests;
