//! A stop, step by step: what is sent to whom, and when what is left is killed.
//!
//! ```text
//! graceful request ─> ready delay ─> checkpoint signal ─> stop signal ──> grace period over: SIGKILL for the tree
//!                                    (saved, or its       immediate request ─> signal again ─> kill_after: SIGKILL for the tree
//!                                     time is over)
//! child has ended ──> SIGTERM for the rest of the tree ──────────────────> kill_after: SIGKILL for the tree
//! ```

use super::Options;
use crate::clock::Moment;
use crate::process::Target;
use crate::shutdown::{Mode, StopRequest};

/// A signal for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Send {
    pub(super) to: Target,
    pub(super) signal: i32,
}

/// How far a stop is.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    /// The first step waits until then, while load balancers notice; with it, what is sent for the stop.
    held: Option<(Moment, i32)>,
    /// The child is saving until then; the stop signal follows.
    saving: Option<(Moment, i32)>,
    is_asked: bool,
    kill_at: Option<Moment>,
    is_killed: bool,
}

impl Ladder {
    /// What a request leads to. `reached_child`: a terminal has sent the signal to the child as well.
    pub(super) fn request(
        &mut self,
        request: &StopRequest,
        reached_child: bool,
        options: &Options,
        now: Moment,
    ) -> Option<Send> {
        let wanted = options
            .stop_signal
            .unwrap_or_else(|| mapped(request.signal.unwrap_or(libc::SIGTERM), options));
        let has_it = reached_child && request.signal == Some(wanted);
        let stop = (wanted != 0 && !has_it).then_some(Send {
            to: whole(options),
            signal: wanted,
        });
        match request.mode {
            Mode::Immediate => {
                self.held = None;
                self.saving = None;
                self.is_asked = true;
                let kill_at = now + options.kill_after;
                self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
                stop
            }
            Mode::Graceful if self.is_asked => None,
            Mode::Graceful => {
                self.is_asked = true;
                // What has got the stop signal already is stopping.
                if has_it {
                    return None;
                }
                if options.ready_delay.is_zero() {
                    return self.begin(wanted, options, now);
                }
                self.held = Some((now + options.ready_delay, wanted));
                None
            }
        }
    }

    /// The first step: the checkpoint signal, if there is one, else the stop signal.
    fn begin(&mut self, stop: i32, options: &Options, now: Moment) -> Option<Send> {
        if let Some(signal) = options.checkpoint_signal {
            self.saving = Some((now + options.checkpoint_grace, stop));
            return Some(Send {
                to: Target::Child,
                signal,
            });
        }
        (stop != 0).then_some(Send {
            to: whole(options),
            signal: stop,
        })
    }

    /// The child says that it has saved.
    pub(super) fn saved(&mut self, options: &Options) -> Option<Send> {
        let (_, signal) = self.saving.take()?;
        (signal != 0).then_some(Send {
            to: whole(options),
            signal,
        })
    }

    /// The child has ended, and something of its tree is left.
    pub(super) fn ended(&mut self, options: &Options, now: Moment) -> Send {
        self.held = None;
        self.saving = None;
        let kill_at = now + options.kill_after;
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
        Send {
            to: Target::Tree,
            signal: libc::SIGTERM,
        }
    }

    /// The grace period is over.
    pub(super) fn give_up(&mut self, now: Moment) {
        self.kill_at = Some(self.kill_at.map_or(now, |at| at.min(now)));
    }

