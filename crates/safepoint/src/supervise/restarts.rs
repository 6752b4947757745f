//! When a child that ended is started again.

use std::time::Duration;

use super::Options;
use crate::process::Exit;

/// When a child that ended by itself is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Not at all.
    #[default]
    Never,
    /// When it failed: any code but 0, or a signal.
    OnFailure,
    /// However it ended.
    Always,
}

/// The longest wait before a restart.
const LONGEST: Duration = Duration::from_secs(60);

/// What to do about a child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Leave it.
    End,
    /// Start it again after this time.
    Again(Duration),
    /// It ended too often without a healthy time: give up.
    CrashLoop {
        /// So many restarts in a row.
        restarts: u32,
    },
}

/// Counts restarts.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// All of this run.
    pub(super) total: u32,
    in_a_row: u32,
}

impl Restarts {
    /// Decides about a child that lived so long and ended so.
    pub(super) fn after(&mut self, exit: Exit, lived: Duration, options: &Options) -> Next {
        let again = match options.restart {
            Restart::Never => false,
            Restart::OnFailure => exit != Exit::Code(0),
            Restart::Always => true,
        };
        if !again {
            return Next::End;
        }
        if lived >= options.healthy_after {
            self.in_a_row = 0;
        }
        if self.in_a_row >= options.max_restarts {
            return Next::CrashLoop {
                restarts: self.in_a_row,
            };
        }
        let doublings = self.in_a_row.min(16);
        self.in_a_row += 1;
        self.total += 1;
        let wait = options.restart_delay.saturating_mul(1 << doublings);
        Next::Again(wait.min(LONGEST.max(options.restart_delay)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(restart: Restart) -> Options {
        Options {
            restart,
            max_restarts: 3,
            ..Options::default()
        }
    }

    #[test]
    fn only_what_the_policy_names_is_started_again() {
        let cases = [
            (Restart::Never, Exit::Code(1), Next::End),
            (Restart::OnFailure, Exit::Code(0), Next::End),
            (
                Restart::OnFailure,
                Exit::Code(75),
                Next::Again(Duration::from_secs(1)),
            ),
            (
                Restart::OnFailure,
                Exit::Signal(9),
                Next::Again(Duration::from_secs(1)),
            ),
            (
                Restart::Always,
                Exit::Code(0),
                Next::Again(Duration::from_secs(1)),
            ),
        ];
        for (restart, exit, next) in cases {
            let decided = Restarts::default().after(exit, Duration::ZERO, &options(restart));
            assert_eq!(decided, next, "{restart:?} {exit:?}");
        }
    }

    #[test]
    fn waits_double_and_a_crash_loop_is_named() {
        let options = options(Restart::OnFailure);
        let mut restarts = Restarts::default();
        let mut fail = |lived| restarts.after(Exit::Code(1), Duration::from_secs(lived), &options);
        assert_eq!(fail(0), Next::Again(Duration::from_secs(1)));
        assert_eq!(fail(0), Next::Again(Duration::from_secs(2)));
        assert_eq!(fail(59), Next::Again(Duration::from_secs(4)));
        assert_eq!(fail(0), Next::CrashLoop { restarts: 3 });
        // A healthy time makes the next one the first.
        assert_eq!(fail(60), Next::Again(Duration::from_secs(1)));
        assert_eq!(restarts.total, 4);
    }

    #[test]
    fn no_wait_is_longer_than_a_minute_unless_it_was_asked_for() {
        let long = |delay| Options {
            restart_delay: Duration::from_secs(delay),
            max_restarts: u32::MAX,
            ..options(Restart::Always)
        };
        for (delay, longest) in [(1, 60), (300, 300)] {
            let mut restarts = Restarts::default();
            let waits =
                (0..100).map(|_| restarts.after(Exit::Code(0), Duration::ZERO, &long(delay)));
            assert_eq!(
                waits.last(),
                Some(Next::Again(Duration::from_secs(longest)))
            );
        }
    }
}
