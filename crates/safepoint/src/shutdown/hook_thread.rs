//! Hooks under way on a thread of their own.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::caught::Caught;
use super::teller::Teller;

/// Runs hooks one after the other, on a thread that can be left behind.
pub(super) struct HookThread(Teller);

impl HookThread {
    pub(super) fn new() -> Self {
        Self(Teller::new("safepoint-hooks"))
    }

    /// Begins to run `hook`. Where the system has no thread to spare it runs right here, and can then not be left behind.
    pub(super) fn run(&self, hook: impl FnOnce() -> Caught + Send + 'static) -> Running {
        let answer = Arc::new(Mutex::new(Answer::default()));
        let given = Arc::clone(&answer);
        self.0.run(move || {
            let caught = hook();
            let mut answer = given.lock().unwrap_or_else(PoisonError::into_inner);
            answer.caught = Some(caught);
            let waker = answer.waker.take();
            drop(answer);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        Running { answer }
    }

    /// Leaves the hook that runs now behind; the next one gets a new thread.
    pub(super) fn abandon(&self) {
        self.0.abandon();
    }
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
