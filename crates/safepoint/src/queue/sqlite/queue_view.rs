//! Items of a queue as they stand, and whether the file agrees with itself.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failure::queue_failure as failure;
use super::queue_claims::payload_of;
use super::queue_file::flags;
use super::queue_rows::read_state;
use super::queue_schema::{self as schema, QUEUE_DB};
use crate::disk::StateDir;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::Problem;
use crate::queue::claims::{QueueCounts, QueuedItem, QueuedState};

const COLUMNS: &str = "items.item, key, state, attempts, pushed_at_ms, due_ms, settled_at_ms, pid, payload, result, error";

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<QueueCounts> {
    connection
        .prepare_cached("SELECT pending, waiting, leased, done, dead FROM queue WHERE id = 1")?
        .query_row((), |row| {
            Ok(QueueCounts {
                pending: row.get(0)?,
                waiting: row.get(1)?,
                leased: row.get(2)?,
                done: row.get(3)?,
                dead: row.get(4)?,
            })
        })
}

/// Items with a number above `after`, in the order of pushing.
pub(super) fn list(
    connection: &Connection,
    state: Option<QueuedState>,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<QueuedItem>> {
    let only = match state {
        None => String::new(),
        // A literal, so that the index of the dead is used.
        Some(state) => format!("AND state = '{}'", state.name()),
    };
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM items CROSS JOIN payloads ON payloads.item = items.item WHERE items.item > ?1 {only} ORDER BY items.item LIMIT ?2"
        ))?
        .query_map(params![after, limit], read_item)?
        .collect()
}

/// The item of this key, or else of this number.
pub(super) fn look(connection: &Connection, name: &str) -> rusqlite::Result<Option<QueuedItem>> {
    let Some((item, _)) = number_and_state(connection, name)? else {
        return Ok(None);
    };
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM items JOIN payloads ON payloads.item = items.item WHERE items.item = ?1"
        ))?
        .query_row([item], read_item)
        .optional()
}

pub(super) fn number_and_state(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<Option<(u64, QueuedState)>> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, read_state(row, 1)?));
    let by_key = connection
        .prepare_cached("SELECT item, state FROM items WHERE key = ?1")?
        .query_row([name], read)
        .optional()?;
    match (by_key, name.parse::<i64>()) {
        (None, Ok(number)) => connection
            .prepare_cached("SELECT item, state FROM items WHERE item = ?1 AND key IS NULL")?
            .query_row([number], read)
            .optional(),
        (found, _) => Ok(found),
    }
}

fn read_item(row: &Row<'_>) -> rusqlite::Result<QueuedItem> {
    let state = read_state(row, 2)?;
    let has_result = !matches!(row.get_ref(9)?, rusqlite::types::ValueRef::Null);
    Ok(QueuedItem {
        number: row.get(0)?,
        key: row.get(1)?,
        state,
        attempts: row.get(3)?,
        pushed_at_ms: row.get(4)?,
        due_at_ms: row
            .get::<_, Option<i64>>(5)?
            .filter(|_| state != QueuedState::Pending),
        settled_at_ms: row.get(6)?,
        pid: row.get(7)?,
        payload: payload_of(row, 8)?,
        result: has_result.then(|| payload_of(row, 9)).transpose()?,
        error: row.get(10)?,
    })
}

/// Each is a count that must be 0, and what it means if it is not.
const MUST_BE_NONE: [(&str, &str); 5] = [
    (
        "SELECT count(*) FROM items WHERE (due_ms IS NULL) <> (state IN ('done', 'dead'))",
        "items whose time does not fit their state",
    ),
    (
        "SELECT count(*) FROM items WHERE due_ms = 0 AND (attempts <> 0 OR state <> 'pending')",
        "items that count as never attempted, but were",
    ),
    (
        "SELECT count(*) FROM items WHERE (settled_at_ms IS NULL) <> (state NOT IN ('done', 'dead'))",
        "items whose end does not fit their state",
    ),
    (
        "SELECT count(*) FROM items WHERE attempts > claims OR (pid IS NULL) <> (state <> 'leased')",
        "items whose claims do not fit their state",
    ),
    (
        "SELECT count(*) FROM items LEFT JOIN payloads USING (item) WHERE payloads.item IS NULL OR item >= (SELECT next_item FROM queue)",
        "items without a payload, or with a number that is still to be given",
    ),
];

/// What is wrong with the queue in a directory; nothing, if all is well.
pub(in crate::queue) fn validate_queue(directory: &Path) -> Result<Vec<Problem>> {
    let dir = StateDir::open(directory)?;
    if !dir.has(QUEUE_DB) {
        let message = format!("no queue in `{}`", directory.display());
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let connection = Connection::open_with_flags(dir.file(QUEUE_DB), flags())
        .map_err(|error| failure("open", error))?;
    connection
        .busy_timeout(Duration::from_secs(2))
        .and_then(|()| connection.pragma_update(None, "query_only", "ON"))
        .map_err(|error| failure("open", error))?;
    schema::check(&connection)?;
    validate(&connection)
}

fn validate(connection: &Connection) -> Result<Vec<Problem>> {
    let read = |error| failure("read", error);
    // One state of the file for all questions, as others may go on writing.
    let _one_state = connection.unchecked_transaction().map_err(read)?;
    let mut problems = Vec::new();
    let mut check = connection
        .prepare("PRAGMA integrity_check(20)")
        .map_err(read)?;
    let told = check
        .query_map((), |row| row.get::<_, String>(0))
        .map_err(read)?;
    for line in told {
        let line = line.map_err(read)?;
        if line != "ok" {
            problems.push(Problem(line));
        }
    }
    if !problems.is_empty() {
        return Ok(problems);
    }
    let ask = |sql: &str| {
        connection
            .query_row(sql, (), |row| row.get::<_, u64>(0))
            .map_err(read)
    };
    let counted = counts(connection).map_err(read)?;
    for state in QueuedState::ALL {
        let name = state.name();
        let rows = ask(&format!(
            "SELECT count(*) FROM items WHERE state = '{name}'"
        ))?;
        let told = counted.of(state);
        if rows != told {
            problems.push(Problem(format!(
                "it says that {told} items are {name}, but {rows} are"
            )));
        }
    }
    for (sql, what) in MUST_BE_NONE {
        let number = ask(sql)?;
        if number > 0 {
            problems.push(Problem(format!("{number} {what}")));
        }
    }
    Ok(problems)
}
