//! What an intake promises, one promise at a time; `interleavings` mixes them.

mod interleavings;

use std::future::{pending, ready};
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use super::state::Purpose;
use super::timer::Timer;
use super::*;
use crate::clock::Clock;
use crate::shutdown::parker::block_on;
use crate::shutdown::{Source, StopRequest};

/// Longer than any test takes, so that a wait that ends by it shows.
const LONG: Duration = Duration::from_secs(600);

fn token() -> ShutdownToken {
    ShutdownToken::detached(Clock::start(), LONG)
}

fn intake<T: Send + 'static>(token: &ShutdownToken, capacity: usize) -> Drain<T> {
    Drain::new(token, NonZeroUsize::new(capacity).unwrap())
}

fn drain_of(token: &ShutdownToken) {
    token.request(StopRequest::graceful(Source::Programmatic, "drain"));
}

fn terminate(token: &ShutdownToken) {
    token.request(StopRequest::immediate(Source::Programmatic, "terminate"));
}

fn in_line<T>(drain: &Drain<T>, purpose: Purpose) -> usize {
    drain.shared.hold().line(purpose).waiting.len()
}

/// Lets other threads run until somebody stands in line for `purpose`.
fn until_in_line<T>(drain: &Drain<T>, purpose: Purpose) {
    while in_line(drain, purpose) == 0 {
        thread::yield_now();
    }
}

/// Throws as `panic!` does, without the hook's print.
fn throw(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

/// A task's waker that only remembers.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future with a waker of its own, polled by hand.
struct Polled<F: Future> {
    future: Pin<Box<F>>,
    flag: Arc<Flag>,
}

impl<F: Future> Polled<F> {
    fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            flag: Arc::default(),
        }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        self.flag.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.flag));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn is_woken(&self) -> bool {
        self.flag.0.load(Ordering::SeqCst)
    }
}

#[test]
fn items_come_out_in_order_and_a_full_intake_says_so() {
    let drain = intake(&token(), 2);
    assert!(drain.try_push(1).is_ok() && drain.push(2).is_ok());
    let full = drain.try_push(3).expect_err("full");
    assert_eq!(full.to_string(), "the intake is full");
    assert_eq!(full.into_item(), 3);
    assert_eq!(drain.pull(), Some(1));
    assert!(block_on(drain.push_async(3)).is_ok());
    assert_eq!(block_on(drain.pull_async()), Some(2));
    assert_eq!(drain.clone().pull(), Some(3));
    let drained = drain.finish(LONG);
    assert_eq!(
        (drained.pulled, drained.done, drained.left_over.len()),
        (3, 0, 0)
    );
}

#[test]
fn a_stop_hands_back_whatever_comes_and_lets_out_what_is_in() {
    struct Mute;
    let token = token();
    let drain = intake(&token, 2);
    drain.push(Mute).expect("accepted");
    drain_of(&token);
    let refused = drain.push(Mute).expect_err("refused");
    assert_eq!(refused.to_string(), "the intake takes no more items");
    assert_eq!(format!("{refused:?}"), "Refused { .. }");
    let Mute = refused.into_item();
    let refused = drain.try_push(Mute).expect_err("refused");
    assert_eq!(format!("{refused:?}"), "Refused(Refused { .. })");
    assert!(block_on(drain.push_async(Mute)).is_err());
    assert!(drain.pull().is_some());
    assert!(drain.pull().is_none());
    assert!(block_on(drain.pull_async()).is_none());
    assert!(intake(&token, 1).push(Mute).is_err(), "made after the stop");
}

#[test]
fn a_pusher_that_waits_at_a_full_intake_gets_its_item_back_by_the_stop() {
    let token = token();
    let drain = intake(&token, 1);
    drain.push("in").expect("accepted");
    let waiting = drain.clone();
    let thread = thread::spawn(move || waiting.push("out").map_err(Refused::into_item));
    let mut task = Polled::new(drain.push_async("out too"));
    assert!(task.poll().is_pending());
    while in_line(&drain, Purpose::Push) < 2 {
        thread::yield_now();
    }
    drain_of(&token);
    assert_eq!(thread.join().unwrap(), Err("out"));
    assert!(task.is_woken());
    assert!(matches!(task.poll(), Poll::Ready(Err(refused)) if refused.into_item() == "out too"));
    assert_eq!(drain.pull(), Some("in"));
}

