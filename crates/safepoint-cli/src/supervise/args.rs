//! The command line of `safepoint supervise`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use safepoint::shutdown::Amount;

use super::signals::{parse_map, parse_signal};
use crate::http::HttpArgs;
use crate::time::parse_duration;

/// What `safepoint supervise` is told.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  safepoint supervise -- python3 train.py\n  safepoint supervise --restart on-failure --idle-limit 10m -- ./agent\n  safepoint supervise --checkpoint-signal USR1 --time-limit 4h -- python3 train.py --epochs 300"
)]
pub(crate) struct SuperviseArgs {
    /// The command, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// The job's name [default: that of the script or program]
    #[arg(
        long,
        env = "SAFEPOINT_NAME",
        value_name = "NAME",
        help_heading = "Job"
    )]
    pub(crate) name: Option<String>,
    /// Keep no state: no `safepoint status`, `stop`, `events` or `report`
    #[arg(long, help_heading = "Job")]
    pub(crate) no_state: bool,

    /// What is sent for a stop [default: the signal that came, else TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal, help_heading = "Stopping")]
    pub(crate) stop_signal: Option<i32>,
    /// A signal that makes the command save its state, sent before the stop signal
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal, help_heading = "Stopping")]
    pub(crate) checkpoint_signal: Option<i32>,
    /// How long it may save before the stop signal follows [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Stopping")]
    pub(crate) checkpoint_grace: Option<Duration>,
    /// From a stop request to SIGKILL for the whole tree [default: $`SHUTDOWN_TIMEOUT` seconds, else 25s]
    #[arg(long, env = "SAFEPOINT_GRACE", value_name = "TIME", value_parser = parse_duration, help_heading = "Stopping")]
    pub(crate) grace: Option<Duration>,
    /// From an immediate request, or from the end of the command, to SIGKILL for what is left [default: 2s]
    #[arg(long, env = "SAFEPOINT_KILL_AFTER", value_name = "TIME", value_parser = parse_duration, help_heading = "Stopping")]
    pub(crate) kill_after: Option<Duration>,
    /// Forward signals to the command's whole process group
    #[arg(short, long, help_heading = "Stopping")]
    pub(crate) group: bool,
    /// Send TO where FROM came, `TERM=INT`; nothing with `FROM=`
    #[arg(long, value_name = "FROM=TO", value_parser = parse_map, help_heading = "Stopping")]
    pub(crate) map_signal: Vec<(i32, i32)>,
    /// Take this signal as a stop request too, instead of forwarding it
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal, help_heading = "Stopping")]
    pub(crate) stop_on: Vec<i32>,
    /// The exit code after a graceful stop, instead of 75, 129, 130 and 143
    #[arg(
        long,
        env = "SAFEPOINT_STOP_EXIT_CODE",
        value_name = "CODE",
        help_heading = "Stopping"
    )]
    pub(crate) stop_exit_code: Option<u8>,

    /// When to start the command again after it ended by itself [default: never]
    #[arg(long, value_name = "WHEN", help_heading = "Restarts")]
    pub(crate) restart: Option<RestartWhen>,
    /// Restarts in a row without a healthy time, before it counts as a crash loop [default: 10]
    #[arg(long, value_name = "N", help_heading = "Restarts")]
    pub(crate) max_restarts: Option<u32>,
    /// Wait before the first restart; each further wait is twice as long, up to 1m [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Restarts")]
    pub(crate) restart_delay: Option<Duration>,
    /// Having lived so long, the command was healthy [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Restarts")]
    pub(crate) healthy_after: Option<Duration>,

    /// Stop gracefully after this time
    #[arg(long, env = "SAFEPOINT_TIME_LIMIT", value_name = "TIME", value_parser = parse_duration, help_heading = "Limits")]
    pub(crate) time_limit: Option<Duration>,
    /// Stop when the command neither writes nor says anything for so long
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Limits")]
    pub(crate) idle_limit: Option<Duration>,
    /// Stop when the command and its children have so much memory resident: `800M`, `6G`
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Limits")]
    pub(crate) memory_limit: Option<u64>,
    /// Stop when the command has spent so much, by what it says on its control descriptor
    #[arg(long, value_name = "AMOUNT", help_heading = "Limits")]
    pub(crate) budget: Option<Amount>,

    /// Stop in time before the end of the SLURM job that this runs in
    #[arg(long, help_heading = "Notices")]
    pub(crate) slurm: bool,
    /// Have SLURM run the job again when it was stopped before it was done; implies `--slurm`
    #[arg(long, help_heading = "Notices")]
    pub(crate) requeue: bool,
    /// Stop when the cloud says that it takes this machine back
    #[arg(long, value_name = "CLOUD", help_heading = "Notices")]
    pub(crate) spot: Option<Cloud>,
    /// Where that cloud's metadata is, for a proxy or a test [default: its own address]
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "spot",
        help_heading = "Notices"
    )]
    pub(crate) spot_endpoint: Option<String>,
    /// Stop when this file appears; its first line is the message
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Notices")]
    pub(crate) notice_file: Vec<PathBuf>,
    /// Stop when this command, run again and again by `sh -c`, succeeds; its first line is the message
    #[arg(long, value_name = "COMMAND", help_heading = "Notices")]
    pub(crate) notice_command: Vec<String>,
    /// How often files, commands and clouds are asked [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Notices")]
    pub(crate) notice_interval: Option<Duration>,
    /// Write there why it ended [default: /dev/termination-log, if it exists]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Notices")]
    pub(crate) termination_log: Option<PathBuf>,

    /// Not ready before the command says so on its control descriptor
    #[arg(long, help_heading = "HTTP")]
    pub(crate) wait_ready: bool,
    #[command(flatten)]
    pub(crate) http: HttpArgs,

    /// Keep what the command writes in the job's `logs/output.log`, too
    #[arg(long, conflicts_with = "no_state", help_heading = "Output")]
    pub(crate) log: bool,
    /// The size at which that file is put aside [default: 10M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "log", help_heading = "Output")]
    pub(crate) log_size: Option<u64>,
    /// How many files that were put aside are kept [default: 3]
    #[arg(long, value_name = "N", requires = "log", help_heading = "Output")]
    pub(crate) log_files: Option<usize>,
}

