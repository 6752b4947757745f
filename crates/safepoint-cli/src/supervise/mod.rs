//! `safepoint supervise`: options from the command line, one library call, and the exit of the command passed on.

mod args;
mod name;
mod screen;
mod signals;
mod sources;
mod termination;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use safepoint::job::JobPath;
use safepoint::process::SignalSet;
use safepoint::shutdown::{Shutdown, ShutdownToken, Source};
use safepoint::supervise::{
    Handle, Live, Log, Notice, Observer, Options, Outputs, Restart, Supervise, Verdict, supervise,
};
use safepoint::systemd::Systemd;
use safepoint::{Error, ErrorKind, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};

pub(crate) use self::args::SuperviseArgs;
use self::args::{OPTION_VARIABLES, RestartWhen};
use self::screen::Screen;
use crate::context::{self, Context};
use crate::exit::{self, Exit};
use crate::http::{self, Answering};
use crate::settings;

/// Runs `safepoint supervise`.
pub(crate) fn command(context: &Context, args: &SuperviseArgs) -> Result<Exit> {
    run(context, args).or_else(|error| refusal(125, error))
}

fn run(context: &Context, args: &SuperviseArgs) -> Result<Exit> {
    // What was ignored or blocked from the start is so for the command, too; asked before any handler is there.
    let (ignored, blocked) = (SignalSet::ignored(), SignalSet::blocked());
    let name = args.name.clone().unwrap_or_else(|| name::of(&args.command));
    let path = JobPath::new(&context.state_dir, &name)?;
    let options = Options {
        ignored: without_rusts_own(ignored),
        blocked,
        ..options(args)
    };
    let outputs = if options.log.is_some() || options.idle_limit.is_some() {
        Some(outputs()?)
    } else {
        None
    };
    let handle = Handle::new()?;
    let shutdown = listen(args, &handle)?;
    // From the background of a terminal we write all the same; the threads that look after signals were started before.
    SignalSet::default()
        .with(signal_hook::consts::SIGTTOU)
        .block();
    let token = shutdown.token();
    let sources = sources::start(args, &token)?;
    let state = (!args.no_state).then_some(&path);
    let answering = http::start(&args.http, context, &token, || {
        Ok(Arc::new(Live::new(&path, &token, &handle)?))
    })?;
    let mut screen = Telling {
        inner: Screen::new(context, &name),
        answering: answering.as_ref(),
        systemd: systemd(&token)?,
        waits: args.wait_ready,
    };
    let ended = supervise(Supervise {
        path: state,
        name: &name,
        command: &args.command,
        options: &options,
        stop_exit_code: args.stop_exit_code,
        outputs,
        handle,
        token: token.clone(),
        observer: &mut screen,
    });
    token.stopped();
    let screen = screen.inner;
    drop((sources, answering, shutdown));
    let report = match ended {
        Ok(report) => report,
        Err(refused) => {
            termination::write(args, &refused.error.chain());
            return refusal(refused.code, refused.error);
        }
    };
    termination::tell(args, &report);
    if args.requeue && report.is_interrupted {
        screen.say(&sources::requeue());
    }
    if report.is_interrupted {
        screen.say("stopped before it said that it was done; to go on: the same command again");
    }
    Ok(match report.verdict {
        Verdict::Code(code) => Exit::Code(u8::try_from(code).unwrap_or(exit::ERROR)),
        Verdict::Signal(signal) => Exit::Signal(signal),
    })
}

/// Passes notices on, and says whether the command is ready: since it was started, unless it is to say so itself.
struct Telling<'a> {
    inner: Screen,
    answering: Option<&'a Answering>,
    systemd: Systemd,
    waits: bool,
}

impl Telling<'_> {
    fn set_ready(&self, ready: bool) {
        if let Some(answering) = self.answering {
            answering.set_ready(ready);
        }
        if ready {
            // It is not needed for the work; systemd says when it misses it.
            let _ = self.systemd.ready();
        }
    }
}

impl Observer for Telling<'_> {
    fn notice(&mut self, notice: Notice) {
        match &notice {
            Notice::ChildStarted { .. } if !self.waits => self.set_ready(true),
            Notice::ChildEnded { .. } => self.set_ready(false),
            Notice::Ready(ready) => self.set_ready(*ready),
            _ => {}
        }
        self.inner.notice(notice);
    }
}

/// What systemd is told: ready, stopping, alive. Nothing where there is no systemd.
fn systemd(token: &ShutdownToken) -> Result<Systemd> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the command is what reads the environment"
    )]
    Systemd::builder(std::env::var_os)?.attach(token)
}

/// The exit for a run that could not begin: that of the command's own fault, or that of the kind of error.
fn refusal(code: u8, error: Error) -> Result<Exit> {
    // Ours, and nothing that a kind of error has a code for.
    let is_plain = matches!(error.kind(), ErrorKind::Io | ErrorKind::Closed);
    if code == 125 && !is_plain {
        return Err(error);
    }
    context::say_error(&error);
    Ok(Exit::Code(code))
}

