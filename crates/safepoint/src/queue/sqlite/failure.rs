//! From SQLite's errors to ours.

use rusqlite::ffi::ErrorCode;

use super::schema::{JOB_DB, damaged};
use crate::error::{Error, ErrorKind};

/// What a failed call means for the caller; `action` is a verb ("read", "write").
pub(super) fn failure(action: &str, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let message = format!("cannot {action} `{JOB_DB}`");
    match code {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged("SQLite cannot read it").with_source(error),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::new(ErrorKind::Busy, message)
            .with_hint("the process that runs the job keeps the file to itself; ask again when it has ended")
            .with_source(error),
        Some(ErrorCode::DiskFull) => Error::new(ErrorKind::Io, message)
            .with_hint("free some space, then run the same command again: nothing acknowledged is lost")
            .with_source(error),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Error::new(ErrorKind::Io, message)
            .with_hint("check that you may write to the state directory, or choose another with `--state-dir`")
            .with_source(error),
        None if matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..)
        ) =>
        {
            damaged("a value is not of its column's type").with_source(error)
        }
        None if matches!(error, rusqlite::Error::QueryReturnedNoRows) => damaged("a row that must be there is missing"),
        _ if ["no such table", "no such column", "no such index"].iter().any(|what| error.to_string().contains(what)) => {
            damaged("a table is missing").with_source(error)
        }
        _ => Error::new(ErrorKind::Io, message)
            .with_hint("nothing acknowledged is lost; run the same command again when the disk is well")
            .with_source(error),
    }
}
