//! `--http` and its friends, as `run` and `supervise` have them: from flags to a server that answers.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueHint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use safepoint::Result;
use safepoint::health::{Address, CHECK_LIMIT, Health, Secret, Server, Subject};
use safepoint::shutdown::ShutdownToken;

use crate::context::Context;
use crate::time::parse_duration;

/// What a process that answers over HTTP is told.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct HttpArgs {
    /// Answer /health, /ready, /status, /metrics, POST /shutdown and a live page here, for example 127.0.0.1:8080, :8080 for the same, or unix:PATH
    #[arg(long, env = "SAFEPOINT_HTTP", value_name = "ADDR", value_parser = parse_address)]
    pub(crate) http: Option<Address>,
    /// POST /shutdown needs the token in this file, which is made if it is not there; without one it is for this machine alone
    #[arg(long, env = "SAFEPOINT_HTTP_TOKEN_FILE", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) http_token_file: Option<PathBuf>,
    /// Another name by which the server may be asked, besides localhost and IP addresses; may be repeated
    #[arg(
        long,
        env = "SAFEPOINT_HTTP_HOST",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) http_host: Vec<String>,
    /// Not ready as long as this program ends with another code than 0, or takes longer than 800 ms
    #[arg(long, env = "SAFEPOINT_READY_COMMAND", value_name = "PROGRAM", value_hint = ValueHint::CommandName)]
    pub(crate) ready_command: Option<PathBuf>,
    /// An argument of that program; may be repeated
    #[arg(
        long,
        value_name = "ARG",
        allow_hyphen_values = true,
        requires = "ready_command"
    )]
    pub(crate) ready_arg: Vec<String>,
    /// After a stop request, go on for so long while /ready says 503, so that load balancers notice; part of the grace period [default: 0s]
    #[arg(long, env = "SAFEPOINT_READY_DELAY", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) ready_delay: Option<Duration>,
}

/// A server that answers, as long as it is kept.
#[derive(Debug)]
pub(crate) struct Answering {
    health: Health,
    _server: Server,
}

impl Answering {
    /// Says whether what is run has started up.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.health.set_ready(ready);
    }
}

/// Starts to answer, if an address was given, for whoever `token` stops; `subject` is what /status and /metrics tell of.
///
/// # Errors
///
/// [`ErrorKind::Io`](safepoint::ErrorKind::Io) when it cannot listen; [`ErrorKind::Invalid`](safepoint::ErrorKind::Invalid) when the token file is refused.
pub(crate) fn start(
    args: &HttpArgs,
    context: &Context,
    token: &ShutdownToken,
    subject: impl FnOnce() -> Result<Arc<dyn Subject>>,
) -> Result<Option<Answering>> {
    let Some(address) = &args.http else {
        return Ok(None);
    };
    let mut builder = Health::builder(token).subject(subject()?);
    for name in &args.http_host {
        builder = builder.host(name);
    }
    if let Some(path) = &args.http_token_file {
        builder = builder.secret(Secret::from_file(path)?);
    }
    if let Some(program) = &args.ready_command {
        let (program, arguments) = (program.clone(), args.ready_arg.clone());
        builder = builder.check("command", move || {
            let mut command = Command::new(&program);
            command.args(&arguments);
            ends_well(command)
        });
    }
    let health = builder.build();
    let server = health.serve(address)?;
    context.say(&format!("safepoint: answering on {}", server.address()));
    if !server.address().is_local() && args.http_token_file.is_none() {
        context.say("  whoever reaches that address can read the status; a stop is for this machine alone (see --http-token-file)");
    }
    Ok(Some(Answering {
        health,
        _server: server,
    }))
}

/// Runs a command in a group of its own, silently and for so long at most. Says whether it ended with code 0.
fn ends_well(mut command: Command) -> std::result::Result<(), String> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if !group.is_some_and(|pid| ends_within(pid, CHECK_LIMIT)) {
        if let Some(group) = group {
            // It may end at this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait();
        return Err("it takes too long".to_owned());
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn ends_within(pid: Pid, limit: Duration) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut polled = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut polled, Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Reads an address, and says what one looks like if it is none.
pub(crate) fn parse_address(text: &str) -> std::result::Result<Address, String> {
    Address::parse(text).map_err(|error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}
