//! Units: guarded sections that a stop waits for.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::caught::{self, Caught};
use super::lane::{Lane, Place};
use super::node::Node;
use super::open::OpenKind;
use super::registry::{Entry, Key};
use super::tree::Tree;
use super::{Ending, Phase, ShutdownToken};

impl ShutdownToken {
    /// Enters a unit: a section that a stop waits for. `None` once a stop was asked for: no extra one begins.
    ///
    /// Costs some nanoseconds, allocates nothing and takes no lock, but for the first unit of a thread. Not for destructors of thread-local values. The unit belongs to this thread; see
    /// [`owned_unit`](Self::owned_unit) for one that may cross threads and await points. Of the name, 40 bytes are kept for reports.
    ///
    /// # Examples
    ///
    /// ```
    /// # use safepoint::shutdown::Shutdown;
    /// # let shutdown = Shutdown::builder().build()?;
    /// # let token = shutdown.token();
    /// let mut accounts = vec![100, 0];
    /// for record in ["record 16", "record 17"] {
    ///     let Some(unit) = token.unit(record) else { break };
    ///     accounts[0] -= 10; // a stop between these two lines waits
    ///     accounts[1] += 10;
    ///     unit.commit();
    /// }
    /// assert_eq!(accounts, [80, 20]);
    /// # Ok::<(), safepoint::Error>(())
    /// ```
    #[must_use = "a unit ends when it is dropped, and is rolled back unless it was committed"]
    #[expect(
        clippy::inline_always,
        reason = "a unit that is copied out of a call is read before its parts are written: that stall costs more than all the rest"
    )]
    #[inline(always)]
    pub fn unit(&self, name: &str) -> Option<Unit<'_>> {
        let (lane, place) = enter(&self.node, name)?;
        Some(Unit {
            node: &self.node,
            lane,
            rollback: None,
            place,
            is_committed: false,
            _stays: PhantomData,
        })
    }

    /// Enters a unit that may be moved to another thread and held across await points. `None` once a stop was asked for.
    ///
    /// Costs a lock and a place in a list, some tens of nanoseconds.
    #[must_use = "a unit ends when it is dropped, and is rolled back unless it was committed"]
    pub fn owned_unit(&self, name: impl Into<Cow<'static, str>>) -> Option<OwnedUnit> {
        let open = OpenEntry::enter(&self.node, name.into(), OpenKind::Unit)?;
        Some(OwnedUnit {
            open,
            is_committed: false,
            rollback: Vec::new(),
        })
    }
}

#[expect(clippy::inline_always, reason = "as with `ShutdownToken::unit`")]
#[inline(always)]
fn enter<'a>(node: &'a Node, name: &str) -> Option<(&'a Lane, Place)> {
    let lane = node.tree.lane();
    let entered = lane.enter(name, node.tree.tick(), node.cell());
    if entered.is_none() {
        // The end of the stop may have seen it for an instant, and waits for it.
        node.tree.left_late(node, None);
    }
    entered.map(|place| (lane, place))
}

type Actions<'a> = Vec<Box<dyn FnOnce() -> Option<String> + 'a>>;

/// A section that a stop waits for, on one thread. Dropped without [`commit`](Self::commit), it is rolled back, also by a panic or an early return.
#[must_use = "a unit ends when it is dropped, and is rolled back unless it was committed"]
pub struct Unit<'a> {
    node: &'a Node,
    lane: &'a Lane,
    /// In a box, so that a unit without it is small and its end is a look at one pointer.
    rollback: Option<Box<Actions<'a>>>,
    place: Place,
    is_committed: bool,
    /// Only the thread of the lane may write to it.
    _stays: PhantomData<*const ()>,
}

impl<'a> Unit<'a> {
    /// Does `action` if the unit is dropped without a commit: the action added last comes first.
    ///
    /// An action that fails or panics is named in the report and holds up none of the others; the unit's own error or panic goes on untouched.
    pub fn on_rollback<R: Ending>(&mut self, action: impl FnOnce() -> R + 'a) {
        let action = Box::new(move || action().failure());
        self.rollback.get_or_insert_default().push(action);
    }

    /// Ends the unit well: what it did stays.
    #[expect(clippy::inline_always, reason = "as with `ShutdownToken::unit`")]
    #[inline(always)]
    pub fn commit(mut self) {
        self.is_committed = true;
    }

    #[cold]
    fn roll_back(&mut self) {
        let name = self.lane.seen_at(self.place).name;
        while let Some(action) = self.rollback.as_mut().and_then(|actions| actions.pop()) {
            end_action(&self.node.tree, &name, action, self.is_committed);
        }
    }

    #[cold]
    fn left_late(&self) {
        // The slot is as it was: only this thread would fill it anew.
        let open = Tree::open_at(self.lane, self.place);
        self.node.tree.left_late(self.node, Some(open));
    }
}

impl Drop for Unit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.rollback.is_some() {
            self.roll_back();
        }
        self.lane.leave(self.place, self.is_committed);
        if self.node.phase() != Phase::Running {
            self.left_late();
        }
    }
}

