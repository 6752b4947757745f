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

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;
    use crate::shutdown::parker::block_on;
    use std::task::{Wake, Waker};
    use std::time::Duration;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn an_alarm_is_taken_back_when_it_is_not_waited_for_any_more() {
        let shutdown = Shutdown::builder().build().expect("built");
        let tree = Arc::clone(&shutdown.token().node.tree);
        let begun = tree.clock.now();
        let mut sleep = Sleep::new(&tree, begun + Duration::from_secs(3600));
        let (first, second) = (Arc::new(Nobody), Arc::new(Nobody));
        for waker in [&first, &second] {
            let waker = Waker::from(Arc::clone(waker));
            let polled = Pin::new(&mut sleep).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        assert_eq!(Arc::strong_count(&first), 1);
        assert_eq!(Arc::strong_count(&second), 2);
        drop(sleep);
        assert_eq!(Arc::strong_count(&second), 1);
        block_on(Sleep::new(&tree, begun + Duration::from_millis(1)));
        assert!(tree.clock.now() >= begun + Duration::from_millis(1));
    }
}
