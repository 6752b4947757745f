//! The supervising thread: one loop over the child, the stop, the limits and those who ask.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Pid;
use serde_json::json;

use super::child::{Child, Nursery, Program};
use super::ladder::{self, Ladder, Send};
use super::limits::{Found, Limits};
use super::output::{Outputs, Pump};
use super::restarts::{Next, Restarts};
use super::said::Said;
use super::state::State;
use super::verdict::Facts;
use super::{Handle, Notice, Observer, Options, Report};
use crate::clock::{Moment, timespec, wall_ms};
use crate::disk::RotatingLog;
use crate::error::{Error, Result};
use crate::job::{ChildView, JobPath};
use crate::process::{
    Exit, Forgotten, News, Suspect, Target, become_subreaper, children, end_descendants,
    is_own_proc, is_stopped, look_for, stop_self,
};
use crate::shutdown::{Budget, Mode, Origin, Phase, ShutdownToken, last_origin};

/// How often what the child says of itself is written for others, at most.
const SHOW: Duration = Duration::from_secs(2);

/// How often somebody on another machine is looked for who wants a stop, where the file system does not tell.
const POLL: Duration = Duration::from_secs(1);

/// A wait that took so much longer than it should was one in which nothing ran.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// How long the tree may take to be gone once it was killed. What is left then waits for a device, or is not ours to kill.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How long a zombie that came to us stays before it is taken to be nobody's.
const FORGOTTEN: Duration = Duration::from_millis(500);

/// How long what the child wrote last may take to be passed on when a stop was forced.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

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

struct Supervisor<'a> {
    nursery: Nursery<'a>,
    options: &'a Options,
    handle: Handle,
    token: ShutdownToken,
    observer: &'a mut dyn Observer,
    stop_exit_code: Option<u8>,
    state: Option<State>,
    number: u32,
    began: Moment,
    limits: Limits,
    ladder: Ladder,
    restarts: Restarts,
    budget: Option<Budget>,
    budget_warned: bool,
    view: ChildView,
    /// What is written for others is older than what is known.
    is_view_stale: bool,
    shown: Option<Moment>,
    requests_seen: usize,
    /// When orphans of ours that have ended are looked at again.
    look_at_zombies: Option<Moment>,
    forgotten: Forgotten,
    /// The tree was killed: a guard that has not ended it by then is given up.
    abandon_at: Option<Moment>,
    /// Children that this process had before the run.
    not_ours: Vec<Suspect>,
}

/// How the last child ended.
struct Last {
    exit: Option<Exit>,
    was_asked: bool,
    is_done: bool,
    is_crash_loop: bool,
}

/// How one child ended.
struct Ended {
    exit: Exit,
    /// A stop was asked for before it ended.
    was_asked: bool,
    /// It said that all its work is done.
    is_done: bool,
    lived: Duration,
}

