//! Saves that the caller does not wait for.
//!
//! One save is in flight and at most one waits. The caller pays for one copy of what it only lent, into memory that is used again from
//! save to save: fresh memory costs eight times as much, in page faults.
//!
//! Lock order: the door, the desk. The desk is not held while a state is copied, written or dropped.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::forked::ForkedCopy;
use super::metadata::Details;
use super::named::{Saved, check_details};
use super::staging::Staging;
use super::state::State;
use super::store::Inner;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind, Result};

/// What a save in the background does when one is in flight and another waits already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenBusy {
    /// Takes the place of the one that waits: the newest wins.
    #[default]
    Replace,
    /// Waits until there is a place.
    Wait,
    /// Is not done.
    Skip,
}

/// What became of a save in the background when it was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandedOver {
    /// It will be saved.
    Accepted,
    /// It will be saved instead of an earlier one that still waited.
    Replaced,
    /// It will not be saved: one is in flight, one waits, and the policy is [`WhenBusy::Skip`].
    Skipped,
}

/// What [`save_now`](super::CheckpointStore::save_now) did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SavedNow {
    /// The state given is durable.
    Given(Saved),
    /// There was no time for it; the one that was in flight is durable.
    InFlight(Saved),
}

struct Order {
    name: String,
    copy: Copied,
    details: Details,
    /// Asked of the state once, and not with the desk locked: shared memory is the caller's code.
    payload_bytes: u64,
}

