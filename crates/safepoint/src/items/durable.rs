//! How far the writer has got, and whether it failed.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::queue::{Change, Committed, Counts, Settlement, Verdict};

/// What the writer thread tells everybody else.
#[derive(Debug, Default)]
pub(super) struct Durable {
    state: Mutex<State>,
    advanced: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Settlements and their bytes, submitted and not yet durable.
    waiting: usize,
    waiting_bytes: usize,
    /// Settlements that were submitted, and those that are durable, since the run began.
    submitted: u64,
    durable: u64,
    counts: Counts,
    /// Keys of items that are open, or whose row is not durable yet.
    keys: HashSet<Box<str>>,
    failure: Option<Error>,
}

impl Durable {
    pub(super) fn new(counts: Counts) -> Self {
        let state = State {
            counts,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            advanced: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a key for an item that is begun; false if it is taken.
    pub(super) fn take_key(&self, key: &str) -> bool {
        let mut state = self.lock();
        !state.keys.contains(key) && state.keys.insert(key.into())
    }

    /// The item with this key is neither open nor on its way to the file.
    pub(super) fn release_key(&self, key: &str) {
        self.lock().keys.remove(key);
    }

    /// A settlement of so many bytes is about to be submitted.
    ///
    /// # Errors
    ///
    /// The failure of the writer, if it failed.
    pub(super) fn submitting(&self, bytes: usize) -> Result<()> {
        let mut state = self.lock();
        if let Some(error) = &state.failure {
            return Err(again(error));
        }
        state.waiting += 1;
        state.waiting_bytes += bytes;
        state.submitted += 1;
        Ok(())
    }

    /// What the writer thread calls.
    pub(super) fn told(&self, news: Result<Committed>) {
        let mut state = self.lock();
        match news {
            Ok(committed) => {
                state.counts = committed.counts;
                for change in &committed.changes {
                    let Change::Settle(settlement) = change else {
                        continue;
                    };
                    state.waiting = state.waiting.saturating_sub(1);
                    state.waiting_bytes = state.waiting_bytes.saturating_sub(weight(settlement));
                    state.durable += 1;
                    // Put aside is what an item is while it is open.
                    if !matches!(settlement.verdict, Verdict::PutAside)
                        && let Some(key) = &settlement.key
                    {
                        state.keys.remove(key);
                    }
                }
            }
            Err(error) => state.failure = Some(error),
        }
        drop(state);
        self.advanced.notify_all();
    }

    /// The counters as of the last commit.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Settlements and bytes that are not durable yet.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting, state.waiting_bytes)
    }

    /// Waits until at most so many settlements and bytes are not durable yet.
    pub(super) fn wait_until_below(&self, count: usize, bytes: usize) -> Result<()> {
        self.wait_until(|state| state.waiting <= count && state.waiting_bytes <= bytes)
    }

    /// Waits until all that was submitted so far is durable.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        let until = self.lock().submitted;
        self.wait_until(|state| state.durable >= until)
    }

    fn wait_until(&self, is_so: impl Fn(&State) -> bool) -> Result<()> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.failure {
                return Err(again(error));
            }
            if is_so(&state) {
                return Ok(());
            }
            state = self
                .advanced
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The bytes of a settlement that are held until it is durable.
pub(super) fn weight(settlement: &Settlement) -> usize {
    let verdict = match &settlement.verdict {
        Verdict::Done { result, .. } => result.len(),
        Verdict::Failed { error, stderr, .. } => error.len() + stderr.len(),
        Verdict::Refused { .. } | Verdict::PutAside | Verdict::Duplicate { .. } => 0,
    };
    settlement.content.len() + settlement.key.as_ref().map_or(0, |key| key.len()) + verdict
}

/// The same error once more.
fn again(error: &Error) -> Error {
    let again = Error::new(error.kind(), error.chain());
    match error.hint() {
        Some(hint) => again.with_hint(hint),
        None => again,
    }
}
