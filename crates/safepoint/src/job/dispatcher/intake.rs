//! Where work comes from: returned items first, then items that are due again, then the input.

use std::collections::{HashMap, HashSet, VecDeque};

use super::ledger::Ledger;
use crate::clock::wall_ms;
use crate::error::{Error, Result};
use crate::job::input::{Batch, InputItem, Reader};
use crate::job::notice::{Notice, Observer};
use crate::job::work::Work;
use crate::queue::{Change, Settlement, Store, Verdict};

/// Rows that are fetched at a time.
const FETCH: usize = 256;

/// An item that was read, and whether its key is that of an earlier one.
struct Fresh {
    item: InputItem,
    duplicate_of: Option<u64>,
}

impl From<InputItem> for Fresh {
    fn from(item: InputItem) -> Self {
        Self {
            item,
            duplicate_of: None,
        }
    }
}

/// All that can be begun.
pub(in crate::job) struct Intake {
    reader: Reader,
    /// Read, and neither begun nor settled.
    fresh: VecDeque<Fresh>,
    /// Items that came back uncounted.
    returned: VecDeque<Work>,
    /// Items that came back uncounted, to be begun again after all others that are at hand.
    last: VecDeque<Work>,
    /// Items that have a row and are due.
    due: VecDeque<Work>,
    /// When the next row is due, in milliseconds since 1970 UTC, as far as it is known.
    next_due_ms: Option<i64>,
    /// Items without a row that were in progress when the runner before this one crashed.
    crashed: HashSet<u64>,
    /// Keys of items that were read and whose row is not yet durable.
    live_keys: HashMap<Box<str>, u64>,
    has_keys: bool,
    reading_ended: bool,
    failure: Option<Error>,
}

impl Intake {
    /// Takes from `reader`, and from rows of which the first may be due now.
    pub(in crate::job) fn new(reader: Reader, crashed: HashSet<u64>, has_keys: bool) -> Self {
        Self {
            reader,
            fresh: VecDeque::new(),
            returned: VecDeque::new(),
            last: VecDeque::new(),
            due: VecDeque::new(),
            next_due_ms: Some(0),
            crashed,
            live_keys: HashMap::new(),
            has_keys,
            reading_ended: false,
            failure: None,
        }
    }

    /// The next item to begin, if one is at hand.
    pub(super) fn next(
        &mut self,
        ledger: &mut Ledger,
        store: &Store,
        observer: &mut dyn Observer,
    ) -> Result<Option<Work>> {
        if let Some(work) = self.returned.pop_front() {
            return Ok(Some(work));
        }
        if self.due.is_empty() {
            self.fetch_due(ledger, store)?;
        }
        if let Some(work) = self.due.pop_front() {
            return Ok(Some(work));
        }
        loop {
            while let Some(Fresh { item, duplicate_of }) = self.fresh.pop_front() {
                ledger.take_fresh(item.index);
                if let Some(of) = duplicate_of {
                    let key = item.key.as_deref().unwrap_or_default().to_owned();
                    observer.notice(Notice::Duplicate { key, of });
                    ledger.note(settle_unattempted(item.into(), Verdict::Duplicate { of }));
                    continue;
                }
                if let Some(work) = self.admit(item, ledger, observer) {
                    return Ok(Some(work));
                }
            }
            let Some(batch) = self.reader.take() else {
                return match self.failure.take() {
                    Some(failure) => Err(failure),
                    None => Ok(self.last.pop_front()),
                };
            };
            self.accept(batch, ledger, store)?;
        }
    }

    /// Whether something is left to begin, now or later. As long as only the input can tell, and it has all arrived, not yet.
    pub(super) fn has_more(&mut self, ledger: &mut Ledger, store: &Store) -> Result<bool> {
        while self.fresh.is_empty()
            && let Some(batch) = self.reader.take()
        {
            self.accept(batch, ledger, store)?;
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let more = if self.reading_ended {
            !self.is_empty()
        } else {
            !self.fresh.is_empty() || !self.last.is_empty() || self.reader.waits_for_others()
        };
        Ok(more)
    }

    /// Puts back an item that is to be begun again, uncounted.
    pub(super) fn put_back(&mut self, work: Work) {
        self.returned.push_back(work);
    }

    /// Puts back an item that is to be begun again, uncounted, when others had their turn.
    pub(super) fn put_back_last(&mut self, work: Work) {
        self.last.push_back(work);
    }

    /// These changes are durable.
    pub(super) fn committed(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Settle(settlement) = change {
                let due = match &settlement.verdict {
                    Verdict::Failed { again_at_ms, .. } => *again_at_ms,
                    Verdict::PutAside => Some(0),
                    _ => None,
                };
                if let Some(due) = due {
                    self.next_due_ms = Some(self.next_due_ms.map_or(due, |next| next.min(due)));
                }
                if let Some(key) = &settlement.key
                    && self.live_keys.get(key) == Some(&settlement.index)
                {
                    self.live_keys.remove(key);
                }
            }
        }
    }

