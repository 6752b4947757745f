//! Wall time and processor time in nanoseconds, and whether somebody else had the processor meanwhile.
//!
//! The kernel's clocks are read directly: the clock that safepoint gives its users can be paused, and pays for that with a lock.

use nix::sys::resource::{UsageWho, getrusage};
use rustix::time::{ClockId, clock_gettime};

/// The monotonic clock.
pub fn wall_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// How long the calling thread has had a processor.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// How often the calling thread had to leave its processor to somebody else. Waiting for a lock is not counted: that is the tool's own.
pub fn thread_evictions() -> i64 {
    evictions(UsageWho::RUSAGE_THREAD)
}

/// The same of all threads of this process.
pub fn process_evictions() -> i64 {
    evictions(UsageWho::RUSAGE_SELF)
}

fn evictions(who: UsageWho) -> i64 {
    getrusage(who).map_or(0, |usage| usage.involuntary_context_switches())
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