/// A state as it was when it was handed over.
enum Copied {
    InMemory(State<'static>),
    ByFork(Box<ForkedCopy>),
}

/// How a state that is only lent is copied.
#[derive(Debug, Clone, Copy)]
pub(super) enum CopyBy {
    Memory,
    Fork,
}

/// What the callers and the thread share.
#[derive(Default)]
struct Desk {
    /// At most one of each name.
    waiting: Vec<Order>,
    /// Since when a save has been in flight, of how many bytes and of which state.
    in_flight: Option<(Moment, u64, String)>,
    failure: Option<Error>,
    last: Option<Saved>,
    spare: Vec<Staging>,
    closing: bool,
}

/// The desk, and who is woken when it changes.
pub(super) struct Background {
    /// Held by the one who hands over, so that nobody else takes the place that it found.
    door: Mutex<()>,
    desk: Mutex<Desk>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
    clock: Clock,
}

impl Background {
    pub(super) fn new() -> Self {
        Self {
            door: Mutex::default(),
            desk: Mutex::default(),
            changed: Condvar::new(),
            thread: Mutex::default(),
            clock: Clock::start(),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, desk: MutexGuard<'a, Desk>) -> MutexGuard<'a, Desk> {
        self.changed
            .wait(desk)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a save is in flight or waits.
    pub(super) fn is_busy(&self) -> bool {
        let desk = self.desk();
        desk.in_flight.is_some() || !desk.waiting.is_empty()
    }

    /// Whether a save of this name waits.
    #[cfg(test)]
    pub(super) fn waits(&self, name: &str) -> bool {
        self.desk().waiting.iter().any(|order| order.name == name)
    }

    /// Gets memory ready for states of this many bytes, so that not even the first save pays for fresh pages.
    pub(super) fn prepare(&self, bytes: usize) -> Result<()> {
        // One in flight, one that waits.
        for _ in 0..2 {
            let memory = Staging::prefaulted(bytes)?;
            self.desk().spare.push(memory);
        }
        Ok(())
    }

    pub(super) fn hand_over(
        self: &Arc<Self>,
        store: &Arc<Inner>,
        name: &str,
        state: State<'_>,
        details: Details,
        by: CopyBy,
    ) -> Result<HandedOver> {
        super::folder::check_name(name)?;
        state.check()?;
        check_details(&details)?;
        let policy = store.common.settings.when_busy;
        let _door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        self.start(store)?;
        let mut desk = self.desk();
        loop {
            if let Some(failure) = desk.failure.take() {
                return Err(failure);
            }
            let is_free = !desk.waiting.iter().any(|order| order.name == name);
            match policy {
                _ if is_free => break,
                WhenBusy::Replace => break,
                WhenBusy::Skip => return Ok(HandedOver::Skipped),
                WhenBusy::Wait => desk = self.wait(desk),
            }
        }
        // The one that waits gives its memory back first, so that two are enough.
        let replaced = take_waiting(&mut desk, name);
        drop(desk);
        let handed_over = if replaced.is_some() {
            HandedOver::Replaced
        } else {
            HandedOver::Accepted
        };
        self.take_back(replaced);
        let order = Order {
            name: name.to_owned(),
            payload_bytes: state.payload_bytes(),
            copy: match by {
                CopyBy::Memory => Copied::InMemory(self.keep(state)?),
                CopyBy::Fork => {
                    let directory = store.directory(name)?;
                    Copied::ByFork(Box::new(ForkedCopy::begin(&directory, &state)?))
                }
            },
            details,
        };
        self.desk().waiting.push(order);
        self.changed.notify_all();
        Ok(handed_over)
    }

    /// Copies what is lent, and only that.
    fn keep(&self, state: State<'_>) -> Result<State<'static>> {
        let lent = state.lent().map(<[u8]>::len).sum();
        let mut memory = if lent > 0 {
            self.spare()
        } else {
            Staging::default()
        };
        memory.fill(state.lent(), lent)?;
        Ok(state.kept_in(&Arc::new(memory)))
    }

    fn spare(&self) -> Staging {
        let mut desk = self.desk();
        let largest = (0..desk.spare.len()).max_by_key(|place| desk.spare[*place].capacity());
        largest.map_or_else(Staging::default, |place| desk.spare.swap_remove(place))
    }

    /// Takes the memory of an order that is over for the next one.
    fn take_back(&self, order: Option<Order>) {
        let Some(Order {
            copy: Copied::InMemory(state),
            ..
        }) = order
        else {
            return;
        };
        let staging = state.staging();
        drop(state);
        if let Some(memory) = staging.and_then(Arc::into_inner) {
            let mut desk = self.desk();
            if desk.spare.len() < 2 {
                desk.spare.push(memory);
            }
        }
    }

    /// Starts the thread where it is not there yet.
    fn start(self: &Arc<Self>, store: &Arc<Inner>) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (background, store) = (Arc::clone(self), Arc::clone(store));
            let started = std::thread::Builder::new()
                .name("safepoint-saver".into())
                .spawn(move || background.work(&store))
                .map_err(|error| {
                    Error::new(
                        ErrorKind::Io,
                        "cannot start the thread that saves in the background",
                    )
                    .with_source(error)
                })?;
            *thread = Some(started);
        }
        Ok(())
    }

    fn work(&self, store: &Inner) {
        // The work goes before the saving of it. A thread may always be nicer; that it could not be is no loss.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut desk = self.desk();
        loop {
            if desk.waiting.is_empty() {
                if desk.closing {
                    return;
                }
                desk = self.wait(desk);
                continue;
            }
            let order = desk.waiting.remove(0);
            desk.in_flight = Some((self.clock.now(), order.payload_bytes, order.name.clone()));
            drop(desk);
            self.changed.notify_all();
            let name = order.name.clone();
            // Shared memory is the caller's code: if that panics, one save has failed and the next one need not.
            let saved = std::panic::catch_unwind(AssertUnwindSafe(|| {
                let saved = match order.copy {
                    Copied::InMemory(ref state) => store.save(&order.name, state, &order.details),
                    Copied::ByFork(copy) => {
                        return store.save_forked(&order.name, *copy, &order.details);
                    }
                };
                self.take_back(Some(order));
                saved
            }));
            let saved = saved.unwrap_or_else(|_| {
                let message =
                    format!("`{name}` was not saved: what was shared with the save panicked");
                Err(Error::new(ErrorKind::Closed, message))
            });
            desk = self.desk();
            desk.in_flight = None;
            match saved {
                Ok(saved) => desk.last = Some(saved),
                Err(error) => desk.failure = Some(error),
            }
            self.changed.notify_all();
        }
    }

    /// Waits until nothing is in flight and nothing waits, and returns the newest save that was done in the background since this was
    /// last asked.
    pub(super) fn finish(&self) -> Result<Option<Saved>> {
        let mut desk = self.desk();
        while desk.in_flight.is_some() || !desk.waiting.is_empty() {
            desk = self.wait(desk);
        }
        match desk.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(desk.last.take()),
        }
    }

    /// Saves `state` within `within` if that can be done, else sees the one in flight through.
    pub(super) fn save_now(
        &self,
        store: &Inner,
        name: &str,
        state: &State<'_>,
        details: &Details,
        within: Duration,
    ) -> Result<SavedNow> {
        super::folder::check_name(name)?;
        state.check()?;
        check_details(details)?;
        let payload_bytes = state.payload_bytes();
        let mut desk = self.desk();
        // What waits under this name is older than what was given, and would take as long.
        let overtaken = take_waiting(&mut desk, name);
        let no_time = desk
            .in_flight
            .as_ref()
            .is_some_and(|(since, bytes, in_flight)| {
                let begun = self.clock.now().since(*since);
                let left = store
                    .common
                    .throughput
                    .time_for(*bytes)
                    .saturating_sub(begun);
                let needed = left + store.common.throughput.time_for(payload_bytes);
                in_flight == name && needed > within
            });
        if no_time {
            while desk.in_flight.is_some() {
                desk = self.wait(desk);
            }
            if let (None, Some(saved)) = (desk.failure.take(), desk.last.take()) {
                drop(desk);
                self.take_back(overtaken);
                return Ok(SavedNow::InFlight(saved));
            }
            // The one in flight failed after all, so a late attempt is better than none.
        }
        drop(desk);
        self.take_back(overtaken);
        store.save(name, state, details).map(SavedNow::Given)
    }

    /// Lets the thread end when all is saved, and waits for it.
    pub(super) fn close(&self) -> Result<()> {
        self.desk().closing = true;
        self.changed.notify_all();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // It lets no panic through.
            let _ = thread.join();
        }
        match self.desk().failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

/// As nice as a thread that gives way without starving.
const NICE: i32 = 10;

fn take_waiting(desk: &mut Desk, name: &str) -> Option<Order> {
    let place = desk.waiting.iter().position(|order| order.name == name)?;
    Some(desk.waiting.remove(place))
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").finish_non_exhaustive()
    }
}
