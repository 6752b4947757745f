//! What was decided and is not yet durable, and from where a resumed run would have to read.

use std::collections::{BTreeSet, HashSet};

use crate::queue::{Change, Settlement, Store, Verdict};

/// At most so many decisions, and so many bytes of them, may wait for a commit before nothing new is begun.
const MAX_UNDECIDED: usize = 4096;
const MAX_UNDECIDED_BYTES: usize = 16 * 1024 * 1024;

/// The dispatcher's books.
#[derive(Debug, Default)]
pub(in crate::job) struct Ledger {
    changes: Vec<Change>,
    /// Items without a row in the file, from the moment they are taken from the input until their row is durable.
    open: BTreeSet<u64>,
    /// Items with a row that are in hand, or whose change is not yet durable.
    busy: HashSet<u64>,
    /// The index that is read next.
    next_index: u64,
    waiting: usize,
    waiting_bytes: usize,
}

impl Ledger {
    /// Books for a run that reads from `first` on.
    pub(in crate::job) fn new(first: u64) -> Self {
        Self {
            next_index: first,
            ..Self::default()
        }
    }

    /// An item without a row was taken from the input.
    pub(super) fn take_fresh(&mut self, index: u64) {
        self.open.insert(index);
        self.next_index = self.next_index.max(index + 1);
    }

    /// An item with a row is in hand; false if it was already.
    pub(super) fn take_row(&mut self, index: u64) -> bool {
        self.busy.insert(index)
    }

    /// How many items with a row are in hand.
    pub(super) fn rows_in_hand(&self) -> usize {
        self.busy.len()
    }

    /// Notes a change to be written.
    pub(super) fn note(&mut self, change: Change) {
        if let Change::Settle(settlement) = &change {
            self.waiting += 1;
            self.waiting_bytes += weight(settlement);
        }
        self.changes.push(change);
    }

    /// Hands all noted changes to the store.
    pub(super) fn submit(&mut self, store: &Store) {
        if !self.changes.is_empty() {
            let frontier = self.frontier();
            store.submit(&mut self.changes, frontier);
        }
    }

    /// Tells the store how far the run has got in the end, so that the next one need not look for it.
    pub(super) fn finish(&mut self, store: &Store) {
        let frontier = self.frontier();
        store.submit(&mut self.changes, frontier);
    }

    /// Every index below has a durable row.
    fn frontier(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next_index)
    }

    /// The lowest index that holds the frontier back, if it is more than `distance` behind what is read.
    pub(super) fn straggler(&self, distance: u64) -> Option<u64> {
        self.open
            .first()
            .copied()
            .filter(|lowest| self.next_index - lowest > distance)
    }

    /// These changes are durable.
    pub(super) fn committed(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Settle(settlement) = change {
                self.waiting -= 1;
                self.waiting_bytes -= weight(settlement);
                if settlement.from.is_none() {
                    self.open.remove(&settlement.index);
                } else {
                    self.busy.remove(&settlement.index);
                }
            }
        }
    }

    /// Whether more may be begun before something becomes durable.
    pub(super) fn has_room(&self) -> bool {
        self.waiting < MAX_UNDECIDED && self.waiting_bytes < MAX_UNDECIDED_BYTES
    }

    /// Whether everything that was decided is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting == 0 && self.changes.is_empty()
    }
}

fn weight(settlement: &Settlement) -> usize {
    let result = match &settlement.verdict {
        Verdict::Done { result, .. } => result.len(),
        Verdict::Failed { stderr, .. } => stderr.len(),
        _ => 0,
    };
    settlement.content.len() + result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::State;

    fn settled(index: u64, from: Option<State>) -> Change {
        Change::Settle(Box::new(Settlement {
            index,
            key: None,
            content: Box::default(),
            from,
            attempts: 1,
            crashes: 0,
            started_at_ms: 0,
            duration_us: 0,
            verdict: Verdict::Done {
                exit_code: Some(0),
                result: Vec::new(),
                omitted: 0,
            },
        }))
    }

    #[test]
    fn the_frontier_never_passes_an_item_without_a_durable_row() {
        let mut ledger = Ledger::new(10);
        for index in 10..13 {
            ledger.take_fresh(index);
        }
        assert_eq!(ledger.frontier(), 10);
        ledger.note(settled(10, None));
        ledger.note(settled(12, None));
        assert_eq!(ledger.frontier(), 10, "noted is not durable");
        ledger.committed(&[settled(10, None), settled(12, None)]);
        assert_eq!(ledger.frontier(), 11);
        ledger.note(settled(11, None));
        ledger.committed(&[settled(11, None)]);
        assert_eq!(ledger.frontier(), 13);
        assert_eq!(ledger.straggler(0), None);
    }

    #[test]
    fn a_row_is_in_hand_until_its_change_is_durable() {
        let mut ledger = Ledger::new(0);
        assert!(ledger.take_row(5));
        assert!(!ledger.take_row(5));
        ledger.note(settled(5, Some(State::Waiting)));
        assert!(!ledger.take_row(5));
        ledger.committed(&[settled(5, Some(State::Waiting))]);
        assert!(ledger.take_row(5));
    }
}
