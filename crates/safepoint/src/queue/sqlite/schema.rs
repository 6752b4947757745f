//! The tables of `job.db`, and the versions that can be read.

use rusqlite::Connection;

use super::failure::failure;
use crate::error::{Error, ErrorKind, Result};

/// The file's name in a job's state directory.
pub const JOB_DB: &str = "job.db";

/// The version of the format that this program writes (`PRAGMA user_version`).
pub const FORMAT_VERSION: FormatVersion = FormatVersion(1);

/// `PRAGMA application_id`: "SFPT" in ASCII.
const APPLICATION_ID: i32 = 0x5346_5054;

/// A version of the format of `job.db`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormatVersion(pub i32);

impl FormatVersion {
    /// Whether a program that writes version `program` can read this one; newer ones are refused by kind.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] for a newer version, [`ErrorKind::Corrupt`] for one that never existed.
    pub fn check_readable_by(self, program: Self) -> Result<()> {
        if self > program {
            return Err(Error::new(
                ErrorKind::Incompatible,
                format!(
                    "`{JOB_DB}` has format {}, newer than this program's {}",
                    self.0, program.0
                ),
            )
            .with_hint("use the newer safepoint that wrote it"));
        }
        if self.0 < 1 {
            return Err(damaged("it names no format version"));
        }
        Ok(())
    }
}

/// Every table and index. Times end in `_ms` (milliseconds since 1970 UTC) or `_us` (microseconds).
const SCHEMA: &str = "
CREATE TABLE job (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    uuid          TEXT NOT NULL,
    name          TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    created_by    TEXT NOT NULL
) STRICT;
CREATE TABLE definition (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE progress (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    frontier    INTEGER NOT NULL,
    done        INTEGER NOT NULL,
    dead        INTEGER NOT NULL,
    waiting     INTEGER NOT NULL,
    pending     INTEGER NOT NULL,
    duplicate   INTEGER NOT NULL,
    total       INTEGER,
    cost_micros INTEGER NOT NULL
) STRICT;
CREATE TABLE runs (
    run           INTEGER PRIMARY KEY,
    pid           INTEGER NOT NULL,
    host          TEXT NOT NULL,
    version       TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms   INTEGER,
    outcome       TEXT,
    reason        TEXT,
    done_before   INTEGER NOT NULL,
    done_after    INTEGER
) STRICT;
CREATE TABLE sources (
    source   INTEGER PRIMARY KEY,
    path     TEXT NOT NULL,
    device   INTEGER NOT NULL,
    inode    INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    header   TEXT,
    complete INTEGER NOT NULL
) STRICT;
CREATE TABLE chunks (
    first_index INTEGER PRIMARY KEY,
    source      INTEGER NOT NULL,
    line        INTEGER NOT NULL,
    offset      INTEGER NOT NULL,
    items       INTEGER NOT NULL
) STRICT;
CREATE TABLE items (
    item          INTEGER PRIMARY KEY,
    state         TEXT NOT NULL CHECK (state IN ('pending', 'waiting', 'done', 'dead', 'duplicate')),
    key           TEXT,
    attempts      INTEGER NOT NULL,
    crashes       INTEGER NOT NULL,
    run           INTEGER NOT NULL,
    started_at_ms INTEGER,
    duration_us   INTEGER,
    exit_code     INTEGER,
    not_before_ms INTEGER,
    content       ANY NOT NULL,
    result        ANY,
    omitted       INTEGER NOT NULL,
    error         TEXT
) STRICT;
CREATE INDEX items_open ON items (not_before_ms) WHERE not_before_ms IS NOT NULL;
CREATE INDEX items_dead ON items (item) WHERE state = 'dead';
CREATE UNIQUE INDEX items_key ON items (key) WHERE key IS NOT NULL AND state <> 'duplicate';
CREATE TABLE attempts (
    item          INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    run           INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    duration_us   INTEGER NOT NULL,
    exit_code     INTEGER,
    signal        INTEGER,
    error         TEXT NOT NULL,
    stderr        ANY,
    PRIMARY KEY (item, attempt, run)
) STRICT, WITHOUT ROWID;
INSERT INTO progress VALUES (1, 0, 0, 0, 0, 0, 0, NULL, 0);
";

/// Makes the tables in an empty file.
pub(super) fn create(connection: &Connection) -> Result<()> {
    let FormatVersion(version) = FORMAT_VERSION;
    connection
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; BEGIN; {SCHEMA} COMMIT;"
        ))
        .map_err(|error| failure("make", error))
}

/// Checks that the file is a `job.db` of a version that can be read.
pub(super) fn check(connection: &Connection) -> Result<()> {
    let pragma = |name| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(|error| failure("read", error))
    };
    if pragma("application_id")? != APPLICATION_ID {
        return Err(damaged("it is a database, but not one of this program"));
    }
    FormatVersion(pragma("user_version")?).check_readable_by(FORMAT_VERSION)
}

/// The error for a file that does not hold what it must.
pub(super) fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("`{JOB_DB}` is damaged: {why}"))
        .with_hint("`safepoint validate` shows what can be read; put a backup back, or begin anew with `--fresh` (which keeps the old state)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_by_kind() {
        assert!(FormatVersion(1).check_readable_by(FORMAT_VERSION).is_ok());
        let newer = FormatVersion(FORMAT_VERSION.0 + 1).check_readable_by(FORMAT_VERSION);
        assert!(newer.is_err_and(|error| error.kind() == ErrorKind::Incompatible));
        let never = FormatVersion(0).check_readable_by(FORMAT_VERSION);
        assert!(never.is_err_and(|error| error.kind() == ErrorKind::Corrupt));
    }
}
