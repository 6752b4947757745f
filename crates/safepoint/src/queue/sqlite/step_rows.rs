//! The rows of steps and effects: written by a group of changes, read one by one.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failure::failure;
use crate::error::Result;
use crate::queue::step::{EffectRow, EffectState, StepChange, StepCounts, StepRow, StepState};

const STEP: &str = "name, state, memoised, run, started_at_ms, duration_us, result, error";
const STEP_IN_BRIEF: &str = "name, state, memoised, run, started_at_ms, duration_us, NULL, error";
const EFFECT: &str = "key, state, idempotency_key, run, started_at_ms, duration_us, result, error";
const EFFECT_IN_BRIEF: &str =
    "key, state, idempotency_key, run, started_at_ms, duration_us, NULL, error";

/// Writes `changes` in one transaction, in their order.
pub(super) fn commit(connection: &Connection, run: u32, changes: &[StepChange]) -> Result<()> {
    let write = |error| failure("write", error);
    // Prepared like the rest: parsing it anew would cost as much as writing a row.
    let simple = |sql: &str| {
        let mut statement = connection.prepare_cached(sql).map_err(write)?;
        statement.execute(()).map_err(write)
    };
    simple("BEGIN IMMEDIATE")?;
    let written = changes
        .iter()
        .try_for_each(|change| put(connection, run, change));
    match written {
        Ok(()) => simple("COMMIT").map(drop),
        Err(error) => {
            // The connection is not used again, so it does not matter whether this succeeds.
            let _ = simple("ROLLBACK");
            Err(write(error))
        }
    }
}

fn put(connection: &Connection, run: u32, change: &StepChange) -> rusqlite::Result<()> {
    let step = |name: &str,
                state: StepState,
                memoised: bool,
                started_at_ms: i64,
                duration_us: Option<u64>,
                result: Option<&str>,
                error: Option<&str>| {
        connection
            .prepare_cached(
                "INSERT INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (name) DO UPDATE SET state = ?2, memoised = ?3, run = ?4, started_at_ms = ?5,
                     duration_us = ?6, result = ?7, error = ?8",
            )?
            .execute(params![
                name,
                state.name(),
                memoised,
                run,
                started_at_ms,
                duration_us,
                result,
                error
            ])
    };
    match change {
        StepChange::Begun {
            name,
            started_at_ms,
        } => step(name, StepState::Running, false, *started_at_ms, None, None, None),
        StepChange::Complete {
            name,
            started_at_ms,
            duration_us,
            result,
        } => step(
            name,
            StepState::Complete,
            true,
            *started_at_ms,
            Some(*duration_us),
            Some(result),
            None,
        ),
        StepChange::Failed {
            name,
            started_at_ms,
            duration_us,
            error,
            memoised,
        } => step(
            name,
            StepState::Failed,
            *memoised,
            *started_at_ms,
            Some(*duration_us),
            None,
            Some(error),
        ),
        StepChange::Forgotten { name } => connection
            .prepare_cached("DELETE FROM steps WHERE name = ?1")?
            .execute([name]),
        StepChange::Intended {
            key,
            idempotency_key,
            started_at_ms,
        } => connection
            .prepare_cached(
                "INSERT INTO effects VALUES (?1, 'intended', ?2, ?3, ?4, NULL, NULL, NULL)
                 ON CONFLICT (key) DO UPDATE SET state = 'intended', run = ?3, started_at_ms = ?4, error = NULL",
            )?
            .execute(params![key, idempotency_key, run, started_at_ms]),
        StepChange::Completed {
            key,
            duration_us,
            result,
        } => connection
            .prepare_cached(
                "UPDATE effects SET state = 'complete', run = ?2, duration_us = ?3, result = ?4, error = NULL WHERE key = ?1",
            )?
            .execute(params![key, run, duration_us, result]),
        StepChange::Held { key } => connection
            .prepare_cached("UPDATE effects SET state = 'held' WHERE key = ?1")?
            .execute([key]),
        StepChange::Released { key, error } => connection
            .prepare_cached("UPDATE effects SET state = 'released', result = NULL, error = ?2 WHERE key = ?1")?
            .execute(params![key, error]),
        StepChange::Doubted { key, error } => connection
            .prepare_cached("UPDATE effects SET error = ?2 WHERE key = ?1")?
            .execute(params![key, error]),
    }?;
    Ok(())
}

/// The step of this name.
pub(super) fn step(connection: &Connection, name: &str) -> Result<Option<StepRow>> {
    connection
        .prepare_cached(&format!("SELECT {STEP} FROM steps WHERE name = ?1"))
        .and_then(|mut statement| statement.query_row([name], step_row).optional())
        .map_err(|error| failure("read", error))
}

/// The effect of this key.
pub(super) fn effect(connection: &Connection, key: &str) -> Result<Option<EffectRow>> {
    connection
        .prepare_cached(&format!("SELECT {EFFECT} FROM effects WHERE key = ?1"))
        .and_then(|mut statement| statement.query_row([key], effect_row).optional())
        .map_err(|error| failure("read", error))
}

