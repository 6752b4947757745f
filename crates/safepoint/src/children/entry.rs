//! A running child, and how far its stop has been carried.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, WaitIdStatus};

use super::child::Outcome;
use super::stop_pipe::StopPipe;
use crate::clock::Moment;
use crate::process::{Leader, Reaping};
use crate::shutdown::{Phase, ShutdownToken, TrackedGuard};

/// What a child gets at which phase.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    /// At Draining; nothing when the descriptor alone tells.
    pub(super) stop_signal: Option<Signal>,
    /// From Terminating to the kill.
    pub(super) kill_after: Duration,
}

/// How a child ended; `None` when the system gave that to somebody else.
pub(super) type Ended = Option<ExitStatus>;

#[derive(Debug)]
pub(super) struct Entry {
    /// Program and process number, for people.
    pub(super) name: String,
    pub(super) token: ShutdownToken,
    pub(super) outcome: Arc<Outcome>,
    leader: Arc<Leader>,
    pipe: Option<StopPipe>,
    steps: Steps,
    told: Phase,
    kill_at: Option<Moment>,
    is_killed: bool,
    /// Dropped with the entry: from then on the stop does not wait for it.
    _guard: TrackedGuard,
}

impl Entry {
    pub(super) fn new(
        name: String,
        token: ShutdownToken,
        guard: TrackedGuard,
        leader: Leader,
        pipe: StopPipe,
        steps: Steps,
    ) -> Self {
        Self {
            name,
            token,
            outcome: Arc::default(),
            leader: Arc::new(leader),
            pipe: Some(pipe),
            steps,
            told: Phase::Running,
            kill_at: None,
            is_killed: false,
            _guard: guard,
        }
    }

    /// Its descriptor is readable once it has ended.
    pub(super) fn leader(&self) -> Arc<Leader> {
        Arc::clone(&self.leader)
    }

    /// When to kill it, if that is still to be done.
    pub(super) fn kill_at(&self) -> Option<Moment> {
        self.kill_at.filter(|_| !self.is_killed)
    }

    /// Carries the stop as far as the token's phase says. Each step is done once, and a step that was passed over is left out.
    pub(super) fn carry(&mut self, now: Moment) {
        let phase = self.token.phase();
        if phase == Phase::Draining && self.told < Phase::Draining {
            if let Some(pipe) = &mut self.pipe {
                pipe.ask();
            }
            if let Some(signal) = self.steps.stop_signal {
                self.leader.signal(signal);
                self.wake_up();
            }
        }
        if phase >= Phase::Terminating && self.told < Phase::Terminating {
            self.pipe = None;
            self.leader.signal(Signal::TERM);
            self.wake_up();
            self.kill_at = Some(now + self.steps.kill_after);
        }
        self.told = phase;
        if phase == Phase::Stopped || self.kill_at().is_some_and(|at| now >= at) {
            self.kill();
        }
    }

    /// Ends the whole group, at once.
    pub(super) fn kill(&mut self) {
        if !self.is_killed {
            self.leader.signal(Signal::KILL);
            self.is_killed = true;
        }
    }

    /// Reaps the leader if it has ended, after ending what it left of its group. `None` while it runs.
    pub(super) fn reap(&self) -> Option<Ended> {
        match self.leader.reap() {
            Reaping::Running => None,
            Reaping::Ended(status) => Some(Some(exit_status(&status))),
            Reaping::Lost => Some(None),
        }
    }

    /// Lets a group that is stopped (SIGSTOP, or SIGTTIN because it read from the terminal) take in the signal before.
    fn wake_up(&self) {
        self.leader.signal(Signal::CONT);
    }
}

/// As wait(2) would have it: the code in the second byte, or the signal in the first, with 0x80 for a core dump.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) if status.dumped() => signal | 0x80,
        (None, Some(signal)) => signal,
        (None, None) => 0,
    };
    ExitStatus::from_raw(raw)
}
