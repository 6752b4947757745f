//! What is known of items before they are begun again: a look at their rows that leaves their results where they are.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::database::{Database, read_bytes, read_state};
use super::failure::failure;
use super::store::Store;
use super::view::View;
use crate::error::Result;
use crate::queue::State;

/// A row without its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownItem {
    /// Its index, from 0.
    pub index: u64,
    /// Its key, if that is not the index.
    pub key: Option<Box<str>>,
    /// Its state.
    pub state: State,
    /// Attempts that failed, so far.
    pub attempts: u32,
    /// Runners that crashed while it was in progress.
    pub crashes: u32,
    /// The run that wrote the row.
    pub run: u32,
    /// What the input says of it.
    pub content: Box<[u8]>,
}

const COLUMNS: &str = "item, key, state, attempts, crashes, run, content";

impl View {
    /// Rows from index `first` on, gaps or not, at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), like all that follow.
    pub fn known_from(&self, first: u64, limit: usize) -> Result<Vec<KnownItem>> {
        from(&self.connection, first, limit)
    }

    /// The item with this key.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn known_key(&self, key: &str) -> Result<Option<KnownItem>> {
        by_key(&self.connection, key)
    }

    /// The result of the item with this index, if it is done.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn result_at(&self, index: u64) -> Result<Option<Vec<u8>>> {
        result_at(&self.connection, index)
    }
}

/// The same for a file that nobody but its owner may read; what was submitted before is taken into account.
impl Store {
    /// As [`View::known_from`].
    ///
    /// # Errors
    ///
    /// As [`due`](Self::due), like all that follow.
    pub fn known_from(&self, first: u64, limit: usize) -> Result<Vec<KnownItem>> {
        self.ask(move |connection| from(connection, first, limit))
    }

    /// As [`View::known_key`].
    ///
    /// # Errors
    ///
    /// As [`due`](Self::due).
    pub fn known_key(&self, key: &str) -> Result<Option<KnownItem>> {
        let key = key.to_owned();
        self.ask(move |connection| by_key(connection, &key))
    }

    /// As [`View::result_at`].
    ///
    /// # Errors
    ///
    /// As [`due`](Self::due).
    pub fn result_at(&self, index: u64) -> Result<Option<Vec<u8>>> {
        self.ask(move |connection| result_at(connection, index))
    }
}

impl Database {
    /// The index after the last row.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn rows_end(&self) -> Result<u64> {
        self.connection
            .query_row("SELECT coalesce(max(item) + 1, 0) FROM items", (), |row| {
                row.get(0)
            })
            .map_err(|error| failure("read", error))
    }

    /// The indexes from `first` to the last row that have no row, in order.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn gaps_from(&self, first: u64) -> Result<Vec<u64>> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare("SELECT item FROM items WHERE item >= ?1 ORDER BY item")
            .map_err(read)?;
        let mut rows = statement.query([first]).map_err(read)?;
        let (mut gaps, mut next) = (Vec::new(), first);
        while let Some(row) = rows.next().map_err(read)? {
            let index: u64 = row.get(0).map_err(read)?;
            gaps.extend(next..index);
            next = index + 1;
        }
        Ok(gaps)
    }
}

fn from(connection: &Connection, first: u64, limit: usize) -> Result<Vec<KnownItem>> {
    let read = |error| failure("read", error);
    let mut statement = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM items WHERE item >= ?1 ORDER BY item LIMIT ?2"
        ))
        .map_err(read)?;
    let rows = statement
        .query_map(params![first, limit], known)
        .map_err(read)?;
    rows.collect::<rusqlite::Result<_>>().map_err(read)
}

fn by_key(connection: &Connection, key: &str) -> Result<Option<KnownItem>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM items WHERE key = ?1 AND key IS NOT NULL AND state <> 'duplicate'"
        ))
        .and_then(|mut statement| statement.query_row([key], known).optional())
        .map_err(|error| failure("read", error))
}

fn result_at(connection: &Connection, index: u64) -> Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT result FROM items WHERE item = ?1 AND state = 'done'")
        .and_then(|mut statement| {
            statement
                .query_row([index], |row| read_bytes(row, 0))
                .optional()
        })
        .map_err(|error| failure("read", error))
}

fn known(row: &Row<'_>) -> rusqlite::Result<KnownItem> {
    Ok(KnownItem {
        index: row.get(0)?,
        key: row.get::<_, Option<String>>(1)?.map(String::into_boxed_str),
        state: read_state(row, 2)?,
        attempts: row.get(3)?,
        crashes: row.get(4)?,
        run: row.get(5)?,
        content: read_bytes(row, 6)?.into_boxed_slice(),
    })
}
