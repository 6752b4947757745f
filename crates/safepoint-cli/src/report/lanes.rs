//! Lanes for what overlaps: whatever begins takes the first lane that is free.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// Lanes, filled in the order in which things begin.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// When each lane in use is free again.
    busy: BinaryHeap<Reverse<(i64, usize)>>,
    free: BTreeSet<usize>,
    count: usize,
}

impl Lanes {
    /// The lane of what lasts from one time to another, in the same unit.
    pub(super) fn take(&mut self, from: i64, to: i64) -> usize {
        while let Some(Reverse((until, lane))) = self.busy.peek().copied()
            && until <= from
        {
            self.busy.pop();
            self.free.insert(lane);
        }
        let lane = self.free.pop_first().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        });
        self.busy.push(Reverse((to, lane)));
        lane
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
        let taken: Vec<usize> = [
            (0, 10),
            (1, 5),
            (2, 4),
            (4, 6),
            (5, 7),
            (10, 11),
            (20, 20),
            (20, 21),
        ]
        .map(|(from, to)| lanes.take(from, to))
        .into();
        assert_eq!(taken, [0, 1, 2, 2, 1, 0, 0, 0]);
        assert_eq!(lanes.count(), 3);
    }
}
