//! Stop requests, the phases they lead to, and all that a program does on the way: units, hooks, tracked work, limits, the report.
//!
//! A [`Shutdown`] owns one program's stopping; [`ShutdownToken`]s are its cheap views. A request comes from a signal, a limit or code; the
//! first one is the [reason](ShutdownToken::reason), all are kept. [`Shutdown::finish`] is the end: hooks run in their
//! [order](Order), [units](ShutdownToken::unit) and [tracked work](Tracker) are waited for, and a [report](StopReport) says what held it up.
//!
//! Invariants:
//!
//! 1. The [`Phase`] only advances: Running, Draining, Terminating, Stopped. A parent's phase reaches every child, a child's stays below it.
//! 2. A signal handler only touches atomics and writes to an eventfd; everything else happens on the keeper thread or the caller's.
//! 3. A unit is refused, or the stop waits for it; never neither, and never both.
//! 4. The caller's code (observers, wakers, hooks, rollback actions) is called without any lock held, so it may ask for anything, also for
//!    another stop. It never runs on the keeper thread, so one that hangs keeps neither a signal nor a deadline from being looked after.
//!
//! Lock order: every lock of this room is taken alone, but for a mailbox's `untold`, which is held while the root's links are locked.
//!
//! Deliberately absent: files, processes, the environment, and any exit of the program but the last rung's default action.

mod amount;
mod barrier;
mod budget;
mod builder;
mod caught;
mod drain;
mod ending;
mod event_line;
mod finish;
mod gate;
mod handlers;
mod hook;
mod hook_thread;
mod keeper;
mod ladder;
mod lane;
mod mailbox;
#[cfg(all(test, safepoint_loom))]
mod models;
mod node;
mod observers;
mod offspring;
mod open;
mod owner;
mod parker;
mod phase;
mod registry;
mod report;
mod request;
mod sleep;
mod status;
mod stopping;
mod sync;
mod teller;
#[cfg(all(test, not(safepoint_loom)))]
mod tests;
mod thread;
mod time_limit;
mod token;
mod tracker;
mod tree;
mod unit;
mod waiters;

pub use amount::Amount;
pub use budget::{Budget, Spent};
pub use builder::{Builder, DEFAULT_GRACE};
pub use drain::{Drain, Drained, MAX_FAILURES, NotPushed, Refused};
pub use ending::Ending;
pub use finish::LEAST_SHARE;
pub use handlers::{Handlers, Origin, arrivals, last_origin};
pub use hook::{Order, Share};
pub use ladder::Rung;
pub use mailbox::REPEAT_WINDOW;
pub use open::{HeldUp, Open, OpenKind};
pub use owner::Shutdown;
pub use phase::Phase;
pub use report::{HookOutcome, HookReport, PhaseTime, STOPPED, StopReport, UnitCounts};
pub use request::{Mode, Recorded, Source, StopRequest};
pub use status::Status;
pub use stopping::Stopping;
pub use time_limit::TimeLimit;
pub use token::ShutdownToken;
pub use tracker::{Tracked, TrackedGuard, Tracker};
pub use tree::RollbackFailure;
pub use unit::{OwnedUnit, Unit};
