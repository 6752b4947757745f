//! The service as systemd sees it, and the thread that tells.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Builder;
use super::message;
use super::progress::Progress;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::shutdown::{Phase, ShutdownToken};

/// How often a stop in progress is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Tells systemd how the program is doing, as long as it lives: keep it until the end of `main`.
///
/// # Examples
///
/// ```
/// use safepoint::Shutdown;
/// use safepoint::systemd::Systemd;
///
/// let shutdown = Shutdown::builder().install()?;
/// let systemd = Systemd::builder(std::env::var_os)?.attach(&shutdown.token())?;
/// // open the listener
/// systemd.ready()?;
/// // serve until the stop
/// shutdown.finish();
/// # Ok::<(), safepoint::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "systemd is told nothing more once this is dropped"]
pub struct Systemd {
    /// Nothing when there is no systemd to tell.
    line: Option<Arc<Line>>,
}

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The token has reached a phase that the thread has not looked at.
    is_rung: bool,
    is_stop_told: bool,
    is_closed: bool,
}

impl Systemd {
    /// Reads what systemd says in the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. The caller passes `std::env::var_os`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when one of them is not what `sd_notify(3)` or `sd_watchdog_enabled(3)` describes.
    ///
    /// # Sources
    ///
    /// `sd_notify(3)`, `sd_watchdog_enabled(3)`, systemd.service(5).
    pub fn builder(look_up: impl Fn(&'static str) -> Option<OsString>) -> Result<Builder> {
        Builder::read(look_up)
    }

    pub(super) fn start(builder: Builder, token: &ShutdownToken) -> Result<Self> {
        let Some(address) = builder.address else {
            return Ok(Self { line: None });
        };
        let refuse = |error: io::Error| {
            Error::new(ErrorKind::Io, "cannot open a socket to systemd").with_source(error)
        };
        let socket = UnixDatagram::unbound().map_err(refuse)?;
        socket.set_nonblocking(true).map_err(refuse)?;
        let line = Arc::new(Line {
            socket,
            address,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let teller = Teller {
            line: Arc::clone(&line),
            token: token.clone(),
            clock: Clock::start(),
            ping_every: builder.watchdog.map(|time| time / 2),
            health: builder.health,
            extension: builder.extension,
            progress: None,
            shown: String::new(),
        };
        std::thread::Builder::new()
            .name("safepoint-systemd".into())
            .spawn(move || teller.run())
            .map_err(|error| {
                Error::new(ErrorKind::Io, "cannot start the thread that tells systemd")
                    .with_source(error)
            })?;
        let seen = Arc::downgrade(&line);
        let tell = move |_| {
            if let Some(line) = seen.upgrade() {
                line.tell_stop();
                line.ring();
            }
        };
        token.follow(tell).for_good();
        if token.is_stopping() {
            line.tell_stop();
            line.ring();
        }
        Ok(Self { line: Some(line) })
    }

    /// Whether there is a service manager that is told.
    pub fn is_told(&self) -> bool {
        self.line.is_some()
    }

    /// Says that the program has started up and does its work: `READY=1`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the message cannot be sent; systemd waits for it until `TimeoutStartSec=` is over.
    pub fn ready(&self) -> Result<()> {
        self.send(message::READY)
    }

    /// Shows `text` in `systemctl status`. While stopping, what is waited for is shown instead at the next change.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the message cannot be sent.
    pub fn status(&self, text: &str) -> Result<()> {
        self.send(&message::status(text))
    }

    fn send(&self, message: &str) -> Result<()> {
        let sent = self.line.as_ref().map_or(Ok(()), |line| line.send(message));
        sent.map_err(|error| Error::new(ErrorKind::Io, "cannot tell systemd").with_source(error))
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.state().is_closed = true;
            line.changed.notify_all();
        }
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: &str) -> io::Result<()> {
        // To the address each time, so that a service manager that was started anew is found.
        let sent = self.socket.send_to_addr(message.as_bytes(), &self.address);
        sent.map(|_| ())
    }

    /// Sends `STOPPING=1`, once; under the lock, so that nothing that follows from the stop overtakes it.
    fn tell_stop(&self) {
        let mut state = self.state();
        if !state.is_closed && !state.is_stop_told {
            state.is_stop_told = self.send(message::STOPPING).is_ok();
        }
    }

    fn ring(&self) {
        self.state().is_rung = true;
        self.changed.notify_all();
    }

    /// Waits for a ring, or so long. Whether to go on.
    fn wait(&self, at_most: Option<Duration>) -> bool {
        let mut state = self.state();
        if !state.is_rung && !state.is_closed {
            state = if let Some(time) = at_most {
                let waited = self.changed.wait_timeout(state, time);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let waited = self.changed.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            };
        }
        state.is_rung = false;
        !state.is_closed
    }
}

/// The thread that tells.
struct Teller {
    line: Arc<Line>,
    token: ShutdownToken,
    /// Not the token's: systemd's time goes on while the program is paused.
    clock: Clock,
    ping_every: Option<Duration>,
    health: Option<Box<dyn Fn() -> bool + Send>>,
    extension: Duration,
    progress: Option<Progress>,
    shown: String,
}

impl Teller {
    fn run(mut self) {
        let mut ping_at = self.clock.now();
        let mut look_at: Option<Moment> = None;
        loop {
            let now = self.clock.now();
            if let Some(every) = self.ping_every
                && now >= ping_at
            {
                self.ping();
                ping_at = now + every;
            }
            if self.token.is_stopping() {
                self.line.tell_stop();
                look_at = self.look().then_some(now + LOOK);
            }
            let ping = self.ping_every.map(|_| ping_at);
            let next = [ping, look_at].into_iter().flatten().min();
            let now = self.clock.now();
            if !self.line.wait(next.map(|next| next.since(now))) {
                return;
            }
        }
    }

    fn ping(&self) {
        if self.health.as_ref().is_none_or(|check| check()) {
            // The next one is soon; a lost one is what half of the time is for.
            let _ = self.line.send(message::ALIVE);
        }
    }

    /// Shows how the stop stands, and asks for more time if it has got on. Whether to look again.
    fn look(&mut self) -> bool {
        let status = self.token.status();
        let text = message::describe(&status);
        if text != self.shown && self.line.send(&message::status(&text)).is_ok() {
            self.shown = text;
        }
        if status.phase == Phase::Stopped {
            return false;
        }
        let progress = Progress::of(&status);
        if self.progress.as_ref() != Some(&progress)
            && self.line.send(&message::extend(self.extension)).is_ok()
        {
            self.progress = Some(progress);
        }
        true
    }
}
