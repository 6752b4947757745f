//! A check and a unit allocate nothing.
//!
//! Allocations are counted per thread: other tests and the threads of the test runner allocate when they like.

#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use safepoint::clock::Clock;
use safepoint::shutdown::{ShutdownToken, Source, StopRequest};
use safepoint_benches::rates;
use safepoint_benches::tools::{Safepoint, SwansongReporting, Tool};

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

thread_local! {
    // Without a destructor and a first time, so that counting allocates nothing itself and works until the thread is gone.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: everything is left to the system's allocator; counting touches a plain cell of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; the pointer came from the same allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from the same allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How often `work` allocates on this thread.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_sees_every_way_to_allocate() {
    assert_eq!(allocations(|| ()), 0);
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| drop(black_box(vec![0_u8; 4096]))), 1);
    let mut grown = Vec::with_capacity(1);
    grown.push(1);
    assert_eq!(allocations(|| black_box(&mut grown).push(2)), 1);
    // The loop that is asked about below, around a tool that is known to allocate in each turn.
    let reporting = SwansongReporting::new();
    assert!(allocations(|| rates::unit(&reporting, 1000)) >= 1000);
}

#[test]
fn a_check_allocates_nothing() {
    let tool = Safepoint::new();
    assert_eq!(allocations(|| rates::check(&tool, 1000)), 0);
}

#[test]
fn a_unit_allocates_nothing_once_its_thread_is_known() {
    let tool = Safepoint::new();
    // The first one of a thread makes the place where all its later ones are kept.
    rates::unit(&tool, 1);
    assert_eq!(allocations(|| rates::unit(&tool, 1000)), 0);
}

#[test]
fn units_within_units_and_long_names_allocate_nothing() {
    let token = ShutdownToken::detached(Clock::start(), Duration::from_secs(60));
    let long = "a name that is longer than what is kept of one, for whatever reason";
    drop(token.unit("first"));
    let allocated = allocations(|| {
        let units: [_; 20] = std::array::from_fn(|_| token.unit(long));
        assert!(units.iter().all(Option::is_some));
        for unit in units.into_iter().flatten() {
            unit.commit();
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
fn a_unit_that_is_refused_or_given_up_allocates_nothing() {
    let token = ShutdownToken::detached(Clock::start(), Duration::from_secs(60));
    drop(token.unit("first"));
    assert_eq!(allocations(|| drop(token.unit("given up"))), 0);
    token.request(StopRequest::graceful(Source::Programmatic, "the test"));
    assert!(token.unit("refused").is_none());
    assert_eq!(allocations(|| assert!(token.unit("refused").is_none())), 0);
}
