//! From a signal to the flag.
//!
//! A process is asked to stop once in its life, with the handler's code and data in no cache. So processes are started that do nothing
//! but [install](Handled::install) and send themselves SIGTERM. The first figure of each is the one that counts; then the process
//! installs anew and repeats it, for figures with everything in the cache that can be compared with those of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Signal, getpid, kill_process};
use safepoint::shutdown::{Shutdown, ShutdownToken};
use signal_hook::SigId;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::stopwatch::wall_ns;

/// How long everyone is left alone before the signal, so that threads that wait for it are asleep.
const SETTLE_NS: u64 = 1_000_000;

/// What makes a flag of SIGTERM.
pub trait Handled: Sync + Sized {
    /// The name in the table, and on the command line of the process that measures it.
    const NAME: &str;

    /// Takes SIGTERM over.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler, a descriptor or a thread.
    fn install() -> Result<Self, Box<dyn std::error::Error>>;

    /// Whether the signal has arrived.
    fn is_stopping(&self) -> bool;
}

/// Who looks at the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observer {
    /// A thread that does nothing else, while the signalled thread goes to sleep.
    Other,
    /// The signalled thread.
    Same,
}

/// Sends this process one SIGTERM, and returns after how many nanoseconds the observer saw the flag.
///
/// # Errors
///
/// When the handler cannot be installed.
///
/// # Panics
///
/// When the signal cannot be sent.
pub fn seen_after<H: Handled>(observer: Observer) -> Result<u64, Box<dyn std::error::Error>> {
    let handled = H::install()?;
    let watch = || {
        while !handled.is_stopping() {
            std::hint::spin_loop();
        }
        wall_ns()
    };
    let send = || {
        let settled = wall_ns() + SETTLE_NS;
        while wall_ns() < settled {
            std::hint::spin_loop();
        }
        let began = wall_ns();
        // To the process, as an orchestrator does; the kernel prefers its first thread, which is this one.
        kill_process(getpid(), Signal::TERM).expect("a process may signal itself");
        began
    };
    let is_watching = AtomicBool::new(false);
    let (began, seen) = match observer {
        Observer::Same => (send(), watch()),
        Observer::Other => thread::scope(|scope| {
            let watching = scope.spawn(|| {
                is_watching.store(true, Ordering::Relaxed);
                watch()
            });
            while !is_watching.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            let began = send();
            (began, watching.join().expect("watching does not panic"))
        }),
    };
    Ok(seen.saturating_sub(began))
}

/// safepoint's handlers.
#[derive(Debug)]
pub struct Safepoint {
    token: ShutdownToken,
    _shutdown: Shutdown,
}

impl Handled for Safepoint {
    const NAME: &str = "safepoint";

    fn install() -> Result<Self, Box<dyn std::error::Error>> {
        let shutdown = Shutdown::builder().install()?;
        Ok(Self {
            token: shutdown.token(),
            _shutdown: shutdown,
        })
    }

    fn is_stopping(&self) -> bool {
        self.token.is_stopping()
    }
}

/// `tokio::signal` and a task that passes it on to a `CancellationToken`, as most async programs do it.
#[derive(Debug)]
pub struct TokioSignal {
    token: CancellationToken,
    _runtime: Runtime,
}

impl Handled for TokioSignal {
    const NAME: &str = "tokio::signal";

    fn install() -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let token = CancellationToken::new();
        let cancelled = token.clone();
        let entered = runtime.enter();
        let mut arrives = signal(SignalKind::terminate())?;
        drop(entered);
        runtime.spawn(async move {
            arrives.recv().await;
            cancelled.cancel();
        });
        Ok(Self {
            token,
            _runtime: runtime,
        })
    }

    fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }
}

/// The flag of `signal-hook`, which its handler sets itself: nobody can be woken by it, so it is the floor.
#[derive(Debug)]
pub struct SignalHookFlag {
    flag: Arc<AtomicBool>,
    id: SigId,
}

impl Handled for SignalHookFlag {
    const NAME: &str = "signal-hook's flag";

    fn install() -> Result<Self, Box<dyn std::error::Error>> {
        let flag = Arc::new(AtomicBool::new(false));
        let id = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&flag))?;
        Ok(Self { flag, id })
    }

    fn is_stopping(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl Drop for SignalHookFlag {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.id);
    }
}
