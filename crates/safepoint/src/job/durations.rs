//! How long attempts took, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The bounds of the buckets, in microseconds: three to each power of ten, from a millisecond to a day or so.
const BOUNDS: [u64; 17] = [
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    7_200_000_000,
];

/// A distribution of durations. One thread adds, any may read; each number is read on its own.
#[derive(Debug, Default)]
pub struct Durations {
    /// How many fell between the bound before and this one; the last is for those beyond all bounds.
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Durations {
    pub(super) fn add(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < us);
        // Relaxed: numbers to look at, each on its own.
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// For each bound in seconds, how many took at most so long.
    #[expect(clippy::cast_precision_loss, reason = "bounds are round numbers")]
    pub fn at_most(&self) -> Vec<(f64, u64)> {
        let mut all = 0;
        let bounds = BOUNDS.iter().zip(&self.counts);
        let cumulative = bounds.map(|(bound, count)| {
            all += count.load(Ordering::Relaxed);
            (*bound as f64 / 1e6, all)
        });
        cumulative.collect()
    }

    /// How many there were beyond the last bound.
    pub fn beyond(&self) -> u64 {
        self.counts[BOUNDS.len()].load(Ordering::Relaxed)
    }

    /// All of them, added up.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_its_bucket_and_in_all_above() {
        let durations = Durations::default();
        for us in [0, 1_000, 1_001, 5_000, 9_999_999_999] {
            durations.add(Duration::from_micros(us));
        }
        let at_most = durations.at_most();
        assert_eq!(at_most[..3], [(0.001, 2), (0.005, 4), (0.01, 4)]);
        assert_eq!(at_most.last().map(|(_, count)| *count), Some(4));
        assert_eq!(durations.beyond(), 1);
        assert_eq!(
            durations.sum(),
            Duration::from_micros(9_999_999_999) + Duration::from_micros(7_001)
        );
    }
}
