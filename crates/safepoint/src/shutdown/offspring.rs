//! The children of a node, in lists under locks: several for a root, whose children many threads make, and one for any other.
//!
//! A child is put into a list under the list's lock, with the phase that its parent has then. Whoever raises the parent's phase does so before taking
//! the lock; so either the child is made with the phase, or it is found.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use slab::Slab;

use super::node::Node;
use super::sync::{AtomicU8, Mutex, lock};
use super::thread;

const LISTS: usize = if cfg!(safepoint_loom) { 1 } else { 8 };

pub(super) struct Offspring {
    lists: Box<[List]>,
}

/// On a cache line pair of its own, so that one list's lock does not slow another's.
#[derive(Default)]
#[repr(align(128))]
struct List {
    children: Mutex<Slab<Weak<Node>>>,
}

impl Offspring {
    pub(super) fn new(many: bool) -> Self {
        let lists = if many { LISTS } else { 1 };
        Self {
            lists: (0..lists).map(|_| List::default()).collect(),
        }
    }

    /// Puts `child` into a list and gives it the `phase` of its parent; says where it is.
    pub(super) fn add(&self, child: &Arc<Node>, phase: &AtomicU8) -> usize {
        let weak = Arc::downgrade(child);
        let list = usize::try_from(thread::serial()).unwrap_or(0) % self.lists.len();
        let mut children = lock(&self.lists[list].children);
        // Relaxed, both: the lock orders them against whoever raises the phase.
        let phase = phase.load(Ordering::Relaxed);
        child.cell().store(phase, Ordering::Relaxed);
        children.insert(weak) * self.lists.len() + list
    }

    pub(super) fn remove(&self, place: usize) {
        let list = &self.lists[place % self.lists.len()];
        let gone = lock(&list.children).try_remove(place / self.lists.len());
        drop(gone);
    }

    /// Adds all who live to `children`.
    pub(super) fn collect(&self, children: &mut Vec<Arc<Node>>) {
        for list in &*self.lists {
            let living = lock(&list.children);
            children.extend(living.iter().filter_map(|(_, child)| child.upgrade()));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lists
            .iter()
            .all(|list| lock(&list.children).is_empty())
    }
}
