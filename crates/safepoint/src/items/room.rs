//! What an open directory and its open items share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::books::{Books, Lanes};
use super::content::{kept, shown};
use super::durable::{Durable, weight};
use super::item::{Again, Begun, Item};
use super::lookup::Lookup;
use super::watch::Watch;
use crate::clock::{Clock, Moment, wall_ms};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Entry, InProgressFile, JobPath};
use crate::owner::Ownership;
use crate::queue::{Change, ItemRow, KnownItem, RetryPolicy, Settlement, State, Store, Verdict};
use crate::shutdown::ShutdownToken;

/// The longest result.
pub const MAX_RESULT: usize = 16 << 20;

/// So many settlements, or bytes of them, may wait for the disk before [`Item::done`] waits for it, too.
const MAX_WAITING: usize = 32_768;
const MAX_WAITING_BYTES: usize = 64 << 20;

/// What a run did so far. Numbers of the moment, each read on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Items done in this run, durable or about to be.
    pub done: u64,
    /// Attempts that failed in this run.
    pub failures: u64,
    /// Items that died in this run.
    pub died: u64,
    /// Items that were known to be done.
    pub skipped: u64,
    /// Items that were known to be dead.
    pub dead: u64,
    /// Items whose key was seen before in this run.
    pub duplicates: u64,
    /// Items that were put back.
    pub put_back: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) done: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) died: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) put_back: AtomicU64,
}

/// Relaxed throughout: each is read after the threads that added to it were joined, or is a number of the moment.
pub(super) fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn tally(&self) -> Tally {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            done: number(&self.done),
            failures: number(&self.failures),
            died: number(&self.died),
            skipped: number(&self.skipped),
            dead: number(&self.dead),
            duplicates: number(&self.duplicates),
            put_back: number(&self.put_back),
        }
    }
}

/// What goes at the close.
pub(super) struct Held {
    pub(super) store: Store,
    pub(super) watch: Watch,
    pub(super) ownership: Ownership,
}

pub(super) struct Inner {
    pub(super) books: Books,
    pub(super) held: Option<Held>,
    /// Items in progress through a crash of the last run that have no row to say so.
    pub(super) crashed: std::collections::HashSet<u64>,
    pub(super) lanes: Lanes,
}

pub(super) struct Room {
    pub(super) path: JobPath,
    pub(super) run: u32,
    pub(super) wait_in_line: bool,
    pub(super) is_keyed: bool,
    pub(super) retry: RetryPolicy,
    pub(super) token: ShutdownToken,
    pub(super) clock: Clock,
    pub(super) started: Moment,
    /// How many items there are, if it was said.
    pub(super) total: Option<u64>,
    pub(super) durable: Arc<Durable>,
    pub(super) counters: Counters,
    pub(super) inner: Mutex<Inner>,
    pub(super) lookup: Mutex<Lookup>,
    pub(super) in_progress: Arc<Mutex<InProgressFile>>,
    /// The process that opened it. A child that was forked has our memory, but neither our threads nor our directory.
    pub(super) pid: u32,
}

impl Room {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lookup(&self) -> MutexGuard<'_, Lookup> {
        self.lookup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_ours(&self) -> bool {
        std::process::id() == self.pid
    }

