//! Reading a job from outside: by `status`, `show`, `results` and `validate`, also while it runs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::database::{
    JobRow, Progress, read_bytes, read_definition, read_job, read_progress, read_state,
};
use super::failure::failure;
use super::schema::{self, FormatVersion};
use super::step_rows;
use crate::disk;
use crate::error::{ErrorKind, Result};
use crate::queue::{EffectRow, State, StepCounts, StepRow};

/// One process's stint on a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunRow {
    /// From 1.
    pub run: u32,
    /// Its process.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// The version of the program.
    pub version: String,
    /// In milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// In milliseconds since 1970 UTC; none while it runs, and none if it crashed.
    pub ended_at_ms: Option<i64>,
    /// `completed`, `interrupted`, `failed` or `crashed`; none while it runs.
    pub outcome: Option<String>,
    /// The message of the stop request or error that ended it.
    pub reason: Option<String>,
    /// Items that were done before it.
    pub done_before: u64,
    /// Items that were done after it.
    pub done_after: Option<u64>,
}

/// An item that has a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemRow {
    /// Its index in the input, from 0.
    pub index: u64,
    /// Its key, if that is not the index.
    pub key: Option<String>,
    /// Its state.
    pub state: State,
    /// Attempts that counted.
    pub attempts: u32,
    /// Runners that crashed while it was in progress.
    pub crashes: u32,
    /// The run that wrote it.
    pub run: u32,
    /// When its last attempt began, in milliseconds since 1970 UTC.
    pub started_at_ms: Option<i64>,
    /// How long that took, in microseconds.
    pub duration_us: Option<u64>,
    /// The exit code of that attempt.
    pub exit_code: Option<i32>,
    /// When it may be attempted again, in milliseconds since 1970 UTC.
    pub not_before_ms: Option<i64>,
    /// What the input says of it.
    pub content: Vec<u8>,
    /// Its result.
    pub result: Option<Vec<u8>>,
    /// Bytes of the result that were left out.
    pub omitted: u64,
    /// Why it is dead or waiting.
    pub error: Option<String>,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
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
    /// Why it failed.
    pub error: String,
    /// The end of its standard error.
    pub stderr: Vec<u8>,
}

/// An item whose last attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRow {
    /// Its index in the input, from 0.
    pub index: u64,
    /// Its key, if that is not the index.
    pub key: Option<String>,
    /// Dead, waiting, or pending again.
    pub state: State,
    /// The number of the attempt, from 1; 0 for an item that was refused without one.
    pub attempt: u32,
    /// Why.
    pub error: String,
    /// The end of the attempt's standard error.
    pub stderr: Vec<u8>,
    /// When it failed, in milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// Which items to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViewFilter {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those from this index on.
    pub first: u64,
    /// At most so many.
    pub limit: Option<u64>,
}

/// Something in a file that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(pub String);

/// A reader's view of a job.
#[derive(Debug)]
pub struct View {
    pub(super) connection: Connection,
    version: FormatVersion,
}

/// Whether all that was committed is in the file itself: the last who had it open has closed it.
fn has_no_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    disk::size(Path::new(&log)).is_none_or(|size| size == 0)
}

const ITEM_COLUMNS: &str = "item, key, state, attempts, crashes, run, started_at_ms, duration_us, exit_code, not_before_ms, content, result, omitted, error";

