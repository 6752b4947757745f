//! What callers and the writer of a queue share: what was asked for, and what was claimed and not yet given out.
//!
//! Lock order: [`Shared::inbox`] is taken alone. The file is never touched, and nobody is answered, with it locked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::operation::{Answer, Claimed, Fence, Operation, Settle};
use crate::bell::Bell;
use crate::clock::{Clock, Moment, wall_ms};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::group::Group;

/// A claim looks at the file once, also when its time is over before; but it waits for no other process's turn longer than this.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The state that callers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    /// Rung for the writer.
    pub(super) bell: Bell,
    pub(super) clock: Clock,
    /// How long leases last.
    pub(super) lease: Duration,
    pub(super) uuid: String,
    /// The process whose thread the writer is.
    pid: u32,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) arrived: Together,
    /// Callers who wait for a lease, in the order in which they came.
    seats: VecDeque<Arc<Seat>>,
    /// How many leases they wait for.
    pub(super) wanted: usize,
    /// Claimed in the file, and not yet given out; the oldest first. Only what nobody waits for.
    pub(super) ready: VecDeque<Ready>,
    /// Claimed too long ago to be given out.
    pub(super) stale: Vec<Fence>,
    /// Somebody has begun to wait for a lease since the last look.
    pub(super) has_asked: bool,
    /// Looks at the file for something to claim, numbered from 1: how many have begun.
    pub(super) looks_begun: u64,
    /// The last look that found less than was wanted.
    exhausted: u64,
    /// Callers who came since the writer last took what had arrived.
    pub(super) arrivals: usize,
    /// The writer sleeps until there are so many arrivals.
    pub(super) sleeps_until: Option<usize>,
    pub(super) refuses_claims: bool,
    pub(super) closing: bool,
    /// Why the queue was closed for good.
    pub(super) failure: Option<String>,
    /// Acknowledgements that nobody waited for, and that were refused.
    pub(super) refused: Vec<Error>,
}

/// A claim that waits for its caller.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) claimed: Claimed,
    pub(super) since: Moment,
}

/// A caller who waits for a lease.
#[derive(Debug)]
struct Seat {
    count: usize,
    /// The first look that counts for it.
    look: u64,
    /// It goes when there is nothing to claim. Relaxed: it is written and read with the inbox locked.
    only_looks: AtomicBool,
    given: Group<Given>,
}

/// What a caller who waits for a lease is given.
#[derive(Debug)]
enum Given {
    /// Leases; none, if there is nothing to claim.
    Leases(Mutex<Vec<Claimed>>),
    Closed(Option<String>),
}

/// Who waits for the answer to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A caller.
    Caller,
    /// Whoever asks for a sync later.
    Later,
    /// Nobody.
    Nobody,
}

/// The answers to a group of operations: each caller takes its own.
pub(super) type Answers = Result<Mutex<Vec<Option<Answer>>>>;

/// What one transaction does, and those who wait for it: whatever becomes of the writer, they are answered.
#[derive(Debug, Default)]
pub(super) struct Together {
    pub(super) operations: Vec<Operation>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) group: Arc<Group<Answers>>,
    /// How many of them wait.
    pub(super) callers: usize,
}

impl Together {
    pub(super) fn add(&mut self, operation: Operation, waiter: Waiter) -> usize {
        self.operations.push(operation);
        self.waiters.push(waiter);
        self.callers += usize::from(waiter == Waiter::Caller);
        self.operations.len() - 1
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        if self.callers > 0 {
            self.group.answer(Err(closed(None)));
        }
    }
}