#[test]
fn a_waiting_puller_is_released_by_an_item_a_stop_and_a_finish() {
    for release in 0..3 {
        let token = token();
        let drain = intake(&token, 1);
        let waiting = drain.clone();
        let thread = thread::spawn(move || waiting.pull());
        until_in_line(&drain, Purpose::Take);
        let expected = match release {
            0 => drain.push(7).map(|()| 7).ok(),
            1 => {
                drain_of(&token);
                None
            }
            _ => {
                assert!(drain.finish(LONG).left_over.is_empty());
                None
            }
        };
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn terminating_leaves_items_over_and_ends_every_wait() {
    let token = token();
    let drain = intake(&token, 3);
    for item in 1..=3 {
        drain.push(item).expect("accepted");
    }
    assert_eq!(drain.pull(), Some(1));
    let finishing = drain.clone();
    let thread = thread::spawn(move || finishing.finish(LONG));
    let mut task = Polled::new(drain.finish_async(LONG));
    assert!(task.poll().is_pending());
    terminate(&token);
    assert_eq!(drain.pull(), None);
    assert!(task.is_woken());
    let Poll::Ready(first) = task.poll() else {
        panic!("over");
    };
    let second = thread.join().unwrap();
    // Whichever closed first has them, in order.
    let left_over: Vec<_> = first
        .left_over
        .into_iter()
        .chain(second.left_over)
        .collect();
    assert_eq!(left_over, [2, 3]);
    assert_eq!((first.pulled, second.pulled), (1, 1));
}

#[test]
fn a_worker_goes_on_after_errors_and_panics() {
    struct Trap;
    impl Drop for Trap {
        fn drop(&mut self) {
            throw("thrown by the drop of what was thrown");
        }
    }
    struct Unshowable;
    impl std::fmt::Display for Unshowable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            throw("thrown while being shown")
        }
    }
    let expected = [
        "an error",
        "panicked: 2 thrown",
        "panicked: a text",
        "panicked: (a panic without a text)",
        "panicked: thrown while being shown",
    ];
    let work = |item: u32| -> Result<(), String> {
        match item {
            1 => Err("an error".to_owned()),
            2 => resume_unwind(Box::new("2 thrown".to_owned())),
            3 => throw("a text"),
            4 => resume_unwind(Box::new(Trap)),
            5 => Err(Unshowable).map_err(|error: Unshowable| error.to_string()),
            _ => Ok(()),
        }
    };
    for asynchronous in [false, true] {
        let token = token();
        let drain = intake(&token, 10);
        for item in 0..8 {
            drain.push(item).expect("accepted");
        }
        drain_of(&token);
        if asynchronous {
            block_on(drain.serve_async(|item| async move { work(item) }));
        } else {
            drain.serve(work);
        }
        let drained = drain.finish(LONG);
        assert_eq!(
            (drained.done, drained.failed, drained.in_progress),
            (3, 5, 0)
        );
        assert_eq!(drained.failures, expected);
        assert!(drained.left_over.is_empty());
    }
}

#[test]
fn a_worker_s_future_may_panic_when_it_is_made_polled_or_dropped() {
    struct Trap;
    impl Drop for Trap {
        fn drop(&mut self) {
            throw("dropped");
        }
    }
    let token = token();
    let drain = intake(&token, 10);
    for item in 0..4 {
        drain.push(item).expect("accepted");
    }
    drain_of(&token);
    block_on(drain.serve_async(|item| {
        if item == 0 {
            throw("made");
        }
        let trap = (item == 2).then(|| Trap);
        // The trap is dropped with the future, which outlives its output by a moment.
        poll_fn_owning(trap, move || {
            if item == 1 {
                throw("polled");
            }
        })
    }));
    let drained = drain.finish(LONG);
    assert_eq!((drained.done, drained.failed), (1, 3));
    assert_eq!(
        drained.failures,
        ["panicked: made", "panicked: polled", "panicked: dropped"]
    );
}

fn poll_fn_owning<O>(owned: O, run: impl Fn()) -> impl Future<Output = ()> {
    std::future::poll_fn(move |_| {
        let _owned = &owned;
        run();
        Poll::Ready(())
    })
}

