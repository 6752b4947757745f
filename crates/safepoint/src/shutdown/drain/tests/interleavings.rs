//! Random mixtures of pushers, pullers, workers, stops and finishes: no item is lost or handled twice, and no wake-up is lost.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;

use super::*;
use crate::shutdown::Phase;

/// `SplitMix64`: the same numbers for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// Runs `run` with each seed, and names the seed of the one that fails.
fn for_seeds(seeds: std::ops::Range<u64>, run: impl Fn(&mut Random)) {
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| run(&mut Random(seed))));
        assert!(run.is_ok(), "the run failed with the seed {seed}");
    }
}

/// What the futures of a simulated run have told.
#[derive(Default)]
struct Ledger {
    accepted: Vec<u64>,
    /// In the order in which they were taken, by pullers and workers.
    taken: Vec<u64>,
    pulled: u64,
    done: u64,
    failed: u64,
    /// The worker's future was dropped.
    cut_off: u64,
    drained: Vec<Drained<u64>>,
}

type Books = Rc<RefCell<Ledger>>;

struct Simulation<'a> {
    token: &'a ShutdownToken,
    capacity: usize,
    /// Of 50 tasks begun, how many are pushers.
    pushers: u64,
    drain: &'a Drain<u64>,
    books: Books,
    tasks: Vec<Polled<Pin<Box<dyn Future<Output = ()> + 'a>>>>,
    next: u64,
}

impl<'a> Simulation<'a> {
    fn step(&mut self, random: &mut Random) {
        let books = Rc::clone(&self.books);
        let drain = self.drain;
        match random.below(100) {
            chance @ 0..50 if chance < self.pushers => {
                let item = self.item();
                if random.one_in(3) {
                    match drain.try_push(item) {
                        Ok(()) => books.borrow_mut().accepted.push(item),
                        Err(back) => assert_eq!(back.into_item(), item),
                    }
                    return;
                }
                self.start(async move {
                    match drain.push_async(item).await {
                        Ok(()) => books.borrow_mut().accepted.push(item),
                        Err(refused) => assert_eq!(refused.into_item(), item),
                    }
                });
            }
            0..45 => self.start(async move {
                if let Some(item) = drain.pull_async().await {
                    let mut books = books.borrow_mut();
                    books.taken.push(item);
                    books.pulled += 1;
                }
            }),
            45..50 => self.start(drain.serve_async(move |item| work(Rc::clone(&books), item))),
            50..80 => self.poll_one(random),
            80..95 if !self.tasks.is_empty() => {
                let at = random.below(self.tasks.len() as u64);
                drop(self.tasks.swap_remove(usize::try_from(at).unwrap()));
            }
            95 if random.one_in(3) => drain_of(self.token),
            96 if random.one_in(8) => terminate(self.token),
            97 if random.one_in(3) => {
                let limit = if random.one_in(4) {
                    Duration::ZERO
                } else {
                    LONG
                };
                self.start(async move {
                    let drained = drain.finish_async(limit).await;
                    books.borrow_mut().drained.push(drained);
                });
            }
            _ => {}
        }
    }

