//! The one thread of a process that uses a queue's file.
//!
//! It does all that has arrived in one transaction, and claims in the same one: for those who wait, and for those who will come back for more, because
//! they have just settled a lease. So a consumer that acknowledges and claims again pays for one commit, and many of them share it.
//!
//! What was claimed ahead and is not asked for soon is given back, so that another process gets it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::inbox::{Inbox, Shared, Together, Waiter, again, give_back};
use super::operation::{Answer, Demand, Operation, Round, Settle};
use crate::clock::{Moment, timespec, wall_ms};
use crate::disk::FileWatch;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::sqlite::QueueFile;

/// A claim that was made ahead and not asked for is given back after this time, or after a quarter of a shorter lease.
const KEPT_READY: Duration = Duration::from_millis(100);

/// While somebody waits for an item, the file is looked at this often, even if it seems that nobody wrote to it.
const LOOK: Duration = Duration::from_secs(1);

/// The same where other processes' writes are not noticed.
const LOOK_UNTOLD: Duration = Duration::from_millis(20);

/// Looks because of other processes' writes are at least so far apart.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Below this a commit is fast: to wait long for others who could share it would cost more than it saves.
const FAST_COMMIT: Duration = Duration::from_micros(300);

/// The longest time that a commit waits for others to share it.
const LONGEST_WINDOW: Duration = Duration::from_millis(1);

/// The thread's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    file: QueueFile,
    read_ahead: usize,
    noticed: Noticed,
    /// When to look again for those who wait, if nobody says anything.
    look_at: Option<Moment>,
    last_look: Moment,
    window: Window,
}

/// Other processes' writes.
enum Noticed {
    /// Nobody has had to wait yet.
    NotAsked,
    By(FileWatch),
    /// There are none, or they cannot be noticed.
    Never,
}

/// When the next commit is worth its sync: when those who were answered by the last one are back, or will not be for a while.
#[derive(Default)]
struct Window {
    callers: usize,
    ends: Moment,
    /// How long commits take, as a moving average.
    commit: Duration,
}