#[test]
fn failures_beyond_the_limit_are_counted_only() {
    let token = token();
    let drain = intake(&token, 2 * MAX_FAILURES);
    for item in 0..2 * MAX_FAILURES {
        drain.push(item).expect("accepted");
    }
    drain_of(&token);
    drain.serve(|item| Err::<(), _>(item.to_string()));
    let drained = drain.finish(LONG);
    assert_eq!(drained.failed, 2 * MAX_FAILURES as u64);
    assert_eq!(drained.failures.len(), MAX_FAILURES);
    assert_eq!(
        drained.failures[MAX_FAILURES - 1],
        (MAX_FAILURES - 1).to_string()
    );
}

#[test]
fn a_puller_that_was_woken_and_dropped_passes_the_item_on() {
    let drain = intake(&token(), 1);
    let mut first = Polled::new(drain.pull_async());
    let mut second = Polled::new(drain.pull_async());
    assert!(first.poll().is_pending() && second.poll().is_pending());
    drain.push(1).expect("accepted");
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert_eq!(second.poll(), Poll::Ready(Some(1)));
}

#[test]
fn a_pusher_that_was_woken_and_dropped_passes_the_room_on() {
    let drain = intake(&token(), 1);
    drain.push(1).expect("accepted");
    let mut first = Polled::new(drain.push_async(2));
    let mut second = Polled::new(drain.push_async(3));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    assert_eq!(drain.pull(), Some(1));
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert!(second.poll().is_ready());
    assert_eq!(drain.pull(), Some(3));
}

#[test]
fn a_dropped_future_leaves_its_place_in_line() {
    let drain = intake::<u32>(&token(), 1);
    let mut waiting = Polled::new(drain.pull_async());
    assert!(waiting.poll().is_pending());
    assert_eq!(Arc::strong_count(&waiting.flag), 2);
    let flag = Arc::clone(&waiting.flag);
    drop(waiting);
    assert_eq!(Arc::strong_count(&flag), 1);
    assert_eq!(in_line(&drain, Purpose::Take), 0);
}

#[test]
fn finish_waits_for_what_is_in_progress() {
    let drain = intake(&token(), 1);
    let working = drain.clone();
    let (begin, begun) = std::sync::mpsc::channel();
    let worker = thread::spawn(move || {
        working.serve(|_| {
            let _ = begin.send(());
            // Full, and one more item in, until `finish` has begun.
            while !matches!(working.try_push(2), Err(NotPushed::Refused(_))) {
                thread::yield_now();
            }
        });
    });
    drain.push(1).expect("accepted");
    begun.recv().unwrap();
    let drained = drain.finish(LONG);
    worker.join().unwrap();
    assert!(drained.done >= 1 && drained.done <= 2);
    assert_eq!((drained.failed, drained.in_progress), (0, 0));
    assert!(drained.left_over.is_empty());
}

