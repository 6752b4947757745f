//! Waiting for a moment, on the keeper's clock.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::keeper::AlarmKey;
use super::tree::Tree;
use crate::clock::Moment;

/// Resolves at a moment. In a tree without a keeper it never does by itself.
pub(super) struct Sleep {
    tree: Arc<Tree>,
    until: Moment,
    alarm: Option<AlarmKey>,
}

impl Sleep {
    pub(super) fn new(tree: &Arc<Tree>, until: Moment) -> Self {
        Self {
            tree: Arc::clone(tree),
            until,
            alarm: None,
        }
    }

    fn unset(&mut self) {
        if let (Some(keeper), Some(alarm)) = (self.tree.keeper(), self.alarm.take()) {
            keeper.unset(alarm);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // The waker may be another one than last time.
        self.unset();
        if self.tree.clock.now() >= self.until {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let alarm = self
            .tree
            .keeper()
            .map(|keeper| keeper.set(self.until, || waker.wake()));
        self.alarm = alarm;
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unset();
    }
}
