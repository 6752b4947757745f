//! Saves that the caller does not wait for.
//!
//! One save is in flight and at most one waits. The caller pays for one copy of what it only lent, into memory that is used again from
//! save to save: fresh memory costs eight times as much, in page faults.
//!
//! Lock order: the door of a name, the desk. The desk is not held while a state is copied, written or dropped.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::folder::check_name;
use super::forked::ForkedCopy;
use super::gathered::Gathered;
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
    payload_bytes: u64,
    /// Started when it was handed over.
    begun: Clock,
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

/// A save that the thread is at.
struct InFlight {
    /// Counts the orders that the thread took.
    ticket: u64,
    since: Clock,
    payload_bytes: u64,
    name: String,
}

/// What the callers and the thread share.
#[derive(Default)]
struct Desk {
    /// At most one of each name.
    waiting: Vec<Order>,
    in_flight: Option<InFlight>,
    tickets: u64,
    /// By name, what nobody has been told yet.
    failures: BTreeMap<String, Error>,
    /// By name, the last that was done, with its ticket.
    done: HashMap<String, (u64, Saved)>,
    /// The last that was done and not told yet.
    last: Option<Saved>,
    spare: Vec<Staging>,
    closing: bool,
}

impl Desk {
    fn waits(&self, name: &str) -> bool {
        self.waiting.iter().any(|order| order.name == name)
    }

    fn take_waiting(&mut self, name: &str) -> Option<Order> {
        let place = self.waiting.iter().position(|order| order.name == name)?;
        Some(self.waiting.remove(place))
    }

    fn in_flight(&self, name: &str) -> Option<&InFlight> {
        self.in_flight.as_ref().filter(|save| save.name == name)
    }
}

/// The desk, and who is woken when it changes.
pub(super) struct Background {
    /// By name, held by the one who saves or hands over: so nobody else takes the place that it found, and of two states the one that was given
    /// later gets the higher number.
    doors: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    desk: Mutex<Desk>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that the thread is in.
    pid: u32,
}

impl Background {
    pub(super) fn new() -> Self {
        Self {
            doors: Mutex::default(),
            desk: Mutex::default(),
            changed: Condvar::new(),
            thread: Mutex::default(),
            pid: std::process::id(),
        }
    }

