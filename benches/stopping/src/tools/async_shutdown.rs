//! `async-shutdown`.

use async_shutdown::{DelayShutdownToken, ShutdownManager};

use super::{Check, Tool, Units, Waits};

/// A `ShutdownManager` whose reason says nothing.
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "the manager has none, and nobody prints a tool"
)]
pub struct AsyncShutdown(ShutdownManager<()>);

impl Tool for AsyncShutdown {
    const NAME: &str = "async-shutdown";

    fn new() -> Self {
        Self(ShutdownManager::new())
    }
}

impl Check for AsyncShutdown {
    #[inline(always)]
    fn is_stopping(&self) -> bool {
        self.0.is_shutdown_triggered()
    }
}

impl Units for AsyncShutdown {
    /// None once a stop was asked for and nothing is in progress.
    type Unit<'a> = Option<DelayShutdownToken<()>>;

    #[inline(always)]
    fn enter(&self) -> Self::Unit<'_> {
        self.0.delay_shutdown_token().ok()
    }
}

impl Waits for AsyncShutdown {
    fn request(&self) {
        // It only fails if somebody has asked already, which is as good.
        let _ = self.0.trigger_shutdown(());
    }

    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.wait_shutdown_triggered()
    }
}
