//! What all scopes of a [`Steps`](super::Steps) share.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::index::{Changed, Index, Recorded};
use super::inside::Settled;
use super::notice::Notice;
use crate::error::{Error, Result};
use crate::owner::Ownership;
use crate::queue::StepStore;
use crate::shutdown::{OwnedUnit, ShutdownToken};

pub(super) type Observer = Box<dyn Fn(&Notice) + Send + Sync>;

/// The open directory, and what was asked for in this run.
pub(super) struct Room {
    pub(super) store: StepStore,
    pub(super) token: Option<ShutdownToken>,
    pub(super) tally: Tally,
    observer: Option<Observer>,
    index: Mutex<Index>,
    /// The keys of effects that were asked for in this run and have not failed, alone or with a step around them.
    effects: Mutex<HashSet<Box<str>>>,
    /// Let go of when the last scope is gone, or at the close.
    ownership: Mutex<Option<Ownership>>,
}

/// Counts for the report. Relaxed throughout: each is read after the threads that added to it were joined, or is a number of the moment.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) complete: AtomicU64,
    pub(super) ran_again: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) effects: AtomicU64,
    pub(super) held: AtomicU64,
}

/// Adds one to a number of the report.
pub(super) fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

impl Room {
    pub(super) fn new(
        store: StepStore,
        index: Index,
        token: Option<ShutdownToken>,
        observer: Option<Observer>,
        ownership: Ownership,
    ) -> Self {
        Self {
            store,
            token,
            tally: Tally::default(),
            observer,
            index: Mutex::new(index),
            effects: Mutex::default(),
            ownership: Mutex::new(Some(ownership)),
        }
    }

    pub(super) fn run(&self) -> u32 {
        self.store.run()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.token.as_ref().is_some_and(ShutdownToken::is_stopping)
    }

    /// Enters a unit where there is a token; `None` once a stop was asked for.
    pub(super) fn enter(&self, name: &str) -> Option<Entry> {
        let unit = match &self.token {
            None => None,
            Some(token) => Some(token.owned_unit(name.to_owned())?),
        };
        Some(Entry { unit })
    }

    /// Tells the observer, which makes the notice only if there is one.
    pub(super) fn tell(&self, notice: impl FnOnce() -> Notice) {
        if let Some(observer) = &self.observer {
            observer(&notice());
        }
    }

    pub(super) fn tell_changed(&self, changed: impl IntoIterator<Item = Changed>) {
        for changed in changed {
            self.tell(|| Notice::NamesChanged {
                scope: changed.scope,
                new: changed.new.0,
                new_count: changed.new.1,
                left: changed.left.0,
                left_count: changed.left.1,
            });
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a step is asked for, and says what is recorded of it.
    pub(super) fn ask(self: &Arc<Self>, name: &str) -> Result<(AskedStep, Option<Recorded>)> {
        let (recorded, changed) = self.index().ask(name)?;
        let asked = AskedStep {
            room: Arc::clone(self),
            name: name.to_owned(),
            is_settled: false,
        };
        self.tell_changed(changed);
        Ok((asked, recorded))
    }

    fn effects(&self) -> MutexGuard<'_, HashSet<Box<str>>> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an effect is asked for.
    pub(super) fn ask_effect(self: &Arc<Self>, key: &str) -> Result<AskedEffect> {
        if !self.effects().insert(key.into()) {
            let error = Error::invalid(format!("effect `{key}` was asked for before in this run"));
            return Err(error.with_hint("give each pass of a loop a key of its own"));
        }
        Ok(AskedEffect {
            room: Arc::clone(self),
            key: key.to_owned(),
            is_settled: false,
        })
    }

    /// What was settled inside a body that failed may be asked for again.
    pub(super) fn unsettle(&self, settled: &Settled) {
        match settled {
            Settled::Step(name) => self.index().unsettle(name),
            Settled::Effect(key) => {
                self.effects().remove(&**key);
            }
        }
    }

    pub(super) fn is_asked_effect(&self, key: &str) -> bool {
        self.effects().contains(key)
    }

    /// Closes the file and lets go of the directory.
    pub(super) fn close(&self, outcome: &str, reason: Option<&str>) -> Result<()> {
        let closed = self.store.close(outcome, reason);
        let ours = self
            .ownership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(ours);
        closed
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("run", &self.run())
            .finish_non_exhaustive()
    }
}

/// What was let in: a stop waits for it, where there is a token.
#[derive(Debug)]
pub(super) struct Entry {
    unit: Option<OwnedUnit>,
}

impl Entry {
    /// It ended well. Dropped without this, it counts as rolled back.
    pub(super) fn commit(self) {
        if let Some(unit) = self.unit {
            unit.commit();
        }
    }
}

/// A step that is asked for; unless it is settled, by an error or a panic too, it may be asked for again.
#[derive(Debug)]
pub(super) struct AskedStep {
    room: Arc<Room>,
    name: String,
    is_settled: bool,
}

impl AskedStep {
    /// It has this for good in this run, unless a body around it fails.
    pub(super) fn settle(mut self, recorded: Recorded) -> Settled {
        self.is_settled = true;
        self.room.index().settle(&self.name, recorded);
        Settled::Step(std::mem::take(&mut self.name))
    }
}

impl Drop for AskedStep {
    fn drop(&mut self) {
        if !self.is_settled {
            self.room.index().release(&self.name);
        }
    }
}

/// An effect that is asked for; unless it is settled, it may be asked for again.
#[derive(Debug)]
pub(super) struct AskedEffect {
    room: Arc<Room>,
    key: String,
    is_settled: bool,
}

impl AskedEffect {
    /// It has come to something for good in this run, unless a body around it fails.
    pub(super) fn settle(mut self) -> Settled {
        self.is_settled = true;
        Settled::Effect(std::mem::take(&mut self.key))
    }
}

impl Drop for AskedEffect {
    fn drop(&mut self) {
        if !self.is_settled {
            self.room.effects().remove(&*self.key);
        }
    }
}
