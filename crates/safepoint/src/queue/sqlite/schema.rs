//! The tables of `job.db`, and the versions that can be read.

use rusqlite::Connection;

use super::failure::failure;
use crate::error::{Error, ErrorKind, Result};

/// The file's name in a job's state directory.
pub const JOB_DB: &str = "job.db";

/// The version of the format that this program writes (`PRAGMA user_version`).
pub const FORMAT_VERSION: FormatVersion = FormatVersion(2);

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

/// The tables and indexes of version 1. Times end in `_ms` (milliseconds since 1970 UTC) or `_us` (microseconds).
const VERSION_1: &str = "
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

/// What version 2 adds.
const VERSION_2: &str = "
CREATE TABLE steps (
    name          TEXT PRIMARY KEY,
    state         TEXT NOT NULL CHECK (state IN ('running', 'complete', 'failed')),
    memoised      INTEGER NOT NULL,
    run           INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    duration_us   INTEGER,
    result        TEXT,
    error         TEXT
) STRICT;
CREATE TABLE effects (
    key             TEXT PRIMARY KEY,
    state           TEXT NOT NULL CHECK (state IN ('intended', 'complete', 'held', 'released')),
    idempotency_key TEXT NOT NULL,
    run             INTEGER NOT NULL,
    started_at_ms   INTEGER NOT NULL,
    duration_us     INTEGER,
    result          TEXT,
    error           TEXT
) STRICT;
";

/// Makes the tables in an empty file.
pub(super) fn create(connection: &Connection) -> Result<()> {
    let FormatVersion(version) = FORMAT_VERSION;
    connection
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; BEGIN; {VERSION_1} {VERSION_2} COMMIT;"
        ))
        .map_err(|error| failure("make", error))
}

/// Brings a file of an older version up to date, all or nothing.
pub(super) fn upgrade(connection: &Connection, from: FormatVersion) -> Result<()> {
    if from >= FORMAT_VERSION {
        return Ok(());
    }
    let FormatVersion(version) = FORMAT_VERSION;
    // Dropped without a commit, a transaction is rolled back: an error leaves the file as it was.
    let transaction = connection
        .unchecked_transaction()
        .map_err(|error| failure("upgrade", error))?;
    transaction
        .execute_batch(&format!("{VERSION_2} PRAGMA user_version = {version};"))
        .and_then(|()| transaction.commit())
        .map_err(|error| failure("upgrade", error))
}

/// Checks that the file is a `job.db` of a version that can be read, and says of which.
pub(super) fn check(connection: &Connection) -> Result<FormatVersion> {
    let pragma = |name| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(|error| failure("read", error))
    };
    if pragma("application_id")? != APPLICATION_ID {
        return Err(damaged("it is a database, but not one of this program"));
    }
    let version = FormatVersion(pragma("user_version")?);
    version.check_readable_by(FORMAT_VERSION)?;
    Ok(version)
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

    /// The file of a finished job with three done items and a dead one, as safepoint 0.1.0 wrote it in format 1.
    const FORMAT_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/job-db-1.db");

    #[test]
    fn format_1_is_read_as_it_is_and_upgraded_when_it_is_opened_to_write() {
        use crate::queue::{Database, Locking, StepCounts, View};
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(JOB_DB);
        std::fs::copy(FORMAT_1, &path).expect("copied");
        let bytes = std::fs::read(&path).expect("read");
        let look = || {
            let view = View::open(&path).expect("opened");
            let counts = view.progress().expect("read").counts;
            assert_eq!((counts.done, counts.dead), (3, 1));
            assert_eq!(
                view.item("1")
                    .expect("read")
                    .expect("there")
                    .result
                    .as_deref(),
                Some(&b"<two>\n"[..])
            );
            assert_eq!(view.step_counts().expect("read"), StepCounts::default());
            view.for_each_step(|_| unreachable!("there is none"))
                .expect("read");
            view.for_each_effect(|_| unreachable!("there is none"))
                .expect("read");
            assert_eq!(view.validate().expect("asked"), []);
        };
        look();
        assert_eq!(
            std::fs::read(&path).expect("read"),
            bytes,
            "reading changes nothing"
        );
        for _ in 0..2 {
            let database = Database::open(&path, Locking::Shared).expect("opened");
            assert_eq!(
                check(&database.connection).expect("checked"),
                FORMAT_VERSION
            );
            assert_eq!(database.progress().expect("read").counts.done, 3);
            look();
        }
    }

    #[test]
    fn an_upgrade_that_fails_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(JOB_DB);
        std::fs::copy(FORMAT_1, &path).expect("copied");
        let connection = Connection::open(&path).expect("opened");
        // In the way of the second of the two new tables.
        connection
            .execute_batch("CREATE TABLE effects (x)")
            .expect("made");
        assert!(upgrade(&connection, FormatVersion(1)).is_err());
        assert_eq!(check(&connection).expect("checked"), FormatVersion(1));
        assert!(connection.prepare("SELECT * FROM steps").is_err());
    }
}
