//! What a supervised run tells whoever watches it.

use std::time::Duration;

use crate::process::Exit;
use crate::shutdown::StopRequest;

/// Something that happened. The library never prints: the command decides how to say it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// The run has begun.
    Started {
        /// Its number, from 1; 0 where no state is kept.
        run: u32,
        /// Whether the run before this one was killed.
        after_crash: bool,
        /// Processes that a killed run left behind, and that were ended now.
        ended_strays: usize,
    },
    /// A child was started.
    ChildStarted {
        /// Its process.
        pid: u32,
        /// How many restarts there were before it.
        restart: u32,
    },
    /// The child says that it is ready to be used, or no longer.
    Ready(bool),
    /// A child has ended.
    ChildEnded {
        /// How.
        exit: Exit,
        /// How long it lived.
        lived: Duration,
    },
    /// It will be started again.
    Restarting {
        /// After this time.
        wait: Duration,
        /// The number of this restart, from 1.
        restart: u32,
    },
    /// It ended again and again without a healthy time, and is not started any more.
    CrashLoop {
        /// So many restarts in a row.
        restarts: u32,
        /// How it ended last.
        exit: Exit,
    },
    /// Four fifths of a limit are used up.
    LimitNear {
        /// Which, and how far: for people.
        what: String,
    },
    /// A stop was asked for.
    Stopping {
        /// The request.
        request: StopRequest,
        /// What is left of the grace period.
        remaining: Duration,
    },
    /// The time is over: the whole tree is killed.
    Killing,
    /// Something that does not stop the run but that somebody should know.
    Warning(String),
}

/// Whoever watches a supervised run.
pub trait Observer: Send {
    /// Is told what happened, on the supervising thread: it must not wait for anything slow.
    fn notice(&mut self, notice: Notice);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn notice(&mut self, _: Notice) {}
}
