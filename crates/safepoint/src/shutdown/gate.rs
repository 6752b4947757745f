//! Where the end of a stop waits until nothing is open, and what held it up.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::task::Waker;

use super::open::HeldUp;
use super::sync::{Mutex, lock};

/// How many of those who left late are remembered: the last ones, which held the stop up longest.
const REMEMBERED: usize = 1000;

#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held_up: VecDeque<HeldUp>,
    /// Who waits for everything to be closed: there is one end of a stop.
    waker: Option<Waker>,
}

impl Gate {
    /// Notes what was open when the stop came and has left now, and lets the end of the stop look again.
    pub(super) fn left(&self, held_up: Option<HeldUp>) {
        let waker = {
            let mut state = lock(&self.state);
            if let Some(held_up) = held_up {
                if state.held_up.len() == REMEMBERED {
                    state.held_up.pop_front();
                }
                state.held_up.push_back(held_up);
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Registers who is to look again. Whoever registers looks once more afterwards: a departure before that woke nobody.
    pub(super) fn watch(&self, waker: &Waker) {
        let waker = waker.clone();
        let mut state = lock(&self.state);
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
    }

    /// What held the stop up, the longest first.
    pub(super) fn held_up(&self) -> Vec<HeldUp> {
        let state = lock(&self.state);
        let mut held_up: Vec<HeldUp> = state.held_up.iter().cloned().collect();
        drop(state);
        held_up.sort_by_key(|held_up| Reverse(held_up.held));
        held_up
    }
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::shutdown::{Open, OpenKind};
    use std::time::Duration;

    #[test]
    fn the_last_ones_that_left_are_remembered_the_longest_first() {
        let gate = Gate::default();
        let late = 1..=REMEMBERED as u64 + 5;
        for number in late.clone() {
            gate.left(Some(HeldUp {
                open: Open {
                    name: number.to_string(),
                    kind: OpenKind::Unit,
                    age: Duration::ZERO,
                    thread: String::new(),
                },
                held: Duration::from_millis(number),
            }));
        }
        let held_up = gate.held_up();
        assert_eq!(held_up.len(), 1000);
        let names: Vec<String> = held_up.into_iter().map(|held| held.open.name).collect();
        let expected: Vec<String> = late
            .rev()
            .take(1000)
            .map(|number| number.to_string())
            .collect();
        assert_eq!(names, expected);
    }
}
