//! The tools, behind one trait for each thing that is measured.

#![expect(
    clippy::inline_always,
    reason = "a call that no program makes would be measured too, and what it costs depends on the size of a guard"
)]

mod async_shutdown;
mod floor;
mod safepoint;
mod swansong;
mod tokio_graceful;
mod tokio_util;

pub use async_shutdown::AsyncShutdown;
pub use floor::RelaxedLoad;
pub use safepoint::{Safepoint, SafepointOwned};
pub use swansong::{Swansong, SwansongReporting};
pub use tokio_graceful::TokioGraceful;
pub use tokio_util::TokioUtil;

/// A way to stop a program. Clones are handles to the same stop.
pub trait Tool: Clone + Send + Sync + 'static {
    /// The name in the table.
    const NAME: &str;

    /// A new stop that nobody has asked for. A tool that starts async tasks of its own does so in the runtime that is entered.
    fn new() -> Self;
}

/// Asks whether to stop.
pub trait Check: Tool {
    /// Whether a stop was asked for.
    fn is_stopping(&self) -> bool;
}

/// Marks work that a stop waits for.
pub trait Units: Tool {
    /// What stands for the work while it is in progress.
    type Unit<'a>
    where
        Self: 'a;

    /// Enters.
    fn enter(&self) -> Self::Unit<'_>;

    /// Leaves, in the way that means success.
    #[inline(always)]
    fn leave(unit: Self::Unit<'_>) {
        drop(unit);
    }
}

/// Makes stops that follow this one and can be asked for alone.
pub trait Children: Tool {
    /// A stop below this one.
    type Child: Send + 'static;

    /// Makes one.
    fn child(&self) -> Self::Child;

    /// Is ready once a stop of the child or of its parent was asked for, and keeps the child until then.
    fn child_stopping(child: Self::Child) -> impl Future<Output = ()> + Send + 'static;
}

/// Waits for a stop in async code.
pub trait Waits: Tool {
    /// Asks for a stop.
    fn request(&self);

    /// Is ready once a stop was asked for.
    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static;
}