impl View {
    /// Opens the file to read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible),
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) (a job that runs on a network file system) or
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub fn open(path: &Path) -> Result<Self> {
        match Self::open_live(path) {
            Err(error) if error.kind() == ErrorKind::Io && has_no_log(path) => {
                // On a read-only file system that shared memory cannot be made, but nobody can be writing either.
                Self::open_unchanging(path).map_err(|_| error)
            }
            opened => opened,
        }
    }

    fn open_live(path: &Path) -> Result<Self> {
        let open = |error| failure("open", error);
        let base = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        // Reading a write-ahead log needs its shared-memory file, which a reader may have to make: hence read-write first.
        let connection =
            Connection::open_with_flags(path, base | OpenFlags::SQLITE_OPEN_READ_WRITE)
                .or_else(|_| {
                    Connection::open_with_flags(path, base | OpenFlags::SQLITE_OPEN_READ_ONLY)
                })
                .map_err(open)?;
        connection
            .busy_timeout(Duration::from_secs(2))
            .map_err(open)?;
        connection
            .pragma_update(None, "query_only", "ON")
            .map_err(open)?;
        let version = schema::check(&connection)?;
        Ok(Self {
            connection,
            version,
        })
    }

    fn open_unchanging(path: &Path) -> Result<Self> {
        let mut address = b"file:".to_vec();
        for byte in path.as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
                address.push(*byte);
            } else {
                address.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
        }
        address.extend_from_slice(b"?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(OsStr::from_bytes(&address), flags)
            .map_err(|error| failure("open", error))?;
        let version = schema::check(&connection)?;
        Ok(Self {
            connection,
            version,
        })
    }

    /// Who the job is.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), like all that follow.
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

    /// How far it has got.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn progress(&self) -> Result<Progress> {
        read_progress(&self.connection)
    }

    /// Its runs, oldest first.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn runs(&self) -> Result<Vec<RunRow>> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare(
                "SELECT run, pid, host, version, started_at_ms, ended_at_ms, outcome, reason, done_before, done_after FROM runs ORDER BY run",
            )
            .map_err(read)?;
        let rows = statement
            .query_map((), |row| {
                Ok(RunRow {
                    run: row.get(0)?,
                    pid: row.get(1)?,
                    host: row.get(2)?,
                    version: row.get(3)?,
                    started_at_ms: row.get(4)?,
                    ended_at_ms: row.get(5)?,
                    outcome: row.get(6)?,
                    reason: row.get(7)?,
                    done_before: row.get(8)?,
                    done_after: row.get(9)?,
                })
            })
            .map_err(read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read)
    }

    /// One item, by its index or else by its key.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn item(&self, name: &str) -> Result<Option<ItemRow>> {
        let read = |error| failure("read", error);
        let by_key = self
            .connection
            .query_row(
                &format!("SELECT {ITEM_COLUMNS} FROM items WHERE key = ?1 AND key IS NOT NULL AND state <> 'duplicate'"),
                [name],
                item_row,
            )
            .optional()
            .map_err(read)?;
        if by_key.is_some() {
            return Ok(by_key);
        }
        match name.parse() {
            Ok(index) => self.item_at(index),
            Err(_) => Ok(None),
        }
    }

    /// The item with this index.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn item_at(&self, index: u64) -> Result<Option<ItemRow>> {
        self.connection
            .query_row(
                &format!("SELECT {ITEM_COLUMNS} FROM items WHERE item = ?1"),
                [index.cast_signed()],
                item_row,
            )
            .optional()
            .map_err(|error| failure("read", error))
    }

    /// The failed attempts of an item, oldest first.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn attempts(&self, index: u64) -> Result<Vec<AttemptRow>> {
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare(
                "SELECT attempt, run, started_at_ms, duration_us, exit_code, signal, error, stderr FROM attempts WHERE item = ?1 ORDER BY run, attempt",
            )
            .map_err(read)?;
        let rows = statement
            .query_map([index], |row| {
                Ok(AttemptRow {
                    attempt: row.get(0)?,
                    run: row.get(1)?,
                    started_at_ms: row.get(2)?,
                    duration_us: row.get(3)?,
                    exit_code: row.get(4)?,
                    signal: row.get(5)?,
                    error: row.get(6)?,
                    stderr: read_bytes(row, 7)?,
                })
            })
            .map_err(read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read)
    }

    /// Items that died or wait for another attempt, with their last failure, the latest first, at most `limit`: of the dead those furthest in the
    /// input, of the waiting those that wait longest. So the cost is the same however many there are.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn recent_failures(&self, limit: usize) -> Result<Vec<FailureRow>> {
        const COLUMNS: &str = "item, key, state, attempts, error, coalesce(started_at_ms, 0) + coalesce(duration_us, 0) / 1000 AS at_ms";
        let read = |error| failure("read", error);
        let mut statement = self
            .connection
            .prepare(&format!(
                "SELECT * FROM (SELECT {COLUMNS} FROM items INDEXED BY items_dead WHERE state = 'dead' ORDER BY item DESC LIMIT ?1)
                 UNION ALL
                 SELECT * FROM (SELECT {COLUMNS} FROM items INDEXED BY items_open WHERE not_before_ms IS NOT NULL AND error IS NOT NULL
                                ORDER BY not_before_ms DESC LIMIT ?1)
                 ORDER BY at_ms DESC LIMIT ?1"
            ))
            .map_err(read)?;
        let rows = statement
            .query_map([limit], |row| {
                Ok(FailureRow {
                    index: row.get(0)?,
                    key: row.get(1)?,
                    state: read_state(row, 2)?,
                    attempt: row.get(3)?,
                    error: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
                    stderr: Vec::new(),
                    at_ms: row.get(5)?,
                })
            })
            .map_err(read)?;
        let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>().map_err(read)?;
        let mut last = self
            .connection
            .prepare("SELECT coalesce(stderr, x'') FROM attempts WHERE item = ?1 ORDER BY run DESC, attempt DESC LIMIT 1")
            .map_err(read)?;
        for row in &mut rows {
            let stderr = last
                .query_row([row.index], |row| read_bytes(row, 0))
                .optional();
            row.stderr = stderr.map_err(read)?.unwrap_or_default();
        }
        Ok(rows)
    }

    /// Whether the file is of a version that has steps and effects.
    fn has_steps(&self) -> bool {
        self.version >= FormatVersion(2)
    }

    /// How many steps and effects there are.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn step_counts(&self) -> Result<StepCounts> {
        if !self.has_steps() {
            return Ok(StepCounts::default());
        }
        step_rows::counts(&self.connection)
    }

    /// Calls `each` for every step in the order in which they began, one row at a time, until it returns false.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or what `each` returns.
    pub fn for_each_step(&self, each: impl FnMut(StepRow) -> Result<bool>) -> Result<()> {
        if !self.has_steps() {
            return Ok(());
        }
        step_rows::for_each_step(&self.connection, false, each)
    }

    /// As [`for_each_step`](Self::for_each_step), without the results: they are not read, and none is given.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn for_each_step_in_brief(&self, each: impl FnMut(StepRow) -> Result<bool>) -> Result<()> {
        if !self.has_steps() {
            return Ok(());
        }
        step_rows::for_each_step(&self.connection, true, each)
    }

    /// Calls `each` for every effect in the order in which they began, one row at a time, until it returns false.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or what `each` returns.
    pub fn for_each_effect(&self, each: impl FnMut(EffectRow) -> Result<bool>) -> Result<()> {
        if !self.has_steps() {
            return Ok(());
        }
        step_rows::for_each_effect(&self.connection, false, each)
    }

    /// As [`for_each_effect`](Self::for_each_effect), without the results: they are not read, and none is given.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn for_each_effect_in_brief(
        &self,
        each: impl FnMut(EffectRow) -> Result<bool>,
    ) -> Result<()> {
        if !self.has_steps() {
            return Ok(());
        }
        step_rows::for_each_effect(&self.connection, true, each)
    }

    /// Calls `each` for every matching item in input order, one row at a time, until it returns false: memory does not grow with
    /// the job.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or what `each` returns.
    pub fn for_each(
        &self,
        filter: ViewFilter,
        mut each: impl FnMut(ItemRow) -> Result<bool>,
    ) -> Result<()> {
        let read = |error| failure("read", error);
        // Few items are dead or open: without their index the whole job would be read to find them.
        let (index, state) = match filter.state {
            None => ("", String::new()),
            Some(state) => {
                let is_state = format!("state = '{}' AND", state.name());
                match state {
                    State::Dead => ("INDEXED BY items_dead", is_state),
                    State::Pending | State::Waiting => (
                        "INDEXED BY items_open",
                        format!("not_before_ms IS NOT NULL AND {is_state}"),
                    ),
                    State::Done | State::Duplicate => ("", is_state),
                }
            }
        };
        let mut statement = self
            .connection
            .prepare(&format!(
                "SELECT {ITEM_COLUMNS} FROM items {index} WHERE {state} item >= ?1 ORDER BY item LIMIT ?2"
            ))
            .map_err(read)?;
        let limit = filter
            .limit
            .map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let mut rows = statement
            .query(params![filter.first, limit])
            .map_err(read)?;
        while let Some(row) = rows.next().map_err(read)? {
            if !each(item_row(row).map_err(read)?)? {
                break;
            }
        }
        Ok(())
    }

    /// Checks the whole file: SQLite's own check, then what must hold between the tables.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), where the file cannot even be asked.
    pub fn validate(&self) -> Result<Vec<Problem>> {
        let read = |error| failure("read", error);
        // One state of the file for all questions, as its owner may go on writing.
        let _one_state = self.connection.unchecked_transaction().map_err(read)?;
        let mut problems = Vec::new();
        let mut check = self
            .connection
            .prepare("PRAGMA integrity_check(20)")
            .map_err(read)?;
        let lines = check
            .query_map((), |row| row.get::<_, String>(0))
            .map_err(read)?;
        for line in lines {
            // One row may tell several problems, below a line with stars that names the file.
            let row = line.map_err(read)?;
            let told = row
                .lines()
                .filter(|line| *line != "ok" && !line.starts_with("***"));
            problems.extend(told.map(|line| Problem(line.to_owned())));
        }
        if !problems.is_empty() {
            return Ok(problems);
        }
        let ask = |sql: &str| {
            self.connection
                .query_row(sql, (), |row| row.get::<_, i64>(0))
                .map_err(read)
        };
        for state in State::ALL {
            let name = state.name();
            let rows = ask(&format!(
                "SELECT count(*) FROM items WHERE state = '{name}'"
            ))?;
            let counted = ask(&format!("SELECT {name} FROM progress"))?;
            if rows != counted {
                problems.push(Problem(format!(
                    "progress says that {counted} items are {name}, but {rows} are"
                )));
            }
        }
        let frontier = ask("SELECT frontier FROM progress")?;
        let below = ask(&format!(
            "SELECT count(*) FROM items WHERE item < {frontier}"
        ))?;
        if below != frontier {
            problems.push(Problem(format!(
                "{} items below the frontier {frontier} have no row",
                frontier - below
            )));
        }
        let resultless = ask("SELECT count(*) FROM items WHERE state = 'done' AND result IS NULL")?;
        if resultless != 0 {
            problems.push(Problem(format!(
                "{resultless} items are done without a result"
            )));
        }
        let unlisted = ask(
            "SELECT count(*) FROM items WHERE (state IN ('pending', 'waiting')) <> (not_before_ms IS NOT NULL)",
        )?;
        if unlisted != 0 {
            problems.push(Problem(format!(
                "{unlisted} items are due without being open, or open without being due"
            )));
        }
        if self.has_steps() {
            let incomplete = ask(
                "SELECT count(*) FROM steps WHERE (state = 'complete') <> (result IS NOT NULL) OR (state = 'failed') <> (error IS NOT NULL)",
            )?;
            if incomplete != 0 {
                problems.push(Problem(format!(
                    "{incomplete} steps are complete without a result, or failed without an error"
                )));
            }
            let resultless = ask(
                "SELECT count(*) FROM effects WHERE (state = 'complete') <> (result IS NOT NULL)",
            )?;
            if resultless != 0 {
                problems.push(Problem(format!(
                    "{resultless} effects are complete without a result"
                )));
            }
        }
        Ok(problems)
    }
}

