//! Everything one supervised run is given, and its beginning.

use std::ffi::OsString;
use std::sync::{Arc, Mutex};

use super::child::{Nursery, Program};
use super::ladder::Ladder;
use super::limits::Limits;
use super::output::Outputs;
use super::restarts::Restarts;
use super::state::State;
use super::supervisor::Supervisor;
use super::{Handle, Notice, Observer, Options, Report};
use crate::disk::RotatingLog;
use crate::error::Error;
use crate::job::{ChildView, JobPath};
use crate::process::{Forgotten, become_subreaper, children, is_own_proc, look_for};
use crate::shutdown::ShutdownToken;

/// Everything one supervised run is given.
pub struct Supervise<'a> {
    /// Where the job's state is; nothing to keep none.
    pub path: Option<&'a JobPath>,
    /// What the job is called.
    pub name: &'a str,
    /// The command and its arguments.
    pub command: &'a [OsString],
    /// How it is supervised.
    pub options: &'a Options,
    /// What the code of a graceful stop is to be, instead of 75, 129, 130 and 143.
    pub stop_exit_code: Option<u8>,
    /// Where what the child writes goes, if it is to be seen on the way: needed for a log and for a limit of silence.
    pub outputs: Option<Outputs>,
    /// Through which other threads ask it for things.
    pub handle: Handle,
    /// Through which it is asked to stop.
    pub token: ShutdownToken,
    /// Who is told what happens.
    pub observer: &'a mut dyn Observer,
}

impl std::fmt::Debug for Supervise<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervise")
            .field("name", &self.name)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// A run that could not begin, or that the system did not let go on.
#[derive(Debug)]
pub struct NotStarted {
    /// The exit code for it: 127 for a command that was not found, 126 for one that cannot be executed, 125 for anything else of ours.
    pub code: u8,
    /// Why.
    pub error: Error,
}

impl NotStarted {
    pub(super) fn ours(error: Error) -> Self {
        Self { code: 125, error }
    }
}

impl From<Error> for NotStarted {
    fn from(error: Error) -> Self {
        Self::ours(error)
    }
}

/// Starts a command and looks after it until it has ended for good; then nothing of it is left.
///
/// It blocks the calling thread, which must not be one that other code waits on.
///
/// # Durability
///
/// How the run ended survives a power cut when this returns. That it began survives a kill of this process at once. What the child is at is written for people only.
///
/// # Errors
///
/// See [`NotStarted`]; nothing that was started is left then.
pub fn supervise(run: Supervise<'_>) -> std::result::Result<Report, NotStarted> {
    let options = run.options;
    let program = find(run.command, options)?;
    // A shell that starts something and then executes us has made it our child.
    let not_ours = children();
    if options.owns_process {
        // For what a guard that was killed leaves, and for orphans that come to the first process of a namespace.
        become_subreaper()?;
    }
    let mut state = None;
    if let Some(path) = run.path {
        state = Some(State::begin(
            path,
            run.command,
            &options.version,
            options.kill_after,
        )?);
    }
    let log = match (&options.log, &state) {
        (Some(log), Some(state)) => Some(Arc::new(Mutex::new(RotatingLog::keeping(
            state.log()?,
            log.size,
            log.files,
        )))),
        _ => None,
    };
    let (number, after_crash, ended_strays) = state.as_ref().map_or((0, false, 0), |state| {
        (state.run, state.after_crash, state.ended_strays)
    });
    run.observer.notice(Notice::Started {
        run: number,
        after_crash,
        ended_strays,
    });
    let handle = run.handle.clone();
    run.token.follow(move |_| handle.wake()).for_good();
    if let Some(limit) = options.time_limit {
        run.token.time_limit(limit)?;
    }
    if options.memory_limit.is_some() && !is_own_proc() {
        run.observer.notice(Notice::Warning(
            "the memory limit has no effect: /proc is that of another PID namespace".into(),
        ));
    }
    let now = run.token.clock().now();
    let earlier = state.as_ref().and_then(State::shown).unwrap_or_default();
    let view = ChildView {
        checkpoint: earlier.checkpoint,
        checkpoint_at_ms: earlier.checkpoint_at_ms,
        ..ChildView::default()
    };
    let supervisor = Supervisor {
        nursery: Nursery {
            program,
            options,
            handle: run.handle.clone(),
            clock: run.token.clock().clone(),
            outputs: run.outputs,
            log,
            name: run.name.to_owned(),
        },
        options,
        handle: run.handle,
        budget: options.budget.map(|limit| run.token.budget(limit)),
        token: run.token,
        observer: run.observer,
        stop_exit_code: run.stop_exit_code,
        state,
        number,
        began: now,
        limits: Limits::new(now),
        ladder: Ladder::default(),
        restarts: Restarts::default(),
        view,
        is_view_stale: false,
        shown: None,
        budget_warned: false,
        requests_seen: 0,
        forgotten: Forgotten::default(),
        abandon_at: None,
        not_ours,
        look_at_zombies: None,
    };
    supervisor.run()
}

/// Finds the program of a command.
fn find(command: &[OsString], options: &Options) -> std::result::Result<Program, NotStarted> {
    let Some(name) = command.first() else {
        return Err(Error::invalid("there is no command").into());
    };
    let path = options.environment.iter().find(|(name, _)| name == "PATH");
    let file = look_for(name, path.map(|(_, value)| value.as_os_str()));
    let file = file.map_err(|unfit| {
        if unfit.is_there {
            return NotStarted {
                code: 126,
                error: unfit.error,
            };
        }
        let hint = "check its spelling and PATH; shell built-ins and pipelines need `sh -c '...'`";
        NotStarted {
            code: 127,
            error: unfit.error.with_hint(hint),
        }
    })?;
    Ok(Program::new(file, command)?)
}
