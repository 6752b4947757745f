//! The file in the hands of its owner, before and between runs.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::failure::failure;
use super::schema::{self, JOB_DB};
use super::step_rows;
use super::write::{self, text_or_blob};
use crate::disk::{self, FileIdentity, FilesystemKind};
use crate::error::{Error, Result};
use crate::queue::{Chunk, Counts, EffectRow, SourceRow, State, StepChange};

/// An item in progress through so many crashes of the runner is taken for their cause.
pub const MAX_CRASHES: u32 = 3;

/// What a run counts as done: items, and complete steps. A job has the ones or the others.
pub(super) const DONE: &str =
    "(SELECT done FROM progress) + (SELECT count(*) FROM steps WHERE state = 'complete')";

/// How the file is shared between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// Others may read while the owner writes; needs shared memory maps, so a local file system.
    Shared,
    /// Nobody else may read while the owner has it: for network file systems.
    Exclusive,
}

impl Locking {
    /// How a file in `directory` is to be shared: by the kind of its file system.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file system cannot be asked.
    pub fn of(directory: &Path) -> Result<Self> {
        Ok(if FilesystemKind::of(directory)?.is_network() {
            Self::Exclusive
        } else {
            Self::Shared
        })
    }
}

/// Who a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Its identity over renames, for idempotency keys.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds since 1970 UTC.
    pub created_at_ms: i64,
    /// The version that made it.
    pub created_by: String,
}

/// An item whose content in the input changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Its index in the input, from 0.
    pub index: u64,
    /// Its key, if that is not the index.
    pub key: Option<Box<str>>,
    /// What the input says of it now.
    pub content: Box<[u8]>,
    /// Why it cannot be worked on.
    pub refusal: Option<String>,
}

/// How far a job has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Every index below has a row.
    pub frontier: u64,
    /// The rows by state.
    pub counts: Counts,
    /// Items in the input, once known.
    pub total: Option<u64>,
    /// What was spent, in millionths.
    pub cost_micros: u64,
}

/// The file, opened for writing by the process that owns the job.
#[derive(Debug)]
pub struct Database {
    pub(super) connection: Connection,
}

impl Database {
    /// Makes the file for a new job, all or nothing.
    ///
    /// # Durability
    ///
    /// Made beside its name, synced and renamed: a crash leaves no file or a whole one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be written.
    pub fn create(path: &Path, job: &JobRow, definition: &[(String, String)]) -> Result<()> {
        let mut unfinished = path.to_path_buf();
        unfinished.set_extension("db.new");
        if let Some(directory) = path.parent() {
            let directory = disk::StateDir::open(directory)?;
            for rest in ["job.db.new", "job.db.new-journal"] {
                directory.remove(rest)?;
            }
            // SQLite gives its log the mode of the file.
            directory.make_empty("job.db.new")?;
        }
        {
            let connection =
                Connection::open_with_flags(&unfinished, flags() | OpenFlags::SQLITE_OPEN_CREATE)
                    .map_err(|error| failure("make", error))?;
            let make = |error| failure("make", error);
            connection
                .pragma_update(None, "synchronous", "FULL")
                .map_err(make)?;
            schema::create(&connection)?;
            connection
                .execute(
                    "INSERT INTO job VALUES (1, ?1, ?2, ?3, ?4)",
                    params![job.uuid, job.name, job.created_at_ms, job.created_by],
                )
                .map_err(make)?;
            for (name, value) in definition {
                connection
                    .execute(
                        "INSERT INTO definition VALUES (?1, ?2)",
                        params![name, value],
                    )
                    .map_err(make)?;
            }
        }
        disk::rename(&unfinished, path)
    }