/// Rows from index `first` on, in order, at most `limit`.
pub(super) fn item_rows(connection: &Connection, first: u64, limit: usize) -> Result<Vec<ItemRow>> {
    let read = |error| failure("read", error);
    let mut statement = connection
        .prepare_cached(&format!(
            "SELECT {ITEM_COLUMNS} FROM items WHERE item >= ?1 ORDER BY item LIMIT ?2"
        ))
        .map_err(read)?;
    let rows = statement
        .query_map(params![first, limit], item_row)
        .map_err(read)?;
    rows.collect::<rusqlite::Result<_>>().map_err(read)
}

fn item_row(row: &Row<'_>) -> rusqlite::Result<ItemRow> {
    let result = match row.get_ref(11)? {
        rusqlite::types::ValueRef::Null => None,
        value => Some(value.as_bytes()?.to_vec()),
    };
    Ok(ItemRow {
        index: row.get(0)?,
        key: row.get(1)?,
        state: read_state(row, 2)?,
        attempts: row.get(3)?,
        crashes: row.get(4)?,
        run: row.get(5)?,
        started_at_ms: row.get(6)?,
        duration_us: row.get(7)?,
        exit_code: row.get(8)?,
        not_before_ms: row.get(9)?,
        content: read_bytes(row, 10)?,
        result,
        omitted: row.get(12)?,
        error: row.get(13)?,
    })
}
