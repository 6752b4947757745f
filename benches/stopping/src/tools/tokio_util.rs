//! `tokio-util`: a token to ask and wait with, and a tracker that counts work. The two do not know of each other.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Check, Children, Tool, Units, Waits};

/// A `CancellationToken` beside a `TaskTracker`.
#[derive(Clone, Debug)]
pub struct TokioUtil {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Tool for TokioUtil {
    const NAME: &str = "tokio-util";

    fn new() -> Self {
        Self {
            token: CancellationToken::new(),
            tracker: TaskTracker::new(),
        }
    }
}

impl Check for TokioUtil {
    #[inline(always)]
    fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }
}

impl Units for TokioUtil {
    type Unit<'a> = TaskTrackerToken;

    #[inline(always)]
    fn enter(&self) -> TaskTrackerToken {
        self.tracker.token()
    }
}

impl Children for TokioUtil {
    type Child = CancellationToken;

    #[inline(always)]
    fn child(&self) -> CancellationToken {
        self.token.child_token()
    }

    fn child_stopping(child: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        child.cancelled_owned()
    }
}

impl Waits for TokioUtil {
    fn request(&self) {
        self.token.cancel();
    }

    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }
}