/// What is to be done now.
struct Work {
    together: Together,
    demand: Demand,
    look: u64,
    closing: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, file: QueueFile, read_ahead: usize) -> Self {
        let noticed = if file.is_shared() {
            Noticed::NotAsked
        } else {
            Noticed::Never
        };
        Self {
            shared,
            file,
            read_ahead,
            noticed,
            look_at: None,
            last_look: Moment::default(),
            window: Window::default(),
        }
    }

    /// Works until the queue is closed, and closes the file.
    pub(super) fn work(mut self) -> Result<()> {
        loop {
            let work = self.gather();
            let closing = work.closing;
            self.perform(work)?;
            if closing {
                return self.file.close();
            }
        }
    }

    /// Waits until there is something to do, and takes it.
    fn gather(&mut self) -> Work {
        self.wait_for_more();
        loop {
            let now = self.shared.clock.now();
            let shared = Arc::clone(&self.shared);
            let mut inbox = shared.lock();
            let next = self.put_aside_unwanted(&mut inbox, now);
            let waits = inbox.wanted > 0;
            let is_due = self.look_at.is_none_or(|at| at <= now);
            if inbox.closing
                || !inbox.arrived.operations.is_empty()
                || !inbox.stale.is_empty()
                || inbox.has_asked
                || (waits && is_due)
            {
                return self.take(&mut inbox);
            }
            inbox.arrivals = 0;
            inbox.sleeps_until = Some(1);
            drop(inbox);
            let look_at = self.look_at.filter(|_| waits);
            self.sleep([next, look_at].into_iter().flatten().min(), waits);
        }
    }

    /// Gives those who were answered together a moment to come back together.
    fn wait_for_more(&mut self) {
        let window = &mut self.window;
        let callers = std::mem::take(&mut window.callers);
        if callers < 2 {
            return;
        }
        let is_fast = window.commit < FAST_COMMIT;
        let mut inbox = self.shared.lock();
        while inbox.arrived.callers < callers && !inbox.closing {
            let left = window.ends.since(self.shared.clock.now());
            if left.is_zero() {
                break;
            }
            if is_fast {
                drop(inbox);
                std::thread::yield_now();
            } else {
                inbox.sleeps_until = Some(callers);
                drop(inbox);
                let mut asked = [PollFd::new(&self.shared.bell, PollFlags::IN)];
                if matches!(poll(&mut asked, Some(&timespec(left))), Ok(1)) {
                    self.shared.bell.hush();
                }
            }
            inbox = self.shared.lock();
        }
        inbox.sleeps_until = None;
    }

    /// Marks what was claimed ahead and will not be given out, and says when to look for more of it.
    fn put_aside_unwanted(&self, inbox: &mut Inbox, now: Moment) -> Option<Moment> {
        let kept = KEPT_READY.min(self.shared.lease / 4);
        let gives_all = inbox.refuses_claims || inbox.closing;
        while let Some(oldest) = inbox.ready.front() {
            let until = oldest.since + kept;
            if !gives_all && until > now {
                return Some(until);
            }
            let fence = oldest.claimed.fence;
            inbox.ready.pop_front();
            inbox.stale.push(fence);
        }
        None
    }

    fn take(&self, inbox: &mut Inbox) -> Work {
        let mut together = std::mem::take(&mut inbox.arrived);
        for fence in inbox.stale.drain(..) {
            together.add(give_back(fence), Waiter::Nobody);
        }
        let closing = inbox.closing;
        let demand = if closing || inbox.refuses_claims {
            Demand::default()
        } else {
            let ready = inbox.ready.len();
            let wanted_soon = together.settling().saturating_sub(ready);
            Demand {
                waiting: inbox.wanted,
                ahead: wanted_soon.min(self.read_ahead.saturating_sub(ready)),
            }
        };
        inbox.arrivals = 0;
        inbox.looks_begun += 1;
        inbox.has_asked = false;
        Work {
            together,
            demand,
            look: inbox.looks_begun,
            closing,
        }
    }

    /// Sleeps until somebody rings, another process writes, or it is time.
    fn sleep(&mut self, until: Option<Moment>, waits: bool) {
        let now = self.shared.clock.now();
        if waits && matches!(self.noticed, Noticed::NotAsked) {
            self.noticed = FileWatch::of(&self.file.log_path()).map_or(Noticed::Never, Noticed::By);
            // What was written before this moment is not noticed by it.
            self.look_at = Some(now);
            return;
        }
        let may_look_at = self.last_look + BETWEEN_LOOKS;
        let watch = match &self.noticed {
            Noticed::By(watch) if waits && until.is_none_or(|until| until > may_look_at) => {
                Some(watch)
            }
            _ => None,
        };
        let timeout = until.map(|until| timespec(until.since(now)));
        let bell = PollFd::new(&self.shared.bell, PollFlags::IN);
        let (rung, written) = if let Some(watch) = watch {
            let mut asked = [bell, PollFd::new(watch, PollFlags::IN)];
            // An interruption is nothing: it looks around and sleeps again.
            let _ = poll(&mut asked, timeout.as_ref());
            (
                !asked[0].revents().is_empty(),
                !asked[1].revents().is_empty(),
            )
        } else {
            let mut asked = [bell];
            let _ = poll(&mut asked, timeout.as_ref());
            (!asked[0].revents().is_empty(), false)
        };
        if rung {
            self.shared.bell.hush();
        }
        if written {
            if let Some(watch) = watch {
                watch.forget();
            }
            self.look_at = Some(may_look_at);
        }
    }

    fn perform(&mut self, work: Work) -> Result<()> {
        let Work {
            mut together,
            demand,
            look,
            ..
        } = work;
        if together.operations.is_empty() {
            let next = match demand.waiting {
                0 => None,
                _ => self
                    .file
                    .next_due_ms()
                    .inspect_err(|error| self.fail(error))?,
            };
            if next.is_none_or(|due| due > wall_ms()) {
                self.plan_look(next);
                self.shared.give_out(Vec::new(), look, true);
                return Ok(());
            }
        }
        let began = self.shared.clock.now();
        let operations = std::mem::take(&mut together.operations);
        match self.file.transact(operations, demand) {
            Ok(round) => {
                self.plan_look(round.next_due_ms);
                self.answer(&together, round, look, began);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Busy => {
                self.look_at = Some(began + LOOK_UNTOLD);
                self.keep_refusals(&together, |_| Some(again(&error)));
                self.shared.give_out(Vec::new(), look, true);
                together.group.answer(Err(error));
                Ok(())
            }
            Err(error) => {
                // Marked before anybody is answered, so that who is told of the failure finds the queue closed.
                self.fail(&error);
                together.group.answer(Err(again(&error)));
                Err(error)
            }
        }
    }

    /// Closes the queue for good; those who came meanwhile are told.
    fn fail(&self, error: &Error) {
        drop(self.shared.fail(&error.chain()));
    }

    /// Says when to look again, if there is nothing before.
    fn plan_look(&mut self, next_due_ms: Option<i64>) {
        let now = self.shared.clock.now();
        let longest = match self.noticed {
            Noticed::Never if self.file.is_shared() => LOOK_UNTOLD,
            _ => LOOK,
        };
        let wait = next_due_ms.map_or(longest, |due| {
            let left = u64::try_from(due.saturating_sub(wall_ms())).unwrap_or(0);
            // A millisecond more, as due times are cut to whole ones.
            Duration::from_millis(left.saturating_add(1)).min(longest)
        });
        self.last_look = now;
        self.look_at = Some(now + wait);
    }

    fn answer(&mut self, together: &Together, round: Round, look: u64, began: Moment) {
        let Round {
            answers,
            claimed,
            is_exhausted,
            commit,
            ..
        } = round;
        let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
        self.keep_refusals(together, |place| match answers.get_mut(place)?.take()? {
            Answer::Refused(error) => Some(error),
            _ => None,
        });
        // First what was claimed, so that those who are answered find it when they come back.
        self.shared.give_out(claimed, look, is_exhausted);
        together.group.answer(Ok(Mutex::new(answers)));
        let now = self.shared.clock.now();
        let average = (self.window.commit * 7 + commit) / 8;
        let length = if average < FAST_COMMIT {
            now.since(began) / 4
        } else {
            (average / 2).min(LONGEST_WINDOW)
        };
        self.window = Window {
            callers: together.callers,
            ends: now + length,
            commit: average,
        };
    }

    /// Keeps what was refused of operations that nobody waited for, until somebody asks.
    fn keep_refusals(&self, together: &Together, mut refusal: impl FnMut(usize) -> Option<Error>) {
        if !together.waiters.contains(&Waiter::Later) {
            return;
        }
        let waiters = together.waiters.iter().enumerate();
        let later = waiters.filter(|(_, waiter)| **waiter == Waiter::Later);
        let refused: Vec<_> = later.filter_map(|(place, _)| refusal(place)).collect();
        self.shared.lock().refused.extend(refused);
    }
}

impl Together {
    /// How many leases it ends, of callers who are likely to come back for another.
    fn settling(&self) -> usize {
        let each = self.operations.iter().zip(&self.waiters);
        each.filter(|(operation, waiter)| {
            let Operation::Settle(settlement) = operation else {
                return false;
            };
            **waiter != Waiter::Nobody && !matches!(settlement.how, Settle::Extend { .. })
        })
        .count()
    }
}