    /// When something will be due, in milliseconds from now; `None` if nothing is known to be.
    pub(super) fn due_in_ms(&self) -> Option<u64> {
        self.next_due_ms
            .map(|due| u64::try_from(due.saturating_sub(wall_ms())).unwrap_or(0))
    }

    /// Whether nothing is left to begin, now or later.
    pub(super) fn is_empty(&self) -> bool {
        self.reading_ended
            && self.fresh.is_empty()
            && self.returned.is_empty()
            && self.last.is_empty()
            && self.due.is_empty()
            && self.next_due_ms.is_none()
            && self.failure.is_none()
    }

    fn fetch_due(&mut self, ledger: &mut Ledger, store: &Store) -> Result<()> {
        let now = wall_ms();
        if self.next_due_ms.is_none_or(|due| due > now) {
            return Ok(());
        }
        ledger.submit(store);
        let limit = FETCH + ledger.rows_in_hand();
        let rows = store.due(now, limit)?;
        let all = rows.len() < limit;
        for row in rows {
            if ledger.take_row(row.index) {
                self.due.push_back(row.into());
            }
        }
        // A row that is in hand is told again when its change is durable, so only later ones need to be looked for.
        self.next_due_ms = if all { store.next_due(now)? } else { Some(now) };
        Ok(())
    }

    fn accept(&mut self, batch: Batch, ledger: &mut Ledger, store: &Store) -> Result<()> {
        for chunk in batch.chunks {
            ledger.note(Change::Chunk(chunk));
        }
        for source in batch.sources {
            ledger.note(Change::Source(source));
        }
        if let Some(total) = batch.total {
            ledger.note(Change::Total(total));
            self.reading_ended = true;
        }
        self.failure = self.failure.take().or(batch.failure);
        if !self.has_keys {
            self.fresh.extend(batch.items.into_iter().map(Fresh::from));
            return Ok(());
        }
        ledger.submit(store);
        let keys = batch
            .items
            .iter()
            .map(|item| item.key.clone().unwrap_or_default())
            .collect();
        let known = store.known_keys(keys)?;
        for (item, known) in batch.items.into_iter().zip(known) {
            let Some(key) = item.key.clone().filter(|_| item.refusal.is_none()) else {
                self.fresh.push_back(item.into());
                continue;
            };
            // A duplicate keeps its place in the line: what is before it has not been begun, and must not be passed over.
            let known = known.or_else(|| self.live_keys.get(&key).copied());
            let duplicate_of = known.filter(|of| *of != item.index);
            if duplicate_of.is_none() {
                self.live_keys.insert(key, item.index);
            }
            self.fresh.push_back(Fresh { item, duplicate_of });
        }
        Ok(())
    }

    /// An item of the input as work, unless it is settled or put aside without an attempt.
    fn admit(
        &mut self,
        mut item: InputItem,
        ledger: &mut Ledger,
        observer: &mut dyn Observer,
    ) -> Option<Work> {
        let refusal = item.refusal.take();
        let was_crashed = self.crashed.remove(&item.index);
        let mut work = Work::from(item);
        if let Some(error) = refusal {
            work.key = None;
            observer.notice(Notice::Refused {
                key: work.key().into_owned(),
                error: error.clone(),
            });
            ledger.note(settle_unattempted(work, Verdict::Refused { error }));
            return None;
        }
        if was_crashed {
            // The crash must be counted durably before the item is begun again: it comes back as a row that is due.
            work.crashes = 1;
            ledger.note(settle_unattempted(work, Verdict::PutAside));
            return None;
        }
        Some(work)
    }
}

/// A change that settles an item, or puts it aside, without an attempt.
pub(super) fn settle_unattempted(work: Work, verdict: Verdict) -> Change {
    Change::Settle(Box::new(Settlement {
        index: work.index,
        key: work.key,
        content: work.content,
        from: work.from,
        attempts: work.attempts,
        crashes: work.crashes,
        started_at_ms: wall_ms(),
        duration_us: 0,
        verdict,
    }))
}
