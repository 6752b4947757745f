//! From SQLite's errors to ours.

use rusqlite::ffi::ErrorCode;

use super::queue_schema::{self, QUEUE_DB};
use super::schema::{self, JOB_DB};
use crate::error::{Error, ErrorKind};

/// What SQLite said. Its own chain says the same once more with a number.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

/// What the words of an error depend on: which file it is, and what a person can do.
struct Subject {
    file: &'static str,
    damaged: fn(&str) -> Error,
    busy: &'static str,
    full: &'static str,
    denied: &'static str,
    other: &'static str,
}

const JOB: Subject = Subject {
    file: JOB_DB,
    damaged: schema::damaged,
    busy: "the process that runs the job keeps the file to itself; ask again when it has ended",
    full: "free some space, then run the same command again: nothing acknowledged is lost",
    denied: "check that you may write to the state directory, or choose another with `--state-dir`",
    other: "nothing acknowledged is lost; run the same command again when the disk is well",
};

const QUEUE: Subject = Subject {
    file: QUEUE_DB,
    damaged: queue_schema::damaged,
    busy: "another program holds the file, or, on a network file system, another process has the queue; ask again when it has ended",
    full: "free some space, then open the queue again: nothing acknowledged is lost",
    denied: "check that you may write to the queue's directory, or choose another",
    other: "nothing acknowledged is lost; open the queue again when the disk is well",
};

/// What a failed call on a job's file means for the caller; `action` is a verb ("read", "write").
pub(super) fn failure(action: &str, error: rusqlite::Error) -> Error {
    told(&JOB, action, error)
}

/// What a failed call on a queue's file means for the caller.
pub(super) fn queue_failure(action: &str, error: rusqlite::Error) -> Error {
    told(&QUEUE, action, error)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the end of `map_err` chains"
)]
fn told(subject: &Subject, action: &str, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let cause = Cause(error.to_string());
    let message = format!("cannot {action} `{}`", subject.file);
    let damaged = subject.damaged;
    match code {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged("SQLite cannot read it").with_source(cause)
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(ErrorKind::Busy, message)
                .with_hint(subject.busy)
                .with_source(cause)
        }
        Some(ErrorCode::DiskFull) => Error::new(ErrorKind::Io, message)
            .with_hint(subject.full)
            .with_source(cause),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Error::new(ErrorKind::Io, message)
                .with_hint(subject.denied)
                .with_source(cause)
        }
        None if matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        ) =>
        {
            damaged("a value is not of its column's type").with_source(cause)
        }
        None if matches!(error, rusqlite::Error::QueryReturnedNoRows) => {
            damaged("a row that must be there is missing")
        }
        _ if ["no such table", "no such column", "no such index"]
            .iter()
            .any(|what| cause.0.contains(what)) =>
        {
            damaged("a table is missing").with_source(cause)
        }
        _ => Error::new(ErrorKind::Io, message)
            .with_hint(subject.other)
            .with_source(cause),
    }
}
