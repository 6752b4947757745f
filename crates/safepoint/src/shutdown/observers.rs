//! Those who are told of a stop and have no say in it: metrics, logs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{StopReport, StopRequest};
use crate::clock::Clock;

pub(super) type Before = Box<dyn FnOnce(&StopRequest) + Send>;
pub(super) type After = Box<dyn FnOnce(&StopReport) + Send>;

#[derive(Default)]
pub(super) struct Observers {
    before: Mutex<Vec<Before>>,
    after: Mutex<Vec<After>>,
}

impl Observers {
    pub(super) fn add_before(&self, observer: Before) {
        self.before
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(observer);
    }

    pub(super) fn add_after(&self, observer: After) {
        self.after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(observer);
    }

    /// Tells of the first request. Returns at once: each observer has a thread of its own.
    pub(super) fn before_stop(&self, request: &StopRequest) {
        let observers =
            std::mem::take(&mut *self.before.lock().unwrap_or_else(PoisonError::into_inner));
        for observer in observers {
            let request = request.clone();
            on_own_thread(move || observer(&request));
        }
    }

    /// Tells of the end, and gives the observers, and those who `are_told` already, up to `patience` in all to take it in: the process may end right after.
    pub(super) fn after_stop(
        &self,
        report: &StopReport,
        are_told: Option<Receiver<()>>,
        clock: &Clock,
        patience: Duration,
    ) {
        let until = clock.now() + patience;
        let observers =
            std::mem::take(&mut *self.after.lock().unwrap_or_else(PoisonError::into_inner));
        let told: Vec<Receiver<()>> = observers
            .into_iter()
            .map(|observer| {
                let (done, told) = channel::<()>();
                let report = report.clone();
                on_own_thread(move || {
                    observer(&report);
                    drop(done);
                });
                told
            })
            .collect();
        for told in told.into_iter().chain(are_told) {
            // Nothing is ever sent: the other end is dropped when the observer has returned or panicked.
            if told.recv_timeout(until.since(clock.now())) == Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}

fn on_own_thread(tell: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name("safepoint-observer".into());
    // Without a thread to spare the observer goes untold: it must not hold the stop up.
    let _ = thread.spawn(tell);
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;
    use std::sync::Arc;

    #[test]
    fn observers_that_are_slow_one_after_the_other_share_the_patience() {
        const SLOW: u64 = 10;
        let patience = Duration::from_millis(400);
        let observers = Observers::default();
        let (_release, hold) = channel::<()>();
        let hold = Arc::new(Mutex::new(hold));
        let (tell, told) = channel();
        let (_, mut before) = channel::<()>();
        for number in 0..SLOW {
            // Each is slow from the end of the one before.
            let (done, next) = channel::<()>();
            let before = std::mem::replace(&mut before, next);
            let (hold, tell) = (Arc::clone(&hold), tell.clone());
            observers.add_after(Box::new(move |_| {
                let _done = done;
                let _ = before.recv();
                let hold = hold.lock().expect("whole");
                let _ = hold.recv_timeout(patience * 3 / 4);
                // The test may be over.
                let _ = tell.send(number);
            }));
        }
        let report = Shutdown::builder().build().expect("built").finish();
        observers.after_stop(&report, None, &Clock::start(), patience);
        assert!(told.try_iter().all(|number| number + 1 < SLOW));
    }
}
