//! One child, from its start until nothing of it is left.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::json;

use super::Notice;
use super::child::Child;
use super::ladder::{Ladder, Send};
use super::output::Pump;
use super::run::NotStarted;
use super::state::State;
use super::supervisor::{Ended, Supervisor};
use crate::clock::{timespec, wall_ms};
use crate::process::{Exit, News, end_descendants};
use crate::shutdown::Phase;

/// How often what the child says of itself is written for others, at most.
const SHOW: Duration = Duration::from_secs(2);

/// When the system is asked to tell of `safepoint stop`.
const WATCH_AFTER: Duration = Duration::from_secs(1);

/// A wait that took so much longer than it should was one in which nothing ran.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// How long the tree may take to be gone once it was killed. What is left then waits for a device, or is not ours to kill.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How long a zombie that came to us stays before it is taken to be nobody's.
const FORGOTTEN: Duration = Duration::from_millis(500);

/// How long what the child wrote last may take to be passed on when a stop was forced.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

impl Supervisor<'_> {
    /// Starts a child and looks after it until nothing of it is left.
    pub(super) fn one_child(
        &mut self,
        last: Option<Exit>,
    ) -> std::result::Result<Ended, NotStarted> {
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
            self.watch_for_stops();
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
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        self.event(
            "child_ended",
            json!({
                "pid": child.guard.child().as_raw_nonzero().get(),
                "exit": exit.describe(),
                "seconds": lived.as_secs_f64(),
                "finished": is_done,
                "code": code,
                "signal": signal,
            }),
        );
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
    pub(super) fn end_what_came_to_us(&mut self) {
        if self.options.owns_process
            && let Err(error) = end_descendants(Duration::ZERO, &self.not_ours)
        {
            self.observer.notice(Notice::Warning(error.chain()));
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
    pub(super) fn reap_forgotten(&mut self) {
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

    pub(super) fn send(&mut self, child: &Child, send: Send) {
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

    /// From when on the system tells of `safepoint stop`.
    pub(super) fn watch_for_stops(&mut self) {
        if self.now() >= self.began + WATCH_AFTER
            && let Some(state) = &mut self.state
        {
            let watches = state.watch();
            self.tell(watches);
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
        let polls = self.state.as_ref().and_then(State::polls);
        let timers = [ladder, limits, show, zombies, abandon, polls];
        let limit = timers.into_iter().flatten().min();
        self.sleep_for(Some(child), limit);
        // Everything was stopped from outside, or the machine slept: the command could not speak either.
        if limit.is_some_and(|limit| self.now() > now + limit + OVERSLEPT) {
            self.handle.heard(self.token.clock());
        }
    }

    /// Waits for anything, at most so long.
    pub(super) fn sleep_for(&self, child: Option<&Child>, limit: Option<Duration>) {
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![self.handle.as_fd()];
        if let Some(state) = &self.state {
            descriptors.extend(state.descriptor());
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
}
