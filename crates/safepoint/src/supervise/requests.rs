//! What others ask of the run: stops, signals to pass on, Ctrl-Z.

use std::time::Duration;

use rustix::process::Pid;
use serde_json::json;

use super::Notice;
use super::child::Child;
use super::ladder;
use super::supervisor::Supervisor;
use crate::process::{Target, is_stopped, stop_self};
use crate::shutdown::{Mode, Origin, Phase, last_origin};

impl Supervisor<'_> {
    /// Carries out what was asked of the stop since the last look.
    pub(super) fn look_at_requests(&mut self, mut child: Option<&mut Child>) {
        if let Some(state) = &self.state
            && let Some(request) = state.request()
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
    pub(super) fn pass_on(&mut self, child: &Child) {
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
