//! The primitives that the models of this room replace by loom's: built with `--cfg safepoint_loom`, every interleaving of them is
//! tried (`cargo xtask models`).

#[cfg(not(safepoint_loom))]
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU64, fence},
};

#[cfg(safepoint_loom)]
pub(super) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU64, fence},
};

use std::sync::PoisonError;

/// Locks, also after a panic of another holder: every critical section of this room leaves its data whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
