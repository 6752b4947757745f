//! Children: started in process groups of their own, signalled and ended as groups, never left behind.
//!
//! Invariants:
//!
//! 1. A child leads its own process group, so that the terminal's Ctrl-C reaches only us and a signal to it reaches its children.
//! 2. A group is signalled only while its leader is unreaped or listed as lingering, so that its number cannot be another's.
//! 3. A process found by number is signalled through a pidfd that was opened before its identity was checked.
//!
//! Deliberately absent: the queue, signals sent to us, and any file but those of `/proc`.

mod child;
mod group;
mod pause;
mod procfs;
mod program;
mod strays;

pub use child::{CONTROL_FD, Child, Exit, SpawnRequest, spawn};
pub use group::{GroupTable, signal_group, wait_for_group};
pub use pause::stop_self;
pub use procfs::{boot_id, clock_ticks, is_alive, start_ticks};
pub use program::{find_program, open_null};
pub use strays::{
    Suspect, become_subreaper, children, end_descendants, end_left_behind, reap_adopted,
};
