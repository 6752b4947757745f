//! What all tokens of one shutdown share: the clock, what is open, the hooks, and the thread that keeps time.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::Duration;

use thread_local::ThreadLocal;

use super::gate::Gate;
use super::hook::Hooks;
use super::keeper::Keeper;
use super::lane::{Ended, Lane, Place, Seen};
use super::mailbox::Mailbox;
use super::node::Node;
use super::observers::Observers;
use super::open::{HeldUp, Open, OpenKind};
use super::registry::{Entry, Registry};
use super::sync::{AtomicU64, Mutex, lock};
use super::{Phase, barrier, thread};
use crate::clock::{Clock, coarse};

pub(super) struct Tree {
    pub(super) clock: Clock,
    pub(super) grace: Duration,
    pub(super) reserve: Option<Duration>,
    /// Numbers the requests of all nodes, so that the first can be told from the second.
    sequence: AtomicU64,
    /// About what time it is, for ages: on the coarse clock, in nanoseconds; 0 while nobody keeps it up. On cache lines of its own: every unit reads it.
    tick: Apart<AtomicU64>,
    lanes: ThreadLocal<Lane>,
    pub(super) registry: Registry,
    pub(super) gate: Gate,
    pub(super) hooks: Hooks,
    pub(super) observers: Observers,
    /// Failures of rollback actions, each with its unit's name.
    failures: Mutex<Vec<RollbackFailure>>,
    propagation: Mutex<Propagation>,
    keeper: OnceLock<Keeper>,
    mailbox: OnceLock<Weak<Mailbox>>,
}

/// On a cache line pair of its own.
#[repr(align(128))]
struct Apart<T>(T);

/// How far down the root's phase has been told to everybody.
struct Propagation {
    phase: Phase,
    waker: Option<Waker>,
}

/// A rollback action that did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RollbackFailure {
    /// The name of the unit.
    pub unit: String,
    /// What the action said: its error, or its panic.
    pub message: String,
}

/// How far behind the time of units may be.
const TICK: Duration = Duration::from_millis(250);

/// How many failures of rollback actions are remembered.
const FAILURES: usize = 100;

impl Tree {
    pub(super) fn new(clock: Clock, grace: Duration, reserve: Option<Duration>) -> Arc<Self> {
        barrier::prepare();
        Arc::new(Self {
            clock,
            grace,
            reserve,
            sequence: AtomicU64::new(0),
            tick: Apart(AtomicU64::new(0)),
            lanes: ThreadLocal::new(),
            registry: Registry::default(),
            gate: Gate::default(),
            hooks: Hooks::default(),
            observers: Observers::default(),
            failures: Mutex::default(),
            propagation: Mutex::new(Propagation {
                phase: Phase::Running,
                waker: None,
            }),
            keeper: OnceLock::new(),
            mailbox: OnceLock::new(),
        })
    }