/// Every signal that can be listened to: requests to stop, and what is passed on.
fn listen(args: &SuperviseArgs, handle: &Handle) -> Result<Shutdown> {
    let hangs_up = std::io::stdin().is_terminal()
        || std::io::stdout().is_terminal()
        || std::io::stderr().is_terminal();
    let mut builder = Shutdown::builder().grace(settings::grace(args.grace)?.time);
    let mut stops = vec![signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
    if hangs_up {
        // The terminal is gone. Without one, SIGHUP tells services to read their settings again.
        stops.push(signal_hook::consts::SIGHUP);
    } else {
        builder = builder.no_stop_signal(signal_hook::consts::SIGHUP);
    }
    for signal in self::stops(args) {
        builder = builder.stop_signal(signal, Source::System);
        stops.push(signal);
    }
    for signal in signals::forwarded().filter(|signal| !stops.contains(signal)) {
        let forwarding = handle.clone();
        builder = builder.on_signal(signal, move |signal| forwarding.forward(signal));
    }
    // Ctrl-Z, and what a process in the background gets from its terminal: we never stop without the command.
    for signal in [
        signal_hook::consts::SIGTSTP,
        signal_hook::consts::SIGTTIN,
        signal_hook::consts::SIGTTOU,
    ] {
        let suspending = handle.clone();
        builder = builder.on_signal(signal, move |_| suspending.suspend());
    }
    let reaping = handle.clone();
    builder
        .on_signal(signal_hook::consts::SIGCHLD, move |_| reaping.orphans())
        .install()
}

/// Rust's own start ignores SIGPIPE; whether that was inherited cannot be told any more, and rarely is.
fn without_rusts_own(ignored: SignalSet) -> SignalSet {
    let kept = ignored
        .iter()
        .filter(|signal| *signal != signal_hook::consts::SIGPIPE);
    kept.fold(SignalSet::default(), SignalSet::with)
}

fn options(args: &SuperviseArgs) -> Options {
    let defaults = Options::default();
    Options {
        ready_delay: args.http.ready_delay.unwrap_or(defaults.ready_delay),
        stop_signal: args.stop_signal,
        checkpoint_signal: args.checkpoint_signal,
        checkpoint_grace: args.checkpoint_grace.unwrap_or(defaults.checkpoint_grace),
        kill_after: args.kill_after.unwrap_or(defaults.kill_after),
        to_group: args.group,
        map: map(args),
        // Where there is a terminal the command stays in our group: it may read, and the shell's `fg` and `bg` mean it, too.
        shares_group: std::fs::File::open("/dev/tty").is_ok(),
        restart: match args.restart {
            None | Some(RestartWhen::Never) => Restart::Never,
            Some(RestartWhen::OnFailure) => Restart::OnFailure,
            Some(RestartWhen::Always) => Restart::Always,
        },
        max_restarts: args.max_restarts.unwrap_or(defaults.max_restarts),
        restart_delay: args.restart_delay.unwrap_or(defaults.restart_delay),
        healthy_after: args.healthy_after.unwrap_or(defaults.healthy_after),
        time_limit: args.time_limit,
        idle_limit: args.idle_limit,
        memory_limit: args.memory_limit,
        budget: args.budget,
        log: args.log.then(|| Log {
            size: args.log_size.unwrap_or(10 << 20),
            files: args.log_files.unwrap_or(3),
        }),
        owns_process: true,
        environment: environment(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..defaults
    }
}

/// What is sent instead of a signal. One that only we take for a request would be news to the command: it gets SIGTERM for it.
fn map(args: &SuperviseArgs) -> Vec<(i32, i32)> {
    let mut map = args.map_signal.clone();
    let known = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];
    for signal in stops(args).filter(|signal| !known.contains(signal)) {
        if !map.iter().any(|(from, _)| *from == signal) {
            map.push((signal, SIGTERM));
        }
    }
    map
}

/// The signals that were named as stop requests.
fn stops(args: &SuperviseArgs) -> impl Iterator<Item = i32> {
    let slurms = (args.slurm || args.requeue).then_some(SIGUSR1);
    args.stop_on.iter().copied().chain(slurms)
}

/// The environment of the command: ours, without what was an option for us. A supervisor below us has its own.
fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| !OPTION_VARIABLES.iter().any(|option| name == option))
        .collect()
}

fn outputs() -> Result<Outputs> {
    let duplicate = |descriptor: std::os::fd::BorrowedFd<'_>| {
        descriptor.try_clone_to_owned().map_err(|error| {
            Error::new(ErrorKind::Io, "cannot duplicate an output").with_source(error)
        })
    };
    Ok(Outputs {
        stdout: duplicate(std::io::stdout().as_fd())?,
        stderr: duplicate(std::io::stderr().as_fd())?,
    })
}

/// How often sources are asked unless told otherwise.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Where Kubernetes reads why a container ended. Source: its documentation, "Determine the Reason for Pod Failure".
pub(super) const TERMINATION_LOG: &str = "/dev/termination-log";

/// Whether `path` is there to be written to.
pub(super) fn is_there(path: &Path) -> bool {
    std::fs::metadata(path).is_ok()
}
