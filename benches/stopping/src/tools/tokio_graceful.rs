//! `tokio-graceful`, whose guards cannot be asked whether to stop, only awaited.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio_graceful::{Shutdown, ShutdownGuard};

use super::{Tool, Units, Waits};

/// A `Shutdown` that begins when a channel says so, in place of a signal.
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "`Shutdown` has none, and nobody prints a tool"
)]
pub struct TokioGraceful {
    shutdown: Arc<Shutdown>,
    trigger: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Tool for TokioGraceful {
    const NAME: &str = "tokio-graceful";

    fn new() -> Self {
        let (trigger, asked) = oneshot::channel::<()>();
        let builder = Shutdown::builder().with_signal(async move {
            // A trigger that is dropped ends the wait as well, when everybody is gone.
            let _ = asked.await;
        });
        Self {
            shutdown: Arc::new(builder.build()),
            trigger: Arc::new(Mutex::new(Some(trigger))),
        }
    }
}

impl Units for TokioGraceful {
    type Unit<'a> = ShutdownGuard;

    #[inline(always)]
    fn enter(&self) -> ShutdownGuard {
        self.shutdown.guard()
    }
}

impl Waits for TokioGraceful {
    fn request(&self) {
        let trigger = self.trigger.lock().unwrap_or_else(PoisonError::into_inner);
        let trigger = { trigger }.take();
        if let Some(trigger) = trigger {
            // Nobody listens only if the runtime is gone.
            let _ = trigger.send(());
        }
    }

    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.shutdown.guard_weak().into_cancelled()
    }
}
