//! A thread for the caller's code, so that the one that asks for it can go on when that code hangs.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;

use super::caught::catch;

type Job = Box<dyn FnOnce() + Send>;

/// Starts its thread with the first job, and runs jobs one after the other. Dropping it leaves the thread to end after the jobs it has.
pub(super) struct Teller {
    name: &'static str,
    thread: Mutex<Option<Jobs>>,
}

struct Jobs {
    line: Sender<Job>,
    id: ThreadId,
}

impl Teller {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            thread: Mutex::new(None),
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
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = start(self.name);
        }
        match &*thread {
            Some(jobs) => jobs.line.send(job).map_err(|unsent| unsent.0),
            None => Err(job),
        }
    }

    /// Hangs up when all jobs so far have ended. Nothing when there were none, or when it is one of them that asks.
    pub(super) fn done(&self) -> Option<Receiver<()>> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = thread.as_ref()?;
        if jobs.id == std::thread::current().id() {
            return None;
        }
        let (done, hung_up) = channel::<()>();
        let sent = jobs.line.send(Box::new(move || drop(done)));
        sent.ok().map(|()| hung_up)
    }

    /// Leaves what runs now behind; the next job gets a new thread.
    pub(super) fn abandon(&self) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn start(name: &str) -> Option<Jobs> {
    let (line, jobs) = channel::<Job>();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || jobs.into_iter().for_each(|job| job()));
    let id = started.ok()?.thread().id();
    Some(Jobs { line, id })
}
