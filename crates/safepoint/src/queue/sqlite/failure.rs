//! From SQLite's errors to ours.

use rusqlite::ffi::ErrorCode;

use super::schema::{JOB_DB, damaged};
use crate::error::{Error, ErrorKind};

/// What SQLite said. Its own chain says the same once more with a number.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

/// What a failed call means for the caller; `action` is a verb ("read", "write").
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the end of `map_err` chains"
)]
pub(super) fn failure(action: &str, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let cause = Cause(error.to_string());
    let message = format!("cannot {action} `{JOB_DB}`");
    match code {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged("SQLite cannot read it").with_source(cause),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::new(ErrorKind::Busy, message)
            .with_hint("the process that runs the job keeps the file to itself; ask again when it has ended")
            .with_source(cause),
        Some(ErrorCode::DiskFull) => Error::new(ErrorKind::Io, message)
            .with_hint("free some space, then run the same command again: nothing acknowledged is lost")
            .with_source(cause),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Error::new(ErrorKind::Io, message)
            .with_hint("check that you may write to the state directory, or choose another with `--state-dir`")
            .with_source(cause),
        None if matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..)
        ) =>
        {
            damaged("a value is not of its column's type").with_source(cause)
        }
        None if matches!(error, rusqlite::Error::QueryReturnedNoRows) => damaged("a row that must be there is missing"),
        _ if ["no such table", "no such column", "no such index"].iter().any(|what| cause.0.contains(what)) => {
            damaged("a table is missing").with_source(cause)
        }
        _ => Error::new(ErrorKind::Io, message)
            .with_hint("nothing acknowledged is lost; run the same command again when the disk is well")
            .with_source(cause),
    }
}
