//! How many items were done at which time: each second lately, coarser before, so many points and no more.

use std::collections::VecDeque;

/// Points a second apart.
const RECENT: usize = 300;
/// Points further apart.
const OLDER: usize = 300;

/// A line over time that keeps its shape however long it gets.
#[derive(Debug, Default)]
pub(super) struct Samples {
    recent: VecDeque<(i64, u64)>,
    older: Vec<(i64, u64)>,
    /// Of so many points that are not recent any more, one is kept.
    stride: usize,
    /// How many were left out since the last that was kept.
    skipped: usize,
}

impl Samples {
    /// Adds a point: a time in milliseconds since 1970, and a count.
    pub(super) fn add(&mut self, at_ms: i64, done: u64) {
        self.recent.push_back((at_ms, done));
        if self.recent.len() <= RECENT {
            return;
        }
        let Some(point) = self.recent.pop_front() else {
            return;
        };
        self.skipped += 1;
        if self.skipped < self.stride.max(1) {
            return;
        }
        self.skipped = 0;
        self.older.push(point);
        if self.older.len() == OLDER {
            let mut place = 0;
            self.older.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.stride = self.stride.max(1) * 2;
        }
    }

    /// All points, oldest first.
    pub(super) fn points(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.older.iter().chain(&self.recent).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_its_beginning_and_its_last_minutes() {
        let mut samples = Samples::default();
        for second in 0..100_000 {
            samples.add(second * 1000, second.unsigned_abs());
            assert!(samples.points().count() <= RECENT + OLDER);
        }
        let points: Vec<_> = samples.points().collect();
        assert_eq!(points[0], (0, 0));
        assert!(points.is_sorted());
        let last = &points[points.len() - RECENT..];
        assert!(last.windows(2).all(|pair| pair[1].0 - pair[0].0 == 1000));
        assert_eq!(last[RECENT - 1].1, 99_999);
        let older = &points[..points.len() - RECENT];
        assert!(older.len() >= OLDER / 2);
    }
}
