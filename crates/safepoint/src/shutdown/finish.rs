//! The stopping sequence: hooks in order, the wait until nothing is open, and the report.
//!
//! One asynchronous function serves both [`Shutdown::finish`](super::Shutdown::finish), which drives it on the calling thread, and
//! [`Shutdown::finish_async`](super::Shutdown::finish_async).
//!
//! Each hook's share is the time left in its window, divided by the number of those that still want a part of it; the wait for what is
//! open counts as one. So hooks that are quick leave their time to the others, and hooks that all hang each get the same.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::caught::{self, Caught};
use super::hook::{Hook, Work};
use super::hook_thread::HookThread;
use super::node::Node;
use super::parker::block_on;
use super::report::{HookOutcome, HookReport};
use super::sleep::Sleep;
use super::{HeldUp, Order, Phase, Share, ShutdownToken, StopReport, Stopping};
use crate::clock::Moment;

/// The least share of a hook: also when the time is over, one that is quick is not passed over.
pub const LEAST_SHARE: Duration = Duration::from_millis(50);

/// Where asynchronous hooks are polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the caller's own future, so in the context of its runtime.
    Here,
    /// On the thread of the hooks.
    HookThread,
}

pub(super) struct Finish {
    node: Arc<Node>,
    ready_delay: Duration,
    place: Place,
    thread: HookThread,
    hooks: Vec<HookReport>,
}

impl Finish {
    pub(super) fn new(node: Arc<Node>, ready_delay: Duration, place: Place) -> Self {
        Self {
            node,
            ready_delay,
            place,
            thread: HookThread::default(),
            hooks: Vec::new(),
        }
    }

    /// Runs the whole sequence; the handlers are the caller's part.
    pub(super) async fn run(mut self) -> StopReport {
        self.node.end_by_itself();
        let tree = Arc::clone(&self.node.tree);
        // A unit on a child that has not been told yet could be let in behind our back.
        poll_fn(|context| ready_if(tree.is_propagated(Phase::Draining, context.waker()))).await;
        let begun = self.node.links().entered[0].unwrap_or_else(|| tree.clock.now());
        let drained_by = begun + tree.draining_time();
        self.until_or_terminating((begun + self.ready_delay).min(drained_by))
            .await;
        for order in [Order::Accept, Order::Drain] {
            while let Some(hook) = tree.hooks.take(order) {
                let others = tree.hooks.count(false) + 1;
                self.call(hook, drained_by, others).await;
            }
        }
        let given_up = self.drain(drained_by).await;
        let over = self.late_end();
        for order in Order::ALL.into_iter().filter(|order| order.is_late()) {
            while let Some(hook) = tree.hooks.take(order) {
                let others = tree.hooks.count(true);
                self.call(hook, over, others).await;
            }
        }
        tree.hooks.close();
        self.node.advance_to(Phase::Stopped);
        StopReport::new(&self.node, self.hooks, given_up)
    }

    /// Waits until nothing is open; what still is when the time is over is given up.
    async fn drain(&self, until: Moment) -> Vec<HeldUp> {
        let tree = &self.node.tree;
        let idle = poll_fn(|context| {
            tree.gate.watch(context.waker());
            ready_if(tree.is_idle())
        });
        let mut idle = pin!(idle);
        let mut enough = pin!(self.until_or_terminating(until));
        let is_idle = poll_fn(|context| {
            if idle.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            enough.as_mut().poll(context).map(|()| false)
        })
        .await;
        if is_idle {
            return Vec::new();
        }
        self.node.advance_to(Phase::Terminating);
        // Futures are dropped and threads notice at Terminating: those that are quick about it are not given up.
        let patience = tree.clock.now() + LEAST_SHARE;
        let mut late = pin!(Sleep::new(tree, patience));
        poll_fn(|context| {
            if idle.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            late.as_mut().poll(context)
        })
        .await;
        let open = tree.open().into_iter();
        open.filter_map(|open| super::tree::held_up(&self.node, open))
            .collect()
    }

    /// When the last hooks must be done: the end of the grace period, or sooner if somebody asked for haste.
    fn late_end(&self) -> Moment {
        let tree = &self.node.tree;
        let now = tree.clock.now();
        let end = self.node.deadline().unwrap_or(now);
        let hasty = self.node.phase() >= Phase::Terminating;
        if hasty {
            end.min(now + tree.reserve())
        } else {
            end
        }
    }

