//! What this process uses of the machine. Source: proc(5).

use rustix::fs::{Dir, Mode, OFlags, open};
use rustix::process::{Resource, getrlimit};

use super::proc_file::read;
use crate::clock::{since_boot, wall_ms};

/// What this process uses; what the kernel does not say is left out.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct OwnUse {
    /// Processor time, of user and system, of all threads.
    pub(crate) cpu_seconds: Option<f64>,
    /// Memory that is resident.
    pub(crate) resident_bytes: Option<u64>,
    /// Descriptors that are open.
    pub(crate) open_descriptors: Option<u64>,
    /// Descriptors that may be open; none without a limit.
    pub(crate) most_descriptors: Option<u64>,
    /// When it began, in seconds since 1970 UTC.
    pub(crate) began_at_seconds: Option<f64>,
}

impl OwnUse {
    /// Reads `/proc/self`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "ticks and milliseconds are exact up to 2^53"
    )]
    pub(crate) fn read() -> Self {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let stat = read("/proc/self/stat", 4096).unwrap_or_default();
        let field = |number| field(&stat, number);
        let ticks = field(14).zip(field(15)).map(|(user, system)| user + system);
        let booted_at = wall_ms() as f64 / 1000.0 - since_boot().as_secs_f64();
        Self {
            cpu_seconds: ticks.map(|ticks| ticks as f64 / ticks_per_second),
            resident_bytes: field(24).map(|pages| pages * rustix::param::page_size() as u64),
            open_descriptors: open_descriptors(),
            most_descriptors: getrlimit(Resource::Nofile).current,
            began_at_seconds: field(22).map(|ticks| booted_at + ticks as f64 / ticks_per_second),
        }
    }
}

/// A field of `stat`, counted from 1 as the manual does. The name may contain anything, so they are counted from its last parenthesis.
fn field(stat: &[u8], number: usize) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(&stat[after_name..]).ok()?;
    text.split_ascii_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

fn open_descriptors() -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open("/proc/self/fd", flags, Mode::empty()).ok()?;
    let names = Dir::read_from(&directory).ok()?.flatten();
    let numbers = names.filter(|entry| entry.file_name().to_bytes().iter().all(u8::is_ascii_digit));
    // Those by which we look are two of them: the directory, and the one that reading it opens.
    Some(u64::try_from(numbers.count()).ok()?.saturating_sub(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_of_everything() {
        let used = OwnUse::read();
        assert!(used.cpu_seconds.is_some_and(|seconds| seconds >= 0.0));
        assert!(used.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(used.open_descriptors.is_some_and(|count| count >= 3));
        assert!(used.began_at_seconds.is_some_and(|began| began > 1.7e9));
        assert_eq!(field(b"42 (a) b) S 1 42", 4), Some(1));
    }
}
