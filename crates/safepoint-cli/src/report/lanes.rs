//! Lanes for what overlaps: whatever begins takes the first lane that is free.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// How much two that follow each other may seem to overlap, in microseconds.
const SLACK_US: i64 = 5000;

/// Lanes, filled in the order in which things begin.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// When each lane in use is free again.
    busy: BinaryHeap<Reverse<(i64, usize)>>,
    /// Since when each lane that is not in use is free.
    free: BTreeMap<usize, i64>,
    count: usize,
}

impl Lanes {
    /// The lane of what lasts from one time to another, in microseconds, and when it may begin there: what is written of a beginning is cut to
    /// milliseconds, so it may seem to overlap a little with what it followed.
    pub(super) fn take(&mut self, from: i64, to: i64) -> (usize, i64) {
        while let Some(Reverse((until, lane))) = self.busy.peek().copied()
            && until <= from.saturating_add(SLACK_US)
        {
            self.busy.pop();
            self.free.insert(lane, until);
        }
        let (lane, until) = self.free.pop_first().unwrap_or_else(|| {
            self.count += 1;
            (self.count - 1, i64::MIN)
        });
        let from = from.max(until);
        self.busy.push(Reverse((to.max(from), lane)));
        (lane, from)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_lane_is_taken() {
        let mut lanes = Lanes::default();
        let ms = |(from, to): (i64, i64)| lanes.take(from * 100_000, to * 100_000);
        let taken = [
            (0, 10),
            (1, 5),
            (2, 4),
            (4, 6),
            (5, 7),
            (10, 11),
            (20, 20),
            (20, 21),
        ]
        .map(ms);
        assert_eq!(taken.map(|(lane, _)| lane), [0, 1, 2, 2, 1, 0, 0, 0]);
        assert_eq!(lanes.count(), 3);
    }

    #[test]
    fn what_seems_to_overlap_a_little_follows() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.take(0, 10_500), (0, 0));
        assert_eq!(lanes.take(10_000, 20_000), (0, 10_500));
        assert_eq!(lanes.take(14_000, 30_000), (1, 14_000));
    }
}
