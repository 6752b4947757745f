//! Waiting in line, as futures; a thread polls them by parking.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::state::{Held, Purpose, Shared, Taker};
use super::{NotPushed, Refused};

/// A place in one of the lines. Dropping it gives it up.
pub(super) struct Place<'a, T> {
    shared: &'a Shared<T>,
    purpose: Purpose,
    ticket: Option<u64>,
}

impl<'a, T> Place<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>, purpose: Purpose) -> Self {
        Self {
            shared,
            purpose,
            ticket: None,
        }
    }

    /// Makes the attempt; has `waker` woken for another one if it is pending.
    pub(super) fn poll<R>(
        &mut self,
        waker: &Waker,
        mut attempt: impl FnMut(&mut Held<'_, T>) -> Poll<R>,
    ) -> Poll<R> {
        // Cloned without the lock and only when it is needed; the attempt is made again then, for it may succeed by now.
        let mut cloned = None;
        loop {
            let mut held = self.shared.hold();
            if let Poll::Ready(outcome) = attempt(&mut held) {
                if let Some(ticket) = self.ticket.take() {
                    held.arrive(self.purpose, ticket);
                }
                return Poll::Ready(outcome);
            }
            if held.line(self.purpose).holds(self.ticket, waker) {
                return Poll::Pending;
            }
            if let Some(cloned) = cloned.take() {
                held.enter(self.purpose, &mut self.ticket, cloned);
                return Poll::Pending;
            }
            drop(held);
            cloned = Some(waker.clone());
        }
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.hold().give_up(self.purpose, ticket);
        }
    }
}

/// Pushes one item.
pub(super) struct Push<'a, T> {
    place: Place<'a, T>,
    /// `None` once it is accepted or handed back.
    item: Option<T>,
}

impl<'a, T> Push<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>, item: T) -> Self {
        Self {
            place: Place::new(shared, Purpose::Push),
            item: Some(item),
        }
    }
}

// The item is never pinned, only moved.
impl<T> Unpin for Push<'_, T> {}

impl<T> Future for Push<'_, T> {
    type Output = Result<(), Refused<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { place, item } = self.get_mut();
        place.poll(context.waker(), |held| {
            // A future that is polled again after its end never ends.
            let Some(offered) = item.take() else {
                return Poll::Pending;
            };
            match held.try_push(offered) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(NotPushed::Refused(refused)) => Poll::Ready(Err(refused)),
                Err(NotPushed::Full(back)) => {
                    *item = Some(back);
                    Poll::Pending
                }
            }
        })
    }
}

/// Takes one item.
pub(super) struct Pull<'a, T> {
    place: Place<'a, T>,
    taker: Taker,
}

impl<'a, T> Pull<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>, taker: Taker) -> Self {
        Self {
            place: Place::new(shared, Purpose::Take),
            taker,
        }
    }
}

impl<T> Future for Pull<'_, T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { place, taker } = self.get_mut();
        place.poll(context.waker(), |held| held.try_take(*taker))
    }
}
