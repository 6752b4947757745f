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

/// Milliseconds since 1970 as RFC 3339 in UTC, with three decimals; the years 0 to 9999 have four digits.
///
/// # Sources
///
/// The civil calendar is Howard Hinnant's `civil_from_days` ("chrono-Compatible Low-Level Date Algorithms").
pub fn rfc_3339(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Years begin in March here, so that the leap day is the last one; eras have 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// What [`rfc_3339`] wrote, as milliseconds since 1970: a date and a time in UTC with any number of decimals, of which three are read.
pub fn from_rfc_3339(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let parts = |text: &str, between: char| -> Option<[i64; 3]> {
        let mut parts = text.split(between).map(|part| {
            let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u32>()
                .ok()
                .filter(|_| is_number)
                .map(i64::from)
        });
        let found = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(found)
    };
    let (time, decimals) = time.split_once('.').unwrap_or((time, ""));
    let ([year, month, day], [hour, minute, second]) = (parts(date, '-')?, parts(time, ':')?);
    let fits = (0..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits
        || hour > 23
        || minute > 59
        || second > 60
        || !decimals.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let millis = format!("{decimals:0<3}").get(..3)?.parse::<i64>().ok()?;
    // The inverse of what is above, with the same names.
    let (from_march, year) = if month > 2 {
        (month - 3, year)
    } else {
        (month + 9, year - 1)
    };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let days = era * 146_097 + of_era - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis)
}

/// Time since boot, suspension included: what the kernel stamps processes with.
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Monotonic time that is cheap to read and some milliseconds coarse: for ages, never for deadlines.
#[inline]
pub fn coarse() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// `time` as poll(2) and epoll(7) take it.
pub(crate) fn timespec(time: Duration) -> rustix::time::Timespec {
    rustix::time::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
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

    /// Whether the clock stands still now.
    pub fn is_paused(&self) -> bool {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.since.is_some()
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
    fn timestamps_are_rfc_3339_in_utc() {
        assert_eq!(rfc_3339(1_763_700_000_123), "2025-11-21T04:40:00.123Z");
        assert_eq!(rfc_3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc_3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc_3339(4_107_542_399_000), "2100-02-28T23:59:59.000Z");
        assert_eq!(rfc_3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_timestamp_is_read_as_it_was_written() {
        for ms in [
            0,
            -1,
            1_763_700_000_123,
            951_782_400_000,
            4_107_542_399_999,
            -62_167_219_200_000,
            253_402_300_799_999,
        ] {
            assert_eq!(from_rfc_3339(&rfc_3339(ms)), Some(ms), "{ms}");
        }
        assert_eq!(
            from_rfc_3339("2025-11-21T04:40:00Z"),
            Some(1_763_700_000_000)
        );
        assert_eq!(
            from_rfc_3339("2025-11-21T04:40:00.12345678901234567890Z"),
            Some(1_763_700_000_123)
        );
        for bad in [
            "",
            "Z",
            "T",
            "2025-11-21T04:40:00",
            "2025-11-21 04:40:00Z",
            "2025-13-21T04:40:00Z",
            "2025-11-21T24:40:00Z",
            "2025-11-21-1T04:40:00Z",
            "2025-11-21T04:40:00.-1Z",
            "+2025-11-21T04:40:00Z",
            "2025-11-21T04:40:00.éZ",
        ] {
            assert_eq!(from_rfc_3339(bad), None, "{bad}");
        }
    }

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
