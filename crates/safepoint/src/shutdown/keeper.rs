//! The thread that keeps time and looks after the signals: alarms, the end of the grace period, and what the handler left behind.
//!
//! It never waits for anything but its bell. The caller's callbacks run on the teller's thread, so one that hangs keeps neither a signal nor an alarm from
//! being looked after. The one exception is the last act, after which the process ends.
//!
//! Lock order: each lock alone; alarms go off, and the caller's code is called, without any.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::caught::catch;
use super::handlers;
use super::mailbox::Mailbox;
use super::teller::Teller;
use crate::bell::Bell;
use crate::clock::{Clock, Moment, timespec};

pub(super) type SignalCallback = Box<dyn Fn(i32) + Send>;

type Alarm = Box<dyn FnOnce() + Send>;

/// What the keeper does about signals.
pub(super) struct Duty {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) watched: Vec<(i32, Arc<Mutex<SignalCallback>>)>,
    pub(super) last_act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// The handle on the thread, which ends when this is dropped.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    id: ThreadId,
}

struct Shared {
    bell: Arc<Bell>,
    closing: AtomicBool,
    /// Until the tree knows its keeper, signals wait: what they lead to may need an alarm.
    is_known: AtomicBool,
    alarms: Mutex<Alarms>,
    duty: Mutex<Option<Arc<Duty>>>,
    /// Runs the caller's code, which may hang; the keeper itself never does.
    teller: Teller,
}

#[derive(Default)]
struct Alarms {
    pending: BTreeMap<AlarmKey, Alarm>,
    next: u64,
}

/// Names an alarm that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AlarmKey(Moment, u64);

impl Keeper {
    /// Starts the thread. It begins its work with [`begin`](Self::begin).
    pub(super) fn start(bell: Arc<Bell>, clock: Clock, duty: Option<Duty>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bell,
            closing: AtomicBool::new(false),
            is_known: AtomicBool::new(false),
            alarms: Mutex::default(),
            duty: Mutex::new(duty.map(Arc::new)),
            teller: Teller::new("safepoint-teller"),
        });
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("safepoint-keeper".into())
            .spawn(move || seen.keep(&clock))?;
        // Not joined at the end: the last token may be dropped on the keeper's own thread, and a fork has no such thread.
        let id = thread.thread().id();
        Ok(Self { shared, id })
    }

    /// Lets the thread look after the signals, now that its tree knows it.
    pub(super) fn begin(&self) {
        // Release: pairs with the keeper's acquire load.
        self.shared.is_known.store(true, Ordering::Release);
        self.shared.bell.ring();
    }

    /// Calls `alarm` on the keeper's thread at `at`. It must not block.
    pub(super) fn set(&self, at: Moment, alarm: impl FnOnce() + Send + 'static) -> AlarmKey {
        let mut alarms = self.shared.alarms();
        let key = AlarmKey(at, alarms.next);
        alarms.next += 1;
        let is_first = alarms
            .pending
            .keys()
            .next()
            .is_none_or(|first| key < *first);
        alarms.pending.insert(key, Box::new(alarm));
        drop(alarms);
        if is_first {
            self.shared.bell.ring();
        }
        key
    }

    /// Takes an alarm back, if it has not gone off.
    pub(super) fn unset(&self, key: AlarmKey) {
        let alarm = self.shared.alarms().pending.remove(&key);
        drop(alarm);
    }

    /// Whether the calling thread is the keeper's, which must not run the caller's code.
    pub(super) fn is_here(&self) -> bool {
        std::thread::current().id() == self.id
    }

    /// Runs the caller's code on a thread where it may hang.
    pub(super) fn tell(&self, code: impl FnOnce() + Send + 'static) {
        self.shared.teller.run(code);
    }

    /// Hangs up when all that was told so far has returned; nothing when there is nothing to wait for.
    pub(super) fn told(&self) -> Option<Receiver<()>> {
        self.shared.teller.done()
    }

    /// Looks after no signal any more. Time is kept on, for the tokens that live on.
    pub(super) fn release(&self) {
        let mut duty = self
            .shared
            .duty
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let duty = duty.take();
        // Outside the lock: with it go the caller's callbacks, whose destructors are the caller's code too.
        let _ = catch(move || drop(duty));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Release: pairs with the keeper's acquire load, though the bell already orders the two.
        self.shared.closing.store(true, Ordering::Release);
        self.shared.bell.ring();
    }
}

/// While the clock is paused, what is left does not shrink; how long to sleep then before another look.
const PAUSED: Duration = Duration::from_millis(100);

impl Shared {
    fn alarms(&self) -> MutexGuard<'_, Alarms> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, clock: &Clock) {
        // Acquire: pairs with the release in `drop`.
        while !self.closing.load(Ordering::Acquire) {
            if self.is_known.load(Ordering::Acquire) {
                let duty = self
                    .duty
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                if let Some(duty) = duty {
                    duty.look(&self.teller);
                    // Perhaps the last holder; see `release`.
                    let _ = catch(move || drop(duty));
                }
            }
            let next = self.go_off(clock);
            self.sleep(next);
        }
    }

    /// Waits for the bell.
    fn sleep(&self, at_most: Option<Duration>) {
        let at_most = at_most.map(timespec);
        let mut wait = [PollFd::new(&*self.bell, PollFlags::IN)];
        // An interrupted or failed wait leads to one more look, which is harmless.
        let _ = poll(&mut wait, at_most.as_ref());
        self.bell.hush();
    }

    /// Lets the alarms go off that are due, and says how long it is to the next.
    fn go_off(&self, clock: &Clock) -> Option<Duration> {
        loop {
            let mut alarms = self.alarms();
            let key = *alarms.pending.keys().next()?;
            let left = key.0.since(clock.now());
            if !left.is_zero() {
                let is_paused = clock.is_paused();
                return Some(if is_paused { left.max(PAUSED) } else { left });
            }
            let alarm = alarms.pending.remove(&key);
            drop(alarms);
            if let Some(alarm) = alarm {
                // An alarm wakes a future, and a waker is the runtime's code.
                let _ = catch(alarm);
            }
        }
    }
}

impl Duty {
    fn look(&self, teller: &Teller) {
        self.mailbox.absorb_and_tell();
        if let Some(signal) = self.mailbox.killed_by() {
            let last_act = self
                .last_act
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(last_act) = last_act {
                let _ = catch(last_act);
            }
            handlers::die_by(signal);
        }
        for (signal, callback) in &self.watched {
            if self.mailbox.take_watched(*signal) {
                let (signal, callback) = (*signal, Arc::clone(callback));
                teller.run(move || {
                    let callback = callback.lock().unwrap_or_else(PoisonError::into_inner);
                    callback(signal);
                });
            }
        }
    }
}