    fn check_ours(&self) -> Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Closed,
            format!(
                "the items of `{}` belong to the process that this one was forked from",
                self.path.name
            ),
        )
        .with_hint("say what came of an item in the process that began it"))
    }

    pub(super) fn begin(self: &Arc<Self>, key: Option<&str>, content: &[u8]) -> Result<Begun> {
        self.check_ours()?;
        if self.is_keyed != key.is_some() {
            return Err(Error::invalid(if self.is_keyed {
                "these items are told apart by a key, and this one has none"
            } else {
                "these items are told apart by their place, and this one has a key"
            })
            .with_hint("say so when they are opened: `Items::builder(..).keyed(..)`"));
        }
        let Some(unit) = self.token.owned_unit("item") else {
            return Ok(Begun::Stopping);
        };
        let content = kept(content);
        let (row, index) = match key {
            None => {
                let mut inner = self.lock();
                let index = inner.books.next_place();
                let store = &held(&inner)?.store;
                let row = self.lookup().at(index, store)?;
                if let Some(row) = &row
                    && *row.content != *content
                {
                    return Err(self.changed(index, &row.content, &content));
                }
                if row.is_none() {
                    inner.books.open(index);
                }
                (row, index)
            }
            Some(key) => {
                if !self.durable.take_key(key) {
                    count(&self.counters.duplicates);
                    return Ok(Begun::Duplicate);
                }
                let found = self.find_key(key);
                let row = match found {
                    Ok(row) => row,
                    Err(error) => {
                        self.durable.release_key(key);
                        return Err(error);
                    }
                };
                let index = match &row {
                    Some(row) => row.index,
                    None => self.lock().books.unused(),
                };
                (row, index)
            }
        };
        if let Some(row) = &row
            && let Some(settled) = self.settled(row)
        {
            if let Some(key) = key {
                self.durable.release_key(key);
            }
            return Ok(settled);
        }
        let (from, attempts, mut crashes) = row.as_ref().map_or((None, 0, 0), |row| {
            (Some(row.state), row.attempts, row.crashes)
        });
        let mut again = Again {
            index,
            key: key.map(Into::into),
            content: content.into(),
            from,
            attempts,
            crashes,
        };
        if row.is_none() && self.lock().crashed.remove(&index) {
            crashes += 1;
            again.crashes = crashes;
            self.submit(again.settlement(Verdict::PutAside, again.attempts, (wall_ms(), 0)))?;
            // If it is the cause, there is no time for that later.
            self.sync()?;
            again.from = Some(State::Pending);
        }
        Ok(Begun::Open(self.item(again, unit)))
    }

    fn find_key(&self, key: &str) -> Result<Option<KnownItem>> {
        let inner = self.lock();
        self.lookup().with_key(key, &held(&inner)?.store)
    }

    /// What is said of a row that needs no more work, or had its turn in this run.
    fn settled(&self, row: &KnownItem) -> Option<Begun> {
        let index = row.index;
        match row.state {
            State::Pending => None,
            _ if self.is_keyed && row.run == self.run => {
                count(&self.counters.duplicates);
                Some(Begun::Duplicate)
            }
            State::Waiting => None,
            State::Done => {
                count(&self.counters.skipped);
                Some(Begun::Done { index })
            }
            State::Dead | State::Duplicate => {
                count(&self.counters.dead);
                Some(Begun::Dead { index })
            }
        }
    }

    /// Opens an item whose turn it is.
    pub(super) fn item(self: &Arc<Self>, again: Again, unit: crate::shutdown::OwnedUnit) -> Item {
        let mut item = Item::new(Arc::clone(self), again, unit);
        if !self.wait_in_line {
            item.in_process(self.pid);
        }
        item
    }

    /// Says in `in-progress` what a lane has.
    pub(super) fn show(&self, lane: usize, entry: Option<Entry>) {
        // It is for those who look, and for the next run after a crash; the work does not depend on it.
        let _ = self
            .in_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(lane, 1, entry.into_iter());
    }

    /// Has a settlement written.
    pub(super) fn submit(&self, settlement: Settlement) -> Result<()> {
        self.durable.submitting(weight(&settlement))?;
        let index = settlement.index;
        let mut changes = vec![Change::Settle(Box::new(settlement))];
        let mut inner = self.lock();
        inner.books.has_row(index);
        let frontier = inner.books.frontier();
        // Under the lock of the books: no frontier may be committed before the rows below it.
        held(&inner)?.store.submit(&mut changes, frontier);
        Ok(())
    }

    /// Keeps memory bounded where the disk is slower than the work.
    pub(super) fn keep_pace(&self) -> Result<()> {
        let (count, bytes) = self.durable.waiting();
        if count <= MAX_WAITING && bytes <= MAX_WAITING_BYTES {
            return Ok(());
        }
        self.catch_up()
    }

    /// Waits until the disk is not far behind.
    pub(super) fn catch_up(&self) -> Result<()> {
        self.durable
            .wait_until_below(MAX_WAITING / 2, MAX_WAITING_BYTES / 2)
    }

    /// Whether that would wait.
    pub(super) fn is_ahead(&self) -> bool {
        let (count, bytes) = self.durable.waiting();
        count > MAX_WAITING / 2 || bytes > MAX_WAITING_BYTES / 2
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.check_ours()?;
        {
            let inner = self.lock();
            held(&inner)?.store.hurry();
        }
        self.durable.wait_for_all()
    }

    pub(super) fn result_at(&self, index: u64) -> Result<Option<Vec<u8>>> {
        self.check_ours()?;
        let inner = self.lock();
        self.lookup().result_at(index, &held(&inner)?.store)
    }

    pub(super) fn item_at(&self, index: u64) -> Result<Option<ItemRow>> {
        self.check_ours()?;
        let inner = self.lock();
        self.lookup().item_at(index, &held(&inner)?.store)
    }

    fn changed(&self, index: u64, before: &[u8], now: &[u8]) -> Error {
        Error::new(
            ErrorKind::Incompatible,
            format!(
                "item {index} of `{}` was {} and is {}",
                self.path.name,
                shown(before),
                shown(now)
            ),
        )
        .with_hint(
            "without a key an item is its place and its content: give the same items in the same order, give a key, or begin anew (fresh)",
        )
    }
}

/// What is held while the directory is open.
fn held(inner: &Inner) -> Result<&Held> {
    inner
        .held
        .as_ref()
        .ok_or_else(|| Error::new(ErrorKind::Closed, "the items were closed"))
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("path", &self.path)
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}
