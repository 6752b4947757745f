//! The supervising thread: one child after the other, and how it all ended.

use std::time::Duration;

use serde_json::json;

use super::child::Nursery;
use super::ladder::Ladder;
use super::limits::Limits;
use super::restarts::{Next, Restarts};
use super::run::NotStarted;
use super::state::State;
use super::verdict::Facts;
use super::{Handle, Notice, Observer, Options, Report};
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::job::ChildView;
use crate::process::{Exit, Forgotten, Suspect};
use crate::shutdown::{Budget, ShutdownToken};

pub(super) struct Supervisor<'a> {
    pub(super) nursery: Nursery<'a>,
    pub(super) options: &'a Options,
    pub(super) handle: Handle,
    pub(super) token: ShutdownToken,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) stop_exit_code: Option<u8>,
    pub(super) state: Option<State>,
    pub(super) number: u32,
    pub(super) began: Moment,
    pub(super) limits: Limits,
    pub(super) ladder: Ladder,
    pub(super) restarts: Restarts,
    pub(super) budget: Option<Budget>,
    pub(super) budget_warned: bool,
    pub(super) view: ChildView,
    /// What is written for others is older than what is known.
    pub(super) is_view_stale: bool,
    pub(super) shown: Option<Moment>,
    pub(super) requests_seen: usize,
    /// When orphans of ours that have ended are looked at again.
    pub(super) look_at_zombies: Option<Moment>,
    pub(super) forgotten: Forgotten,
    /// The tree was killed: a guard that has not ended it by then is given up.
    pub(super) abandon_at: Option<Moment>,
    /// Children that this process had before the run.
    pub(super) not_ours: Vec<Suspect>,
}

/// How the last child ended.
struct Last {
    exit: Option<Exit>,
    was_asked: bool,
    is_done: bool,
    is_crash_loop: bool,
}

/// How one child ended.
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// A stop was asked for before it ended.
    pub(super) was_asked: bool,
    /// It said that all its work is done.
    pub(super) is_done: bool,
    pub(super) lived: Duration,
}

impl Supervisor<'_> {
    pub(super) fn run(mut self) -> std::result::Result<Report, NotStarted> {
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
            self.watch_for_stops();
            self.look_at_requests(None);
            self.reap_forgotten();
            // There is no child to get them.
            self.handle.take_forward();
            let left = until.since(self.now());
            if self.token.is_stopping() || left.is_zero() {
                return;
            }
            let polls = self.state.as_ref().and_then(State::polls);
            self.sleep_for(None, Some(polls.map_or(left, |polls| left.min(polls))));
        }
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

    pub(super) fn event(&mut self, event: &str, fields: serde_json::Value) {
        if let Some(state) = &mut self.state {
            let written = state.event(event, fields);
            self.tell(written);
        }
    }

    /// The child comes first: a disk that is full or gone does not end it.
    pub(super) fn tell(&mut self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.observer.notice(Notice::Warning(error.chain()));
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.token.clock().now()
    }
}
