//! What is known of an item from earlier runs, and from this one once it is durable.

use std::collections::VecDeque;
use std::path::Path;

use crate::error::Result;
use crate::queue::{ItemRow, KnownItem, Locking, Store, View};

/// Rows that are read at once, in order.
const AHEAD: usize = 512;

/// Reads rows. Those asked for in order are read some hundred at a time; those asked for by key, one by one.
#[derive(Debug)]
pub(super) struct Lookup {
    /// None on a network file system, where the writer alone may read.
    view: Option<View>,
    ahead: VecDeque<KnownItem>,
    /// Rows from here on were not read yet.
    read_to: u64,
    /// No row of an earlier run has an index from here on.
    end: u64,
}

impl Lookup {
    pub(super) fn open(path: &Path, locking: Locking, end: u64) -> Result<Self> {
        let view = match locking {
            Locking::Shared => Some(View::open(path)?),
            Locking::Exclusive => None,
        };
        Ok(Self {
            view,
            ahead: VecDeque::new(),
            read_to: 0,
            end,
        })
    }

    /// Lets go of the file.
    pub(super) fn close(&mut self) {
        self.view = None;
    }

    /// The row of an earlier run at `index`. Indexes are asked for in rising order.
    pub(super) fn at(&mut self, index: u64, store: &Store) -> Result<Option<KnownItem>> {
        if index >= self.end {
            return Ok(None);
        }
        loop {
            while self.ahead.front().is_some_and(|row| row.index < index) {
                self.ahead.pop_front();
            }
            if let Some(row) = self.ahead.front() {
                let is_it = row.index == index;
                return Ok(is_it.then(|| self.ahead.pop_front()).flatten());
            }
            if self.read_to > index && self.read_to >= self.end {
                return Ok(None);
            }
            let first = self.read_to.max(index);
            let rows = match &self.view {
                Some(view) => view.known_from(first, AHEAD)?,
                None => store.known_from(first, AHEAD)?,
            };
            self.read_to = match rows.last() {
                Some(last) if rows.len() == AHEAD => last.index + 1,
                _ => u64::MAX,
            };
            self.ahead = rows.into();
        }
    }

    /// The row of the item with this key.
    pub(super) fn with_key(&mut self, key: &str, store: &Store) -> Result<Option<KnownItem>> {
        match &self.view {
            Some(view) => view.known_key(key),
            None => store.known_key(key),
        }
    }

    /// The result of a done item.
    pub(super) fn result_at(&mut self, index: u64, store: &Store) -> Result<Option<Vec<u8>>> {
        match &self.view {
            Some(view) => view.result_at(index),
            None => store.result_at(index),
        }
    }

    /// The whole row of an item.
    pub(super) fn item_at(&mut self, index: u64, store: &Store) -> Result<Option<ItemRow>> {
        if let Some(view) = &self.view {
            return view.item_at(index);
        }
        let rows = store.rows_from(index, 1)?;
        Ok(rows.into_iter().find(|row| row.index == index))
    }
}
