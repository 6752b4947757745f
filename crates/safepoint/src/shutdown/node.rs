//! One token's place in the tree: its phase, its requests, and the children they reach.
//!
//! Invariants:
//!
//! 1. A node's phase is never behind its parent's for longer than a request takes to travel down; a child is put among its parent's
//!    [offspring](Offspring) with the parent's phase, so none is passed over.
//! 2. Phases are raised before a lock is taken to look for children and waiters, and only by `fetch_max`: a signal handler raises the
//!    root's without any lock.
//! 3. Wakers, followers and observers are called without a lock held, the requested node's before its children's, and the caller's last.
//! 4. A child keeps its parent alive, never the other way round; making, telling and dropping a deep line of children does not recurse.
//!
//! Lock order: a node's `links`, or one list of its waiters or its offspring, alone; no two nodes are locked together.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use slab::Slab;

use super::caught::catch;
use super::keeper::Keeper;
use super::offspring::Offspring;
use super::sync::{AtomicU8, Mutex, MutexGuard, lock};
use super::tree::Tree;
use super::waiters::Waiters;
use super::{Mode, Phase, Recorded, StopRequest};
use crate::clock::{Moment, wall_ms};

/// A processor's cache line, in bytes.
const LINE: usize = 64;

pub(super) type Observer = Arc<dyn Fn(Phase) + Send + Sync>;

/// What recorded requests lead to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    phase: Phase,
    at: Moment,
    /// The first request made on this node is among them.
    is_first: bool,
    /// The grace period begins with them.
    begins: bool,
}

impl Reached {
    /// The end of the process was asked for, which is no request.
    pub(super) fn the_end(at: Moment) -> Self {
        Self {
            phase: Phase::Terminating,
            at,
            is_first: false,
            begins: false,
        }
    }

    /// This and what came after it, to be told in one go.
    pub(super) fn and(self, later: Self) -> Self {
        Self {
            phase: self.phase.max(later.phase),
            at: self.at,
            is_first: self.is_first || later.is_first,
            begins: self.begins || later.begins,
        }
    }
}

/// What a token points to. The fields stay in this order: the first ones are read by every check and written once, so the
/// counters of the `Arc` before them and the lock after them are kept off their cache line.
#[repr(C)]
pub(super) struct Node {
    _before: [MaybeUninit<u8>; LINE],
    phase: AtomicU8,
    parent: Option<Arc<Node>>,
    pub(super) tree: Arc<Tree>,
    pub(super) name: Cow<'static, str>,
    /// The place in the parent's list of children.
    slot: AtomicUsize,
    waiters: OnceLock<Box<Waiters>>,
    offspring: OnceLock<Box<Offspring>>,
    _after: [MaybeUninit<u8>; LINE],
    links: Mutex<Links>,
}

#[derive(Default)]
pub(super) struct Links {
    /// Requests made here, each with its number in the whole tree.
    pub(super) requests: Vec<(u64, Recorded)>,
    pub(super) deadline: Option<Moment>,
    /// Our own, which never block: called at once.
    followers: Slab<Observer>,
    /// The caller's.
    observers: Slab<Observer>,
    /// When Draining, Terminating and Stopped were first seen under the lock.
    pub(super) entered: [Option<Moment>; 3],
}

impl Node {
    pub(super) fn root(tree: Arc<Tree>) -> Arc<Self> {
        Arc::new(Self::new(
            tree,
            Cow::Borrowed(""),
            None,
            Phase::Running as u8,
        ))
    }

    fn new(tree: Arc<Tree>, name: Cow<'static, str>, parent: Option<Arc<Self>>, phase: u8) -> Self {
        Self {
            _before: [MaybeUninit::uninit(); LINE],
            phase: AtomicU8::new(phase),
            parent,
            tree,
            name,
            slot: AtomicUsize::new(0),
            waiters: OnceLock::new(),
            offspring: OnceLock::new(),
            _after: [MaybeUninit::uninit(); LINE],
            links: Mutex::default(),
        }
    }

