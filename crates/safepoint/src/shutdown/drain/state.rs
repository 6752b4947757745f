//! What all clones of an intake share, and every move of an item under its lock.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::line::Line;
use super::{Drained, MAX_FAILURES, NotPushed, Refused};
use crate::shutdown::node::Following;
use crate::shutdown::{Phase, ShutdownToken};

pub(super) struct Shared<T> {
    token: ShutdownToken,
    /// Taken back with the intake.
    _following: Following,
    capacity: usize,
    state: Mutex<State<T>>,
    /// Told whenever waiting for the end may be over, for threads; tasks are in the line of finishers.
    over: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    stage: Stage,
    pulled: u64,
    done: u64,
    failed: u64,
    in_progress: usize,
    failures: Vec<String>,
    lines: [Line; 3],
}

/// How far the intake itself has got; it only advances.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    /// Nothing is accepted any more.
    Shut,
    /// What was left in the queue was handed out.
    Closed,
}

/// What a place in line is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Push = 0,
    Take = 1,
    Finish = 2,
}

/// Who takes an item.
#[derive(Clone, Copy)]
pub(super) enum Taker {
    /// Somebody who keeps it.
    Puller,
    /// A worker, who will settle it.
    Worker,
}

/// The locked state, and the wakers that are to be woken or dropped when it is not locked any more.
pub(super) struct Held<'a, T> {
    // The order of these fields is load-bearing: the lock must be released before `later` is dropped.
    state: MutexGuard<'a, State<T>>,
    later: Later,
    shared: &'a Shared<T>,
}

#[derive(Default)]
struct Later {
    wake: Vec<Waker>,
    forget: Vec<Waker>,
}

impl Drop for Later {
    fn drop(&mut self) {
        for waker in self.wake.drain(..) {
            waker.wake();
        }
    }
}

impl<T> Shared<T> {
    pub(super) fn new(token: ShutdownToken, following: Following, capacity: usize) -> Self {
        Self {
            token,
            _following: following,
            capacity,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                stage: Stage::Open,
                pulled: 0,
                done: 0,
                failed: 0,
                in_progress: 0,
                failures: Vec::new(),
                lines: Default::default(),
            }),
            over: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(&self) -> Held<'_, T> {
        Held {
            state: self.lock(),
            later: Later::default(),
            shared: self,
        }
    }

    /// The token's phase has changed: everybody looks again.
    ///
    /// Taking the lock is what makes this enough: who looked before is in line by now, who looks afterwards sees the new phase.
    pub(super) fn stop_changed(&self) {
        self.hold().wake_everybody();
    }

    /// Accepts nothing from now on.
    pub(super) fn shut(&self) {
        let mut held = self.hold();
        held.state.stage = held.state.stage.max(Stage::Shut);
        held.wake_everybody();
    }

    /// Blocks until there is nothing to wait for any more, at most for `limit`.
    pub(super) fn wait_until_over(&self, limit: Duration) {
        let state = self.lock();
        let waited = self
            .over
            .wait_timeout_while(state, limit, |state| !self.is_over(state));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends the intake and hands out what is left.
    pub(super) fn close(&self) -> Drained<T> {
        let mut held = self.hold();
        held.state.stage = Stage::Closed;
        held.wake_everybody();
        let state = &mut *held.state;
        Drained {
            left_over: Vec::from(std::mem::take(&mut state.queue)),
            pulled: state.pulled,
            done: state.done,
            failed: state.failed,
            in_progress: state.in_progress,
            failures: state.failures.clone(),
        }
    }

    /// Whether whoever finishes has nothing to wait for any more. Only asked when nothing is accepted.
    fn is_over(&self, state: &State<T>) -> bool {
        state.stage == Stage::Closed
            || self.token.phase() >= Phase::Terminating
            || state.queue.is_empty() && state.in_progress == 0
    }
}

impl<T> Held<'_, T> {
    pub(super) fn try_push(&mut self, item: T) -> Result<(), NotPushed<T>> {
        if !self.accepts() {
            return Err(NotPushed::Refused(Refused::new(item)));
        }
        if self.state.queue.len() >= self.shared.capacity {
            return Err(NotPushed::Full(item));
        }
        self.state.queue.push_back(item);
        self.wake_first(Purpose::Take);
        Ok(())
    }

    /// The oldest item; `None` if none will come any more; pending if one may come.
    pub(super) fn try_take(&mut self, taker: Taker) -> Poll<Option<T>> {
        if self.state.stage == Stage::Closed || self.shared.token.phase() >= Phase::Terminating {
            return Poll::Ready(None);
        }
        let Some(item) = self.state.queue.pop_front() else {
            return if self.accepts() {
                Poll::Pending
            } else {
                Poll::Ready(None)
            };
        };
        match taker {
            Taker::Puller => self.state.pulled += 1,
            Taker::Worker => self.state.in_progress += 1,
        }
        self.wake_first(Purpose::Push);
        self.tell_finishers();
        Poll::Ready(Some(item))
    }

    /// A worker's item is done, or failed for a reason.
    pub(super) fn settle(&mut self, failure: Option<String>) {
        let state = &mut *self.state;
        state.in_progress -= 1;
        match failure {
            None => state.done += 1,
            Some(failure) => {
                state.failed += 1;
                if state.failures.len() < MAX_FAILURES {
                    state.failures.push(failure);
                }
            }
        }
        self.tell_finishers();
    }

    /// Whether items are taken in; once it is false, it stays so.
    pub(super) fn accepts(&self) -> bool {
        self.state.stage == Stage::Open && !self.shared.token.is_stopping()
    }

    pub(super) fn is_over(&self) -> bool {
        self.shared.is_over(&self.state)
    }

    /// How many items are in the queue and in progress.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.state.queue.len(), self.state.in_progress)
    }

    pub(super) fn line(&mut self, purpose: Purpose) -> &mut Line {
        &mut self.state.lines[purpose as usize]
    }

    pub(super) fn enter(&mut self, purpose: Purpose, ticket: &mut Option<u64>, waker: Waker) {
        let replaced = self.line(purpose).enter(ticket, waker);
        self.later.forget.extend(replaced);
    }

    /// The owner of `ticket` got what it waited for.
    pub(super) fn arrive(&mut self, purpose: Purpose, ticket: u64) {
        let left = self.line(purpose).leave(ticket);
        self.later.forget.extend(left);
    }

    /// The owner of `ticket` waits no more. If it was woken and did not look since, the next in line is woken in its stead.
    pub(super) fn give_up(&mut self, purpose: Purpose, ticket: u64) {
        let left = self.line(purpose).leave(ticket);
        let was_woken = left.is_none();
        self.later.forget.extend(left);
        let is_wanted = match purpose {
            Purpose::Push => self.state.queue.len() < self.shared.capacity,
            Purpose::Take => !self.state.queue.is_empty(),
            // They are woken all together.
            Purpose::Finish => false,
        };
        if was_woken && is_wanted {
            self.wake_first(purpose);
        }
    }

    fn wake_first(&mut self, purpose: Purpose) {
        let first = self.line(purpose).first();
        self.later.wake.extend(first);
    }

    fn wake_everybody(&mut self) {
        for line in &mut self.state.lines {
            self.later.wake.extend(line.all());
        }
        self.shared.over.notify_all();
    }

    fn tell_finishers(&mut self) {
        if self.state.stage != Stage::Open && self.is_over() {
            let line = &mut self.state.lines[Purpose::Finish as usize];
            self.later.wake.extend(line.all());
            self.shared.over.notify_all();
        }
    }
}
