//! How a run is struck.

use std::time::Duration;

use crate::faults::When;
use crate::random::Random;

/// What to do to each run that is to be struck.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// `SIGKILL` after a random time.
    Delay {
        /// At most this.
        longest: Duration,
    },
    /// It kills itself at this file operation below its state directory.
    At {
        /// Counted from 1 in each run.
        call: u64,
        /// Relative to it.
        when: When,
    },
    /// It kills itself at a random file operation, before, after or half-way.
    AnyCall {
        /// At most this one; see [`super::Storm::count_calls`].
        calls: u64,
    },
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// The runner; its children live on until the next run finds them.
    Runner,
    /// First the runner, then everything it had started.
    RunnerAndChildren,
}

/// One blow, chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Strike {
    After(Duration),
    At(u64, When),
}

impl Blow {
    pub(super) fn draw(self, random: &mut Random) -> Strike {
        match self {
            Blow::Delay { longest } => {
                let longest = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
                Strike::After(Duration::from_micros(random.below(longest)))
            }
            Blow::At { call, when } => Strike::At(call, when),
            Blow::AnyCall { calls } => {
                let when = [When::Before, When::After, When::Torn];
                let at = 1 + random.below(calls);
                Strike::At(at, when[usize::try_from(random.below(3)).unwrap_or(0)])
            }
        }
    }
}