    /// Opens the file of an existing job; one of an older format is brought up to date, in one transaction.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) or
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), as the file is.
    pub fn open(path: &Path, locking: Locking) -> Result<Self> {
        let open = |error| failure("open", error);
        let connection = Connection::open_with_flags(path, flags()).map_err(open)?;
        if locking == Locking::Exclusive {
            connection
                .pragma_update(None, "locking_mode", "EXCLUSIVE")
                .map_err(open)?;
        }
        let version = schema::check(&connection)?;
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(open)?;
        if mode != "wal" {
            return Err(Error::new(
                crate::ErrorKind::Io,
                format!("`{JOB_DB}` cannot use a write-ahead log here (it says `{mode}`)"),
            )
            .with_hint("choose a directory on another file system with `--state-dir`"));
        }
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(open)?;
        // 16 MiB of log between checkpoints: long enough to be cheap, short enough to be read back quickly after a kill.
        connection
            .pragma_update(None, "wal_autocheckpoint", 4000)
            .map_err(open)?;
        connection
            .pragma_update(None, "trusted_schema", "OFF")
            .map_err(open)?;
        connection.set_prepared_statement_cache_capacity(32);
        schema::upgrade(&connection, version)?;
        Ok(Self { connection })
    }

    /// Who the job is.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn job(&self) -> Result<JobRow> {
        read_job(&self.connection)
    }

    /// What decides its results, by name.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn definition(&self) -> Result<Vec<(String, String)>> {
        read_definition(&self.connection)
    }

    /// Replaces what decides its results.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn set_definition(&mut self, definition: &[(String, String)]) -> Result<()> {
        let write = |error| failure("write", error);
        let transaction = self.connection.transaction().map_err(write)?;
        transaction
            .execute("DELETE FROM definition", ())
            .map_err(write)?;
        for (name, value) in definition {
            transaction
                .execute(
                    "INSERT INTO definition VALUES (?1, ?2)",
                    params![name, value],
                )
                .map_err(write)?;
        }
        transaction.commit().map_err(write)
    }

    /// How far the job has got.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn progress(&self) -> Result<Progress> {
        read_progress(&self.connection)
    }

    /// The sources of its input, as they were last seen.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn sources(&self) -> Result<Vec<SourceRow>> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare("SELECT source, path, device, inode, size, mtime_ns, ctime_ns, header, complete FROM sources ORDER BY source")
            .map_err(read)?;
        let rows = statement
            .query_map((), |row| {
                Ok(SourceRow {
                    source: row.get(0)?,
                    path: row.get(1)?,
                    identity: FileIdentity {
                        device: row.get::<_, i64>(2)?.cast_unsigned(),
                        inode: row.get::<_, i64>(3)?.cast_unsigned(),
                        size: row.get(4)?,
                        mtime_ns: row.get(5)?,
                        ctime_ns: row.get(6)?,
                    },
                    header: row.get(7)?,
                    complete: row.get(8)?,
                })
            })
            .map_err(read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read)
    }

    /// The stretches of the input that were read, in order.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn chunks(&self) -> Result<Vec<Chunk>> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare(
                "SELECT first_index, source, line, offset, items FROM chunks ORDER BY first_index",
            )
            .map_err(read)?;
        let rows = statement
            .query_map((), |row| {
                Ok(Chunk {
                    first_index: row.get(0)?,
                    source: row.get(1)?,
                    line: row.get(2)?,
                    offset: row.get(3)?,
                    items: row.get(4)?,
                })
            })
            .map_err(read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read)
    }

    /// Replaces the whole list of chunks and sources: the input was read anew.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn replace_input(&mut self, sources: &[SourceRow], chunks: &[Chunk]) -> Result<()> {
        let write = |error| failure("write", error);
        let transaction = self.connection.transaction().map_err(write)?;
        transaction
            .execute_batch("DELETE FROM chunks; DELETE FROM sources")
            .map_err(write)?;
        for source in sources {
            write::put_source(&transaction, source).map_err(write)?;
        }
        for chunk in chunks {
            write::put_chunk(&transaction, chunk).map_err(write)?;
        }
        transaction.commit().map_err(write)
    }

    /// The indexes at or above `first` that have a row, in order.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn touched_from(&self, first: u64) -> Result<Vec<u64>> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare("SELECT item FROM items WHERE item >= ?1 ORDER BY item")
            .map_err(read)?;
        let rows = statement
            .query_map([first], |row| row.get(0))
            .map_err(read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read)
    }

    /// Calls `each` with the index, state and content of every row, in order of the index, until it returns false.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or what `each` returns.
    pub fn for_each_content(
        &self,
        mut each: impl FnMut(u64, State, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare("SELECT item, state, content FROM items ORDER BY item")
            .map_err(read)?;
        let mut rows = statement.query(()).map_err(read)?;
        while let Some(row) = rows.next().map_err(read)? {
            let index = row.get(0).map_err(read)?;
            let state = read_state(row, 1).map_err(read)?;
            let content = row.get_ref(2).map_err(read)?;
            let content = content
                .as_bytes()
                .map_err(|error| failure("read", error.into()))?;
            if !each(index, state, content)? {
                break;
            }
        }
        Ok(())
    }

    /// Gives items new content, with no attempts counted: each is pending, or dead where its content is refused, or a duplicate where
    /// its new key is taken. Rows from `removed_from` on are forgotten.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn renew(&mut self, renewed: &[Renewed], removed_from: Option<u64>) -> Result<()> {
        let write = |error| failure("write", error);
        let transaction = self.connection.transaction().map_err(write)?;
        if let Some(first) = removed_from {
            transaction
                .execute("DELETE FROM items WHERE item >= ?1", [first])
                .map_err(write)?;
            transaction
                .execute("DELETE FROM attempts WHERE item >= ?1", [first])
                .map_err(write)?;
            transaction
                .execute(
                    "UPDATE progress SET frontier = min(frontier, ?1), total = NULL",
                    [first],
                )
                .map_err(write)?;
        }
        // Keys may have moved from one item to another: all are given up before any is taken.
        for item in renewed {
            transaction
                .execute("UPDATE items SET key = NULL WHERE item = ?1", [item.index])
                .map_err(write)?;
        }
        for item in renewed {
            renew_one(&transaction, item)?;
        }
        revive_duplicates(&transaction)?;
        recount(&transaction)?;
        transaction.commit().map_err(write)
    }

    /// Makes dead items pending again, with no attempts counted: all, or those listed. Returns how many.
    ///
    /// Items that were refused without an attempt stay dead: only another content can help them.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn retry(&mut self, only: Option<&[u64]>) -> Result<u64> {
        let write = |error| failure("write", error);
        let update = "UPDATE items SET state = 'pending', attempts = 0, crashes = 0, error = NULL, not_before_ms = 0
            WHERE state = 'dead' AND (attempts > 0 OR crashes > 0)";
        let transaction = self.connection.transaction().map_err(write)?;
        let mut changed = 0;
        match only {
            None => changed = transaction.execute(update, ()).map_err(write)?,
            Some(indexes) => {
                for index in indexes {
                    changed += transaction
                        .execute(&format!("{update} AND item = ?1"), [index])
                        .map_err(write)?;
                }
            }
        }
        recount(&transaction)?;
        transaction.commit().map_err(write)?;
        Ok(changed as u64)
    }

    /// The lowest index whose item is open (pending or waiting) and has a row.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn first_open(&self) -> Result<Option<u64>> {
        self.connection
            .query_row(
                "SELECT min(item) FROM items WHERE not_before_ms IS NOT NULL",
                (),
                |row| row.get(0),
            )
            .map_err(|error| failure("read", error))
    }

    /// The last run, if it neither ended nor recorded why: its process was killed, or the machine went down.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn crashed_run(&self) -> Result<Option<u32>> {
        self.connection
            .query_row(
                "SELECT max(run) FROM runs WHERE outcome IS NULL",
                (),
                |row| row.get(0),
            )
            .map_err(|error| failure("read", error))
    }

    /// Records what a person says of an effect that is in doubt, as of the last run.
    ///
    /// # Durability
    ///
    /// When this returns, it survives a power cut.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn write_effect(&mut self, change: &StepChange) -> Result<()> {
        let last = self
            .connection
            .query_row("SELECT coalesce(max(run), 0) FROM runs", (), |row| {
                row.get(0)
            })
            .map_err(|error| failure("read", error))?;
        step_rows::commit(&self.connection, last, std::slice::from_ref(change))
    }

    /// What is recorded of an effect.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn effect(&self, key: &str) -> Result<Option<EffectRow>> {
        step_rows::effect(&self.connection, key)
    }

    /// Whether a commit returns only when it survives a power cut, which is how it is opened. Without, it survives a kill at once, and a power cut from the next
    /// commit on that waits.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn wait_for_syncs(&mut self, waits: bool) -> Result<()> {
        let mode = if waits { "FULL" } else { "NORMAL" };
        self.connection
            .pragma_update(None, "synchronous", mode)
            .map_err(|error| failure("set up", error))
    }

    /// Records how a run ended, where its [`Store`](crate::queue::Store) no longer can.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn end_run(
        &mut self,
        run: u32,
        outcome: &str,
        reason: Option<&str>,
        ended_at_ms: i64,
    ) -> Result<()> {
        self.connection
            .execute(
                &format!("UPDATE runs SET ended_at_ms = ?2, outcome = ?3, reason = ?4, done_after = {DONE} WHERE run = ?1"),
                params![run, ended_at_ms, outcome, reason],
            )
            .map_err(|error| failure("write", error))?;
        Ok(())
    }

    /// Begins a run and returns its number: ends a run that a crash left open, and counts the crash for the items in `crashed` that
    /// have an open row. Those then at `max_crashes` are dead.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn begin_run(
        &mut self,
        run: &super::RunRow,
        crashed: &[u64],
        max_crashes: u32,
    ) -> Result<u32> {
        let write = |error| failure("write", error);
        let transaction = self.connection.transaction().map_err(write)?;
        let last: u32 = transaction
            .query_row("SELECT coalesce(max(run), 0) FROM runs", (), |row| {
                row.get(0)
            })
            .map_err(write)?;
        transaction
            .execute(
                "UPDATE runs SET outcome = 'crashed' WHERE outcome IS NULL",
                (),
            )
            .map_err(write)?;
        for index in crashed {
            transaction
                .execute("UPDATE items SET crashes = crashes + 1 WHERE item = ?1 AND not_before_ms IS NOT NULL", [index])
                .map_err(write)?;
            transaction
                .execute(
                    "UPDATE items SET state = 'dead', not_before_ms = NULL,
                        error = 'in progress through ' || crashes || ' crashes of the runner'
                     WHERE item = ?1 AND not_before_ms IS NOT NULL AND crashes >= ?2",
                    params![index, max_crashes],
                )
                .map_err(write)?;
        }
        if !crashed.is_empty() {
            recount(&transaction)?;
        }
        transaction
            .execute(
                &format!("INSERT INTO runs (run, pid, host, version, started_at_ms, done_before) SELECT ?1, ?2, ?3, ?4, ?5, {DONE}"),
                params![last + 1, run.pid, run.host, run.version, run.started_at_ms],
            )
            .map_err(write)?;
        transaction.commit().map_err(write)?;
        Ok(last + 1)
    }
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

