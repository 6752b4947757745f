//! `safepoint.toml`: settings for those who do not want to repeat flags. Flags win, then variables, then the file.

use std::path::Path;
use std::time::Duration;

use safepoint::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::args::{OutputOrder, ProgressKind, RunArgs};
use crate::time::parse_duration;

/// The file's name, in the current directory.
pub(crate) const FILE: &str = "safepoint.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    run: RunSettings,
}

/// The `[run]` table: the flags' names.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct RunSettings {
    slots: Option<usize>,
    pipeline: Option<usize>,
    retries: Option<u32>,
    #[serde(deserialize_with = "duration")]
    retry_delay: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    timeout: Option<Duration>,
    #[serde(deserialize_with = "text_or_number")]
    max_failures: Option<String>,
    crash_limit: Option<u32>,
    #[serde(deserialize_with = "duration")]
    time_limit: Option<Duration>,
    limit: Option<u64>,
    #[serde(deserialize_with = "duration")]
    grace: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    kill_after: Option<Duration>,
    stop_exit_code: Option<u8>,
    output: Option<OutputOrder>,
    progress: Option<ProgressKind>,
}

/// A duration as text, or a number of seconds.
fn duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Duration>, D::Error> {
    let text = match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => text,
        toml::Value::Integer(seconds) => seconds.to_string(),
        toml::Value::Float(seconds) => seconds.to_string(),
        other => {
            return Err(D::Error::custom(format!(
                "a {} is not a duration",
                other.type_str()
            )));
        }
    };
    parse_duration(&text).map(Some).map_err(D::Error::custom)
}

/// A text such as `"5%"`, or a number.
fn text_or_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<String>, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => Ok(Some(text)),
        toml::Value::Integer(number) => Ok(Some(number.to_string())),
        other => Err(D::Error::custom(format!(
            "a {} is neither a number nor a percentage",
            other.type_str()
        ))),
    }
}

/// Fills in what neither flags nor variables have set, from `safepoint.toml` in `directory` if there is one.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] when the file cannot be read or has a setting that does not exist.
pub(crate) fn apply(directory: &Path, args: &mut RunArgs) -> Result<()> {
    let path = directory.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(
                Error::new(ErrorKind::Invalid, format!("cannot read `{FILE}`")).with_source(error),
            );
        }
    };
    let file: File = toml::from_str(&text).map_err(|error| {
        Error::invalid(format!("`{FILE}` is not as it must be"))
            .with_source(error)
            .with_hint("settings stand in a table [run] and have the names of the flags, for example `slots = 8`")
    })?;
    let run = file.run;
    args.slots = args.slots.or(run.slots);
    args.pipeline = args.pipeline.or(run.pipeline);
    args.retries = args.retries.or(run.retries);
    args.retry_delay = args.retry_delay.or(run.retry_delay);
    args.timeout = args.timeout.or(run.timeout);
    if !args.fail_fast {
        args.max_failures = args.max_failures.take().or(run.max_failures);
    }
    args.crash_limit = args.crash_limit.or(run.crash_limit);
    args.time_limit = args.time_limit.or(run.time_limit);
    args.limit = args.limit.or(run.limit);
    args.grace = args.grace.or(run.grace);
    args.kill_after = args.kill_after.or(run.kill_after);
    args.stop_exit_code = args.stop_exit_code.or(run.stop_exit_code);
    args.output = args.output.or(run.output);
    args.progress = args.progress.or(run.progress);
    Ok(())
}
