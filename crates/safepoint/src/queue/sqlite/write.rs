//! One transaction: changes in, rows and counters out.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params};

use super::database::Progress;
use super::failure::failure;
use crate::error::Result;
use crate::queue::{Change, Chunk, Settlement, SourceRow, State, Verdict};

/// Bytes as a text where they are one, so that any SQLite tool shows them.
pub(super) struct TextOrBlob<'a>(&'a [u8]);

/// Wraps bytes to be stored as a text where they are one.
pub(super) fn text_or_blob(bytes: &[u8]) -> TextOrBlob<'_> {
    TextOrBlob(bytes)
}

impl ToSql for TextOrBlob<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match std::str::from_utf8(self.0) {
            Ok(_) => ValueRef::Text(self.0),
            Err(_) => ValueRef::Blob(self.0),
        }))
    }
}

const COLUMNS: &str = "INSERT INTO items (item, state, key, attempts, crashes, run, started_at_ms, duration_us, exit_code, not_before_ms, content, result, omitted, error)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

const OVER: &str = "ON CONFLICT (item) DO UPDATE SET state = excluded.state, key = excluded.key, attempts = excluded.attempts,
    crashes = excluded.crashes, run = excluded.run, started_at_ms = excluded.started_at_ms, duration_us = excluded.duration_us,
    exit_code = excluded.exit_code, not_before_ms = excluded.not_before_ms, content = excluded.content, result = excluded.result,
    omitted = excluded.omitted, error = excluded.error";

/// Writes `changes` in one transaction and brings the counters up to date, also in `progress`.
pub(super) fn commit(
    connection: &mut Connection,
    run: u32,
    changes: &[Change],
    frontier: u64,
    progress: &mut Progress,
) -> Result<()> {
    let write = |error| failure("write", error);
    let mut next = *progress;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(write)?;
    {
        let insert = COLUMNS;
        let upsert = format!("{COLUMNS} {OVER}");
        for change in changes {
            match change {
                Change::Settle(settlement) => {
                    let sql = if settlement.from.is_some() {
                        &upsert
                    } else {
                        insert
                    };
                    settle(&transaction, sql, run, settlement).map_err(write)?;
                    if let Some(from) = settlement.from {
                        let count = next.counts.of(from);
                        *count = count.saturating_sub(1);
                    }
                    *next.counts.of(settlement.verdict.state()) += 1;
                }
                Change::Chunk(chunk) => put_chunk(&transaction, chunk).map_err(write)?,
                Change::Source(source) => put_source(&transaction, source).map_err(write)?,
                Change::Total(total) => next.total = Some(*total),
                Change::Cost(micros) => {
                    next.cost_micros = next
                        .cost_micros
                        .saturating_add(*micros)
                        .min(i64::MAX.cast_unsigned());
                }
            }
        }
        next.frontier = next.frontier.max(frontier);
        let counts = next.counts;
        transaction
            .prepare_cached(
                "UPDATE progress SET frontier = ?1, done = ?2, dead = ?3, waiting = ?4, pending = ?5, duplicate = ?6, total = ?7, cost_micros = ?8",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    next.frontier,
                    counts.done,
                    counts.dead,
                    counts.waiting,
                    counts.pending,
                    counts.duplicate,
                    next.total,
                    next.cost_micros
                ])
            })
            .map_err(write)?;
    }
    transaction.commit().map_err(write)?;
    *progress = next;
    Ok(())
}

fn settle(
    connection: &Connection,
    sql: &str,
    run: u32,
    settlement: &Settlement,
) -> rusqlite::Result<()> {
    let (mut code, mut not_before, mut result, mut left_out, mut why) = (None, None, None, 0, None);
    match &settlement.verdict {
        Verdict::Done {
            exit_code,
            result: bytes,
            omitted,
        } => {
            code = *exit_code;
            result = Some(text_or_blob(bytes));
            left_out = *omitted;
        }
        Verdict::Failed {
            error,
            exit_code,
            again_at_ms,
            ..
        } => {
            code = *exit_code;
            not_before = *again_at_ms;
            why = Some(error.as_str());
        }
        Verdict::Refused { error } => why = Some(error.as_str()),
        Verdict::PutAside => not_before = Some(0),
        Verdict::Duplicate { .. } => {}
    }
    let duplicate_of = match &settlement.verdict {
        Verdict::Duplicate { of } => Some(format!("same key as item {of}")),
        _ => None,
    };
    connection.prepare_cached(sql)?.execute(params![
        settlement.index,
        settlement.verdict.state().name(),
        settlement.key,
        settlement.attempts,
        settlement.crashes,
        run,
        settlement.started_at_ms,
        settlement.duration_us,
        code,
        not_before,
        text_or_blob(&settlement.content),
        result,
        left_out,
        duplicate_of.as_deref().or(why),
    ])?;
    if let Verdict::Failed {
        error,
        exit_code,
        signal,
        stderr,
        ..
    } = &settlement.verdict
    {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                settlement.index,
                settlement.attempts,
                run,
                settlement.started_at_ms,
                settlement.duration_us,
                exit_code,
                signal,
                error,
                text_or_blob(stderr),
            ])?;
    }
    debug_assert!(
        settlement.from != Some(State::Done),
        "a done item is never settled again"
    );
    Ok(())
}

pub(super) fn put_chunk(connection: &Connection, chunk: &Chunk) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO chunks VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            chunk.first_index,
            chunk.source,
            chunk.line,
            chunk.offset,
            chunk.items,
        ])?;
    Ok(())
}

pub(super) fn put_source(connection: &Connection, source: &SourceRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO sources VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            source.source,
            source.path,
            source.identity.device.cast_signed(),
            source.identity.inode.cast_signed(),
            source.identity.size,
            source.identity.mtime_ns,
            source.identity.ctime_ns,
            source.header,
            source.complete
        ])?;
    Ok(())
}
