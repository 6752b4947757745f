//! `swansong`, without and with its report on who holds a stop up.

use std::future::pending;

use swansong::Guard;

use super::{Check, Children, Tool, Units, Waits};

/// Guards are counted; nobody knows whose they are.
#[derive(Clone, Debug)]
pub struct Swansong(swansong::Swansong);

impl Tool for Swansong {
    const NAME: &str = "swansong";

    fn new() -> Self {
        Self(swansong::Swansong::new())
    }
}

impl Check for Swansong {
    #[inline(always)]
    fn is_stopping(&self) -> bool {
        !self.0.state().is_running()
    }
}

impl Units for Swansong {
    type Unit<'a> = Guard;

    #[inline(always)]
    fn enter(&self) -> Guard {
        self.0.guard()
    }
}

impl Children for Swansong {
    type Child = swansong::Swansong;

    #[inline(always)]
    fn child(&self) -> swansong::Swansong {
        self.0.child()
    }

    async fn child_stopping(child: swansong::Swansong) {
        interrupted(&child).await;
    }
}

impl Waits for Swansong {
    fn request(&self) {
        // What it returns waits for the guards, of which there are none.
        drop(self.0.shut_down());
    }

    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        interrupted(&self.0)
    }
}

/// By interrupting a future that is never ready: it wakes the first waiter sooner than `Swansong::shutting_down`, by a factor of ten.
fn interrupted(swansong: &swansong::Swansong) -> impl Future<Output = ()> + Send + 'static {
    let interrupted = swansong.interrupt(pending::<()>());
    async move {
        // None says that it was interrupted, and nothing else ends it.
        let _ = interrupted.await;
    }
}

/// Each guard keeps where and when it was made, so that a stop that hangs can say who holds it up, as units of safepoint do.
#[derive(Clone, Debug)]
pub struct SwansongReporting(swansong::Swansong);

impl Tool for SwansongReporting {
    const NAME: &str = "swansong, reporting";

    fn new() -> Self {
        Self(swansong::Swansong::with_guard_report())
    }
}

impl Units for SwansongReporting {
    type Unit<'a> = Guard;

    #[inline(always)]
    fn enter(&self) -> Guard {
        self.0.guard()
    }
}
