//! Stop requests, the phases they lead to, and the signals they come from.
//!
//! A [`Shutdown`] owns the state of one program's stopping; [`ShutdownToken`]s are its cheap, cloneable views. A request comes from a
//! signal or from code; the first one is the [reason](ShutdownToken::reason), all are kept.
//!
//! Invariants:
//!
//! 1. The [`Phase`] only advances: Running, Draining, Terminating, Stopped.
//! 2. A signal handler only stores into atomics and writes to an eventfd; everything else happens on the signal thread.
//! 3. Observers run outside the lock, so one may ask for anything, also for another stop.
//!
//! Lock order: there is one lock (`Tree::state`); nothing is called while it is held.
//!
//! Deliberately absent: files, processes, and any exit of the program other than the third signal's default action.

mod amount;
mod budget;
mod drain;
mod ending;
mod phase;
mod request;
mod signals;
mod token;

pub use amount::Amount;
pub use budget::{Budget, Spent};
pub use drain::{Drain, Drained, MAX_FAILURES, NotPushed, Refused};
pub use ending::Ending;
pub use phase::Phase;
pub use request::{Mode, Recorded, Source, StopRequest};
pub use signals::{Builder, REPEAT_WINDOW, Shutdown};
pub use token::ShutdownToken;