    pub(super) fn child(self: &Arc<Self>, name: Cow<'static, str>) -> Arc<Self> {
        // Made before the lock is taken, and seen by nobody until it is in the list.
        let parent = Some(Arc::clone(self));
        let child = Arc::new(Self::new(
            Arc::clone(&self.tree),
            name,
            parent,
            Phase::Running as u8,
        ));
        // Relaxed: read when the child is dropped, which happens after this for whoever drops it.
        let place = self.offspring().add(&child, &self.phase);
        child.slot.store(place, Ordering::Relaxed);
        child
    }

    /// The children, in lists that are made for the first.
    fn offspring(&self) -> &Offspring {
        match self.offspring.get() {
            Some(offspring) => offspring,
            None => self.make_offspring(),
        }
    }

    #[cold]
    fn make_offspring(&self) -> &Offspring {
        // Under the lock that `raise` takes before it looks for the lists: so either it finds them, or the child that follows sees the phase.
        let links = self.links();
        let offspring = self
            .offspring
            .get_or_init(|| Box::new(Offspring::new(self.is_root())));
        drop(links);
        offspring
    }

    pub(super) fn links(&self) -> MutexGuard<'_, Links> {
        lock(&self.links)
    }

    /// Has `observer` called on every request and every change of phase, where it may hang.
    pub(super) fn observe(&self, observer: Observer) {
        self.links().observers.insert(observer);
    }

    /// Has `follower`, which is ours and never blocks, called at once on every request and every change of phase, until what is returned is dropped.
    pub(super) fn follow(self: &Arc<Self>, follower: Observer) -> Following {
        Following {
            key: self.links().followers.insert(follower),
            node: Some(Arc::clone(self)),
        }
    }

    /// The cell that checks read and a signal handler raises.
    #[inline]
    pub(super) fn cell(&self) -> &AtomicU8 {
        &self.phase
    }

    #[inline]
    pub(super) fn phase(&self) -> Phase {
        // Relaxed: the phase guards no other memory; whoever needs the reason takes the lock, which orders it.
        Phase::from_u8(self.phase.load(Ordering::Relaxed))
    }

    /// This node and its ancestors, from here to the root.
    pub(super) fn line(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |node| node.parent.as_deref())
    }

    pub(super) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// The waker list, made at the first wait.
    pub(super) fn waiters(&self) -> &Waiters {
        match self.waiters.get() {
            Some(waiters) => waiters,
            None => self.make_waiters(),
        }
    }

    #[cold]
    fn make_waiters(&self) -> &Waiters {
        // Under the lock that `raise` takes before it looks for the list: so either it finds the list, or the insertion that follows
        // sees the phase.
        let links = self.links();
        let waiters = self
            .waiters
            .get_or_init(|| Box::new(Waiters::new(self.is_root())));
        drop(links);
        waiters
    }

    /// Records a request made here and gives the phase to [`tell`](Self::tell) of it.
    pub(super) fn record(&self, request: StopRequest) -> Reached {
        let now = self.tree.clock.now();
        let reserve = self.tree.reserve();
        let mut links = self.links();
        // Under the lock: so numbers grow within one list, and who looks at a line of nodes from below never finds a smaller one later.
        let number = self.tree.next_number();
        let mode = request.mode;
        let phase = self.phase().after(mode);
        links.requests.push((
            number,
            Recorded {
                request,
                at_ms: wall_ms(),
            },
        ));
        let is_first = links.requests.len() == 1;
        let begins = links.deadline.is_none();
        let mut deadline = *links.deadline.get_or_insert(now + self.tree.grace);
        if mode == Mode::Immediate {
            // Somebody is in a hurry: what is left is the time to save.
            deadline = deadline.min(now + reserve);
            links.deadline = Some(deadline);
        }
        Reached {
            phase,
            at: now,
            is_first,
            begins,
        }
    }

    /// Begins to drain without a request: the work has ended by itself.
    pub(super) fn end_by_itself(self: &Arc<Self>) {
        self.tree.absorb();
        let now = self.tree.clock.now();
        let mut links = self.links();
        let begins = links.deadline.is_none();
        links.deadline.get_or_insert(now + self.tree.grace);
        drop(links);
        if begins {
            self.put_in_diary(now);
        }
        self.advance_to(Phase::Draining);
    }

    /// Tells everybody of a recorded request.
    pub(super) fn tell(self: &Arc<Self>, reached: Reached) -> Phase {
        // First of all, who waits is woken; the rest has time.
        let told = self.raise(reached.phase, reached.at);
        if reached.begins {
            self.put_in_diary(reached.at);
        }
        if reached.is_first && self.is_root() {
            let first = self
                .links()
                .requests
                .first()
                .map(|(_, first)| first.request.clone());
            if let Some(first) = first {
                self.tree.observers.before_stop(&first);
            }
        }
        // The keeper must not hang.
        let elsewhere = self.tree.keeper().is_some_and(Keeper::is_here);
        self.call(told, elsewhere);
        reached.phase
    }

    /// Calls the caller's observers here, or `elsewhere`: on the thread where they may hang, if there is one.
    fn call(&self, told: Vec<(Arc<Self>, Observer)>, elsewhere: bool) {
        match self.tree.keeper() {
            Some(keeper) if elsewhere && !told.is_empty() => keeper.tell(|| call(told)),
            _ => call(told),
        }
    }

    /// Has the keeper end the time for draining, if there is a keeper.
    fn put_in_diary(self: &Arc<Self>, begun: Moment) {
        if let Some(keeper) = self.tree.keeper() {
            let node = Arc::downgrade(self);
            keeper.set(begun + self.tree.draining_time(), move || {
                if let Some(node) = node.upgrade() {
                    node.advance_to(Phase::Terminating);
                }
            });
        }
    }

    /// Advances without a request: the grace period is over, or all is.
    pub(super) fn advance_to(self: &Arc<Self>, to: Phase) {
        if self.phase() < to {
            let told = self.raise(to, self.tree.clock.now());
            // Nobody's request: whoever is here, the keeper or the end of the stop, must not hang.
            self.call(told, true);
        }
    }

    /// All requests that reach this node, in order, and when its time is over.
    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.tree.absorb();
        let mut requests = Vec::new();
        for node in self.line() {
            requests.extend(node.links().requests.iter().cloned());
        }
        requests.sort_by_key(|(number, _)| *number);
        requests.into_iter().map(|(_, recorded)| recorded).collect()
    }

    /// The first request that reached this node.
    pub(super) fn reason(&self) -> Option<StopRequest> {
        self.tree.absorb();
        let first = self
            .line()
            .filter_map(|node| node.links().requests.first().cloned());
        let first = first.min_by_key(|(number, _)| *number);
        first.map(|(_, recorded)| recorded.request)
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.tree.absorb();
        self.line().filter_map(|node| node.links().deadline).min()
    }

    /// Raises the phase here and below, and wakes and tells everybody concerned but the caller's observers, who are left to tell. Returns when every child
    /// is told.
    fn raise(self: &Arc<Self>, to: Phase, entered: Moment) -> Vec<(Arc<Self>, Observer)> {
        let mut pending = vec![Arc::clone(self)];
        let mut told: Vec<(Arc<Self>, Observer)> = Vec::new();
        let mut followers: Vec<(Arc<Self>, Observer)> = Vec::new();
        while let Some(node) = pending.pop() {
            // Relaxed: the lock below orders it for whoever looks under the lock; everybody else only needs to see it soon.
            node.phase.fetch_max(to as u8, Ordering::Relaxed);
            {
                let mut links = node.links();
                for (level, moment) in links.entered.iter_mut().enumerate() {
                    if level < to as usize {
                        moment.get_or_insert(entered);
                    }
                }
                let of_node =
                    |(_, observer): (usize, &Observer)| (Arc::clone(&node), Arc::clone(observer));
                told.extend(links.observers.iter().map(of_node));
                followers.extend(links.followers.iter().map(of_node));
            }
            if let Some(waiters) = node.waiters.get() {
                waiters.wake(to);
            }
            if let Some(offspring) = node.offspring.get() {
                offspring.collect(&mut pending);
            }
        }
        if self.is_root() {
            self.tree.propagated(to);
        }
        for (node, follower) in followers {
            follower(node.phase());
        }
        told
    }
}