impl Supervisor<'_> {
    fn run(mut self) -> std::result::Result<Report, NotStarted> {
        let mut last = Last {
            exit: None,
            was_asked: true,
            is_done: false,
            is_crash_loop: false,
        };
        while !self.token.is_stopping() {
            let ended = match self.one_child(last.exit) {
                Ok(ended) => ended,
                Err(refused) => {
                    // A guard that was killed at the start may have started something.
                    self.end_what_came_to_us();
                    self.record_failure(&refused.error);
                    return Err(refused);
                }
            };
            last = Last {
                exit: Some(ended.exit),
                was_asked: ended.was_asked,
                is_done: ended.is_done,
                is_crash_loop: false,
            };
            let is_success = ended.is_done && ended.exit == Exit::Code(0);
            if self.token.is_stopping() || is_success {
                break;
            }
            match self.restarts.after(ended.exit, ended.lived, self.options) {
                Next::End => break,
                Next::CrashLoop { restarts } => {
                    self.name_crash_loop(restarts, ended.exit);
                    last.is_crash_loop = true;
                    break;
                }
                Next::Again(wait) => {
                    self.wait_to_restart(wait);
                    last.was_asked = self.token.is_stopping();
                }
            }
        }
        self.look_at_requests(None);
        Ok(self.end(&last))
    }

    fn name_crash_loop(&mut self, restarts: u32, exit: Exit) {
        self.event(
            "crash_loop",
            json!({"restarts": restarts, "exit": exit.describe()}),
        );
        self.observer.notice(Notice::CrashLoop { restarts, exit });
    }

    /// Starts a child and looks after it until nothing of it is left.
    fn one_child(&mut self, last: Option<Exit>) -> std::result::Result<Ended, NotStarted> {
        // A marker that cannot be removed may be an earlier child's, and says nothing.
        let cleared = self.state.as_ref().map_or(Ok(()), State::clear_done);
        let trusts_marker = cleared.is_ok();
        self.tell(cleared);
        let restart = self.restarts.total;
        let now = self.now();
        let mut child = self
            .nursery
            .start(self.state.as_ref(), restart, last, now)?;
        // The end of the one before gave what was left of it so long; that is not for this one.
        if self.requests_seen == 0 {
            self.ladder = Ladder::default();
        }
        self.child_started(&child, restart, last);
        let mut is_empty = false;
        while !is_empty {
            self.handle.hush();
            self.look_at_requests(Some(&mut child));
            self.pass_on(&child);
            self.look_at_limits(&child);
            let now = self.now();
            while let Some(send) = self.ladder.due(self.options, now) {
                self.send(&child, send);
            }
            self.look_at_guard(&child);
            self.look_at_output();
            self.show(false);
            self.reap_forgotten();
            self.sleep(&child);
            self.listen(&mut child);
            while let Some(news) = child.guard.next() {
                match news {
                    News::Ended(exit) => self.child_ended(&mut child, exit),
                    News::Empty => is_empty = true,
                    News::Lost => {
                        self.guard_lost(&mut child);
                        is_empty = true;
                    }
                }
            }
        }
        self.abandon_at = None;
        // What it said last may lie in the pipe still.
        self.listen(&mut child);
        if let Some(pump) = child.pump.take() {
            self.finish_output(&pump);
        }
        let exit = child.exit.unwrap_or(Exit::Signal(libc::SIGKILL));
        let is_marked = trusts_marker && self.state.as_ref().is_some_and(State::is_done);
        let is_done = child.said_done || is_marked;
        let lived = self.now().since(child.began);
        let fields = match exit {
            Exit::Code(code) => json!({"code": code, "signal": null}),
            Exit::Signal(signal) => json!({"code": null, "signal": signal}),
        };
        let mut event = json!({
            "pid": child.guard.child().as_raw_nonzero().get(),
            "exit": exit.describe(),
            "seconds": lived.as_secs_f64(),
            "finished": is_done,
        });
        merge(&mut event, fields);
        self.event("child_ended", event);
        self.handle.gauge().pid.store(0, Ordering::Relaxed);
        if let Some(state) = &mut self.state {
            let noted = state.child_ended();
            self.tell(noted);
        }
        self.view.pid = 0;
        self.view.last_exit = Some(exit.describe());
        self.is_view_stale = true;
        self.show(true);
        self.observer.notice(Notice::ChildEnded { exit, lived });
        Ok(Ended {
            exit,
            was_asked: child.was_asked,
            is_done,
            lived,
        })
    }

    /// Waits until what the child wrote has been taken, unless a stop is not to wait any more.
    fn finish_output(&mut self, pump: &Pump) {
        while !pump.is_done_within(LAST_OUTPUT) {
            self.look_at_requests(None);
            if self.ladder.is_killed() || self.token.phase() >= Phase::Terminating {
                self.observer.notice(Notice::Warning(
                    "what the command wrote last was not taken in time, and is lost".into(),
                ));
                return;
            }
        }
    }

    fn child_started(&mut self, child: &Child, restart: u32, last: Option<Exit>) {
        let pid = child.guard.child().as_raw_nonzero().get().cast_unsigned();
        let gauge = self.handle.gauge();
        gauge.pid.store(pid, Ordering::Relaxed);
        gauge.restarts.store(restart, Ordering::Relaxed);
        if let Some(state) = &mut self.state {
            let noted = state.child_started(&child.guard, restart + 1);
            self.tell(noted);
        }
        self.event("child_started", json!({"pid": pid, "restart": restart}));
        self.view.pid = pid;
        self.view.started_at_ms = wall_ms();
        self.view.restarts = restart;
        self.view.last_exit = last.map(Exit::describe);
        self.is_view_stale = true;
        self.show(true);
        self.observer.notice(Notice::ChildStarted { pid, restart });
    }

    fn child_ended(&mut self, child: &mut Child, exit: Exit) {
        child.exit = Some(exit);
        child.was_asked = self.token.is_stopping();
        let now = self.now();
        // Quick children leave nothing, and then this reaches nobody.
        let send = self.ladder.ended(self.options, now);
        self.send(child, send);
    }

    /// The guard was killed: the child went with it, and what it left came to us.
    fn guard_lost(&mut self, child: &mut Child) {
        self.observer.notice(Notice::Warning(
            "the guard of the command is gone: what is left is ended without it".into(),
        ));
        if let Some(exit) = child.guard.reap_orphan() {
            child.exit = Some(exit);
            child.was_asked = self.token.is_stopping();
        }
        self.end_what_came_to_us();
    }

    /// Ends what a killed guard left.
    fn end_what_came_to_us(&mut self) {
        if self.options.owns_process
            && let Err(error) = end_descendants(Duration::ZERO, &self.not_ours)
        {
            self.observer.notice(Notice::Warning(error.chain()));
        }
    }

    /// Carries out what was asked of the stop since the last look.
    fn look_at_requests(&mut self, mut child: Option<&mut Child>) {
        if let Some(state) = &self.state
            && let Some(request) = state.control().take()
        {
            self.token.request(request);
        }
        if !self.token.is_stopping() {
            return;
        }
        let requests = self.token.requests();
        for recorded in requests.iter().skip(self.requests_seen) {
            let request = &recorded.request;
            let is_first = self.requests_seen == 0;
            self.requests_seen += 1;
            let now = self.now();
            // First of all the command is told: neither a disk nor a terminal that hangs holds that up.
            if let Some(child) = &mut child {
                let reached = self.options.shares_group && from_terminal(request.signal);
                let send = self.ladder.request(request, reached, self.options, now);
                if let Some(send) = send
                    && child.exit.is_none()
                {
                    self.send(child, send);
                }
            }
            if is_first || request.mode == Mode::Immediate {
                self.observer.notice(Notice::Stopping {
                    request: request.clone(),
                    remaining: self.token.remaining().unwrap_or_default(),
                });
                if let Some(state) = &mut self.state {
                    let written = state.stopping(request);
                    self.tell(written);
                }
            }
        }
        let was_ordered = requests
            .iter()
            .any(|recorded| recorded.request.mode == Mode::Immediate);
        if self.token.phase() >= Phase::Terminating && !was_ordered {
            self.ladder.give_up(self.now());
        }
    }

    /// Passes signals on, and suspends.
    fn pass_on(&mut self, child: &Child) {
        for signal in self.handle.take_forward().iter() {
            let has_it = self.options.shares_group && from_terminal(Some(signal));
            // A pipe of ours that nobody reads is not the child's.
            if has_it || last_origin(signal) == Origin::Own {
                continue;
            }
            let signal = ladder::mapped(signal, self.options);
            if signal != 0 && child.exit.is_none() {
                child.guard.signal(ladder::whole(self.options), signal);
            }
        }
        if self.handle.take_suspend() && std::process::id() != 1 {
            self.suspend(child);
        }
    }

    /// Ctrl-Z: the child first, then we; back in the other order.
    fn suspend(&mut self, child: &Child) {
        self.event("suspended", json!({}));
        let has_it = self.options.shares_group && from_terminal(Some(libc::SIGTSTP));
        if !(has_it && comes_to_a_stop(child.guard.child())) {
            child.guard.signal(Target::Group, libc::SIGSTOP);
            comes_to_a_stop(child.guard.child());
        }
        self.token.clock().pause();
        stop_self();
        let paused = self.token.clock().resume();
        // From a shell's `fg` the child gets it as well; once more does no harm.
        child.guard.signal(Target::Group, libc::SIGCONT);
        self.handle.heard(self.token.clock());
        self.event(
            "continued",
            json!({"suspended_seconds": paused.as_secs_f64()}),
        );
    }

    fn look_at_limits(&mut self, child: &Child) {
        let guard = child.exit.is_none().then(|| child.guard.pid());
        let now = self.now();
        for found in self.limits.look(now, self.options, &self.handle, guard) {
            match found {
                Found::Near(what) => self.warn_of_limit(what),
                Found::Reached(request) => {
                    self.token.request(request);
                    // It is looked at before the next sleep.
                    self.handle.wake();
                }
            }
        }
    }

    fn warn_of_limit(&mut self, what: String) {
        self.event("limit_warning", json!({"limit": what}));
        self.observer.notice(Notice::LimitNear { what });
    }

    /// Takes in what the child says on its control descriptor.
    fn listen(&mut self, child: &mut Child) {
        let mut said = Vec::new();
        child.ear.listen(|line| said.push(Said::parse(line)));
        for said in said {
            self.handle.heard(self.token.clock());
            self.view.heard_at_ms = Some(wall_ms());
            self.is_view_stale = true;
            match said {
                Ok(said) => self.take_in(child, said),
                Err(why) => self.observer.notice(Notice::Warning(format!(
                    "the command said something on its control descriptor that is no object of ours: {why}"
                ))),
            }
        }
    }

    fn take_in(&mut self, child: &mut Child, said: Said) {
        if let Some(progress) = said.progress {
            self.view.progress = Some(progress);
        }
        if let Some(cost) = said.cost {
            self.view.cost_micros = self.view.cost_micros.saturating_add(cost.micros());
            let spent = self
                .budget
                .as_ref()
                .map(|budget| (budget.spend(cost), budget.limit()));
            if let Some((spent, limit)) = spent
                && spent.total.micros() >= limit.micros() - limit.micros() / 5
                && !self.budget_warned
            {
                self.budget_warned = true;
                self.warn_of_limit(format!(
                    "{} of the budget of {limit} are spent",
                    spent.total
                ));
            }
        }
        if let Some(ready) = said.ready {
            self.observer.notice(Notice::Ready(ready));
        }
        child.said_done |= said.done;
        if let Some(checkpoint) = said.checkpoint {
            self.event("checkpoint", json!({"id": checkpoint}));
            self.view.checkpoint = Some(checkpoint);
            self.view.checkpoint_at_ms = Some(wall_ms());
            if let Some(send) = self.ladder.saved(self.options) {
                self.send(child, send);
            }
        }
    }

    /// Writes for others how the child is, if there is news and it was not done just now.
    fn show(&mut self, at_once: bool) {
        let now = self.now();
        let is_due = self.shown.is_none_or(|shown| now >= shown + SHOW);
        let Some(state) = &self.state else { return };
        if self.is_view_stale && (is_due || at_once) {
            self.is_view_stale = false;
            self.shown = Some(now);
            let shown = state.show(&self.view);
            self.tell(shown);
        }
    }

    /// Reaps what came to us as the reaper of orphans and that nobody waits for.
    fn reap_forgotten(&mut self) {
        if !self.options.owns_process {
            return;
        }
        let now = self.now();
        let is_due = self.look_at_zombies.is_some_and(|at| now >= at);
        if self.handle.take_orphans() || is_due {
            let is_left = self.forgotten.look(&[]);
            self.look_at_zombies = is_left.then(|| now + FORGOTTEN);
        }
    }

    fn send(&mut self, child: &Child, send: Send) {
        child.guard.signal(send.to, send.signal);
        if send.signal == libc::SIGKILL {
            self.abandon_at = Some(self.now() + GONE_WITHIN);
            if child.exit.is_none() {
                self.observer.notice(Notice::Killing);
            }
        } else {
            // One that is stopped takes nothing in.
            child.guard.signal(send.to, libc::SIGCONT);
        }
    }

    /// Says what went wrong with the command's output.
    fn look_at_output(&mut self) {
        if let Some(trouble) = self.handle.take_trouble() {
            self.observer.notice(Notice::Warning(trouble));
        }
    }

    /// Gives up a guard that does not end what it was told to.
    fn look_at_guard(&mut self, child: &Child) {
        if self.abandon_at.is_some_and(|at| self.now() >= at) {
            self.abandon_at = None;
            child.guard.abandon();
        }
    }

    fn wait_to_restart(&mut self, wait: Duration) {
        let restart = self.restarts.total;
        self.event(
            "restarting",
            json!({"in_seconds": wait.as_secs_f64(), "restart": restart}),
        );
        self.observer.notice(Notice::Restarting { wait, restart });
        let until = self.now() + wait;
        loop {
            self.handle.hush();
            self.look_at_requests(None);
            self.reap_forgotten();
            // There is no child to get them.
            self.handle.take_forward();
            let left = until.since(self.now());
            if self.token.is_stopping() || left.is_zero() {
                return;
            }
            let polls = self.state.as_ref().is_some_and(State::polls);
            self.sleep_for(None, Some(if polls { left.min(POLL) } else { left }));
        }
    }

    fn sleep(&mut self, child: &Child) {
        let now = self.now();
        let ladder = self.ladder.next().map(|at| at.since(now));
        let limits = self
            .limits
            .next(now, self.options, &self.handle, child.exit.is_none());
        let show = (self.is_view_stale && self.state.is_some()).then(|| {
            self.shown
                .map_or(Duration::ZERO, |shown| (shown + SHOW).since(now))
        });
        let zombies = self.look_at_zombies.map(|at| at.since(now));
        let abandon = self.abandon_at.map(|at| at.since(now));
        let polls = self
            .state
            .as_ref()
            .is_some_and(State::polls)
            .then_some(POLL);
        let timers = [ladder, limits, show, zombies, abandon, polls];
        let limit = timers.into_iter().flatten().min();
        self.sleep_for(Some(child), limit);
        // Everything was stopped from outside, or the machine slept: the command could not speak either.
        if limit.is_some_and(|limit| self.now() > now + limit + OVERSLEPT) {
            self.handle.heard(self.token.clock());
        }
    }

    /// Waits for anything, at most so long.
    fn sleep_for(&self, child: Option<&Child>, limit: Option<Duration>) {
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![self.handle.as_fd()];
        if let Some(state) = &self.state {
            descriptors.push(state.control().as_fd());
        }
        if let Some(child) = child {
            descriptors.push(child.guard.as_fd());
            if child.ear.is_open() {
                descriptors.push(child.ear.as_fd());
            }
        }
        let mut asked: Vec<PollFd<'_>> = descriptors
            .iter()
            .map(|descriptor| PollFd::new(descriptor, PollFlags::IN))
            .collect();
        // An error is an interruption: everything is looked at after either.
        let _ = poll(&mut asked, limit.map(timespec).as_ref());
    }

    fn end(mut self, last: &Last) -> Report {
        let exit = last.exit.unwrap_or(Exit::Code(0));
        let facts = Facts {
            exit,
            was_asked: last.was_asked,
            is_done: last.is_done,
            was_killed: self.ladder.is_killed() && matches!(exit, Exit::Signal(libc::SIGKILL)),
            stop_exit_code: self.stop_exit_code,
        };
        let requests = self.token.requests();
        let report = Report {
            run: self.number,
            exit: last.exit,
            verdict: facts.verdict(),
            is_interrupted: facts.is_interrupted(),
            restarts: self.restarts.total,
            elapsed: self.now().since(self.began),
            checkpoint: self.view.checkpoint.take(),
            requests,
        };
        let outcome = match exit {
            _ if report.is_interrupted => "interrupted",
            Exit::Code(0) => "completed",
            _ => "failed",
        };
        let reason = if report.is_interrupted {
            report
                .requests
                .first()
                .map(|recorded| recorded.request.message.clone())
        } else if last.is_crash_loop {
            Some(format!("a crash loop, last {}", exit.describe()))
        } else {
            (exit != Exit::Code(0)).then(|| exit.describe())
        };
        if let Some(state) = &mut self.state {
            let ended = state.end(&report, outcome, reason.as_deref());
            self.tell(ended);
        }
        report
    }

    /// Records that the run failed for a reason of ours.
    fn record_failure(&mut self, error: &Error) {
        let report = Report {
            run: self.number,
            exit: None,
            verdict: super::Verdict::Code(125),
            is_interrupted: false,
            restarts: self.restarts.total,
            elapsed: self.now().since(self.began),
            requests: self.token.requests(),
            checkpoint: None,
        };
        if let Some(state) = &mut self.state {
            let ended = state.end(&report, "failed", Some(&error.chain()));
            self.tell(ended);
        }
    }

    fn event(&mut self, event: &str, fields: serde_json::Value) {
        if let Some(state) = &mut self.state {
            let written = state.event(event, fields);
            self.tell(written);
        }
    }

    /// The child comes first: a disk that is full or gone does not end it.
    fn tell(&mut self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.observer.notice(Notice::Warning(error.chain()));
        }
    }

    fn now(&self) -> Moment {
        self.token.clock().now()
    }
}

/// Whether a process is stopped within a moment: one that handles SIGTSTP puts the screen in order first, and the kernel does not stop a group whose session has
/// no shell to continue it.
fn comes_to_a_stop(child: Pid) -> bool {
    for _ in 0..20 {
        if is_stopped(child) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Whether the terminal has sent the signal, to the whole group in the foreground. Of SIGHUP it tells the leader of the session only.
fn from_terminal(signal: Option<i32>) -> bool {
    signal.is_some_and(|signal| signal != libc::SIGHUP && last_origin(signal) == Origin::Kernel)
}

fn merge(into: &mut serde_json::Value, fields: serde_json::Value) {
    if let (serde_json::Value::Object(into), serde_json::Value::Object(fields)) = (into, fields) {
        into.extend(fields);
    }
}
