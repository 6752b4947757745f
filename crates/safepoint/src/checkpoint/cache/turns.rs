//! Threads of this process, one after the other at an entry.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use super::name::{Name, Wanted};
use crate::error::{Error, Result};

/// Which thread is at which entry; `None` for a claim, which may go from thread to thread.
#[derive(Debug, Default)]
pub(super) struct Turns {
    at: Mutex<HashMap<Name, Option<ThreadId>>>,
    /// Some thread is done with some entry.
    over: Condvar,
}

impl Turns {
    /// Waits until no other thread is at the entry.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when this very thread is: it would wait for itself.
    pub(super) fn take(self: &Arc<Self>, wanted: &Wanted) -> Result<Turn> {
        let this = std::thread::current().id();
        let mut at = self.lock();
        while let Some(thread) = at.get(&wanted.name) {
            if *thread == Some(this) {
                return Err(Error::invalid(format!(
                    "`{}` is asked for by the code that computes it",
                    wanted.key.escape_debug()
                ))
                .with_hint("make it from an entry with another key"));
            }
            at = self.over.wait(at).unwrap_or_else(PoisonError::into_inner);
        }
        at.insert(wanted.name, Some(this));
        Ok(self.turn(wanted))
    }

    /// `None` while somebody is at the entry.
    pub(super) fn try_take(self: &Arc<Self>, wanted: &Wanted) -> Option<Turn> {
        let mut at = self.lock();
        if at.contains_key(&wanted.name) {
            return None;
        }
        at.insert(wanted.name, None);
        Some(self.turn(wanted))
    }

    fn turn(self: &Arc<Self>, wanted: &Wanted) -> Turn {
        Turn {
            turns: Arc::clone(self),
            name: wanted.name,
        }
    }

    /// Nothing of the caller's runs while it is held, so a panic leaves it as it should be.
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Option<ThreadId>>> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody is at an entry until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    name: Name,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.name);
        self.turns.over.notify_all();
    }
}
