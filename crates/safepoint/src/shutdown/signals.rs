//! Signals as stop requests: a handler that stores and wakes, and one thread that does the rest.

#![expect(
    unsafe_code,
    reason = "registering a signal handler and asking for an inherited disposition are unsafe calls"
)]

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use signal_hook::SigId;

use super::token::Tree;
use super::{Mode, Phase, ShutdownToken, Source, StopRequest};
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind, Result};

/// Signals that arrive again within this time count once: a terminal and a wrapper often both pass Ctrl-C on.
pub const REPEAT_WINDOW: Duration = Duration::from_millis(100);

/// One more than the highest signal number on Linux.
const SIGNALS: usize = 65;

type SignalCallback = Box<dyn Fn(i32) + Send>;

/// What the handler may touch: atomics and an eventfd.
struct Mailbox {
    arrived: [AtomicU32; SIGNALS],
    wake: OwnedFd,
    closing: AtomicBool,
    /// The process that installed the handler. A forked child shares the eventfd and must not wake its parent.
    pid: u32,
}

impl Mailbox {
    fn wake(&self) {
        // The eventfd can only be full (it is then readable already) or closed (nobody listens).
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// Settings for a [`Shutdown`]; see [`Shutdown::builder`].
#[must_use = "a builder does nothing until `install`"]
pub struct Builder {
    grace: Duration,
    clock: Clock,
    watched: Vec<(i32, SignalCallback)>,
    last_act: Box<dyn Fn() + Send>,
}

impl Builder {
    /// The grace period: from the first request to termination. Default 25 s, below the 30 s that orchestrators give.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The clock to measure the grace period by; paused time does not count.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Calls `callback` on the signal thread each time `signal` arrives (SIGUSR1 for information, SIGTSTP, SIGCONT).
    pub fn on_signal(mut self, signal: i32, callback: impl Fn(i32) + Send + 'static) -> Self {
        self.watched.push((signal, Box::new(callback)));
        self
    }

    /// What must still be done, at once and without waiting, before the third signal ends the process.
    pub fn last_act(mut self, act: impl Fn() + Send + 'static) -> Self {
        self.last_act = Box::new(act);
        self
    }

    /// Installs the handlers for SIGINT, SIGTERM and SIGHUP and for the watched signals, and starts the signal thread.
    ///
    /// An inherited ignored SIGHUP (nohup) stays ignored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the system refuses a handler, a descriptor or a thread.
    pub fn install(self) -> Result<Shutdown> {
        let refuse = |what: &str, error: std::io::Error| {
            Error::new(ErrorKind::Io, format!("cannot install {what}")).with_source(error)
        };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| refuse("the signal descriptor", error.into()))?;
        let mailbox = Arc::new(Mailbox {
            arrived: [const { AtomicU32::new(0) }; SIGNALS],
            wake,
            closing: AtomicBool::new(false),
            pid: std::process::id(),
        });
        let tree = Arc::new(Tree::new(self.clock, self.grace));
        let token = ShutdownToken { tree };
        if is_ignored(libc::SIGCHLD) {
            // Inherited as ignored, it would have the kernel reap children whose end somebody waits for.
            // SAFETY: signal(2) with SIG_DFL installs no handler.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        }
        let waking = Arc::clone(&mailbox);
        // A request from code must reach the signal thread too: it is the one that ends the grace period.
        token.observe(move |_| waking.wake());
        let stops = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
        let mut registered = Vec::new();
        for signal in stops
            .iter()
            .copied()
            .chain(self.watched.iter().map(|(signal, _)| *signal))
        {
            if signal == libc::SIGHUP && is_ignored(signal) {
                continue;
            }
            let id = register(signal, Arc::clone(&mailbox))
                .map_err(|error| refuse("a signal handler", error))?;
            registered.push(id);
        }
        let listener = Listener {
            mailbox: Arc::clone(&mailbox),
            token: token.clone(),
            watched: self.watched,
            last_act: self.last_act,
        };
        let thread = std::thread::Builder::new()
            .name("safepoint-signals".into())
            .spawn(move || listener.listen())
            .map_err(|error| refuse("the signal thread", error))?;
        Ok(Shutdown {
            token,
            mailbox,
            registered,
            thread: Some(thread),
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// The owner of a program's stopping: its handlers and its signal thread live as long as this value.
pub struct Shutdown {
    token: ShutdownToken,
    mailbox: Arc<Mailbox>,
    registered: Vec<SigId>,
    thread: Option<JoinHandle<()>>,
}

impl Shutdown {
    /// Starts with the defaults: a grace period of 25 s and a clock of its own.
    pub fn builder() -> Builder {
        Builder {
            grace: Duration::from_secs(25),
            clock: Clock::start(),
            watched: Vec::new(),
            last_act: Box::new(|| {}),
        }
    }

    /// A token to ask, wait and request with.
    pub fn token(&self) -> ShutdownToken {
        self.token.clone()
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
        // Release: pairs with the listener's acquire load, though the eventfd's write already orders the two.
        self.mailbox.closing.store(true, Ordering::Release);
        self.mailbox.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the listener was printed by the panic hook; there is nobody to hand it to.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// The signal thread's side.
struct Listener {
    mailbox: Arc<Mailbox>,
    token: ShutdownToken,
    watched: Vec<(i32, SignalCallback)>,
    last_act: Box<dyn Fn() + Send>,
}

impl Listener {
    fn listen(self) {
        let mut rung = 0;
        let mut last: [Option<Moment>; SIGNALS] = [None; SIGNALS];
        loop {
            self.sleep();
            // Acquire: pairs with the release store in `Shutdown::drop`.
            if self.mailbox.closing.load(Ordering::Acquire) {
                return;
            }
            for signal in 1..SIGNALS {
                // Relaxed: the eventfd's read, which came first, orders the handler's store before this.
                if self.mailbox.arrived[signal].swap(0, Ordering::Relaxed) == 0 {
                    continue;
                }
                let number = i32::try_from(signal).unwrap_or(0);
                if let Some((_, callback)) =
                    self.watched.iter().find(|(watched, _)| *watched == number)
                {
                    callback(number);
                    continue;
                }
                let now = self.token.clock().now();
                let repeated = last[signal].is_some_and(|last| now.since(last) < REPEAT_WINDOW);
                last[signal] = Some(now);
                if !repeated {
                    rung += 1;
                    self.stop(number, rung);
                }
            }
        }
    }

    /// Waits for the eventfd, and ends the grace period when it is over.
    fn sleep(&self) {
        let left = match self.token.phase() {
            Phase::Draining => self.token.enforce_deadline(),
            _ => None,
        };
        let left = left
            .filter(|left| !left.is_zero())
            .map(|left| rustix::time::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
        let mut wait = [PollFd::new(&self.mailbox.wake, PollFlags::IN)];
        // An interrupted or failed wait leads to one more look, which is harmless.
        let _ = poll(&mut wait, left.as_ref());
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.mailbox.wake, &mut count);
    }

    /// One more signal does more: graceful, immediate, the end.
    fn stop(&self, signal: i32, rung: u32) {
        if rung >= 3 {
            (self.last_act)();
            // Ends the process unless the signal's default is not to; there is no other way out of this rung.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            return;
        }
        let mode = if rung == 1 {
            Mode::Graceful
        } else {
            Mode::Immediate
        };
        let source = if signal == libc::SIGINT {
            Source::User
        } else {
            Source::System
        };
        let message = signal_hook::low_level::signal_name(signal)
            .unwrap_or("signal")
            .to_owned();
        self.token.request(StopRequest {
            source,
            mode,
            message,
            signal: Some(signal),
        });
    }
}

fn register(signal: i32, mailbox: Arc<Mailbox>) -> std::io::Result<SigId> {
    let slot = usize::try_from(signal).ok().filter(|slot| *slot < SIGNALS);
    let slot = slot.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    let action = move || {
        if std::process::id() == mailbox.pid {
            // Relaxed: the write to the eventfd orders it before the listener's read.
            mailbox.arrived[slot].fetch_add(1, Ordering::Relaxed);
            mailbox.wake();
        }
    };
    // SAFETY: the action is async-signal-safe: getpid, an atomic addition and a write(2) by a raw system call, which leaves errno alone.
    unsafe { signal_hook::low_level::register(signal, action) }
}

/// Whether `signal` was inherited as ignored.
fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with a null new action, sigaction(2) only writes the current one into the memory given, which is large enough.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed memory is a valid `sigaction`, so it is initialised even if the call failed.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}
