//! Children: started in process groups of their own, signalled and ended as groups, never left behind.
//!
//! Invariants:
//!
//! 1. A child leads its own process group, so that the terminal's Ctrl-C reaches only us and a signal to it reaches its children.
//! 2. A group is signalled only while its leader is unreaped or listed as lingering, so that its number cannot be another's.
//! 3. A process found by number is signalled through a pidfd that was opened before its identity was checked.
//!
//! Deliberately absent: the queue, signals sent to us, and any file but those of `/proc`.

#[cfg(feature = "job")]
mod child;
#[cfg(feature = "job")]
mod group;
#[cfg(feature = "job")]
mod guard;
mod leader;
#[cfg(feature = "health")]
mod own_use;
#[cfg(feature = "job")]
mod pause;
#[cfg(any(feature = "job", feature = "health"))]
mod proc_file;
#[cfg(feature = "job")]
mod procfs;
#[cfg(feature = "job")]
mod program;
#[cfg(feature = "job")]
mod signals;
#[cfg(feature = "job")]
mod strays;

#[cfg(feature = "job")]
pub use child::{CONTROL_FD, Child, Exit, SpawnRequest, spawn};
#[cfg(feature = "job")]
pub use group::{GroupTable, signal_group, wait_for_group};
#[cfg(feature = "job")]
pub(crate) use guard::{Guard, GuardedProgram, News, Target};
pub(crate) use leader::{Leader, Reaping, discard};
#[cfg(feature = "health")]
pub(crate) use own_use::OwnUse;
#[cfg(feature = "job")]
pub use pause::stop_self;
#[cfg(feature = "job")]
pub use procfs::{boot_id, clock_ticks, is_alive, start_ticks};
#[cfg(feature = "job")]
pub(crate) use procfs::{is_own_proc, is_stopped, resident_bytes_below};
#[cfg(feature = "job")]
pub(crate) use program::look_for;
#[cfg(feature = "job")]
pub use program::{find_program, open_null};
#[cfg(feature = "job")]
pub use signals::SignalSet;
#[cfg(feature = "job")]
pub(crate) use strays::Forgotten;
#[cfg(feature = "job")]
pub use strays::{Suspect, become_subreaper, children, end_descendants, end_left_behind};
