//! Settings for a shutdown, and its start.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::handlers::{self, Installed};
use super::hook::Hook;
use super::keeper::{Duty, Keeper, SignalCallback};
use super::ladder::Ladder;
use super::mailbox::Mailbox;
use super::node::Node;
use super::observers::{After, Before};
use super::tree::Tree;
use super::{
    Ending, Order, Rung, Share, Shutdown, ShutdownToken, Source, Status, StopReport, StopRequest,
};
use crate::bell::Bell;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

type StatusCallback = Box<dyn Fn(&Status) + Send>;

/// The grace period unless told otherwise: below the 30 s that Kubernetes gives.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// Settings for a [`Shutdown`]; see [`Shutdown::builder`].
#[must_use = "a builder does nothing until `install` or `build`"]
pub struct Builder {
    grace: Duration,
    reserve: Option<Duration>,
    ready_delay: Duration,
    clock: Clock,
    stops: Vec<(i32, Source)>,
    ladder: Vec<Rung>,
    watched: Vec<(i32, SignalCallback)>,
    infos: Vec<(i32, StatusCallback)>,
    last_act: Box<dyn FnOnce() + Send>,
    hooks: Vec<Hook>,
    before: Vec<Before>,
    after: Vec<After>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            grace: DEFAULT_GRACE,
            reserve: None,
            ready_delay: Duration::ZERO,
            clock: Clock::start(),
            stops: vec![
                (libc::SIGINT, Source::User),
                (libc::SIGTERM, Source::System),
                (libc::SIGHUP, Source::System),
            ],
            ladder: vec![Rung::Graceful, Rung::Immediate, Rung::Kill],
            watched: Vec::new(),
            infos: Vec::new(),
            last_act: Box::new(|| {}),
            hooks: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// The grace period: from the first request to the end. Default 25 s, below the 30 s that Kubernetes gives.
    ///
    /// The library reads no environment: a program that obeys `SHUTDOWN_TIMEOUT` reads it itself and passes it here.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The part of the grace period that is kept for hooks that save, close and report: draining ends so much sooner. At most the grace
    /// period; default a fifth of it if there are such hooks, else nothing.
    pub fn reserve(mut self, reserve: Duration) -> Self {
        self.reserve = Some(reserve);
        self
    }

    /// From the request to the first hook: the time in which load balancers notice that the program is not ready any more, while it still
    /// accepts. It is part of the grace period, and is cut short by an immediate request. Default zero.
    pub fn ready_delay(mut self, delay: Duration) -> Self {
        self.ready_delay = delay;
        self
    }

    /// The clock to measure the grace period by; paused time does not count.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes `signal` a stop signal too, or gives a stop signal another source. SIGINT (source User), SIGTERM and SIGHUP (System) are there
    /// already.
    pub fn stop_signal(mut self, signal: i32, source: Source) -> Self {
        self.stops.retain(|(stop, _)| *stop != signal);
        self.stops.push((signal, source));
        self
    }

    /// Takes `signal` off the stop signals, SIGHUP for a service that reloads by it.
    pub fn no_stop_signal(mut self, signal: i32) -> Self {
        self.stops.retain(|(stop, _)| *stop != signal);
        self
    }

    /// What the first, the second and each further stop signal does; the last rung goes on for ever. Default graceful, immediate, kill.
    pub fn ladder(mut self, rungs: &[Rung]) -> Self {
        self.ladder = rungs.to_vec();
        self
    }

    /// Calls `callback` on a thread of the shutdown's when `signal` arrives (SIGTSTP, SIGCONT); several that come at once count once. While it runs, other
    /// callbacks and observers wait, but stop signals do not.
    pub fn on_signal(mut self, signal: i32, callback: impl Fn(i32) + Send + 'static) -> Self {
        self.watched.push((signal, Box::new(callback)));
        self
    }

    /// Calls `show` with how it stands when `signal` arrives, SIGUSR1 by custom; as [`on_signal`](Self::on_signal) does.
    pub fn info_signal(mut self, signal: i32, show: impl Fn(&Status) + Send + 'static) -> Self {
        self.infos.push((signal, Box::new(show)));
        self
    }

    /// What must still be done, at once and without waiting, before the last rung ends the process.
    pub fn last_act(mut self, act: impl FnOnce() + Send + 'static) -> Self {
        self.last_act = Box::new(act);
        self
    }

    /// Adds a hook that may block. It runs on a thread of its own when [`Shutdown::finish`] gets to its order; within one order the last one
    /// added comes first.
    ///
    /// It has a [share](Share) of the time left. If it takes longer it is named as hung and left behind; an error or a panic is named too. Nothing of
    /// that keeps the hooks after it from running.
    pub fn hook<R: Ending>(
        mut self,
        order: Order,
        name: impl Into<String>,
        hook: impl FnOnce(&Share) -> R + Send + 'static,
    ) -> Self {
        self.hooks.push(Hook::blocking(order, name, hook));
        self
    }

