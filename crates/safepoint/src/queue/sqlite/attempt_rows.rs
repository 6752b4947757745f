//! The attempts of all items, read one by one and in brief: for whoever counts them, not for whoever wants their results.

use rusqlite::{OptionalExtension, Row, params};

use super::database::read_bytes;
use super::failure::failure;
use super::view::View;
use crate::error::Result;

/// How many characters of an error are read here.
const ERROR_LENGTH: usize = 1000;

/// An attempt that ended by itself: it made its item done, or it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptInBrief {
    /// The item's index, from 0.
    pub index: u64,
    /// The item's key, if that is not the index.
    pub key: Option<String>,
    /// From 1.
    pub attempt: u32,
    /// The run that made it.
    pub run: u32,
    /// In milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// In microseconds.
    pub duration_us: u64,
    /// The exit code, if it ended by one.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it failed, at most 1,000 characters; none if its item is done by it.
    pub error: Option<String>,
}

/// In which order attempts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOrder {
    /// In none: the fastest.
    Any,
    /// By their items, those of one item as they were made.
    Item,
    /// As they began. SQLite sorts them in a temporary file where they are many.
    Start,
}

/// What the input says of an item, and what became of it, each cut to a length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemInBrief {
    /// Its index, from 0.
    pub index: u64,
    /// Its key, if that is not the index.
    pub key: Option<String>,
    /// Attempts that counted.
    pub attempts: u32,
    /// Runners that crashed while it was in progress.
    pub crashes: u32,
    /// The run that wrote it.
    pub run: u32,
    /// The beginning of what the input says of it.
    pub content: Vec<u8>,
    /// The beginning of why it is dead or waiting.
    pub error: Option<String>,
    /// The end of what its last failed attempt wrote to standard error.
    pub stderr: Vec<u8>,
}

const DONE: &str =
    "SELECT item, key, attempts, run, started_at_ms, duration_us, exit_code, NULL, NULL
    FROM items WHERE state = 'done' AND started_at_ms IS NOT NULL AND duration_us IS NOT NULL";

fn failed(columns_of_item: &str, join: &str) -> String {
    format!(
        "SELECT a.item, {columns_of_item}, a.attempt, a.run, a.started_at_ms, a.duration_us, a.exit_code, a.signal, substr(a.error, 1, {ERROR_LENGTH})
         FROM attempts a {join}"
    )
}

impl View {
    /// Calls `each` for every attempt that ended by itself, one row at a time, until it returns false: memory does not grow with the
    /// job. Of an attempt that was given up, and of one that the end of its runner cut off, there is no row.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or what `each` returns.
    pub fn for_each_attempt(
        &self,
        order: AttemptOrder,
        mut each: impl FnMut(AttemptInBrief) -> Result<bool>,
    ) -> Result<()> {
        let read = |error| failure("read", error);
        let failed = failed("i.key", "LEFT JOIN items i ON i.item = a.item");
        let sql = match order {
            AttemptOrder::Any => format!("{DONE} UNION ALL {failed}"),
            AttemptOrder::Item => format!("{DONE} UNION ALL {failed} ORDER BY 1, 4, 3"),
            AttemptOrder::Start => format!("{DONE} UNION ALL {failed} ORDER BY 5, 1"),
        };
        let mut statement = self.connection.prepare(&sql).map_err(read)?;
        let mut rows = statement.query(()).map_err(read)?;
        while let Some(row) = rows.next().map_err(read)? {
            if !each(attempt(row).map_err(read)?)? {
                break;
            }
        }
        Ok(())
    }

    /// When the last attempt of each run ended that ended by itself, in milliseconds since 1970 UTC, by the number of the run.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn last_attempts(&self) -> Result<Vec<(u32, i64)>> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare(
                "SELECT run, max(ended) FROM (
                    SELECT run, max(started_at_ms + duration_us / 1000) AS ended FROM items
                        WHERE state = 'done' AND started_at_ms IS NOT NULL AND duration_us IS NOT NULL GROUP BY run
                    UNION ALL SELECT run, max(started_at_ms + duration_us / 1000) FROM attempts GROUP BY run)
                 GROUP BY run ORDER BY run",
            )
            .map_err(read)?;
        let rows = statement
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read)
    }

    /// The item with this index, with at most `length` bytes or characters of each of its texts.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn item_in_brief(&self, index: u64, length: u32) -> Result<Option<ItemInBrief>> {
        let read = |error| failure("read", error);
        let stderr = self
            .connection
            .prepare_cached("SELECT substr(CAST(stderr AS BLOB), -?2) FROM attempts WHERE item = ?1 ORDER BY run DESC, attempt DESC LIMIT 1")
            .and_then(|mut statement| {
                statement.query_row(params![index, length], |row| bytes_or_none(row, 0)).optional()
            })
            .map_err(read)?;
        self.connection
            .prepare_cached(
                "SELECT item, key, attempts, crashes, run, substr(CAST(content AS BLOB), 1, ?2), substr(error, 1, ?2) FROM items WHERE item = ?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![index, length], |row| {
                        Ok(ItemInBrief {
                            index: row.get(0)?,
                            key: row.get(1)?,
                            attempts: row.get(2)?,
                            crashes: row.get(3)?,
                            run: row.get(4)?,
                            content: read_bytes(row, 5)?,
                            error: row.get(6)?,
                            stderr: stderr.unwrap_or_default(),
                        })
                    })
                    .optional()
            })
            .map_err(read)
    }

    /// The indexes of the first dead items, at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn first_dead(&self, limit: u32) -> Result<Vec<u64>> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare("SELECT item FROM items INDEXED BY items_dead WHERE state = 'dead' ORDER BY item LIMIT ?1")
            .map_err(read)?;
        let rows = statement
            .query_map([limit], |row| row.get(0))
            .map_err(read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read)
    }

    /// Of what the dead items died: the most frequent errors, at most `limit`, each cut to 1,000 characters, and how often.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn dead_by_error(&self, limit: u32) -> Result<Vec<(String, u64)>> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare(&format!(
                "SELECT substr(coalesce(error, ''), 1, {ERROR_LENGTH}) AS cut, count(*) AS often
                 FROM items INDEXED BY items_dead WHERE state = 'dead' GROUP BY cut ORDER BY often DESC, cut LIMIT ?1"
            ))
            .map_err(read)?;
        let rows = statement
            .query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read)
    }
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<AttemptInBrief> {
    Ok(AttemptInBrief {
        index: row.get(0)?,
        key: row.get(1)?,
        attempt: row.get(2)?,
        run: row.get(3)?,
        started_at_ms: row.get(4)?,
        duration_us: row.get(5)?,
        exit_code: row.get(6)?,
        signal: row.get(7)?,
        error: row.get(8)?,
    })
}

fn bytes_or_none(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(Vec::new()),
        value => Ok(value.as_bytes()?.to_vec()),
    }
}
