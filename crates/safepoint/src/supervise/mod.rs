//! One long process in good hands: started, watched, stopped well, started again where it was, and never left behind.
//!
//! [`supervise`] is the parent that a training script, an agent or a service needs and rarely has. It passes signals on, carries a stop out step by step
//! (checkpoint signal, stop signal, grace period, SIGKILL for the whole tree), turns limits into stop requests, starts a child that failed again, and says
//! truly how it all ended. A supervised job has a state directory as one of items has, so `list`, `status`, `events`, `stop` and `report` work on it.
//!
//! # Invariants
//!
//! 1. When [`supervise`] returns, nothing that the child started lives. The same when this process is killed: see the table in the source of `process/guard`.
//! 2. The end of the child is passed on as it was, but for one lie that is not told: a child that was asked to stop and ends with 0 without having said that it is
//!    done has not succeeded ([`Verdict`]).
//! 3. A stop is never followed by a restart.
//! 4. A signal is sent only while the child is unreaped, by its parent, so that the number cannot be another's.
//!
//! Deliberately absent: the terminal, the environment, signal handlers and exit codes of ours, which are the command's.

mod child;
mod heard;
mod ladder;
mod limits;
#[cfg(feature = "health")]
mod live;
mod notice;
mod options;
mod output;
mod report;
mod requests;
mod restarts;
mod run;
mod said;
mod shared;
mod state;
mod supervisor;
mod verdict;
mod watch;

#[cfg(feature = "health")]
pub use live::Live;
pub use notice::{Notice, Observer, Unobserved};
pub use options::{Log, Options};
pub use output::Outputs;
pub use report::Report;
pub use restarts::Restart;
pub use run::{NotStarted, Supervise, supervise};
pub use shared::{Gauge, Handle};
pub use verdict::Verdict;
