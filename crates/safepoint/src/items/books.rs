//! Which indexes are taken, and which of them have a row.

use std::collections::BTreeSet;

/// The books of one run. Every index below `end` has a row that was submitted, but for the gaps.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Indexes below `end` without a row.
    gaps: BTreeSet<u64>,
    end: u64,
    /// The place of the next item in the order of this run.
    place: u64,
    /// Gaps of earlier runs that no item was given yet, last first. Only for items with keys, whose index says nothing.
    free: Vec<u64>,
}

impl Books {
    /// The books of a run on a file whose rows end before `end`, with these gaps.
    pub(super) fn new(gaps: Vec<u64>, end: u64, is_keyed: bool) -> Self {
        let free = if is_keyed {
            gaps.iter().rev().copied().collect()
        } else {
            Vec::new()
        };
        Self {
            gaps: gaps.into_iter().collect(),
            end,
            place: 0,
            free,
        }
    }

    /// The next place in the order of this run.
    pub(super) fn next_place(&mut self) -> u64 {
        let place = self.place;
        self.place += 1;
        place
    }

    /// An index that no item has had.
    pub(super) fn unused(&mut self) -> u64 {
        let index = self.free.pop().unwrap_or(self.end);
        self.open(index);
        index
    }

    /// Gives back an index whose item was put back without a row, so that the next new key gets it.
    pub(super) fn give_back(&mut self, index: u64) {
        self.free.push(index);
    }

    /// An item without a row is begun.
    pub(super) fn open(&mut self, index: u64) {
        if index >= self.end {
            self.gaps.extend(self.end..=index);
            self.end = index + 1;
        }
    }

    /// The item has a row now.
    pub(super) fn has_row(&mut self, index: u64) {
        self.gaps.remove(&index);
    }

    /// Every index below has a row.
    pub(super) fn frontier(&self) -> u64 {
        self.gaps.first().copied().unwrap_or(self.end)
    }
}

/// Places in the list of what is in progress. Items beyond it are in progress unseen.
#[derive(Debug)]
pub(super) struct Lanes(Vec<usize>);

impl Lanes {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).rev().collect())
    }

    pub(super) fn take(&mut self) -> Option<usize> {
        self.0.pop()
    }

    pub(super) fn give_back(&mut self, lane: usize) {
        self.0.push(lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_ends_at_the_first_gap() {
        let mut books = Books::new(vec![3], 5, false);
        assert_eq!(books.frontier(), 3);
        books.open(5);
        books.open(6);
        books.has_row(3);
        books.has_row(6);
        assert_eq!(books.frontier(), 5);
        books.has_row(5);
        assert_eq!(books.frontier(), 7);
    }

    #[test]
    fn new_keys_fill_the_gaps_first() {
        let mut books = Books::new(vec![1, 3], 5, true);
        assert_eq!([books.unused(), books.unused(), books.unused()], [1, 3, 5]);
        books.give_back(3);
        assert_eq!([books.unused(), books.unused()], [3, 6]);
        assert_eq!(books.frontier(), 1);
    }
}
