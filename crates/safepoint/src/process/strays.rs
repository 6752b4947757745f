//! Processes that outlived their time: children of a killed owner, and descendants that left their group.
//!
//! A child of a killed owner is found in two ways: by the number and start time that the owner noted for it, and by the
//! `SAFEPOINT_STATE=<directory>` that it and its descendants inherited. The first finds children that cleared their environment,
//! the second finds those that were started after the last note, and descendants that left the group.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid,
};

use super::group::signal_group;
use super::procfs::{Stat, has_variable, processes, stat};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// A child that an earlier owner noted: its number, and the clock ticks since boot between which it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// Its process number.
    pub pid: Pid,
    /// It began at this tick or later.
    pub not_before: u64,
    /// It began at this tick or earlier.
    pub not_after: u64,
}

/// Makes orphaned descendants our children instead of init's.
///
/// # Errors
///
/// [`ErrorKind::Io`] where the kernel does not offer it.
pub fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(getpid())).map_err(|error| {
        Error::new(ErrorKind::Io, "cannot become the reaper of orphans")
            .with_source(std::io::Error::from(error))
    })
}

/// Ends what a killed owner left behind: the noted children with their groups, and everything that has `variable` (`NAME=value`) in
/// its environment.
///
/// Each gets SIGTERM, and SIGKILL after `grace`. Returns how many were found.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when one of them does not end even so.
pub fn end_left_behind(noted: &[Suspect], variable: &[u8], grace: Duration) -> Result<usize> {
    let ours = ancestry();
    // A group is known by its leader, and stays the same one until its last member has ended: its number is not given out before.
    let mut groups: HashSet<i32> = HashSet::new();
    let find = || {
        let all: Vec<(Pid, Stat)> = processes()
            .into_iter()
            .filter(|pid| !ours.contains(&pid.as_raw_nonzero().get()))
            .filter_map(|pid| Some((pid, stat(pid)?)))
            .collect();
        groups.retain(|group| all.iter().any(|(_, stat)| stat.group == *group));
        for suspect in noted {
            let number = suspect.pid.as_raw_nonzero().get();
            let led = |(pid, stat): &(Pid, Stat)| {
                *pid == suspect.pid && stat.group == number && suspect.is(stat)
            };
            if all.iter().any(led) {
                groups.insert(number);
            }
        }
        all.into_iter()
            .filter(|(pid, stat)| {
                groups.contains(&stat.group)
                    || noted
                        .iter()
                        .any(|suspect| suspect.pid == *pid && suspect.is(stat))
                    || has_variable(*pid, variable)
            })
            .map(|(pid, _)| pid)
            .collect()
    };
    end_all(find, grace)
}

/// Ends all descendants of this process that are left, but for those `not_ours` and their own, and reaps those that became its
/// children. Returns how many there were.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when one of them does not end.
pub fn end_descendants(grace: Duration, not_ours: &[Suspect]) -> Result<usize> {
    end_all(
        || {
            reap_all();
            descendants(not_ours)
        },
        grace,
    )
}

/// The children that this process has now.
pub fn children() -> Vec<Suspect> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if matches!(waitid(WaitId::All, look), Err(rustix::io::Errno::CHILD)) {
        // There are none, which the kernel knows without a look through `/proc`.
        return Vec::new();
    }
    let us = getpid().as_raw_nonzero().get();
    let child = |pid: Pid| {
        let stat = stat(pid).filter(|stat| stat.parent == us)?;
        Some(Suspect {
            pid,
            not_before: stat.start_ticks,
            not_after: stat.start_ticks,
        })
    };
    processes().into_iter().filter_map(child).collect()
}

/// Reaps children of this process that have ended, whoever they are.
fn reap_all() {
    while let Ok(Some(_)) = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {}
}

/// Orphans that came to this process and have ended, and that nobody waits for.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    seen: Vec<Pid>,
}