impl fmt::Debug for Unit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unit")
            .field("name", &self.lane.seen_at(self.place).name)
            .finish_non_exhaustive()
    }
}

/// A section that a stop waits for, free to move between threads and to be held across await points.
///
/// Dropped without [`commit`](Self::commit), it is rolled back, also by a panic, an early return, or the end of its future.
#[must_use = "a unit ends when it is dropped, and is rolled back unless it was committed"]
pub struct OwnedUnit {
    open: OpenEntry,
    is_committed: bool,
    rollback: Vec<Box<dyn FnOnce() -> Option<String> + Send>>,
}

impl OwnedUnit {
    /// Does `action` if the unit is dropped without a commit: the action added last comes first.
    ///
    /// An action that fails or panics is named in the report and holds up none of the others; the unit's own error or panic goes on untouched.
    pub fn on_rollback<R: Ending>(&mut self, action: impl FnOnce() -> R + Send + 'static) {
        self.rollback.push(Box::new(move || action().failure()));
    }

    /// Ends the unit well: what it did stays.
    pub fn commit(mut self) {
        self.is_committed = true;
    }
}

impl Drop for OwnedUnit {
    fn drop(&mut self) {
        while let Some(action) = self.rollback.pop() {
            end_action(
                &self.open.node.tree,
                &self.open.name,
                action,
                self.is_committed,
            );
        }
        self.open.is_committed = self.is_committed;
    }
}

impl fmt::Debug for OwnedUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedUnit")
            .field("name", &self.open.name)
            .finish_non_exhaustive()
    }
}

/// A place in the registry; leaves it when dropped.
pub(super) struct OpenEntry {
    pub(super) node: Arc<Node>,
    name: Cow<'static, str>,
    key: Key,
    is_committed: bool,
}

impl OpenEntry {
    pub(super) fn enter(node: &Arc<Node>, name: Cow<'static, str>, kind: OpenKind) -> Option<Self> {
        let entry = Entry {
            name: name.clone(),
            kind,
            started: Duration::from_nanos(node.tree.tick()),
            serial: node.tree.here(),
        };
        let key = node.tree.registry.enter(entry, node.cell())?;
        Some(Self {
            node: Arc::clone(node),
            name,
            key,
            is_committed: false,
        })
    }
}

impl OpenEntry {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn rename(&mut self, name: Cow<'static, str>) {
        self.name.clone_from(&name);
        self.node.tree.registry.rename(self.key, name);
    }

    /// Notes that the work goes on on the calling thread.
    pub(super) fn runs_here(&self) {
        let serial = self.node.tree.here();
        self.node.tree.registry.moved(self.key, serial);
    }
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        let entry = self.node.tree.registry.leave(self.key, self.is_committed);
        // Here no barrier is needed: the registry's lock orders the departure and this look against the end of the stop.
        if self.node.phase() != Phase::Running {
            let open = entry.map(|entry| self.node.tree.of_entry(&entry));
            self.node.tree.left_late(&self.node, open);
        }
    }
}