    fn door(&self, name: &str) -> Arc<Mutex<()>> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(doors.entry(name.to_owned()).or_default())
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
        self.desk().waits(name)
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
        check_name(name)?;
        check_details(&details)?;
        let begun = Clock::start();
        let gathered = Gathered::of(&state)?;
        let payload_bytes = gathered.payload_bytes();
        let policy = store.common.settings.when_busy;
        let door = self.door(name);
        let _door = door.lock().unwrap_or_else(PoisonError::into_inner);
        self.start(store)?;
        let mut desk = self.desk();
        loop {
            if let Some(failure) = desk.failures.remove(name) {
                return Err(failure);
            }
            match policy {
                _ if !desk.waits(name) => break,
                WhenBusy::Replace => break,
                WhenBusy::Skip => return Ok(HandedOver::Skipped),
                WhenBusy::Wait => desk = self.wait(desk),
            }
        }
        // The one that waits gives its memory back first, so that two are enough.
        let replaced = desk.take_waiting(name);
        drop(desk);
        let handed_over = if replaced.is_some() {
            HandedOver::Replaced
        } else {
            HandedOver::Accepted
        };
        self.take_back(replaced);
        let copy = match by {
            CopyBy::Fork => {
                let directory = store.room_for_fork(name, payload_bytes)?;
                Copied::ByFork(Box::new(ForkedCopy::begin(&directory, &gathered)?))
            }
            CopyBy::Memory => {
                drop(gathered);
                Copied::InMemory(self.keep(state)?)
            }
        };
        self.desk().waiting.push(Order {
            name: name.to_owned(),
            copy,
            details,
            payload_bytes,
            begun,
        });
        self.changed.notify_all();
        Ok(handed_over)
    }

    /// Runs a save in the foreground in its turn: what was handed over under this name before is done, or given up where the newest wins, so
    /// that it does not get a higher number.
    pub(super) fn in_turn<T>(&self, store: &Inner, name: &str, save: impl FnOnce() -> T) -> T {
        let door = self.door(name);
        let _door = door.lock().unwrap_or_else(PoisonError::into_inner);
        let mut desk = self.desk();
        let overtaken = match store.common.settings.when_busy {
            WhenBusy::Wait => None,
            WhenBusy::Replace | WhenBusy::Skip => desk.take_waiting(name),
        };
        while desk.waits(name) || desk.in_flight(name).is_some() {
            desk = self.wait(desk);
        }
        drop(desk);
        self.take_back(overtaken);
        save()
    }

    /// Copies what is lent, and only that.
    fn keep(&self, state: State<'_>) -> Result<State<'static>> {
        let mut memory = if state.lent().all(<[u8]>::is_empty) {
            Staging::default()
        } else {
            self.spare()
        };
        let places = memory.fill(state.lent())?;
        Ok(state.kept_in(&Arc::new(memory), places))
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
            desk.tickets += 1;
            let ticket = desk.tickets;
            desk.in_flight = Some(InFlight {
                ticket,
                since: Clock::start(),
                payload_bytes: order.payload_bytes,
                name: order.name.clone(),
            });
            drop(desk);
            self.changed.notify_all();
            let name = order.name.clone();
            // Shared memory is the caller's code: if that panics, one save has failed and the next one need not.
            let saved = std::panic::catch_unwind(AssertUnwindSafe(|| {
                let saved = match order.copy {
                    Copied::InMemory(ref state) => Gathered::of(state).and_then(|state| {
                        store.save(&order.name, &state, &order.details, &order.begun)
                    }),
                    Copied::ByFork(copy) => {
                        return store.save_forked(&order.name, *copy, &order.details, &order.begun);
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
                Ok(saved) => {
                    desk.last = Some(saved.clone());
                    desk.done.insert(name, (ticket, saved));
                }
                Err(error) => {
                    desk.failures.insert(name, error);
                }
            }
            self.changed.notify_all();
        }
    }

    /// Waits until nothing is in flight and nothing waits, at most for `timeout`. Says whether that is so.
    pub(super) fn wait_idle(&self, timeout: Duration) -> bool {
        let desk = self.desk();
        let is_busy = |desk: &mut Desk| desk.in_flight.is_some() || !desk.waiting.is_empty();
        let waited = self.changed.wait_timeout_while(desk, timeout, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits until nothing is in flight and nothing waits, and returns the newest save that was done in the background since this was
    /// last asked.
    pub(super) fn finish(&self) -> Result<Option<Saved>> {
        let mut desk = self.desk();
        while desk.in_flight.is_some() || !desk.waiting.is_empty() {
            desk = self.wait(desk);
        }
        match desk.failures.pop_first() {
            Some((_, failure)) => Err(failure),
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
        check_name(name)?;
        check_details(details)?;
        let begun = Clock::start();
        let state = Gathered::of(state)?;
        let needed = store.common.throughput.time_for(state.payload_bytes());
        let door = self.door(name);
        let _door = door.lock().unwrap_or_else(PoisonError::into_inner);
        let mut desk = self.desk();
        // What waits under this name is older than what was given, and would take as long.
        let overtaken = desk.take_waiting(name);
        let in_flight = desk.in_flight(name).map(|save| {
            let so_far = save.since.now().since(Moment::default());
            let left = store.common.throughput.time_for(save.payload_bytes);
            (save.ticket, left.saturating_sub(so_far))
        });
        while desk.in_flight(name).is_some() {
            desk = self.wait(desk);
        }
        let seen_through = in_flight
            .filter(|(_, left)| *left + needed > within)
            .and_then(|(ticket, _)| desk.done.get(name).filter(|(done, _)| *done == ticket))
            .map(|(_, saved)| saved.clone());
        drop(desk);
        self.take_back(overtaken);
        match seen_through {
            Some(saved) => Ok(SavedNow::InFlight(saved)),
            // Also when the one in flight failed after all: a late attempt is better than none.
            None => store
                .save(name, &state, details, &begun)
                .map(SavedNow::Given),
        }
    }

    /// Lets the thread end when all is saved, and waits for it.
    pub(super) fn close(&self) -> Result<()> {
        // In a fork there is no such thread, and what it held at the fork is held for ever.
        if std::process::id() != self.pid {
            return Ok(());
        }
        self.desk().closing = true;
        self.changed.notify_all();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // It lets no panic through.
            let _ = thread.join();
        }
        match self.desk().failures.pop_first() {
            Some((_, failure)) => Err(failure),
            None => Ok(()),
        }
    }
}

/// As nice as a thread that gives way without starving.
const NICE: i32 = 10;

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").finish_non_exhaustive()
    }
}