/// Calls `each` for every step in the order in which they began, one row at a time, until it returns false. In brief, the results are left out.
pub(super) fn for_each_step(
    connection: &Connection,
    in_brief: bool,
    each: impl FnMut(StepRow) -> Result<bool>,
) -> Result<()> {
    let columns = if in_brief { STEP_IN_BRIEF } else { STEP };
    for_each_in_order(connection, "steps", columns, step_row, each)
}

/// Calls `each` for the name, state, memoisation and run of every step, in no order: no result is read.
pub(super) fn for_each_name(
    connection: &Connection,
    mut each: impl FnMut(Box<str>, StepState, bool, u32),
) -> Result<()> {
    let sql = "SELECT name, state, memoised, run FROM steps";
    let row = |row: &Row<'_>| {
        Ok((
            row.get::<_, String>(0)?.into_boxed_str(),
            step_state(row, 1)?,
            row.get(2)?,
            row.get(3)?,
        ))
    };
    for_each(connection, sql, row, |(name, state, memoised, run)| {
        each(name, state, memoised, run);
        Ok(true)
    })
}

/// Calls `each` for every effect in the order in which they began, one row at a time, until it returns false. In brief, the results are left out.
pub(super) fn for_each_effect(
    connection: &Connection,
    in_brief: bool,
    each: impl FnMut(EffectRow) -> Result<bool>,
) -> Result<()> {
    let columns = if in_brief { EFFECT_IN_BRIEF } else { EFFECT };
    for_each_in_order(connection, "effects", columns, effect_row, each)
}

/// Reads the rows of `table` in the order in which they began. Only their numbers are sorted: SQLite would carry all results through its sorter.
fn for_each_in_order<T>(
    connection: &Connection,
    table: &str,
    columns: &str,
    of_row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    mut each: impl FnMut(T) -> Result<bool>,
) -> Result<()> {
    let read = |error| failure("read", error);
    let one = format!("SELECT {columns} FROM {table} WHERE rowid = ?1");
    let mut one = connection.prepare(&one).map_err(read)?;
    let order = format!("SELECT rowid FROM {table} ORDER BY started_at_ms, rowid");
    let number = |row: &Row<'_>| row.get::<_, i64>(0);
    // Both are of the same moment: while the first is read, the other sees what it sees.
    for_each(connection, &order, number, |number| {
        each(one.query_row([number], &of_row).map_err(read)?)
    })
}

fn for_each<T>(
    connection: &Connection,
    sql: &str,
    of_row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    mut each: impl FnMut(T) -> Result<bool>,
) -> Result<()> {
    let read = |error| failure("read", error);
    let mut statement = connection.prepare(sql).map_err(read)?;
    let mut rows = statement.query(()).map_err(read)?;
    while let Some(row) = rows.next().map_err(read)? {
        if !each(of_row(row).map_err(read)?)? {
            break;
        }
    }
    Ok(())
}

/// How many rows there are of each kind.
pub(super) fn counts(connection: &Connection) -> Result<StepCounts> {
    connection
        .query_row(
            "SELECT count(*) FILTER (WHERE state = 'complete'), count(*) FILTER (WHERE state = 'running'),
                    count(*) FILTER (WHERE state = 'failed'), (SELECT count(*) FROM effects),
                    (SELECT count(*) FROM effects WHERE state = 'held')
             FROM steps",
            (),
            |row| {
                Ok(StepCounts {
                    complete: row.get(0)?,
                    running: row.get(1)?,
                    failed: row.get(2)?,
                    effects: row.get(3)?,
                    held: row.get(4)?,
                })
            },
        )
        .map_err(|error| failure("read", error))
}

fn step_row(row: &Row<'_>) -> rusqlite::Result<StepRow> {
    Ok(StepRow {
        name: row.get(0)?,
        state: step_state(row, 1)?,
        memoised: row.get(2)?,
        run: row.get(3)?,
        started_at_ms: row.get(4)?,
        duration_us: row.get(5)?,
        result: row.get(6)?,
        error: row.get(7)?,
    })
}

fn effect_row(row: &Row<'_>) -> rusqlite::Result<EffectRow> {
    let name = row.get_ref(1)?.as_str()?;
    let state = EffectState::from_name(name).ok_or_else(|| unknown(1, name))?;
    Ok(EffectRow {
        key: row.get(0)?,
        state,
        idempotency_key: row.get(2)?,
        run: row.get(3)?,
        started_at_ms: row.get(4)?,
        duration_us: row.get(5)?,
        result: row.get(6)?,
        error: row.get(7)?,
    })
}

fn step_state(row: &Row<'_>, column: usize) -> rusqlite::Result<StepState> {
    let name = row.get_ref(column)?.as_str()?;
    StepState::from_name(name).ok_or_else(|| unknown(column, name))
}

fn unknown(column: usize, name: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, name.to_owned(), rusqlite::types::Type::Text)
}
