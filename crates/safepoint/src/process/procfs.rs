//! What `/proc` says of processes. Source: proc(5).

use rustix::fs::{Dir, Mode, OFlags, open};
use rustix::process::Pid;

use super::proc_file::read;
use crate::clock::since_boot;

/// The fields of `/proc/<pid>/stat` that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// One letter; `Z` is a zombie.
    pub(super) state: u8,
    /// Its parent.
    pub(super) parent: i32,
    /// Its process group.
    pub(super) group: i32,
    /// When it began, in clock ticks since boot.
    pub(super) start_ticks: u64,
}

/// The kernel's clock ticks per second.
pub fn clock_ticks() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Now, in clock ticks since boot.
pub(super) fn boot_ticks() -> u64 {
    let now = since_boot();
    let ticks = clock_ticks();
    now.as_secs() * ticks + u64::from(now.subsec_nanos()) * ticks / 1_000_000_000
}

/// When a process began, in clock ticks since boot; `None` if there is no such process.
pub fn start_ticks(pid: Pid) -> Option<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

/// Whether there is such a process and it can still do something: a zombie cannot.
pub fn is_alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, b'Z' | b'X'))
}

/// Whether a process is stopped, by a signal or a tracer.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| matches!(stat.state, b'T' | b't'))
}

pub(super) fn stat(pid: Pid) -> Option<Stat> {
    parse_stat(&read(
        &format!("/proc/{}/stat", pid.as_raw_nonzero()),
        4096,
    )?)
}

/// The command's name may contain anything, so the fields are counted from the last parenthesis.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let after_name = bytes.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(&bytes[after_name..]).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // The state is field 3; the start time is field 22.
    let start_ticks = fields.nth(22 - 6)?.parse().ok()?;
    Some(Stat {
        state,
        parent,
        group,
        start_ticks,
    })
}

/// Whether the environment a process was started with has this `NAME=value`.
pub(super) fn has_variable(pid: Pid, entry: &[u8]) -> bool {
    read(&format!("/proc/{}/environ", pid.as_raw_nonzero()), 4 << 20).is_some_and(|environment| {
        environment
            .split(|byte| *byte == 0)
            .any(|found| found == entry)
    })
}

/// Every process of this PID namespace.
pub(super) fn processes() -> Vec<Pid> {
    let Ok(proc) = open(
        "/proc",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return Vec::new();
    };
    let Ok(entries) = Dir::read_from(&proc) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok())
        .filter_map(Pid::from_raw)
        .collect()
}

/// Whether `/proc` is that of our own PID namespace: in a new one it is the outer's until it is mounted again.
pub(crate) fn is_own_proc() -> bool {
    let us = rustix::process::getpid().as_raw_nonzero().get();
    rustix::fs::readlink("/proc/self", Vec::new())
        .is_ok_and(|target| target.to_bytes() == us.to_string().as_bytes())
}

/// Every process below `root` that is not a zombie; none where `/proc` is another namespace's.
pub(super) fn descendants_of(root: Pid) -> Vec<Pid> {
    if !is_own_proc() {
        return Vec::new();
    }
    let mut others: Vec<(Pid, Stat)> = processes()
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect();
    let mut family = vec![root];
    let mut looked_at = 0;
    while let Some(&parent) = family.get(looked_at) {
        looked_at += 1;
        let parent = parent.as_raw_nonzero().get();
        others.retain(|(pid, stat)| {
            let is_child = stat.parent == parent;
            if is_child {
                family.push(*pid);
            }
            !is_child
        });
    }
    family.remove(0);
    family.retain(|pid| is_alive(*pid));
    family
}

/// Bytes of memory that the processes below `root` have resident, shared pages counted for each.
pub(crate) fn resident_bytes_below(root: Pid) -> u64 {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let pages = descendants_of(root).into_iter().filter_map(|pid| {
        let text = read(&format!("/proc/{}/statm", pid.as_raw_nonzero()), 256)?;
        let text = String::from_utf8(text).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    });
    pages.sum::<u64>() * page
}

/// A number that is different after each boot; 0 where the kernel does not say.
pub fn boot_id() -> u64 {
    let text = read("/proc/sys/kernel/random/boot_id", 64).unwrap_or_default();
    // FNV-1a: the identifier is random already, it only has to be made shorter.
    text.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 1 2 3 4 20 0 1 0 987654 1000 10 18446744073709551615";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                state: b'S',
                parent: 1,
                group: 42,
                start_ticks: 987_654
            })
        );
    }

    #[test]
    fn our_own_start_is_in_the_past() {
        let ours = stat(rustix::process::getpid());
        assert!(ours.is_some_and(|stat| stat.start_ticks <= boot_ticks() + 1));
    }
}
