//! Process groups: signalled as one, and killed as one at the very end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
};

use crate::clock::Clock;

/// Sends a signal to all members of a group. A group without members is fine.
pub fn signal_group(group: Pid, signal: Signal) {
    // The only other error, EPERM, means that no member is ours to signal.
    let _ = kill_process_group(group, signal);
}

/// Whether a group has a member, alive or not yet reaped.
pub(super) fn exists(group: Pid) -> bool {
    test_kill_process_group(group).is_ok()
}

/// Reaps what was adopted from a killed group; says whether the group is gone within `limit`.
pub fn wait_for_group(group: Pid, limit: Duration) -> bool {
    let clock = Clock::start();
    let end = clock.now() + limit;
    loop {
        while let Ok(Some(_)) = waitid(
            WaitId::Pgid(Some(group)),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {}
        if !exists(group) {
            return true;
        }
        if clock.now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The groups that live now, readable from the signal thread without a lock: for the last act before the process dies.
#[derive(Clone)]
pub struct GroupTable {
    groups: Arc<[AtomicI32]>,
}

impl GroupTable {
    /// A table with room for so many groups at a time.
    pub fn new(slots: usize) -> Self {
        Self {
            groups: (0..slots).map(|_| AtomicI32::new(0)).collect(),
        }
    }

    /// Notes that `slot` now has this group, or none.
    pub fn set(&self, slot: usize, group: Option<Pid>) {
        if let Some(entry) = self.groups.get(slot) {
            // Relaxed: a lone number, read by `kill_all`; a group that is missed in a race is found by the next run.
            entry.store(
                group.map_or(0, |group| group.as_raw_nonzero().get()),
                Ordering::Relaxed,
            );
        }
    }

    /// Kills every group in the table, at once.
    pub fn kill_all(&self) {
        for entry in self.groups.iter() {
            if let Some(group) = Pid::from_raw(entry.load(Ordering::Relaxed)) {
                signal_group(group, Signal::KILL);
            }
        }
    }
}

impl fmt::Debug for GroupTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupTable")
            .field("slots", &self.groups.len())
            .finish()
    }
}
