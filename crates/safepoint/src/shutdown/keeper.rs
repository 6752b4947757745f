//! The thread that keeps time and looks after the signals: alarms, the end of the grace period, and what the handler left behind.
//!
//! Lock order: the alarms' lock alone; alarms go off, and the caller's code is called, without it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::Timespec;

use super::mailbox::Mailbox;
use crate::clock::{Clock, Moment};

pub(super) type SignalCallback = Box<dyn Fn(i32) + Send>;

type Alarm = Box<dyn FnOnce() + Send>;

/// Wakes the keeper, also from a signal handler.
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// One write(2) by a raw system call: async-signal-safe, and errno is left alone.
    pub(super) fn ring(&self) {
        // The eventfd can only be full; it is then readable already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    fn sleep(&self, at_most: Option<Duration>) {
        let at_most = at_most.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut wait = [PollFd::new(&self.0, PollFlags::IN)];
        // An interrupted or failed wait leads to one more look, which is harmless.
        let _ = poll(&mut wait, at_most.as_ref());
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

/// What the keeper does about signals.
pub(super) struct Duty {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) watched: Vec<(i32, SignalCallback)>,
    pub(super) last_act: Box<dyn Fn() + Send>,
}

/// The handle on the thread.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    id: ThreadId,
}

struct Shared {
    bell: Arc<Bell>,
    closing: AtomicBool,
    alarms: Mutex<Alarms>,
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
    /// Starts the thread.
    pub(super) fn start(bell: Arc<Bell>, clock: Clock, duty: Option<Duty>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bell,
            closing: AtomicBool::new(false),
            alarms: Mutex::default(),
        });
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("safepoint-keeper".into())
            .spawn(move || seen.keep(&clock, duty.as_ref()))?;
        Ok(Self {
            shared,
            id: thread.thread().id(),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Calls `alarm` on the keeper's thread at `at`.
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

    /// Ends the thread and waits for it, unless this is it.
    pub(super) fn join(&self) {
        self.close();
        if std::thread::current().id() == self.id {
            return;
        }
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic of the caller's code there was printed by the panic hook; there is nobody to hand it to.
            let _ = thread.join();
        }
    }

    fn close(&self) {
        // Release: pairs with the keeper's acquire load, though the bell already orders the two.
        self.shared.closing.store(true, Ordering::Release);
        self.shared.bell.ring();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Not joined: the last token may be dropped on the keeper's own thread.
        self.close();
    }
}

impl Shared {
    fn alarms(&self) -> MutexGuard<'_, Alarms> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, clock: &Clock, duty: Option<&Duty>) {
        // Acquire: pairs with the release in `close`.
        while !self.closing.load(Ordering::Acquire) {
            if let Some(duty) = duty {
                duty.look();
            }
            let next = self.go_off(clock);
            self.bell.sleep(next);
        }
    }

    /// Lets the alarms go off that are due, and says how long it is to the next.
    fn go_off(&self, clock: &Clock) -> Option<Duration> {
        loop {
            let mut alarms = self.alarms();
            let key = *alarms.pending.keys().next()?;
            let left = key.0.since(clock.now());
            if !left.is_zero() {
                return Some(left);
            }
            let alarm = alarms.pending.remove(&key);
            drop(alarms);
            if let Some(alarm) = alarm {
                alarm();
            }
        }
    }
}

impl Duty {
    fn look(&self) {
        self.mailbox.absorb();
        if let Some(signal) = self.mailbox.killed_by() {
            (self.last_act)();
            // Ends the process unless the signal's default is not to; there is no other way out of this rung.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
        for (signal, callback) in &self.watched {
            if self.mailbox.take_watched(*signal) {
                callback(*signal);
            }
        }
    }
}
