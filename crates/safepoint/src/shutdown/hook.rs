//! Code of the caller's that runs in order while stopping.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Ending, Phase, ShutdownToken, StopRequest};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};

/// The place of a hook in the order of a stop. Within one order, the hook registered last runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// Stop accepting: close listeners, leave the load balancer, stop polling the queue.
    Accept,
    /// Finish what was accepted. Units and tracked work are waited for after these hooks.
    Drain,
    /// Save what must survive. Runs when nothing is open any more, or what is open was given up.
    Save,
    /// Close connections, files, pools.
    Close,
    /// Tell others: last metrics, a farewell message.
    Report,
}

impl Order {
    pub(super) const ALL: [Self; 5] = [
        Self::Accept,
        Self::Drain,
        Self::Save,
        Self::Close,
        Self::Report,
    ];

    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drain => "drain",
            Self::Save => "save",
            Self::Close => "close",
            Self::Report => "report",
        }
    }

    fn next(self) -> Option<Self> {
        let later = |order: &&Self| **order > self;
        Self::ALL.iter().find(later).copied()
    }

    /// Whether hooks of this order run in the time that is reserved for saving and after.
    pub(super) fn is_late(self) -> bool {
        self >= Self::Save
    }
}

/// What a hook may ask: how much time is left for it, and how far the stop has got.
#[derive(Debug, Clone)]
pub struct Share {
    pub(super) token: ShutdownToken,
    pub(super) until: Moment,
}

impl Share {
    /// What is left of this hook's share of the time. A hook that takes longer is reported as hung, and the next one runs.
    pub fn remaining(&self) -> Duration {
        self.until.since(self.token.clock().now())
    }

    /// How far the stop has got: Terminating means that somebody asked for haste.
    pub fn phase(&self) -> Phase {
        self.token.phase()
    }

    /// Why the program stops; nothing when its work ended by itself.
    pub fn reason(&self) -> Option<StopRequest> {
        self.token.reason()
    }

    /// The token of the whole shutdown.
    pub fn token(&self) -> &ShutdownToken {
        &self.token
    }
}

pub(super) type HookFuture = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

pub(super) type BlockingHook = Box<dyn FnOnce(&Share) -> Option<String> + Send>;

pub(super) enum Work {
    Blocking(BlockingHook),
    Async(Box<dyn FnOnce(Share) -> HookFuture + Send>),
}

pub(super) struct Hook {
    pub(super) order: Order,
    pub(super) name: String,
    pub(super) work: Work,
}

impl Hook {
    pub(super) fn blocking<R: Ending>(
        order: Order,
        name: impl Into<String>,
        work: impl FnOnce(&Share) -> R + Send + 'static,
    ) -> Self {
        Self {
            order,
            name: name.into(),
            work: Work::Blocking(Box::new(move |share| work(share).failure())),
        }
    }

    pub(super) fn future<R: Ending, F: Future<Output = R> + Send + 'static>(
        order: Order,
        name: impl Into<String>,
        work: impl FnOnce(Share) -> F + Send + 'static,
    ) -> Self {
        let work = move |share| -> HookFuture {
            let future = work(share);
            Box::pin(async move { future.await.failure() })
        };
        Self {
            order,
            name: name.into(),
            work: Work::Async(Box::new(work)),
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("order", &self.order)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The hooks that have not run.
#[derive(Default)]
pub(super) struct Hooks {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Hook>,
    /// Hooks of orders before this one are refused.
    open_from: Option<Order>,
    is_closed: bool,
}

impl Hooks {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, hook: Hook) -> Result<()> {
        let mut state = self.lock();
        let is_late = state
            .open_from
            .is_some_and(|open_from| hook.order < open_from);
        if state.is_closed || is_late {
            let what = format!("the turn of the `{}` hooks has passed", hook.order.name());
            return Err(Error::new(ErrorKind::Closed, what).with_hint(format!(
                "register `{}` before the stop gets there",
                hook.name
            )));
        }
        state.waiting.push(hook);
        Ok(())
    }

    /// Takes the next hook of `order`; earlier orders are over from now on, and so is this one when there is none left.
    pub(super) fn take(&self, order: Order) -> Option<Hook> {
        let mut state = self.lock();
        let last = state.waiting.iter().rposition(|hook| hook.order == order);
        let Some(last) = last else {
            state.open_from = order.next();
            state.is_closed = state.open_from.is_none();
            return None;
        };
        state.open_from = Some(order);
        Some(state.waiting.remove(last))
    }

    /// How many hooks are to run from `orders`.
    pub(super) fn count(&self, late: bool) -> usize {
        let state = self.lock();
        state
            .waiting
            .iter()
            .filter(|hook| hook.order.is_late() == late)
            .count()
    }

    pub(super) fn has_late(&self) -> bool {
        self.count(true) > 0
    }
}