/// Gives one item its new content; a key that another item has makes it a duplicate.
fn renew_one(connection: &Connection, item: &Renewed) -> Result<()> {
    let write = |error| failure("write", error);
    let mut renew = connection
        .prepare_cached(
            "UPDATE items SET state = ?2, key = ?3, content = ?4, error = ?5, not_before_ms = ?6, attempts = 0, crashes = 0,
                result = NULL, omitted = 0, exit_code = NULL
             WHERE item = ?1",
        )
        .map_err(write)?;
    let content = text_or_blob(&item.content);
    let renewed = match (&item.refusal, &item.key) {
        (Some(why), _) => renew.execute(params![
            item.index,
            State::Dead.name(),
            None::<&str>,
            content,
            why,
            None::<i64>
        ]),
        (None, key) => renew.execute(params![
            item.index,
            State::Pending.name(),
            key,
            content,
            None::<&str>,
            0
        ]),
    };
    match renewed {
        Err(error) if is_taken(&error) => {
            let why = "its new key is that of another item";
            let row = params![
                item.index,
                State::Duplicate.name(),
                item.key,
                content,
                why,
                None::<i64>
            ];
            renew.execute(row).map_err(write)?;
        }
        done => {
            done.map_err(write)?;
        }
    }
    Ok(())
}

