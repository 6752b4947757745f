//! The thread that carries the stop to all children of one [`Children`](super::Children), and reaps them. It lives as long as there are any.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::entry::{Ended, Entry};
use super::raw;
use crate::bell::Bell;
use crate::clock::{Clock, timespec};
use crate::process::Leader;
use crate::shutdown::Share;

/// The part of the hook's share that is kept for the kill of those that have not ended.
const LAST: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Watcher {
    /// Rung when a phase was reached, and when a child was added.
    pub(super) bell: Arc<Bell>,
    clock: Clock,
    state: Mutex<State>,
    /// A child has ended.
    gone: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    /// The thread runs, and will look at the entries again before it ends.
    is_watched: bool,
}

impl Watcher {
    pub(super) fn new(clock: Clock) -> io::Result<Self> {
        Ok(Self {
            bell: Arc::new(Bell::new()?),
            clock,
            state: Mutex::default(),
            gone: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the thread runs, and looks at `entry` from now on.
    pub(super) fn add(self: &Arc<Self>, entry: Entry) -> io::Result<()> {
        let mut state = self.state();
        if !state.is_watched {
            let seen = Arc::clone(self);
            std::thread::Builder::new()
                .name("safepoint-children".into())
                .spawn(move || seen.watch())?;
            state.is_watched = true;
        }
        state.entries.push(entry);
        drop(state);
        self.bell.ring();
        Ok(())
    }

    fn watch(&self) {
        raw::block_sigpipe();
        loop {
            self.bell.hush();
            let mut state = self.state();
            let ended = state.take_ended();
            let now = self.clock.now();
            for entry in &mut state.entries {
                entry.carry(now);
            }
            if state.entries.is_empty() && ended.is_empty() {
                state.is_watched = false;
                return;
            }
            let leaders: Vec<Arc<Leader>> = state.entries.iter().map(Entry::leader).collect();
            let kills = state.entries.iter().filter_map(Entry::kill_at);
            let next = kills.min().map(|at| at.since(now));
            drop(state);
            if ended.is_empty() {
                self.sleep(&leaders, next);
                continue;
            }
            for (entry, how) in ended {
                entry.outcome.set(how);
                // Here the stop is let go on, so whoever waits for it is woken: not under the lock.
                drop(entry);
            }
            self.gone.notify_all();
        }
    }

    fn sleep(&self, leaders: &[Arc<Leader>], at_most: Option<Duration>) {
        let at_most = at_most.map(timespec);
        let bell = PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN);
        let mut wait = vec![bell];
        let pidfds = leaders.iter().map(|leader| leader.as_fd());
        wait.extend(pidfds.map(|pidfd| PollFd::from_borrowed_fd(pidfd, PollFlags::IN)));
        // An interrupted or failed wait leads to one more look, which is harmless.
        let _ = poll(&mut wait, at_most.as_ref());
    }

    /// Ends every group at once, without waiting.
    pub(super) fn kill_all(&self) {
        for entry in &mut self.state().entries {
            entry.kill();
        }
    }

    /// The last part of the stop: waits for those that have not ended, and kills what is left when the share is over.
    pub(super) fn end(&self, share: &Share) -> Result<(), String> {
        if self.wait_until_gone(|| share.remaining().saturating_sub(LAST)) {
            return Ok(());
        }
        self.kill_all();
        if self.wait_until_gone(|| share.remaining()) {
            return Ok(());
        }
        let state = self.state();
        let names: Vec<String> = state
            .entries
            .iter()
            .map(|entry| format!("`{}`", entry.name))
            .collect();
        Err(format!("{} did not end", names.join(", ")))
    }

    fn wait_until_gone(&self, remaining: impl Fn() -> Duration) -> bool {
        let mut state = self.state();
        while !state.entries.is_empty() {
            let remaining = remaining();
            if remaining.is_zero() {
                return false;
            }
            let waited = self.gone.wait_timeout(state, remaining);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl State {
    fn take_ended(&mut self) -> Vec<(Entry, Ended)> {
        let mut ended = Vec::new();
        let mut index = 0;
        while let Some(entry) = self.entries.get(index) {
            match entry.reap() {
                Some(how) => ended.push((self.entries.swap_remove(index), how)),
                None => index += 1,
            }
        }
        ended
    }
}