/// Runs a rollback action, or drops it after a commit: before the unit ends, for it may hold something that closes.
fn end_action(
    tree: &Tree,
    unit: &str,
    action: impl FnOnce() -> Option<String>,
    is_committed: bool,
) {
    let ended = if is_committed {
        caught::run(|| drop(action))
    } else {
        caught::run(|| action().map_or(Ok(()), Err))
    };
    match ended {
        Caught::Done => {}
        Caught::Failed(message) => tree.failed(unit, message),
        Caught::Panicked(message) => tree.failed(unit, format!("panicked: {message}")),
    }
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::shutdown::{Shutdown, Source, StopRequest};
    use std::cell::RefCell;
    use std::panic::AssertUnwindSafe;

    fn trouble(text: &str) {
        assert!(text.is_empty(), "{text}");
    }

    fn shutdown() -> crate::shutdown::Shutdown {
        Shutdown::builder().build().expect("built")
    }

    #[test]
    fn rollback_runs_last_in_first_out_and_only_without_a_commit() {
        let shutdown = shutdown();
        let token = shutdown.token();
        let undone = RefCell::new(Vec::new());
        let mut unit = token.unit("dropped").expect("running");
        unit.on_rollback(|| undone.borrow_mut().push(1));
        unit.on_rollback(|| undone.borrow_mut().push(2));
        drop(unit);
        assert_eq!(*undone.borrow(), [2, 1]);
        let mut unit = token.unit("committed").expect("running");
        unit.on_rollback(|| undone.borrow_mut().push(3));
        unit.commit();
        assert_eq!(*undone.borrow(), [2, 1]);
        let units = token.status().units;
        assert_eq!((units.committed, units.rolled_back), (1, 1));
    }

    #[test]
    fn a_panic_or_an_error_of_the_unit_goes_on_whatever_its_rollback_does() {
        let shutdown = shutdown();
        let token = shutdown.token();
        let mut first_ran = false;
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut unit = token.unit("transfer").expect("running");
            unit.on_rollback(|| first_ran = true);
            unit.on_rollback(|| trouble("the rollback's own"));
            unit.on_rollback(|| Err::<(), _>("cannot undo"));
            trouble("the unit's own");
        }));
        let payload = caught.expect_err("panicked");
        assert_eq!(caught::message(payload.as_ref()), "the unit's own");
        assert!(first_ran);
        let report = shutdown.finish();
        let failures: Vec<_> = report
            .failures
            .iter()
            .map(|failure| (failure.unit.as_str(), failure.message.as_str()))
            .collect();
        assert_eq!(
            failures,
            [
                ("transfer", "cannot undo"),
                ("transfer", "panicked: the rollback's own")
            ]
        );
        let text = report.to_string();
        assert!(
            text.contains("rollback of `transfer` failed: cannot undo"),
            "{text}"
        );
    }

    #[test]
    fn an_owned_unit_crosses_threads_and_rolls_back_there() {
        let shutdown = shutdown();
        let token = shutdown.token();
        let mut unit = token.owned_unit("moved").expect("running");
        let (undone, was_undone) = std::sync::mpsc::channel();
        unit.on_rollback(move || undone.send(std::thread::current().id()));
        let thread = std::thread::spawn(move || {
            drop(unit);
            std::thread::current().id()
        });
        let there = thread.join().expect("no panic");
        assert_eq!(was_undone.recv(), Ok(there));
        token.owned_unit("kept").expect("running").commit();
        token.request(StopRequest::graceful(Source::User, "enough"));
        assert!(token.owned_unit("late").is_none());
        let units = shutdown.finish().units;
        assert_eq!(
            (units.committed, units.rolled_back, units.refused),
            (1, 1, 1)
        );
    }

    #[test]
    fn units_of_many_shutdowns_do_not_mix() {
        let (one, other) = (shutdown(), shutdown());
        let (first, second) = (one.token(), other.token());
        let held = first.unit("of the first").expect("running");
        second.unit("of the second").expect("running").commit();
        assert!(second.status().open.is_empty());
        second.request(StopRequest::graceful(Source::User, "only this"));
        assert!(other.finish().is_clean());
        assert!(!first.is_stopping());
        held.commit();
    }

    #[test]
    fn seventy_thousand_units_of_one_thread_are_all_counted() {
        const UNITS: usize = 70_000;
        let shutdown = Shutdown::builder()
            .grace(std::time::Duration::ZERO)
            .build()
            .expect("built");
        let token = shutdown.token();
        let mut units: Vec<_> = (0..UNITS)
            .map(|_| token.unit("one of many").expect("running"))
            .collect();
        assert_eq!(token.status().open.len(), UNITS);
        let last = units.pop();
        drop(units);
        assert_eq!(token.status().open.len(), 1);
        assert!(!token.node.tree.is_idle());
        let mut units: Vec<_> = (0..UNITS)
            .map(|_| token.unit("one of many").expect("running"))
            .collect();
        units.extend(last);
        token.request(StopRequest::graceful(Source::User, "enough"));
        let report = shutdown.finish();
        assert_eq!(report.given_up.len(), UNITS + 1);
        let last = units.pop();
        drop(units);
        assert!(!token.node.tree.is_idle());
        drop(last);
        assert!(token.node.tree.is_idle());
    }

    #[test]
    fn what_a_committed_unit_holds_for_its_rollback_goes_before_the_unit_does() {
        struct Holds(
            crate::shutdown::ShutdownToken,
            std::sync::mpsc::Sender<usize>,
        );
        impl Drop for Holds {
            fn drop(&mut self) {
                self.1.send(self.0.status().open.len()).expect("heard");
            }
        }
        let shutdown = shutdown();
        let token = shutdown.token();
        let (open, was_open) = std::sync::mpsc::channel();
        let mut unit = token.unit("borrowed").expect("running");
        let held = Holds(token.clone(), open.clone());
        unit.on_rollback(move || drop(held));
        unit.commit();
        assert_eq!(was_open.try_recv(), Ok(1));
        let mut unit = token.owned_unit("owned").expect("running");
        let held = Holds(token.clone(), open);
        unit.on_rollback(move || drop(held));
        unit.commit();
        assert_eq!(was_open.try_recv(), Ok(1));
        assert_eq!(token.status().units.committed, 2);
    }

    #[test]
    fn a_thread_that_ends_hands_its_lane_on_and_the_counts_stay() {
        let shutdown = shutdown();
        for round in 0..100u32 {
            let token = shutdown.token();
            let name = format!("worker {round}");
            let thread = std::thread::Builder::new().name(name.clone());
            let thread = thread.spawn(move || {
                let unit = token.unit("its own").expect("running");
                assert_eq!(token.status().open[0].thread, name);
                unit.commit();
            });
            thread.expect("started").join().expect("no panic");
        }
        assert_eq!(shutdown.finish().units.committed, 100);
    }
}
