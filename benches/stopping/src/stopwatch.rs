//! Wall time and processor time in nanoseconds.
//!
//! The kernel's clocks are read directly: the clock that safepoint gives its users can be paused, and pays for that with a lock.

use rustix::time::{ClockId, clock_gettime};

/// The monotonic clock.
pub fn wall_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// How long the calling thread has had a processor.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// How long the threads of this process have had a processor.
pub fn process_cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