#[test]
fn a_limit_gives_up_what_is_in_progress_and_its_end_is_still_counted() {
    for asynchronous in [false, true] {
        let drain = intake(&token(), 4);
        for item in 1..=3 {
            drain.push(item).expect("accepted");
        }
        let may_end = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&may_end);
        let mut worker = Polled::new(drain.serve_async(move |_| {
            let asked = Arc::clone(&asked);
            std::future::poll_fn(move |_| {
                if asked.load(Ordering::SeqCst) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
        }));
        assert!(worker.poll().is_pending());
        let limit = Duration::from_millis(1);
        let drained = if asynchronous {
            block_on(drain.finish_async(limit))
        } else {
            drain.finish(limit)
        };
        assert_eq!((drained.done, drained.in_progress), (0, 1));
        assert_eq!(drained.left_over, [2, 3]);
        may_end.store(true, Ordering::SeqCst);
        assert!(worker.poll().is_ready());
        let drained = drain.finish(LONG);
        assert_eq!((drained.done, drained.in_progress), (1, 0));
        assert!(drained.left_over.is_empty());
    }
}

#[test]
fn finish_async_ends_with_the_last_item_and_dropped_leaves_the_intake_shut() {
    let drain = intake(&token(), 4);
    drain.push(1).expect("accepted");
    drain.push(2).expect("accepted");
    let mut given_up = Polled::new(drain.finish_async(LONG));
    assert!(given_up.poll().is_pending());
    drop(given_up);
    assert_eq!(drain.push(3).map_err(Refused::into_item), Err(3));
    let mut finishing = Polled::new(drain.finish_async(LONG));
    assert!(finishing.poll().is_pending());
    assert_eq!(drain.pull(), Some(1));
    assert!(!finishing.is_woken());
    drain.serve(|_| ());
    assert!(finishing.is_woken());
    let Poll::Ready(drained) = finishing.poll() else {
        panic!("over");
    };
    assert_eq!((drained.pulled, drained.done), (1, 1));
}

#[test]
fn a_dropped_timer_ends_its_thread_and_wakes_nobody() {
    let flag = Arc::new(Flag::default());
    let mut timer = Timer::start(LONG);
    assert!(timer.poll(&Waker::from(Arc::clone(&flag))).is_pending());
    let thread = Arc::downgrade(&timer.shared);
    drop(timer);
    while thread.strong_count() > 0 {
        thread::yield_now();
    }
    assert!(!flag.0.load(Ordering::SeqCst));
    assert!(Timer::start(Duration::ZERO).poll(Waker::noop()).is_ready());
}

#[test]
fn an_asynchronous_worker_dropped_at_work_fails_its_item() {
    let drain = intake(&token(), 4);
    drain.push(1).expect("accepted");
    drain.push(2).expect("accepted");
    let mut worker = Polled::new(drain.serve_async(|_| pending::<()>()));
    assert!(worker.poll().is_pending());
    drop(worker);
    let mut idle = Polled::new(drain.serve_async(|_| ready(())));
    assert!(idle.poll().is_pending());
    drop(idle);
    let drained = drain.finish(LONG);
    assert_eq!(
        (drained.done, drained.failed, drained.in_progress),
        (1, 1, 0)
    );
    assert_eq!(
        drained.failures,
        ["the worker was dropped while it worked on the item"]
    );
}

#[test]
fn the_token_does_not_keep_an_intake_alive() {
    let token = token();
    let item = Arc::new(());
    let drain = intake(&token, 1);
    drain.push(Arc::clone(&item)).expect("accepted");
    drop(drain);
    assert_eq!(Arc::strong_count(&item), 1);
    drain_of(&token);
}

#[test]
fn wakers_and_items_may_use_the_intake_when_woken_cloned_or_dropped() {
    struct Meddler(Drain<Item>, AtomicUsize);
    impl Meddler {
        fn meddle(&self) {
            if self.1.fetch_add(1, Ordering::SeqCst) < 3 {
                let _ = self.0.try_push(Item(None));
                let _ = format!("{:?}", self.0);
            }
        }
    }
    impl Wake for Meddler {
        fn wake(self: Arc<Self>) {
            self.meddle();
        }
    }
    impl Drop for Meddler {
        fn drop(&mut self) {
            self.meddle();
        }
    }
    /// An item that uses its intake when dropped.
    struct Item(Option<Drain<Item>>);
    impl Drop for Item {
        fn drop(&mut self) {
            if let Some(drain) = self.0.take() {
                let _ = drain.try_push(Item(None));
            }
        }
    }
    let token = token();
    let drain = intake(&token, 1);
    for _ in 0..2 {
        let mut waiting = pin!(drain.pull_async());
        for _ in 0..2 {
            let waker = Waker::from(Arc::new(Meddler(drain.clone(), AtomicUsize::new(0))));
            let _ = waiting.as_mut().poll(&mut Context::from_waker(&waker));
        }
        let _ = drain.try_push(Item(Some(drain.clone())));
        drop(drain.pull());
        let _ = drain.try_push(Item(Some(drain.clone())));
    }
    drain_of(&token);
    drop(drain.finish(Duration::ZERO));
}

#[test]
fn futures_can_go_to_any_runtime() {
    fn movable<T: Send + 'static>(_: &T) {}
    fn sendable<T: Send>(_: &T) {}
    let drain = intake::<u32>(&token(), 1);
    movable(&drain);
    movable(&drain.serve_async(|_| async {}));
    movable(&drain.finish_async(LONG));
    sendable(&drain.push_async(1));
    sendable(&drain.pull_async());
}
