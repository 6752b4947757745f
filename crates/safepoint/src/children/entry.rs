//! A running child, and how far its stop has been carried.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpgid, kill_process_group,
    pidfd_send_signal, waitid,
};

use super::child::Outcome;
use super::stop_pipe::StopPipe;
use crate::clock::Moment;
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
    pid: Pid,
    pidfd: Arc<OwnedFd>,
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
        (pid, pidfd): (Pid, OwnedFd),
        pipe: StopPipe,
        steps: Steps,
    ) -> Self {
        Self {
            name,
            token,
            outcome: Arc::default(),
            pid,
            pidfd: Arc::new(pidfd),
            pipe: Some(pipe),
            steps,
            told: Phase::Running,
            kill_at: None,
            is_killed: false,
            _guard: guard,
        }
    }

    /// Readable once the leader has ended.
    pub(super) fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
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
                self.signal(signal);
                self.wake_up();
            }
        }
        if phase >= Phase::Terminating && self.told < Phase::Terminating {
            self.pipe = None;
            self.signal(Signal::TERM);
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
            self.signal(Signal::KILL);
            self.is_killed = true;
        }
    }

    /// Reaps the leader if it has ended, after ending what it left of its group. `None` while it runs.
    pub(super) fn reap(&self) -> Option<Ended> {
        match peek(self.pidfd.as_fd()) {
            Ok(None) => return None,
            Ok(Some(_)) => {}
            // Somebody else has reaped it: the number of the group may be another's by now.
            Err(_) => return Some(None),
        }
        // A group without further members is fine; EPERM means that none of them is ours to signal.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let reaped = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), reaped) {
            Ok(status) => status.map(|status| Some(exit_status(&status))),
            Err(_) => Some(None),
        }
    }

    /// Sends a signal to the leader and its group, each process once: many programs take a second SIGTERM for impatience.
    fn signal(&self, signal: Signal) {
        if peek(self.pidfd.as_fd()).is_err() {
            return;
        }
        // The only errors are that nobody is there any more, or that nobody is ours to signal.
        let _ = kill_process_group(self.pid, signal);
        if getpgid(Some(self.pid)) != Ok(self.pid) {
            // The leader has left its group; it is ours all the same.
            let _ = pidfd_send_signal(&self.pidfd, signal);
        }
    }

    /// Lets a group that is stopped (SIGSTOP, or SIGTTIN because it read from the terminal) take in the signal before.
    fn wake_up(&self) {
        self.signal(Signal::CONT);
    }
}

/// Looks whether the child has ended, and leaves it unreaped. It fails when it is no child of ours, or not any more.
fn peek(pidfd: BorrowedFd<'_>) -> Result<Option<WaitIdStatus>, Errno> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd), look)
}

/// Ends and reaps a child that nobody will watch.
pub(super) fn discard(pid: Pid) {
    // It is unreaped: it was started right before, and only we know its number.
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
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
