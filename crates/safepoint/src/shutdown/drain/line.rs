//! Those who wait for the same thing, the oldest first.

use std::collections::VecDeque;
use std::task::Waker;

/// A line of wakers. Each has a ticket that stays with its owner, who so finds the old place again after having been woken for nothing.
#[derive(Default)]
pub(super) struct Line {
    /// Tickets grow from front to back.
    pub(super) waiting: VecDeque<(u64, Waker)>,
    next: u64,
}

impl Line {
    /// Puts `waker` at the place of `ticket`, which is given if there is none. Returns the waker that stood there.
    pub(super) fn enter(&mut self, ticket: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let ticket = *ticket.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        match self.find(ticket) {
            Ok(at) => Some(std::mem::replace(&mut self.waiting[at].1, waker)),
            Err(at) => {
                self.waiting.insert(at, (ticket, waker));
                None
            }
        }
    }

    /// Whether waking the place of `ticket` would wake the owner of `waker`.
    pub(super) fn holds(&self, ticket: Option<u64>, waker: &Waker) -> bool {
        ticket
            .and_then(|ticket| self.find(ticket).ok())
            .is_some_and(|at| self.waiting[at].1.will_wake(waker))
    }

    /// Gives up the place of `ticket`; `None` if its owner is not in line, having been woken.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Waker> {
        let at = self.find(ticket).ok()?;
        self.waiting.remove(at).map(|(_, waker)| waker)
    }

    /// Takes the oldest out of the line, to be woken.
    pub(super) fn first(&mut self) -> Option<Waker> {
        self.waiting.pop_front().map(|(_, waker)| waker)
    }

    /// Takes all out of the line, to be woken.
    pub(super) fn all(&mut self) -> impl Iterator<Item = Waker> {
        self.waiting.drain(..).map(|(_, waker)| waker)
    }

    fn find(&self, ticket: u64) -> Result<usize, usize> {
        self.waiting
            .binary_search_by_key(&ticket, |(held, _)| *held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    struct Named;

    impl Wake for Named {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn who_was_woken_for_nothing_gets_the_old_place_back() {
        let wakers: Vec<Waker> = (0..3).map(|_| Waker::from(Arc::new(Named))).collect();
        let mut line = Line::default();
        let mut tickets = [None; 3];
        for (ticket, waker) in tickets.iter_mut().zip(&wakers) {
            assert!(line.enter(ticket, waker.clone()).is_none());
        }
        assert!(
            line.first()
                .is_some_and(|first| first.will_wake(&wakers[0]))
        );
        assert!(!line.holds(tickets[0], &wakers[0]));
        line.enter(&mut tickets[0], wakers[0].clone());
        assert!(line.holds(tickets[0], &wakers[0]));
        assert!(line.leave(tickets[1].unwrap()).is_some());
        assert!(line.leave(tickets[1].unwrap()).is_none());
        assert!(
            line.first()
                .is_some_and(|first| first.will_wake(&wakers[0]))
        );
        // A future that moved to another task replaces its waker.
        let replaced = line.enter(&mut tickets[2], wakers[1].clone());
        assert!(replaced.is_some_and(|replaced| replaced.will_wake(&wakers[2])));
        assert!(line.all().all(|last| last.will_wake(&wakers[1])));
        assert!(line.waiting.is_empty());
    }
}
