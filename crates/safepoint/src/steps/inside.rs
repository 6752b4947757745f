//! What was settled inside a step, an effect or a stage in progress, so that it can be asked for again if that fails.
//!
//! A loop that asks for a step again after its error asks for all that is inside it again. What was settled there is recorded, so it is given and not
//! repeated; but a name means one step, and without this it would be refused as asked for twice.
//!
//! What is inside is told by the thread: all that is settled between the begin and the end of a body, on the thread that runs it. Steps and effects on other
//! threads that a body starts are not seen, and stay settled.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ptr;

use super::room::Room;

thread_local! {
    /// The bodies in progress on this thread, the outermost first.
    static BODIES: RefCell<Vec<Body>> = const { RefCell::new(Vec::new()) };
}

struct Body {
    /// Only compared: a body may hold steps of another directory. While the body runs, its room stays where it is.
    room: *const Room,
    settled: Vec<Settled>,
}

/// A name or a key that was asked for in this run, and may not be asked for again.
#[derive(Debug)]
pub(super) enum Settled {
    Step(String),
    Effect(String),
}

/// A body in progress. Unless it is [kept](Self::keep), what was settled inside it may be asked for again.
pub(super) struct Inside<'a> {
    room: &'a Room,
    is_kept: bool,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl<'a> Inside<'a> {
    pub(super) fn begin(room: &'a Room) -> Self {
        with_bodies(|bodies| {
            bodies.push(Body {
                room,
                settled: Vec::new(),
            });
        });
        Self {
            room,
            is_kept: false,
            _thread: PhantomData,
        }
    }

    /// It ended well: what was settled inside it stays so, unless a body around it fails.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Bodies end in the reverse order of their beginnings, so the last one is this one.
        let body = with_bodies(Vec::pop).flatten();
        let settled = body.map(|body| body.settled).unwrap_or_default();
        if self.is_kept {
            note(self.room, settled);
        } else {
            for settled in &settled {
                self.room.unsettle(settled);
            }
        }
    }
}

/// Notes what was settled, for the innermost body of the room on this thread.
pub(super) fn note(room: &Room, settled: impl IntoIterator<Item = Settled>) {
    with_bodies(|bodies| {
        let of_room = |body: &&mut Body| ptr::eq(body.room, room);
        if let Some(body) = bodies.iter_mut().rev().find(of_room) {
            body.settled.extend(settled);
        }
    });
}

/// `None` while the thread is taken down: steps that a destructor asks for then are of no body.
fn with_bodies<R>(change: impl FnOnce(&mut Vec<Body>) -> R) -> Option<R> {
    BODIES
        .try_with(|bodies| change(&mut bodies.borrow_mut()))
        .ok()
}