/// Makes items pending whose key is no longer that of another item.
fn revive_duplicates(connection: &Connection) -> Result<()> {
    let write = |error| failure("write", error);
    let duplicates: Vec<u64> = connection
        .prepare("SELECT item FROM items WHERE state = 'duplicate' ORDER BY item")
        .and_then(|mut statement| statement.query_map((), |row| row.get(0))?.collect())
        .map_err(write)?;
    let mut revive = connection
        .prepare(
            "UPDATE items SET state = 'pending', not_before_ms = 0, error = NULL WHERE item = ?1",
        )
        .map_err(write)?;
    for item in duplicates {
        match revive.execute([item]) {
            Err(error) if is_taken(&error) => {}
            done => {
                done.map_err(write)?;
            }
        }
    }
    Ok(())
}

/// Whether a key could not be given because another item has it.
fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ffi::ErrorCode::ConstraintViolation)
}

/// Sets the counters to what the rows say.
fn recount(connection: &Connection) -> Result<()> {
    connection
        .execute(
            "UPDATE progress SET
                done = (SELECT count(*) FROM items WHERE state = 'done'),
                dead = (SELECT count(*) FROM items WHERE state = 'dead'),
                waiting = (SELECT count(*) FROM items WHERE state = 'waiting'),
                pending = (SELECT count(*) FROM items WHERE state = 'pending'),
                duplicate = (SELECT count(*) FROM items WHERE state = 'duplicate')",
            (),
        )
        .map_err(|error| failure("write", error))?;
    Ok(())
}

