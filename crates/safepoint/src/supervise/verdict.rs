//! What the end of the child means for those who started us.

use crate::process::Exit;
use crate::shutdown::STOPPED;

/// How the run ended, as the process that ran it should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// With this code, 0 to 255. 0 only if nobody asked for a stop, or the child said that it was done.
    Code(i32),
    /// By this signal, as the child.
    Signal(i32),
}

/// What is known when the child has ended for the last time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// How it ended.
    pub(super) exit: Exit,
    /// A stop was asked for before it ended.
    pub(super) was_asked: bool,
    /// It said that all its work is done.
    pub(super) is_done: bool,
    /// It was killed because its time was over.
    pub(super) was_killed: bool,
    /// What replaces the code of a graceful stop.
    pub(super) stop_exit_code: Option<u8>,
}

impl Facts {
    /// Whether the work was interrupted: it has to be gone on with.
    pub(super) fn is_interrupted(self) -> bool {
        self.was_asked && !(self.is_done && self.exit == Exit::Code(0))
    }

    pub(super) fn verdict(self) -> Verdict {
        let own = match self.exit {
            Exit::Code(code) => Verdict::Code(code),
            Exit::Signal(signal) => Verdict::Signal(signal),
        };
        if !self.is_interrupted() || self.was_killed {
            return own;
        }
        let replaced = self.stop_exit_code.map(|code| Verdict::Code(code.into()));
        match self.exit {
            Exit::Code(0) => replaced.unwrap_or(Verdict::Code(STOPPED.into())),
            // "Not now", and the codes by which shells and programs name the signals of a stop.
            Exit::Code(75 | 129 | 130 | 143)
            | Exit::Signal(libc::SIGHUP | libc::SIGINT | libc::SIGTERM) => replaced.unwrap_or(own),
            Exit::Code(_) | Exit::Signal(_) => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(exit: Exit) -> Facts {
        Facts {
            exit,
            was_asked: true,
            is_done: false,
            was_killed: false,
            stop_exit_code: None,
        }
    }

    #[test]
    fn without_a_stop_every_end_is_passed_on() {
        for code in 0..=255 {
            let facts = Facts {
                was_asked: false,
                stop_exit_code: Some(9),
                ..facts(Exit::Code(code))
            };
            assert_eq!(facts.verdict(), Verdict::Code(code));
        }
        let facts = Facts {
            was_asked: false,
            ..facts(Exit::Signal(11))
        };
        assert_eq!(facts.verdict(), Verdict::Signal(11));
    }

    #[test]
    fn a_child_that_was_stopped_and_says_nothing_has_not_succeeded() {
        assert_eq!(facts(Exit::Code(0)).verdict(), Verdict::Code(75));
        let done = Facts {
            is_done: true,
            ..facts(Exit::Code(0))
        };
        assert_eq!(done.verdict(), Verdict::Code(0));
        let done_and_failed = Facts {
            is_done: true,
            ..facts(Exit::Code(3))
        };
        assert_eq!(done_and_failed.verdict(), Verdict::Code(3));
    }

    #[test]
    fn the_code_of_a_graceful_stop_can_be_chosen_and_that_of_a_failure_cannot() {
        let with = |exit, was_killed| {
            Facts {
                stop_exit_code: Some(0),
                was_killed,
                ..facts(exit)
            }
            .verdict()
        };
        for exit in [
            Exit::Code(0),
            Exit::Code(75),
            Exit::Code(143),
            Exit::Signal(15),
        ] {
            assert_eq!(with(exit, false), Verdict::Code(0), "{exit:?}");
        }
        assert_eq!(with(Exit::Code(1), false), Verdict::Code(1));
        assert_eq!(with(Exit::Signal(11), false), Verdict::Signal(11));
        assert_eq!(with(Exit::Signal(9), true), Verdict::Signal(9));
    }
}
