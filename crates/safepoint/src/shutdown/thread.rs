//! Which thread this is, cheaply: a number for comparisons, a name for people.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static SERIAL: Cell<u64> = const { Cell::new(0) };
}

/// This thread's number, from 1; never given twice in a process.
#[inline]
pub(super) fn serial() -> u64 {
    SERIAL.with(|serial| match serial.get() {
        0 => assign(serial),
        known => known,
    })
}

#[cold]
fn assign(serial: &Cell<u64>) -> u64 {
    // Relaxed: only that no number is given twice matters.
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    serial.set(next);
    next
}

/// What to call a thread that has ended, in a report.
pub(super) fn ended(serial: u64) -> String {
    format!("thread {serial}, which has ended")
}

/// What to call the thread with this number in a report.
pub(super) fn name(thread: &Thread, serial: u64) -> String {
    match thread.name() {
        Some(name) => name.to_owned(),
        None => format!("thread {serial}"),
    }
}