impl Shared {
    pub(super) fn new(lease: Duration, uuid: String) -> Result<Self> {
        let bell = Bell::new().map_err(|error| {
            Error::new(
                ErrorKind::Io,
                "cannot make a descriptor to wake the writer by",
            )
            .with_source(error)
        })?;
        Ok(Self {
            inbox: Mutex::default(),
            bell,
            clock: Clock::start(),
            lease,
            uuid,
            pid: std::process::id(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a child that was forked, in which there is no writer.
    pub(super) fn is_forked(&self) -> bool {
        self.pid != std::process::id()
    }

    /// The inbox, to ask for something.
    fn open(&self) -> Result<MutexGuard<'_, Inbox>> {
        // Before the lock: a fork may have copied it while it was taken.
        if self.is_forked() {
            return Err(Error::new(
                ErrorKind::Closed,
                format!(
                    "the queue was opened by process {}, and this is a fork of it",
                    self.pid
                ),
            )
            .with_hint("open the queue in each process"));
        }
        let inbox = self.lock();
        if inbox.failure.is_some() || inbox.closing {
            return Err(closed(inbox.failure.as_deref()));
        }
        Ok(inbox)
    }

    /// Lets the writer see what `inbox` holds now.
    fn notify(&self, mut inbox: MutexGuard<'_, Inbox>) {
        inbox.arrivals += 1;
        let wakes = inbox
            .sleeps_until
            .is_some_and(|until| inbox.arrivals >= until);
        if wakes {
            inbox.sleeps_until = None;
        }
        drop(inbox);
        if wakes {
            self.bell.ring();
        }
    }

    /// Has an operation done, and waits until it is durable.
    pub(super) fn perform(&self, operation: Operation) -> Result<Answer> {
        let (group, place) = {
            let mut inbox = self.open()?;
            let place = inbox.arrived.add(operation, Waiter::Caller);
            let group = Arc::clone(&inbox.arrived.group);
            self.notify(inbox);
            (group, place)
        };
        match group.wait() {
            Some(Ok(answers)) => {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                match answers.get_mut(place).and_then(Option::take) {
                    Some(Answer::Refused(error)) => Err(error),
                    Some(answer) => Ok(answer),
                    None => Err(closed(None)),
                }
            }
            Some(Err(error)) => Err(again(error)),
            None => Err(closed(None)),
        }
    }

    /// Has an operation done with the next transaction, which nobody waits for.
    pub(super) fn submit(&self, operation: Operation, waiter: Waiter) -> Result<()> {
        let mut inbox = self.open()?;
        inbox.arrived.add(operation, waiter);
        self.notify(inbox);
        Ok(())
    }

    /// Takes up to `count` leases that were claimed ahead; none if there are none.
    pub(super) fn claim_ready(&self, count: usize) -> Result<Vec<Claimed>> {
        let mut inbox = self.open()?;
        if inbox.refuses_claims {
            return Ok(Vec::new());
        }
        Ok(self.take_ready(&mut inbox, count.max(1)))
    }

    /// Claims up to `count` items; waits so long if there is none, and gives none if there still is none.
    pub(super) fn claim(&self, count: usize, wait: Duration) -> Result<Vec<Claimed>> {
        let mut inbox = self.open()?;
        if inbox.refuses_claims {
            return Ok(Vec::new());
        }
        let count = count.max(1);
        let ready = self.take_ready(&mut inbox, count);
        if !ready.is_empty() {
            return Ok(ready);
        }
        let seat = Arc::new(Seat {
            count,
            look: inbox.looks_begun + 1,
            only_looks: AtomicBool::new(wait.is_zero()),
            given: Group::default(),
        });
        inbox.seats.push_back(Arc::clone(&seat));
        inbox.wanted += count;
        inbox.has_asked = true;
        self.notify(inbox);
        match self.wait_at(&seat, wait) {
            Some(Given::Leases(leases)) => {
                let mut leases = leases.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(std::mem::take(&mut *leases))
            }
            Some(Given::Closed(failure)) => Err(closed(failure.as_deref())),
            None => Ok(Vec::new()),
        }
    }

    /// Waits until something is given, or so long and for one look at least; then the seat is free.
    fn wait_at<'a>(&self, seat: &'a Arc<Seat>, wait: Duration) -> Option<&'a Given> {
        let began = self.clock.now();
        let mut limit = wait;
        loop {
            let left = limit.saturating_sub(self.clock.now().since(began));
            if let Some(given) = seat.given.wait_for(left) {
                return Some(given);
            }
            if self.clock.now().since(began) < limit {
                continue;
            }
            let mut inbox = self.lock();
            let Some(place) = inbox
                .seats
                .iter()
                .position(|other| Arc::ptr_eq(other, seat))
            else {
                drop(inbox);
                // It is being given something at this moment.
                return seat.given.wait();
            };
            if inbox.exhausted < seat.look && limit < FIRST_LOOK {
                seat.only_looks.store(true, Ordering::Relaxed);
                limit = FIRST_LOOK;
                continue;
            }
            inbox.seats.remove(place);
            inbox.wanted -= seat.count;
            return None;
        }
    }

    /// Takes what was claimed ahead, but for leases that are half over.
    fn take_ready(&self, inbox: &mut Inbox, count: usize) -> Vec<Claimed> {
        let mut taken = Vec::new();
        if inbox.ready.is_empty() {
            return taken;
        }
        let half = i64::try_from(self.lease.as_millis() / 2).unwrap_or(i64::MAX);
        let not_before = wall_ms().saturating_add(half);
        while taken.len() < count {
            match inbox.ready.pop_front() {
                None => break,
                Some(ready) if ready.claimed.expires_at_ms < not_before => {
                    inbox.stale.push(ready.claimed.fence);
                }
                Some(ready) => taken.push(ready.claimed),
            }
        }
        taken
    }

    /// Claims nothing any more, and lets all go who wait for a lease.
    pub(super) fn refuse_claims(&self) {
        if self.is_forked() {
            return;
        }
        let seats = {
            let mut inbox = self.lock();
            inbox.refuses_claims = true;
            let seats = inbox.leave();
            self.notify(inbox);
            seats
        };
        for seat in seats {
            seat.given.answer(Given::Leases(Mutex::default()));
        }
    }

    /// Lets the writer do what is left, and end.
    pub(super) fn close(&self) {
        let seats = {
            let mut inbox = self.lock();
            inbox.closing = true;
            let seats = inbox.leave();
            self.notify(inbox);
            seats
        };
        for seat in seats {
            seat.given.answer(Given::Closed(None));
        }
    }

    /// Closes the queue for good, and gives what will not be done.
    pub(super) fn fail(&self, why: &str) -> Together {
        let (left, seats) = {
            let mut inbox = self.lock();
            inbox.failure.get_or_insert_with(|| why.to_owned());
            inbox.ready.clear();
            (std::mem::take(&mut inbox.arrived), inbox.leave())
        };
        for seat in seats {
            seat.given.answer(Given::Closed(Some(why.to_owned())));
        }
        left
    }

    /// Gives out what was claimed: first to those who wait, in their order.
    pub(super) fn give_out(&self, claimed: Vec<Claimed>, look: u64, is_exhausted: bool) {
        let since = self.clock.now();
        let mut given = Vec::new();
        {
            let mut inbox = self.lock();
            let mut claimed = claimed.into_iter();
            while claimed.len() > 0 {
                let Some(seat) = inbox.seats.pop_front() else {
                    break;
                };
                inbox.wanted -= seat.count;
                let leases = claimed.by_ref().take(seat.count).collect();
                given.push((seat, leases));
            }
            inbox
                .ready
                .extend(claimed.map(|claimed| Ready { claimed, since }));
            if is_exhausted {
                inbox.exhausted = look;
                let inbox = &mut *inbox;
                let goes =
                    |seat: &Arc<Seat>| seat.only_looks.load(Ordering::Relaxed) && seat.look <= look;
                for seat in inbox.seats.iter().filter(|seat| goes(seat)) {
                    inbox.wanted -= seat.count;
                    given.push((Arc::clone(seat), Vec::new()));
                }
                inbox.seats.retain(|seat| !goes(seat));
            }
        }
        for (seat, leases) in given {
            seat.given.answer(Given::Leases(Mutex::new(leases)));
        }
    }
}

impl Inbox {
    /// Frees all seats, and gives those who sat there.
    fn leave(&mut self) -> VecDeque<Arc<Seat>> {
        self.wanted = 0;
        std::mem::take(&mut self.seats)
    }
}

/// The operation that gives a claim back without counting it.
pub(super) fn give_back(fence: Fence) -> Operation {
    Operation::Settle(super::operation::Settlement {
        fence,
        how: Settle::Release {
            delay: Duration::ZERO,
        },
    })
}

/// The error of a queue that was closed, and why, if that was no wish.
pub(super) fn closed(failure: Option<&str>) -> Error {
    match failure {
        None => Error::new(ErrorKind::Closed, "the queue was closed"),
        Some(why) => Error::new(
            ErrorKind::Closed,
            format!("the queue was closed by a failure: {why}"),
        )
        .with_hint("open it again when the cause is mended; leases that are not settled expire"),
    }
}

/// The same error once more, for each of those who waited for one commit.
pub(super) fn again(error: &Error) -> Error {
    let again = Error::new(error.kind(), error.chain());
    match error.hint() {
        Some(hint) => again.with_hint(hint),
        None => again,
    }
}
