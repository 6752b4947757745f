//! The only reader of time.
//!
//! Two kinds of time: [`wall_ms`] is written to disk and shown to people; a [`Clock`] measures durations and deadlines. A clock
//! can be [paused](Clock::pause) (Ctrl-Z), and paused time counts against no limit.

use std::ops::{Add, Sub};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 00:00 UTC, by the system's clock; 0 if that clock is set before it.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the room that reads time"
)]
pub fn wall_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// Time since boot, suspension included: what the kernel stamps processes with.
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// A point on a [`Clock`]'s line: how much unpaused time had passed since the clock was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The time from `earlier` to this moment, zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

/// A monotonic clock that can be paused. Clones share the pause.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    pauses: Arc<Mutex<Pauses>>,
}

#[derive(Debug, Default)]
struct Pauses {
    total: Duration,
    since: Option<Duration>,
}

impl Clock {
    /// Starts a clock at zero.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the room that reads time"
    )]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
            pauses: Arc::default(),
        }
    }

    /// The unpaused time since the start.
    pub fn now(&self) -> Moment {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = pauses.since.unwrap_or_else(|| self.origin.elapsed());
        Moment(elapsed.saturating_sub(pauses.total))
    }

    /// Stops the clock until [`resume`](Self::resume); a second pause changes nothing.
    pub fn pause(&self) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        if pauses.since.is_none() {
            pauses.since = Some(self.origin.elapsed());
        }
    }

    /// Lets the clock go on where it was paused, and returns for how long it stood.
    pub fn resume(&self) -> Duration {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        match pauses.since.take() {
            None => Duration::ZERO,
            Some(since) => {
                let stood = self.origin.elapsed().saturating_sub(since);
                pauses.total += stood;
                stood
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paused_time_does_not_count() {
        let clock = Clock::start();
        clock.pause();
        let at_pause = clock.now();
        while clock.origin.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        assert_eq!(clock.now(), at_pause);
        assert!(clock.resume() > Duration::ZERO);
        let total = clock.origin.elapsed();
        assert!(clock.now() < Moment(total));
        assert_eq!(clock.resume(), Duration::ZERO);
    }
}
