//! The tables of `queue.db`, and the versions that can be read.

use rusqlite::{Connection, params};

use super::failure::queue_failure as failure;
use crate::error::{Error, ErrorKind, Result};

/// The name of a queue's file in its directory.
pub const QUEUE_DB: &str = "queue.db";

/// The version of the format that this program writes (`PRAGMA user_version`).
pub const QUEUE_FORMAT_VERSION: i32 = 1;

/// `PRAGMA application_id`: "SFPQ" in ASCII.
const APPLICATION_ID: i32 = 0x5346_5051;

/// The tables and indexes. Times end in `_ms`: milliseconds since 1970 UTC.
///
/// Payloads have a table of their own, so that a claim does not write a long one anew.
const TABLES: &str = "
CREATE TABLE queue (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    uuid          TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    created_by    TEXT NOT NULL,
    next_item     INTEGER NOT NULL,
    pending       INTEGER NOT NULL,
    waiting       INTEGER NOT NULL,
    leased        INTEGER NOT NULL,
    done          INTEGER NOT NULL,
    dead          INTEGER NOT NULL
) STRICT;
CREATE TABLE items (
    item          INTEGER PRIMARY KEY,
    key           TEXT,
    state         TEXT NOT NULL CHECK (state IN ('pending', 'waiting', 'leased', 'done', 'dead')),
    attempts      INTEGER NOT NULL,
    claims        INTEGER NOT NULL,
    due_ms        INTEGER,
    pushed_at_ms  INTEGER NOT NULL,
    settled_at_ms INTEGER,
    pid           INTEGER,
    result        ANY,
    error         TEXT
) STRICT;
CREATE TABLE payloads (
    item    INTEGER PRIMARY KEY,
    payload ANY NOT NULL
) STRICT;
CREATE INDEX items_due ON items (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX items_dead ON items (item) WHERE state = 'dead';
CREATE UNIQUE INDEX items_key ON items (key) WHERE key IS NOT NULL;
";

/// Makes the tables in an empty file.
pub(super) fn create(connection: &Connection, uuid: &str, now_ms: i64) -> Result<()> {
    let make = |error| failure("make", error);
    connection
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {QUEUE_FORMAT_VERSION}; BEGIN; {TABLES}"
        ))
        .map_err(make)?;
    connection
        .execute(
            "INSERT INTO queue VALUES (1, ?1, ?2, ?3, 1, 0, 0, 0, 0, 0)",
            params![uuid, now_ms, env!("CARGO_PKG_VERSION")],
        )
        .map_err(make)?;
    connection.execute_batch("COMMIT").map_err(make)
}

/// Checks that the file is a `queue.db` of a version that can be read.
pub(super) fn check(connection: &Connection) -> Result<()> {
    let pragma = |name| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(|error| failure("read", error))
    };
    if pragma("application_id")? != APPLICATION_ID {
        return Err(damaged("it is a database, but not one of a queue"));
    }
    let version = pragma("user_version")?;
    if version > QUEUE_FORMAT_VERSION {
        return Err(Error::new(
            ErrorKind::Incompatible,
            format!("`{QUEUE_DB}` has format {version}, newer than this program's {QUEUE_FORMAT_VERSION}"),
        )
        .with_hint("use the newer safepoint that wrote it"));
    }
    if version < 1 {
        return Err(damaged("it names no format version"));
    }
    Ok(())
}

/// The error for a file that does not hold what it must.
pub(super) fn damaged(why: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("`{QUEUE_DB}` is damaged: {why}"),
    )
    .with_hint("put a backup back, or rescue what can be read with `sqlite3 queue.db .recover`")
}
