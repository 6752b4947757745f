//! A thread for the caller's code, so that the one that asks for it can go on when that code hangs.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::caught::catch;

type Job = Box<dyn FnOnce() + Send>;

/// Starts its thread with the first job, and runs jobs one after the other. Dropping it leaves the thread to end after the jobs it has.
pub(super) struct Teller {
    name: &'static str,
    jobs: Mutex<Option<Sender<Job>>>,
}

impl Teller {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            jobs: Mutex::new(None),
        }
    }

    /// Has `job` run on the thread; right here where the system has no thread to spare. A panic of it ends nothing else.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let job: Job = Box::new(move || {
            // The panic hook has printed it; there is nobody to hand it to.
            let _ = catch(job);
        });
        if let Err(unsent) = self.send(job) {
            unsent();
        }
    }

    fn send(&self, job: Job) -> Result<(), Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_none() {
            *jobs = start(self.name);
        }
        match &*jobs {
            Some(jobs) => jobs.send(job).map_err(|unsent| unsent.0),
            None => Err(job),
        }
    }

    /// Leaves what runs now behind; the next job gets a new thread.
    pub(super) fn abandon(&self) {
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn start(name: &str) -> Option<Sender<Job>> {
    let (sender, receiver) = channel::<Job>();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || receiver.into_iter().for_each(|job| job()));
    started.ok().map(|_| sender)
}