/// The variables that stand for options of `safepoint supervise`, and that its command is not to get.
pub(super) const OPTION_VARIABLES: [&str; 10] = [
    "SAFEPOINT_NAME",
    "SAFEPOINT_GRACE",
    "SAFEPOINT_KILL_AFTER",
    "SAFEPOINT_STOP_EXIT_CODE",
    "SAFEPOINT_TIME_LIMIT",
    "SAFEPOINT_HTTP",
    "SAFEPOINT_HTTP_TOKEN_FILE",
    "SAFEPOINT_HTTP_HOST",
    "SAFEPOINT_READY_COMMAND",
    "SAFEPOINT_READY_DELAY",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestartWhen {
    Never,
    /// When it ended with another code than 0, or by a signal
    OnFailure,
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cloud {
    Aws,
    Gcp,
    Azure,
    /// Whichever of them answers
    Auto,
}

/// Reads `1024`, `800M`, `6GiB`: powers of 1024.
fn parse_size(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is not a size; write for example 800M or 6G");
    let digits = text
        .trim()
        .trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.trim()[digits.len()..].to_ascii_uppercase();
    let shift = match unit.as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(refuse()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| refuse())?;
    number
        .checked_mul(1 << shift)
        .filter(|size| *size > 0)
        .ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_of_an_option_is_known() {
        let command = SuperviseArgs::augment_args(clap::Command::new("supervise"));
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        let mut named: Vec<String> = variables
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        named.sort();
        let mut known = OPTION_VARIABLES.map(str::to_owned).to_vec();
        known.sort();
        assert_eq!(named, known);
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("1024"), Ok(1024));
        assert_eq!(parse_size("800M"), Ok(800 << 20));
        assert_eq!(parse_size("6GiB"), Ok(6 << 30));
        for bad in ["", "G", "-1", "0", "1X", "99999999999T", "1.5G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
