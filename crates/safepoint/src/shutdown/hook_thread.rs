//! The thread that blocking hooks run on, so that one that hangs can be left behind.

use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::caught::Caught;

type Job = Box<dyn FnOnce() + Send>;

/// Starts its thread at the first hook. Dropping it, or [`abandon`](Self::abandon), leaves the thread to end after what it runs.
#[derive(Default)]
pub(super) struct HookThread {
    jobs: Option<Sender<Job>>,
}

impl HookThread {
    /// Begins to run `hook`. Where the system has no thread to spare it runs right here, and can then not be left behind.
    pub(super) fn run(&mut self, hook: impl FnOnce() -> Caught + Send + 'static) -> Running {
        let answer = Arc::new(Mutex::new(Answer::default()));
        let given = Arc::clone(&answer);
        let mut job: Job = Box::new(move || {
            let caught = hook();
            let mut answer = given.lock().unwrap_or_else(PoisonError::into_inner);
            answer.caught = Some(caught);
            let waker = answer.waker.take();
            drop(answer);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        if self.jobs.is_none() {
            self.jobs = start();
        }
        if let Some(jobs) = &self.jobs {
            match jobs.send(job) {
                Ok(()) => return Running { answer },
                Err(unsent) => job = unsent.0,
            }
        }
        job();
        Running { answer }
    }

    /// Leaves the hook that runs now behind; the next one gets a new thread.
    pub(super) fn abandon(&mut self) {
        self.jobs = None;
    }
}

fn start() -> Option<Sender<Job>> {
    let (sender, receiver) = channel::<Job>();
    let thread = std::thread::Builder::new().name("safepoint-hooks".into());
    let started = thread.spawn(move || {
        for job in receiver {
            job();
        }
    });
    started.ok().map(|_| sender)
}

#[derive(Default)]
struct Answer {
    caught: Option<Caught>,
    waker: Option<Waker>,
}

/// A hook under way; resolves when it has ended.
pub(super) struct Running {
    answer: Arc<Mutex<Answer>>,
}

impl Future for Running {
    type Output = Caught;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Caught> {
        let waker = context.waker().clone();
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(caught) = answer.caught.take() {
            return Poll::Ready(caught);
        }
        let old = answer.waker.replace(waker);
        drop(answer);
        drop(old);
        Poll::Pending
    }
}
