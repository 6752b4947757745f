//! Those who wait for one commit.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::futex;

use crate::clock::timespec;

/// Those who wait for one commit. They are woken by one call, however many they are: waking them one by one would cost more than writing their
/// rows.
#[derive(Debug)]
pub(in crate::queue) struct Group<T> {
    answer: OnceLock<T>,
    /// 1 when there is an answer; what the kernel waits at.
    answered: AtomicU32,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self {
            answer: OnceLock::new(),
            answered: AtomicU32::new(0),
        }
    }
}

impl<T> Group<T> {
    /// Waits for the answer.
    pub(super) fn wait(&self) -> Option<&T> {
        // Acquire and Release order the answer with its mark.
        while self.answered.load(Ordering::Acquire) == 0 {
            // An interruption, or an answer that came just now: it looks again.
            let _ = futex::wait(&self.answered, futex::Flags::PRIVATE, 0, None);
        }
        self.answer.get()
    }

    /// Waits for the answer for so long.
    pub(super) fn wait_for(&self, limit: Duration) -> Option<&T> {
        if self.answered.load(Ordering::Acquire) == 0 {
            let limit = timespec(limit);
            // Whatever ends it, the caller knows what time it is.
            let _ = futex::wait(&self.answered, futex::Flags::PRIVATE, 0, Some(&limit));
        }
        self.answer.get()
    }

    /// Answers all who wait; a second answer changes nothing.
    pub(super) fn answer(&self, answer: T) {
        if self.answer.set(answer).is_ok() {
            self.answered.store(1, Ordering::Release);
            // It fails for no reason that waiting would help.
            let _ = futex::wake(&self.answered, futex::Flags::PRIVATE, i32::MAX as u32);
        }
    }
}
