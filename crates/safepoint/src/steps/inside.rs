//! What was settled inside a step, an effect or a stage in progress, so that it can be asked for again if that fails.
//!
//! A loop that asks for a step again after its error asks for all that is inside it again. What was settled there is recorded, so it is given and not
//! repeated; but a name means one step, and without this it would be refused as asked for twice.
//!
//! What is inside is told by the thread, when it begins: all that begins while a body runs there. Steps and effects on other threads that a body starts are
//! not seen, and stay settled, unless those threads say so with [`Within::run`].

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::room::Room;

thread_local! {
    /// The bodies that this thread is in, the outermost first.
    static BODIES: RefCell<Vec<Arc<Body>>> = const { RefCell::new(Vec::new()) };
}

/// A name or a key that was asked for in this run, and may not be asked for again.
#[derive(Debug)]
pub(super) enum Settled {
    Step(String),
    Effect(String),
}

/// The inside of a step, an effect or a stage in progress.
#[derive(Debug)]
pub(super) struct Body {
    /// Its address; only compared. A thread may be in bodies of several directories.
    room: usize,
    place: Place,
    /// `None` once it has ended: what is settled later is nobody's.
    settled: Mutex<Option<Vec<Settled>>>,
}

impl Body {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Settled>>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> Vec<Settled> {
        self.lock().take().unwrap_or_default()
    }
}

/// What something is inside of: nothing, or a body.
#[derive(Debug, Clone)]
pub(super) struct Place(Option<Arc<Body>>);

impl Place {
    /// The innermost body of the room that this thread is in.
    pub(super) fn here(room: &Arc<Room>) -> Self {
        let address = address(room);
        let innermost = with_bodies(|bodies| {
            let of_room = |body: &&Arc<Body>| body.room == address;
            bodies.iter().rev().find(of_room).map(Arc::clone)
        });
        Self(innermost.flatten())
    }

    /// Notes what was settled here.
    pub(super) fn note(&self, settled: impl IntoIterator<Item = Settled>) {
        if let Self(Some(body)) = self
            && let Some(noted) = body.lock().as_mut()
        {
            noted.extend(settled);
        }
    }
}

/// A body in progress. Unless it is [kept](Self::keep), what was settled inside it may be asked for again.
#[derive(Debug)]
pub(super) struct Inside {
    room: Arc<Room>,
    body: Arc<Body>,
}

impl Inside {
    pub(super) fn begin(room: &Arc<Room>, place: Place) -> Self {
        let body = Body {
            room: address(room),
            place,
            settled: Mutex::new(Some(Vec::new())),
        };
        Self {
            room: Arc::clone(room),
            body: Arc::new(body),
        }
    }

    pub(super) fn within(&self) -> Within {
        Within {
            body: Arc::clone(&self.body),
        }
    }

    /// It ended well: what was settled inside it stays so, unless a body around it fails.
    pub(super) fn keep(self) {
        self.body.place.note(self.body.end());
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        for settled in self.body.end() {
            self.room.unsettle(&settled);
        }
    }
}

/// The inside of a step, an effect or a stage in progress: where its body runs.
///
/// Bodies that are closures need not care. A program that begins and completes a step itself, because its body is a future or moves between threads, runs with
/// this what belongs to it: steps and effects that begin there may be asked for again if the one around them fails.
#[derive(Debug, Clone)]
pub struct Within {
    body: Arc<Body>,
}

impl Within {
    /// Runs `code` on this thread as a part of the body.
    pub fn run<R>(&self, code: impl FnOnce() -> R) -> R {
        let _entered = Entered::enter(&self.body);
        code()
    }
}

/// While it lives, this thread is in a body.
struct Entered {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Entered {
    fn enter(body: &Arc<Body>) -> Self {
        with_bodies(|bodies| bodies.push(Arc::clone(body)));
        Self {
            _thread: PhantomData,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Bodies are left in the reverse order of their entry, so the last one is this one.
        drop(with_bodies(Vec::pop));
    }
}

fn address(room: &Arc<Room>) -> usize {
    ptr::from_ref::<Room>(room).addr()
}

/// `None` while the thread is taken down: steps that a destructor asks for then are of no body.
fn with_bodies<R>(change: impl FnOnce(&mut Vec<Arc<Body>>) -> R) -> Option<R> {
    BODIES
        .try_with(|bodies| change(&mut bodies.borrow_mut()))
        .ok()
}