    pub(super) fn next_number(&self) -> u64 {
        // Relaxed: numbers only have to differ and to grow for requests that are ordered by something else.
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// The part of the grace period that is kept for saving, closing and reporting.
    pub(super) fn reserve(&self) -> Duration {
        let reserve = self.reserve.unwrap_or_else(|| {
            if self.hooks.has_late() {
                self.grace / 5
            } else {
                Duration::ZERO
            }
        });
        reserve.min(self.grace)
    }

    /// From the stop request to Terminating.
    pub(super) fn draining_time(&self) -> Duration {
        self.grace.saturating_sub(self.reserve())
    }

    /// About what time it is, at most [`TICK`] behind. Reading the clock would cost more than all the rest of a unit, so while units come and go the keeper reads
    /// it now and then for all; the first unit after a quiet time has it begin.
    #[inline]
    pub(super) fn tick(self: &Arc<Self>) -> u64 {
        // Relaxed: a time, which orders nothing.
        match self.tick.0.load(Ordering::Relaxed) {
            0 => self.begin_to_tick(),
            now => now,
        }
    }

    #[cold]
    fn begin_to_tick(self: &Arc<Self>) -> u64 {
        let now = nanoseconds();
        if let Some(keeper) = self.keeper() {
            let begins = self
                .tick
                .0
                .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            if begins.is_ok() {
                self.tick_next(keeper, None);
            }
        }
        now
    }

    /// Reads the clock in a while, and goes on as long as units come and go.
    fn tick_next(self: &Arc<Self>, keeper: &Keeper, ended: Option<Ended>) {
        let tree = Arc::downgrade(self);
        keeper.set(self.clock.now() + TICK, move || {
            let Some(tree) = tree.upgrade() else { return };
            let ended_now = Some(tree.ended());
            let is_quiet = ended == ended_now && !tree.is_open();
            let next = if is_quiet { 0 } else { nanoseconds() };
            tree.tick.0.store(next, Ordering::Relaxed);
            if let (false, Some(keeper)) = (is_quiet, tree.keeper()) {
                tree.tick_next(keeper, ended_now);
            }
        });
    }

    fn is_open(&self) -> bool {
        self.lanes.iter().any(Lane::is_open) || self.registry.is_open()
    }

    /// The calling thread's lane.
    #[inline]
    pub(super) fn lane(&self) -> &Lane {
        let lane = self.lanes.get_or(Lane::new);
        lane.adopt(thread::serial());
        lane
    }

    /// The calling thread's number; its lane has its name for reports.
    pub(super) fn here(&self) -> u64 {
        // The threads of a model are one to the system, so they would write to one lane.
        if cfg!(not(safepoint_loom)) {
            self.lane();
        }
        thread::serial()
    }

    /// A unit left, or was refused, while its token was stopping.
    #[cold]
    pub(super) fn left_late(&self, node: &Node, open: Option<Open>) {
        self.gate.left(open.and_then(|open| held_up(node, open)));
    }

    pub(super) fn open_at(lane: &Lane, place: Place) -> Open {
        of_unit(lane, lane.seen_at(place))
    }

    /// Whether nothing is open. Of what was let in before the phase was raised, nothing is missed.
    pub(super) fn is_idle(&self) -> bool {
        barrier::heavy();
        !self.is_open()
    }

    /// Everything that is open now, the oldest first.
    pub(super) fn open(&self) -> Vec<Open> {
        let mut open = Vec::new();
        for lane in &self.lanes {
            open.extend(lane.seen().into_iter().map(|seen| of_unit(lane, seen)));
        }
        let entries = self.registry.seen();
        open.extend(entries.iter().map(|entry| self.of_entry(entry)));
        open.sort_by_key(|open| Reverse(open.age));
        open
    }

    pub(super) fn of_entry(&self, entry: &Entry) -> Open {
        let mut lanes = self.lanes.iter();
        let lane = lanes.find(|lane| lane.serial() == entry.serial);
        Open {
            name: entry.name.clone().into_owned(),
            kind: entry.kind,
            age: age(Some(entry.started)),
            thread: lane.map_or_else(|| thread::ended(entry.serial), Lane::thread),
        }
    }

    pub(super) fn ended(&self) -> Ended {
        let mut sum = self.registry.ended();
        for lane in &self.lanes {
            sum.add(lane.ended());
        }
        sum
    }

    pub(super) fn failed(&self, unit: &str, message: String) {
        let mut failures = lock(&self.failures);
        if failures.len() < FAILURES {
            failures.push(RollbackFailure {
                unit: unit.to_owned(),
                message,
            });
        }
    }

    pub(super) fn failures(&self) -> Vec<RollbackFailure> {
        let failures = lock(&self.failures);
        failures.clone()
    }

    /// Every token has been told of the root's `phase`.
    pub(super) fn propagated(&self, phase: Phase) {
        let waker = {
            let mut state = lock(&self.propagation);
            state.phase = state.phase.max(phase);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether every token has been told of the root's `phase`; if not, `waker` is woken at the next step.
    pub(super) fn is_propagated(&self, phase: Phase, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut state = lock(&self.propagation);
        if state.phase >= phase {
            return true;
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        false
    }

    /// The thread that keeps time; `None` when it was never started.
    pub(super) fn keeper(&self) -> Option<&Keeper> {
        self.keeper.get()
    }

    /// Makes `keeper` the tree's, unless it has one, and lets it begin.
    pub(super) fn set_keeper(&self, keeper: Keeper) -> &Keeper {
        let keeper = self.keeper.get_or_init(|| keeper);
        keeper.begin();
        keeper
    }

    pub(super) fn set_mailbox(&self, mailbox: &Arc<Mailbox>) {
        // A tree is installed once, by the builder that made it.
        let _ = self.mailbox.set(Arc::downgrade(mailbox));
    }

    /// Makes requests of the signals that have arrived, so that nobody sees the flag without its reason.
    pub(super) fn absorb(&self) {
        if let Some(mailbox) = self.mailbox() {
            mailbox.absorb();
        }
    }

    pub(super) fn mailbox(&self) -> Option<Arc<Mailbox>> {
        self.mailbox.get().and_then(Weak::upgrade)
    }
}

fn of_unit(lane: &Lane, seen: Seen) -> Open {
    Open {
        name: seen.name,
        kind: OpenKind::Unit,
        age: age(seen.started),
        thread: lane.thread(),
    }
}

/// For how long something that is open, or was until now, outlived the root's stop request; nothing while the root runs.
pub(super) fn held_up(node: &Node, open: Open) -> Option<HeldUp> {
    let root = node.line().last()?;
    let since = root.links().entered[0]?;
    let held = node.tree.clock.now().since(since);
    Some(HeldUp { open, held })
}

fn age(started: Option<Duration>) -> Duration {
    started.map_or(Duration::ZERO, |started| coarse().saturating_sub(started))
}

/// The coarse clock in nanoseconds, never 0.
fn nanoseconds() -> u64 {
    u64::try_from(coarse().as_nanos())
        .unwrap_or(u64::MAX)
        .max(1)
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;
    use std::sync::mpsc::{Sender, channel};

    /// Looks now and then, as the keeper's alarm, until it ticks no more.
    fn tell_when_quiet(tree: &Arc<Tree>, quiet: Sender<()>) {
        let keeper = tree.keeper().expect("a keeper");
        let looking = Arc::clone(tree);
        keeper.set(tree.clock.now() + TICK, move || {
            if looking.tick.0.load(Ordering::Relaxed) == 0 {
                quiet.send(()).expect("heard");
            } else {
                tell_when_quiet(&looking, quiet);
            }
        });
    }

    #[test]
    fn the_keeper_reads_the_clock_only_while_units_come_and_go() {
        let shutdown = Shutdown::builder().build().expect("built");
        let tree = Arc::clone(&shutdown.token().node.tree);
        for _ in 0..2 {
            assert_eq!(tree.tick.0.load(Ordering::Relaxed), 0);
            shutdown.token().unit("one").expect("running").commit();
            assert_ne!(tree.tick.0.load(Ordering::Relaxed), 0);
            let (quiet, is_quiet) = channel();
            tell_when_quiet(&tree, quiet);
            let waited = is_quiet.recv_timeout(Duration::from_secs(60));
            assert!(waited.is_ok(), "it goes on for ever");
        }
    }
}