    /// Adds an asynchronous hook; see [`hook`](Self::hook) and [`Shutdown::finish_async`].
    pub fn async_hook<R: Ending, F: Future<Output = R> + Send + 'static>(
        mut self,
        order: Order,
        name: impl Into<String>,
        hook: impl FnOnce(Share) -> F + Send + 'static,
    ) -> Self {
        self.hooks.push(Hook::future(order, name, hook));
        self
    }

    /// Tells `observer` of the first request, on a thread of its own: for metrics and logs. It cannot hold the stop up.
    pub fn before_stop(mut self, observer: impl FnOnce(&StopRequest) + Send + 'static) -> Self {
        self.before.push(Box::new(observer));
        self
    }

    /// Tells `observer` of the end, on a thread of its own. [`Shutdown::finish`] gives it what is left of the grace period to take it in, at least
    /// 50 ms and at most a second.
    pub fn after_stop(mut self, observer: impl FnOnce(&StopReport) + Send + 'static) -> Self {
        self.after.push(Box::new(observer));
        self
    }

    /// Installs the handlers for the stop signals and the watched ones, and starts the keeper thread.
    ///
    /// An inherited ignored SIGHUP (nohup) stays ignored. An inherited ignored SIGCHLD is set back to its default, without which nobody can
    /// wait for a child. Handlers that were there before still get their signals, after ours.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the ladder is empty or leads down, a signal is both a stop signal and a watched one, or is one that nobody can handle so
    /// (SIGKILL, SIGSTOP, and those of a fault in the program: SIGSEGV, SIGBUS, SIGILL, SIGFPE); [`ErrorKind::Io`] when the system refuses a handler, a descriptor
    /// or a thread.
    pub fn install(self) -> Result<Shutdown> {
        self.start(true)
    }

    /// As [`install`](Self::install), without any handler: nothing of the process is changed. For tests, and for libraries that are handed
    /// no token.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] as with `install`; [`ErrorKind::Io`] when the system refuses a descriptor or a thread.
    pub fn build(self) -> Result<Shutdown> {
        self.start(false)
    }

    fn start(self, with_signals: bool) -> Result<Shutdown> {
        let ladder = self.check()?;
        let refuse = |what: &str, error: io::Error| {
            Error::new(ErrorKind::Io, format!("cannot install {what}")).with_source(error)
        };
        let tree = Tree::new(self.clock.clone(), self.grace, self.reserve);
        for hook in self.hooks {
            tree.hooks.add(hook)?;
        }
        self.before
            .into_iter()
            .for_each(|observer| tree.observers.add_before(observer));
        self.after
            .into_iter()
            .for_each(|observer| tree.observers.add_after(observer));
        let root = Node::root(Arc::clone(&tree));
        let token = ShutdownToken {
            node: Arc::clone(&root),
        };
        let bell = Bell::new().map_err(|error| refuse("the keeper's descriptor", error))?;
        let bell = Arc::new(bell);
        let mut watched = self.watched;
        for (signal, show) in self.infos {
            let token = token.clone();
            watched.push((signal, Box::new(move |_| show(&token.status()))));
        }
        let mut duty = None;
        let mut installed = None;
        if with_signals {
            let watching: Vec<i32> = watched.iter().map(|(signal, _)| *signal).collect();
            let mut signals: Vec<i32> = self.stops.iter().map(|(signal, _)| *signal).collect();
            signals.extend(&watching);
            let mailbox = Mailbox::new(root, self.stops, watching, ladder, Arc::clone(&bell));
            let mailbox = Arc::new(mailbox);
            tree.set_mailbox(&mailbox);
            handlers::unignore_sigchld()
                .map_err(|error| refuse("the handling of SIGCHLD", error))?;
            let handlers = Installed::install(&mailbox, &signals)
                .map_err(|error| refuse("a signal handler", error))?;
            installed = Some(handlers);
            let watched = watched.into_iter();
            duty = Some(Duty {
                mailbox,
                watched: watched
                    .map(|(signal, callback)| (signal, Arc::new(Mutex::new(callback))))
                    .collect(),
                last_act: Mutex::new(Some(self.last_act)),
            });
        }
        let keeper = Keeper::start(bell, self.clock, duty)
            .map_err(|error| refuse("the keeper thread", error))?;
        tree.set_keeper(keeper);
        Ok(Shutdown {
            token,
            installed,
            ready_delay: self.ready_delay,
            pid: std::process::id(),
        })
    }

    fn check(&self) -> Result<Ladder> {
        let all = self.stops.iter().map(|(signal, _)| *signal);
        let all = all.chain(self.watched.iter().map(|(signal, _)| *signal));
        for signal in all.chain(self.infos.iter().map(|(signal, _)| *signal)) {
            check_signal(signal)?;
        }
        let watched = self.watched.iter().map(|(signal, _)| signal);
        let mut watched = watched.chain(self.infos.iter().map(|(signal, _)| signal));
        if let Some(signal) =
            watched.find(|signal| self.stops.iter().any(|(stop, _)| stop == *signal))
        {
            let name = signal_hook::low_level::signal_name(*signal).unwrap_or("the signal");
            return Err(Error::invalid(format!(
                "`{name}` cannot both stop and be watched"
            )));
        }
        Ladder::new(&self.ladder).ok_or_else(|| {
            Error::invalid("the ladder of stop signals is empty or leads down")
                .with_hint("give at least one rung, each at least as high as the one before")
        })
    }
}

fn check_signal(signal: i32) -> Result<()> {
    let why = match signal {
        libc::SIGKILL | libc::SIGSTOP => "no program can handle it",
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE => {
            "it says that the program has a fault, and comes again until it ends"
        }
        1..=64 => return Ok(()),
        _ => "there is no such signal",
    };
    let name = signal_hook::low_level::signal_name(signal);
    let name = name.map_or_else(|| signal.to_string(), str::to_owned);
    Err(
        Error::invalid(format!("the signal `{name}` cannot be listened to: {why}"))
            .with_hint("choose another one, such as SIGUSR1 or SIGUSR2"),
    )
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("grace", &self.grace)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}