pub(super) fn read_job(connection: &Connection) -> Result<JobRow> {
    connection
        .query_row(
            "SELECT uuid, name, created_at_ms, created_by FROM job WHERE id = 1",
            (),
            |row| {
                Ok(JobRow {
                    uuid: row.get(0)?,
                    name: row.get(1)?,
                    created_at_ms: row.get(2)?,
                    created_by: row.get(3)?,
                })
            },
        )
        .map_err(|error| failure("read", error))
}

pub(super) fn read_definition(connection: &Connection) -> Result<Vec<(String, String)>> {
    let read = |error| failure("read", error);
    let mut statement = connection
        .prepare("SELECT name, value FROM definition ORDER BY name")
        .map_err(read)?;
    let rows = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(read)?;
    rows.collect::<rusqlite::Result<_>>().map_err(read)
}

pub(super) fn read_progress(connection: &Connection) -> Result<Progress> {
    connection
        .query_row(
            "SELECT frontier, done, dead, waiting, pending, duplicate, total, cost_micros FROM progress WHERE id = 1",
            (),
            |row| {
                Ok(Progress {
                    frontier: row.get(0)?,
                    counts: Counts {
                        done: row.get(1)?,
                        dead: row.get(2)?,
                        waiting: row.get(3)?,
                        pending: row.get(4)?,
                        duplicate: row.get(5)?,
                    },
                    total: row.get(6)?,
                    cost_micros: row.get(7)?,
                })
            },
        )
        .map_err(|error| failure("read", error))
}

pub(super) fn read_state(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<State> {
    let name = row.get_ref(column)?.as_str()?;
    State::from_name(name).ok_or_else(|| {
        rusqlite::Error::InvalidColumnType(column, name.to_owned(), rusqlite::types::Type::Text)
    })
}

/// The bytes of a text or a blob.
pub(super) fn read_bytes(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(row.get_ref(column)?.as_bytes()?.to_vec())
}