    async fn call(&mut self, hook: Hook, window: Moment, others: usize) {
        let tree = Arc::clone(&self.node.tree);
        let begun = tree.clock.now();
        let is_early = !hook.order.is_late();
        let part = window.since(begun) / u32::try_from(others + 1).unwrap_or(u32::MAX);
        let share = if is_early && self.node.phase() >= Phase::Terminating {
            LEAST_SHARE
        } else {
            part.max(LEAST_SHARE)
        };
        let until = begun + share;
        let mut running = self.begin(hook.work, until);
        let hung = if is_early {
            pin_box(self.until_or_terminating_and_a_little(until))
        } else {
            pin_box(Sleep::new(&tree, until))
        };
        let mut hung = hung;
        let caught = poll_fn(|context| match running.as_mut().poll(context) {
            Poll::Ready(caught) => Poll::Ready(Some(caught)),
            Poll::Pending => hung.as_mut().poll(context).map(|()| None),
        })
        .await;
        drop(hung);
        let outcome = match caught {
            Some(Caught::Done) => HookOutcome::Done,
            Some(Caught::Failed(message)) => HookOutcome::Failed(message),
            Some(Caught::Panicked(message)) => HookOutcome::Panicked(message),
            None => {
                self.thread.abandon();
                HookOutcome::Hung
            }
        };
        self.hooks.push(HookReport {
            order: hook.order,
            name: hook.name,
            took: tree.clock.now().since(begun),
            share,
            outcome,
        });
    }

    fn begin(&mut self, work: Work, until: Moment) -> Pin<Box<dyn Future<Output = Caught> + Send>> {
        let share = Share {
            token: ShutdownToken {
                node: Arc::clone(&self.node),
            },
            until,
        };
        match (work, self.place) {
            (Work::Blocking(work), _) => Box::pin(
                self.thread
                    .run(move || caught::run(|| work(&share).map_or(Ok(()), Err))),
            ),
            (Work::Async(work), Place::HookThread) => Box::pin(
                self.thread
                    .run(move || caught::run(|| block_on(work(share)).map_or(Ok(()), Err))),
            ),
            (Work::Async(work), Place::Here) => Box::pin(async move {
                let mut future = match catch(|| work(share)) {
                    Ok(future) => future,
                    Err(caught) => return caught,
                };
                poll_fn(|context| match catch(|| future.as_mut().poll(context)) {
                    Ok(polled) => {
                        polled.map(|failure| failure.map_or(Caught::Done, Caught::Failed))
                    }
                    Err(caught) => Poll::Ready(caught),
                })
                .await
            }),
        }
    }

    fn until_or_terminating(&self, until: Moment) -> impl Future<Output = ()> + Send + use<> {
        let mut sleep = Sleep::new(&self.node.tree, until);
        let mut terminating = Stopping::new(Arc::clone(&self.node), Phase::Terminating);
        poll_fn(move |context| either(&mut sleep, &mut terminating, context))
    }

    /// As above, but a hook that is running when haste is asked for gets the least share to come to its end.
    fn until_or_terminating_and_a_little(
        &self,
        until: Moment,
    ) -> impl Future<Output = ()> + Send + use<> {
        let tree = Arc::clone(&self.node.tree);
        let first = self.until_or_terminating(until);
        async move {
            first.await;
            let end = (tree.clock.now() + LEAST_SHARE).min(until);
            Sleep::new(&tree, end).await;
        }
    }
}

fn pin_box<'a>(
    future: impl Future<Output = ()> + Send + 'a,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(future)
}

fn ready_if(is_ready: bool) -> Poll<()> {
    if is_ready {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

fn either(sleep: &mut Sleep, stopping: &mut Stopping, context: &mut Context<'_>) -> Poll<()> {
    if Pin::new(sleep).poll(context).is_ready() {
        return Poll::Ready(());
    }
    Pin::new(stopping).poll(context)
}

/// Runs a piece of an asynchronous hook; a panic of it is its end.
fn catch<T>(code: impl FnOnce() -> T) -> Result<T, Caught> {
    std::panic::catch_unwind(AssertUnwindSafe(code))
        .map_err(|payload| Caught::Panicked(caught::message(payload.as_ref())))
}