/// Calls the caller's observers, each apart from the panics of the others.
fn call(told: Vec<(Arc<Node>, Observer)>) {
    for (node, observer) in told {
        // The panic hook has printed a panic; the request itself is not to fail by it.
        let _ = catch(|| observer(node.phase()));
    }
}

/// A follower's registration; dropping it takes the follower back.
pub(crate) struct Following {
    node: Option<Arc<Node>>,
    key: usize,
}

impl Following {
    /// Has the follower called as long as its token lives.
    pub(crate) fn for_good(mut self) {
        self.node = None;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let follower = self
            .node
            .as_ref()
            .and_then(|node| node.links().followers.try_remove(self.key));
        drop(follower);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        let mut slot = self.slot.load(Ordering::Relaxed);
        // One turn for each ancestor that dies with this node, instead of one stack frame.
        while let Some(node) = parent {
            if let Some(offspring) = node.offspring.get() {
                offspring.remove(slot);
            }
            slot = node.slot.load(Ordering::Relaxed);
            parent = Arc::into_inner(node).and_then(|mut node| node.parent.take());
        }
    }
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::shutdown::{ShutdownToken, Source};
    use std::time::Duration;

    fn token() -> ShutdownToken {
        ShutdownToken::detached(crate::clock::Clock::start(), Duration::from_secs(60))
    }

