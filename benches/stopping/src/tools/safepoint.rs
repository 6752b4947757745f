//! safepoint itself.

use std::sync::Arc;

use safepoint::shutdown::{OwnedUnit, Shutdown, ShutdownToken, Source, StopRequest, Unit};

use super::{Check, Children, Tool, Units, Waits};

/// What a unit is called; reports name it.
const RECORD: &str = "record 17";

/// A token that no signal reaches, with units that stay on their thread.
#[derive(Clone, Debug)]
pub struct Safepoint {
    token: ShutdownToken,
    /// Keeps time, as in a program.
    _shutdown: Arc<Shutdown>,
}

impl Tool for Safepoint {
    const NAME: &str = "safepoint";

    fn new() -> Self {
        let shutdown = Shutdown::builder().build().expect("a thread to spare");
        Self {
            token: shutdown.token(),
            _shutdown: Arc::new(shutdown),
        }
    }
}

impl Check for Safepoint {
    #[inline(always)]
    fn is_stopping(&self) -> bool {
        self.token.is_stopping()
    }
}

impl Units for Safepoint {
    /// None once a stop was asked for.
    type Unit<'a> = Option<Unit<'a>>;

    #[inline(always)]
    fn enter(&self) -> Self::Unit<'_> {
        self.token.unit(RECORD)
    }

    #[inline(always)]
    fn leave(unit: Self::Unit<'_>) {
        if let Some(unit) = unit {
            unit.commit();
        }
    }
}

impl Children for Safepoint {
    type Child = ShutdownToken;

    #[inline(always)]
    fn child(&self) -> ShutdownToken {
        self.token.child("request")
    }

    async fn child_stopping(child: ShutdownToken) {
        child.stopping().await;
    }
}

impl Waits for Safepoint {
    fn request(&self) {
        self.token
            .request(StopRequest::graceful(Source::Programmatic, "measured"));
    }

    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.stopping()
    }
}

/// The same token, with units that may move to another thread and be held across await points, as those of all peers.
#[derive(Clone, Debug)]
pub struct SafepointOwned(Safepoint);

impl Tool for SafepointOwned {
    // In rows of its own, where the peers are measured again.
    const NAME: &str = Safepoint::NAME;

    fn new() -> Self {
        Self(Safepoint::new())
    }
}

impl Units for SafepointOwned {
    /// None once a stop was asked for.
    type Unit<'a> = Option<OwnedUnit>;

    #[inline(always)]
    fn enter(&self) -> Self::Unit<'_> {
        self.0.token.owned_unit(RECORD)
    }

    #[inline(always)]
    fn leave(unit: Self::Unit<'_>) {
        if let Some(unit) = unit {
            unit.commit();
        }
    }
}