    /// What is due, one at a time.
    pub(super) fn due(&mut self, options: &Options, now: Moment) -> Option<Send> {
        if !self.is_killed && self.kill_at.is_some_and(|at| now >= at) {
            self.is_killed = true;
            self.held = None;
            self.saving = None;
            return Some(Send {
                to: Target::Tree,
                signal: libc::SIGKILL,
            });
        }
        if let Some((until, stop)) = self.held
            && now >= until
        {
            self.held = None;
            return self.begin(stop, options, now);
        }
        if self.saving.is_some_and(|(until, _)| now >= until) {
            return self.saved(options);
        }
        None
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Moment> {
        let kill = self.kill_at.filter(|_| !self.is_killed);
        let saved = self.saving.map(|(until, _)| until);
        let held = self.held.map(|(until, _)| until);
        kill.into_iter().chain(saved).chain(held).min()
    }

    /// Whether the tree was killed.
    pub(super) fn is_killed(&self) -> bool {
        self.is_killed
    }
}

/// What is sent for `signal`; 0 for nothing.
pub(super) fn mapped(signal: i32, options: &Options) -> i32 {
    let pair = options.map.iter().find(|(from, _)| *from == signal);
    pair.map_or(signal, |(_, to)| *to)
}

/// Whom forwarded signals go to.
pub(super) fn whole(options: &Options) -> Target {
    if options.to_group {
        Target::Group
    } else {
        Target::Child
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Source;
    use std::time::Duration;

    fn asked(signal: Option<i32>, mode: Mode) -> StopRequest {
        StopRequest {
            mode,
            signal,
            ..StopRequest::graceful(Source::System, "a test")
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "it stands where an option is compared"
    )]
    fn to_child(signal: i32) -> Option<Send> {
        Some(Send {
            to: Target::Child,
            signal,
        })
    }

    const KILL: Option<Send> = Some(Send {
        to: Target::Tree,
        signal: libc::SIGKILL,
    });

    #[test]
    fn the_signal_that_asks_is_the_signal_that_is_sent_unless_told_otherwise() {
        let first = |signal, options: &Options| {
            Ladder::default().request(&asked(signal, Mode::Graceful), false, options, at(0))
        };
        let plain = Options::default();
        assert_eq!(first(Some(libc::SIGINT), &plain), to_child(libc::SIGINT));
        assert_eq!(first(None, &plain), to_child(libc::SIGTERM));
        let mapped = Options {
            map: vec![(libc::SIGTERM, libc::SIGINT), (libc::SIGINT, 0)],
            ..Options::default()
        };
        assert_eq!(first(Some(libc::SIGTERM), &mapped), to_child(libc::SIGINT));
        assert_eq!(first(None, &mapped), to_child(libc::SIGINT));
        assert_eq!(first(Some(libc::SIGINT), &mapped), None);
        let chosen = Options {
            stop_signal: Some(libc::SIGQUIT),
            to_group: true,
            ..mapped
        };
        let sent = Some(Send {
            to: Target::Group,
            signal: libc::SIGQUIT,
        });
        assert_eq!(first(Some(libc::SIGTERM), &chosen), sent);
    }

    #[test]
    fn what_the_terminal_sent_is_not_sent_twice() {
        let request = asked(Some(libc::SIGINT), Mode::Graceful);
        let sent = |options: &Options| Ladder::default().request(&request, true, options, at(0));
        assert_eq!(sent(&Options::default()), None);
        let other = Options {
            stop_signal: Some(libc::SIGTERM),
            ..Options::default()
        };
        assert_eq!(sent(&other), to_child(libc::SIGTERM));
    }

    #[test]
    fn a_checkpoint_comes_first_and_has_its_time() {
        let options = Options {
            checkpoint_signal: Some(libc::SIGUSR1),
            ..Options::default()
        };
        for says_so in [false, true] {
            let mut ladder = Ladder::default();
            let request = asked(Some(libc::SIGTERM), Mode::Graceful);
            let first = ladder.request(&request, false, &options, at(0));
            assert_eq!(first, to_child(libc::SIGUSR1));
            assert_eq!(ladder.next(), Some(at(5)));
            assert_eq!(ladder.due(&options, at(4)), None);
            if says_so {
                assert_eq!(ladder.saved(&options), to_child(libc::SIGTERM));
            } else {
                assert_eq!(ladder.due(&options, at(5)), to_child(libc::SIGTERM));
            }
            assert_eq!(ladder.saved(&options), None);
            assert_eq!(ladder.next(), None);
            ladder.give_up(at(25));
            assert_eq!(ladder.due(&options, at(25)), KILL);
            assert!(ladder.is_killed() && ladder.due(&options, at(30)).is_none());
        }
    }

    #[test]
    fn load_balancers_have_their_time_before_the_first_step() {
        let options = Options {
            ready_delay: Duration::from_secs(3),
            ..Options::default()
        };
        let mut ladder = Ladder::default();
        let term = |mode| asked(Some(libc::SIGTERM), mode);
        assert_eq!(
            ladder.request(&term(Mode::Graceful), false, &options, at(0)),
            None
        );
        assert_eq!(ladder.next(), Some(at(3)));
        assert_eq!(ladder.due(&options, at(2)), None);
        assert_eq!(ladder.due(&options, at(3)), to_child(libc::SIGTERM));
        assert_eq!(ladder.due(&options, at(4)), None);
        // A second request cuts it short.
        let mut ladder = Ladder::default();
        ladder.request(&term(Mode::Graceful), false, &options, at(0));
        let again = ladder.request(&term(Mode::Immediate), false, &options, at(1));
        assert_eq!(again, to_child(libc::SIGTERM));
        assert_eq!(ladder.due(&options, at(3)), KILL);
    }

    #[test]
    fn an_immediate_request_does_not_wait_for_the_checkpoint() {
        let options = Options {
            checkpoint_signal: Some(libc::SIGUSR1),
            ..Options::default()
        };
        let mut ladder = Ladder::default();
        let term = |mode| asked(Some(libc::SIGTERM), mode);
        ladder.request(&term(Mode::Graceful), false, &options, at(0));
        let again = ladder.request(&term(Mode::Immediate), false, &options, at(1));
        assert_eq!(again, to_child(libc::SIGTERM));
        assert_eq!(ladder.next(), Some(at(3)));
        assert_eq!(ladder.due(&options, at(3)), KILL);
    }

    #[test]
    fn what_a_child_leaves_has_a_moment_and_is_killed() {
        let options = Options::default();
        let mut ladder = Ladder::default();
        let sent = ladder.ended(&options, at(10));
        assert_eq!((sent.to, sent.signal), (Target::Tree, libc::SIGTERM));
        assert_eq!(ladder.due(&options, at(11)), None);
        assert_eq!(ladder.due(&options, at(12)), KILL);
    }
}
