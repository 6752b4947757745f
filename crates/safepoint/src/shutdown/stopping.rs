//! Waiting for a phase, as a future of any runtime.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::node::Node;
use super::waiters::Key;
use super::{Phase, thread};

/// Resolves when a token has reached a phase; see [`ShutdownToken::stopping`](super::ShutdownToken::stopping).
///
/// # Cancel safety
///
/// Dropping it changes nothing but that its waker is forgotten; a new one waits just as well.
#[must_use = "a future does nothing until it is polled"]
pub struct Stopping {
    node: Arc<Node>,
    wanted: Phase,
    key: Option<Key>,
}

impl Stopping {
    pub(super) fn new(node: Arc<Node>, wanted: Phase) -> Self {
        Self {
            node,
            wanted,
            key: None,
        }
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // Relaxed: the waiters' lock orders the look that matters.
        if this.node.cell().load(Ordering::Relaxed) >= this.wanted as u8 {
            return Poll::Ready(());
        }
        let waiters = this.node.waiters();
        if let Some(key) = &this.key {
            waiters.replace(key, this.wanted, context.waker());
            // The list may have been taken between the look above and now.
            if this.node.cell().load(Ordering::Relaxed) >= this.wanted as u8 {
                return Poll::Ready(());
            }
        } else {
            let hint = usize::try_from(thread::serial()).unwrap_or(0);
            this.key = waiters.insert(hint, this.wanted, this.node.cell(), context.waker());
            if this.key.is_none() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.node.waiters().remove(key, self.wanted);
        }
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}