    #[test]
    fn a_line_of_a_million_children_is_made_told_and_dropped_without_recursion() {
        let root = token();
        let mut last = root.child("first");
        for _ in 0..1_000_000 {
            last = last.child("next");
        }
        root.request(StopRequest::graceful(Source::User, "enough"));
        assert!(last.is_stopping());
        assert_eq!(
            last.reason().map(|reason| reason.message).as_deref(),
            Some("enough")
        );
        drop(last);
        assert!(root.node.offspring().is_empty());
    }

    #[test]
    fn a_request_reaches_all_below_and_none_beside_or_above() {
        let root = token();
        let (left, right) = (root.child("left"), root.child("right"));
        let below = left.child("below");
        left.request(StopRequest::graceful(Source::User, "only the left"));
        let late = left.child("late");
        assert!(left.is_stopping() && below.is_stopping() && late.is_stopping());
        assert!(!root.is_stopping() && !right.is_stopping());
        assert!(root.requests().is_empty() && right.reason().is_none());
        root.request(StopRequest::immediate(Source::System, "all"));
        for token in [&root, &left, &right, &below, &late] {
            assert_eq!(token.phase(), Phase::Terminating);
        }
        let messages = |token: &ShutdownToken| -> Vec<String> {
            token
                .requests()
                .into_iter()
                .map(|recorded| recorded.request.message)
                .collect()
        };
        assert_eq!(messages(&below), ["only the left", "all"]);
        assert_eq!(messages(&right), ["all"]);
    }

    #[test]
    fn a_follower_is_taken_back() {
        let root = token();
        let following = root.node.follow(Arc::new(|_| {}));
        assert_eq!(root.node.links().followers.len(), 1);
        drop(following);
        assert!(root.node.links().followers.is_empty());
    }
}
