//! `safepoint.toml`: settings for those who do not want to repeat flags. Flags win, then variables, then the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use safepoint::health::Address;
use safepoint::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::args::{OutputOrder, ProgressKind, RunArgs};
use crate::http::parse_address;
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
    #[serde(deserialize_with = "address")]
    http: Option<Address>,
    http_token_file: Option<PathBuf>,
    http_host: Vec<String>,
    ready_command: Option<PathBuf>,
    ready_arg: Vec<String>,
    #[serde(deserialize_with = "duration")]
    ready_delay: Option<Duration>,
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

/// An address to listen on.
fn address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Address>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_address(&text).map(Some).map_err(D::Error::custom)
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
    let run = read(directory)?;
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
    let http = &mut args.http;
    http.http = http.http.take().or(run.http);
    http.http_token_file = http.http_token_file.take().or(run.http_token_file);
    if http.http_host.is_empty() {
        http.http_host = run.http_host;
    }
    if http.ready_command.is_none() {
        http.ready_command = run.ready_command;
        http.ready_arg = run.ready_arg;
    }
    http.ready_delay = http.ready_delay.or(run.ready_delay);
    Ok(())
}

/// The grace period where nothing says otherwise.
const GRACE: Duration = Duration::from_secs(25);

/// The grace period, and where it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grace {
    pub(crate) time: Duration,
    pub(crate) from: &'static str,
}

/// The grace period: what flag, variable or file chose, else `SHUTDOWN_TIMEOUT` in seconds, else 25 s.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] when `SHUTDOWN_TIMEOUT` is no duration.
pub(crate) fn grace(chosen: Option<Duration>) -> Result<Grace> {
    if let Some(time) = chosen {
        return Ok(Grace {
            time,
            from: "--grace",
        });
    }
    match variable("SHUTDOWN_TIMEOUT")? {
        Some(time) => Ok(Grace {
            time,
            from: "SHUTDOWN_TIMEOUT",
        }),
        None => Ok(Grace {
            time: GRACE,
            from: "the default",
        }),
    }
}

/// The grace period that a `safepoint run` in `directory` would have without `--grace`.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] when a variable is no duration or the file is not as it must be.
pub(crate) fn grace_in_force(directory: &Path) -> Result<Grace> {
    if let Some(time) = variable("SAFEPOINT_GRACE")? {
        return Ok(Grace {
            time,
            from: "SAFEPOINT_GRACE",
        });
    }
    if let Some(time) = read(directory)?.grace {
        return Ok(Grace { time, from: FILE });
    }
    grace(None)
}

fn variable(name: &str) -> Result<Option<Duration>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the command is what reads the environment"
    )]
    match std::env::var(name) {
        Ok(text) => parse_duration(&text).map(Some).map_err(|why| {
            Error::invalid(format!("{name} cannot be used")).with_source(std::io::Error::other(why))
        }),
        Err(_) => Ok(None),
    }
}

fn read(directory: &Path) -> Result<RunSettings> {
    let path = directory.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(RunSettings::default());
        }
        Err(error) => {
            return Err(
                Error::new(ErrorKind::Invalid, format!("cannot read `{FILE}`")).with_source(error),
            );
        }
    };
    let file: File = toml::from_str(&text).map_err(|error| {
        Error::invalid(format!("`{FILE}` is not as it must be"))
            .with_source(std::io::Error::other(error.to_string().trim_end().to_owned()))
            .with_hint("settings stand in a table [run] and have the names of the flags, for example `slots = 8`")
    })?;
    Ok(file.run)
}