impl Forgotten {
    /// Reaps what was a zombie at the last look already, but for those in `own`: whoever waits for a child is faster. Says whether another look is needed.
    pub(crate) fn look(&mut self, own: &[Pid]) -> bool {
        let us = getpid().as_raw_nonzero().get();
        let is_zombie =
            |pid: &Pid| stat(*pid).is_some_and(|stat| stat.parent == us && stat.state == b'Z');
        let zombies = processes().into_iter().filter(is_zombie);
        let zombies: Vec<Pid> = zombies.filter(|pid| !own.contains(pid)).collect();
        for pid in zombies.iter().filter(|pid| self.seen.contains(pid)) {
            let _ = waitid(
                WaitId::Pid(*pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
        }
        let seen = std::mem::take(&mut self.seen);
        self.seen = zombies;
        self.seen.retain(|pid| !seen.contains(pid));
        !self.seen.is_empty()
    }
}

impl Suspect {
    /// Whether the process with its number is the one that was noted. A tick of slack covers rounding.
    fn is(&self, stat: &Stat) -> bool {
        stat.start_ticks + 1 >= self.not_before && stat.start_ticks <= self.not_after + 1
    }
}

/// This process and its ancestors: a run that was started inside another job's attempt must not end itself.
fn ancestry() -> HashSet<i32> {
    let mut found = HashSet::new();
    let mut next = Some(getpid());
    while let Some(pid) = next {
        if !found.insert(pid.as_raw_nonzero().get()) {
            break;
        }
        next = stat(pid).and_then(|stat| Pid::from_raw(stat.parent));
    }
    found
}

fn descendants(not_ours: &[Suspect]) -> Vec<Pid> {
    let all: Vec<(Pid, i32, u8)> = processes()
        .into_iter()
        .filter_map(|pid| stat(pid).map(|stat| (pid, stat.parent, stat.state)))
        .collect();
    let mut family: HashSet<i32> = HashSet::from([getpid().as_raw_nonzero().get()]);
    loop {
        let before = family.len();
        for (pid, parent, _) in &all {
            if family.contains(parent)
                && !not_ours.iter().any(|suspect| {
                    suspect.pid == *pid && stat(*pid).is_some_and(|stat| suspect.is(&stat))
                })
            {
                family.insert(pid.as_raw_nonzero().get());
            }
        }
        if family.len() == before {
            break;
        }
    }
    let us = getpid();
    all.into_iter()
        .filter(|(pid, _, state)| {
            *pid != us && *state != b'Z' && family.contains(&pid.as_raw_nonzero().get())
        })
        .map(|(pid, _, _)| pid)
        .collect()
}

/// Ends all that `find` finds, until it finds nothing: SIGTERM, after `grace` SIGKILL.
fn end_all(mut find: impl FnMut() -> Vec<Pid>, grace: Duration) -> Result<usize> {
    let mut seen = HashSet::new();
    let clock = Clock::start();
    let kill_at = clock.now() + grace;
    let give_up_at = kill_at + Duration::from_secs(5);
    let mut told = HashSet::new();
    loop {
        let mut found: Vec<(Pid, OwnedFd)> = Vec::new();
        let candidates: HashSet<Pid> = find().into_iter().collect();
        for pid in &candidates {
            // The descriptor is opened first and the process looked for again, so that what is signalled is what was found.
            if let Ok(descriptor) = pidfd_open(*pid, PidfdFlags::empty())
                && stat(*pid).is_some_and(|stat| stat.state != b'Z')
            {
                found.push((*pid, descriptor));
            }
        }
        if !found.is_empty() {
            let still: HashSet<Pid> = find().into_iter().collect();
            found.retain(|(pid, _)| still.contains(pid));
        }
        if found.is_empty() {
            return Ok(seen.len());
        }
        let kill = clock.now() >= kill_at;
        for (pid, descriptor) in &found {
            seen.insert(*pid);
            if kill {
                let leads = stat(*pid).is_some_and(|stat| stat.group == pid.as_raw_nonzero().get());
                if leads {
                    signal_group(*pid, Signal::KILL);
                }
                let _ = pidfd_send_signal(descriptor, Signal::KILL);
            } else if told.insert(*pid) {
                let _ = pidfd_send_signal(descriptor, Signal::TERM);
                // A stopped process would not see the signal before it is continued.
                let _ = pidfd_send_signal(descriptor, Signal::CONT);
            }
        }
        if clock.now() >= give_up_at {
            let (pid, _) = &found[0];
            return Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "process {} of an earlier run does not end",
                    pid.as_raw_nonzero()
                ),
            )
            .with_hint(
                "it is probably waiting for a device; end it, then run the same command again",
            ));
        }
        let wait = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        let mut ends: Vec<PollFd<'_>> = found
            .iter()
            .map(|(_, descriptor)| PollFd::new(descriptor, PollFlags::IN))
            .collect();
        let _ = poll(&mut ends, Some(&wait));
    }
}