    fn item(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn start(&mut self, task: impl Future<Output = ()> + 'a) {
        let task = Polled::new(Box::pin(task) as Pin<Box<dyn Future<Output = ()> + 'a>>);
        task.flag.0.store(true, Ordering::SeqCst);
        self.tasks.push(task);
    }

    /// Polls any task: mostly one that was woken, sometimes one for nothing.
    fn poll_one(&mut self, random: &mut Random) {
        if self.tasks.is_empty() {
            return;
        }
        let at = usize::try_from(random.below(self.tasks.len() as u64)).unwrap();
        if (self.tasks[at].is_woken() || random.one_in(4)) && self.tasks[at].poll().is_ready() {
            drop(self.tasks.swap_remove(at));
        }
    }

    /// Polls as a runtime does, only who was woken, until nobody is.
    fn settle(&mut self) {
        while let Some(at) = self.tasks.iter().position(Polled::is_woken) {
            if self.tasks[at].poll().is_ready() {
                drop(self.tasks.swap_remove(at));
            }
        }
    }

    /// When nobody is woken, nobody waits for what is there.
    fn nobody_sleeps_through(&self) {
        let [pushers, takers, finishers] = [Purpose::Push, Purpose::Take, Purpose::Finish]
            .map(|purpose| in_line(self.drain, purpose));
        let held = self.drain.shared.hold();
        let (accepts, (waiting, in_progress)) = (held.accepts(), held.counts());
        drop(held);
        assert_eq!(in_progress, 0);
        assert!(
            waiting == 0 || takers == 0,
            "a puller sleeps beside an item"
        );
        if accepts {
            assert!(
                waiting == self.capacity || pushers == 0,
                "a pusher sleeps beside room"
            );
        } else {
            assert_eq!(pushers + takers, 0, "somebody sleeps at a shut intake");
            let is_over = waiting == 0 || self.token.phase() >= Phase::Terminating;
            assert!(!is_over || finishers == 0, "a finisher sleeps at the end");
        }
    }
}

/// A worker's future: pending for a while, and then it may fail or panic.
fn work(books: Books, item: u64) -> impl Future<Output = Result<(), &'static str>> {
    struct CutOff(Books, bool);
    impl Drop for CutOff {
        fn drop(&mut self) {
            if !self.1 {
                self.0.borrow_mut().cut_off += 1;
            }
        }
    }
    books.borrow_mut().taken.push(item);
    let mut cut_off = CutOff(books, false);
    let mut polls_left = item % 3;
    std::future::poll_fn(move |context| {
        if polls_left > 0 {
            polls_left -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        cut_off.1 = true;
        let mut books = cut_off.0.borrow_mut();
        if item % 5 < 2 {
            books.failed += 1;
            drop(books);
            return match item % 5 {
                0 => Poll::Ready(Err("failed")),
                _ => throw("panicked"),
            };
        }
        books.done += 1;
        Poll::Ready(Ok(()))
    })
}

#[test]
fn simulated_tasks_lose_no_item_and_no_wake_up() {
    for_seeds(0..4_000, |random| {
        let token = token();
        let capacity = usize::try_from(1 + random.below(3)).unwrap();
        let drain = intake(&token, capacity);
        let books = Books::default();
        let mut simulation = Simulation {
            token: &token,
            capacity,
            pushers: 10 + random.below(30),
            drain: &drain,
            books: Rc::clone(&books),
            tasks: Vec::new(),
            next: 0,
        };
        let pause = 1 + random.below(20);
        for _ in 0..20 + random.below(150) {
            simulation.step(random);
            if random.one_in(pause) {
                simulation.settle();
                simulation.nobody_sleeps_through();
            }
        }
        let drained = drain.finish(Duration::ZERO);
        let mut books = books.borrow_mut();
        let cut_off_at_work = drained.in_progress as u64;
        let failed = books.failed + books.cut_off;
        assert_eq!(
            (drained.pulled, drained.done, drained.failed),
            (books.pulled, books.done, failed)
        );
        let accounted = drained.pulled + drained.done + drained.failed + cut_off_at_work;
        assert_eq!(accounted, books.taken.len() as u64);
        // What came in comes out in the same order, and whoever closed first has the rest.
        books.drained.push(drained);
        let left_over: Vec<u64> = books
            .drained
            .drain(..)
            .flat_map(|drained| drained.left_over)
            .collect();
        let out: Vec<u64> = books.taken.iter().copied().chain(left_over).collect();
        assert_eq!(out, books.accepted);
    });
}

#[test]
fn threads_lose_no_item() {
    for_seeds(0..1_000, |random| {
        let token = token();
        let drain = intake(&token, usize::try_from(1 + random.below(4)).unwrap());
        let items = 1 + random.below(40);
        let ends_at = random.below(2 * items);
        let how_it_ends = random.below(3);
        let limit = if random.one_in(2) {
            Duration::ZERO
        } else {
            LONG
        };
        let accepted = Mutex::new(BTreeSet::new());
        let handled = Mutex::new(Vec::new());
        let push = |first: u64, asynchronous: bool| {
            for item in first..first + items {
                let pushed = if asynchronous {
                    block_on(drain.push_async(item))
                } else {
                    drain.push(item)
                };
                match pushed {
                    Ok(()) => assert!(accepted.lock().unwrap().insert(item)),
                    Err(refused) => assert_eq!(refused.into_item(), item),
                }
            }
        };
        let work = |item: u64| {
            let count = {
                let mut handled = handled.lock().unwrap();
                handled.push(item);
                handled.len() as u64
            };
            if count == ends_at {
                match how_it_ends {
                    0 => drain_of(&token),
                    1 => terminate(&token),
                    _ => drain.shared.shut(),
                }
            }
            match item % 5 {
                0 => Err("failed"),
                1 => throw("panicked"),
                _ => Ok(()),
            }
        };
        let pull = || loop {
            // A future that is polled once and dropped must neither take an item nor keep its wake-up.
            let at_once = Polled::new(drain.pull_async()).poll();
            let item = match at_once {
                Poll::Ready(item) => item,
                Poll::Pending => drain.pull(),
            };
            let Some(item) = item else { break };
            handled.lock().unwrap().push(item);
        };
        let drained = thread::scope(|scope| {
            let pushers = [
                scope.spawn(|| push(0, false)),
                scope.spawn(|| push(1_000, true)),
            ];
            scope.spawn(|| drain.serve(work));
            scope.spawn(|| block_on(drain.serve_async(|item| async move { work(item) })));
            scope.spawn(pull);
            if random.one_in(2) {
                for pusher in pushers {
                    pusher.join().unwrap();
                }
            }
            if random.one_in(2) {
                drain.finish(limit)
            } else {
                block_on(drain.finish_async(limit))
            }
        });
        let handled = handled.into_inner().unwrap();
        let given_out = drained.pulled + drained.done + drained.failed + drained.in_progress as u64;
        assert_eq!(given_out, handled.len() as u64);
        assert!(drained.in_progress == 0 || limit.is_zero() || how_it_ends == 1);
        let mut out: Vec<u64> = handled.into_iter().chain(drained.left_over).collect();
        out.sort_unstable();
        let accepted: Vec<u64> = accepted.into_inner().unwrap().into_iter().collect();
        assert_eq!(out, accepted);
    });
}
