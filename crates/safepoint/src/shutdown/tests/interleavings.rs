//! Many short lives of a shutdown on real threads: they ask for stops, make and drop children, enter and leave units, and wait, all at random and
//! all at once, while one of them ends it. What must hold whatever comes first is checked in each.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::clock::Clock;
use crate::shutdown::finish::{Finish, Place};
use crate::shutdown::parker::block_on;
use crate::shutdown::{
    Order, OwnedUnit, Phase, Shutdown, ShutdownToken, Source, StopReport, StopRequest, Stopping,
};

const INTERLEAVINGS: u64 = 100_000;

/// Then it is enough with fewer: on a machine whose processors are taken by others, a life takes as long as its threads wait for their turns.
const LONGEST: Duration = Duration::from_secs(60);

/// To try the actions of a failure again. Which of them comes first is up to the machine.
const SEED: Option<u64> = None;

/// Threads beside the one that ends the shutdown.
const WORKERS: usize = 2;

const GRACE: Duration = Duration::from_secs(3600);

/// Most actions of a thread in one life.
const ACTIONS: u64 = 8;

#[test]
#[expect(clippy::print_stderr, reason = "a test that did less says so")]
fn whatever_comes_first_nothing_is_missed_and_nobody_sleeps_on() {
    let seed = SEED.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    std::thread::scope(|scope| {
        let workers: Vec<Worker> = (0..WORKERS)
            .map(|number| {
                let (jobs, inbox) = channel();
                let (outbox, done) = channel();
                scope.spawn(move || work(number as u64 + 1, &inbox, &outbox));
                Worker { jobs, done }
            })
            .collect();
        let clock = Clock::start();
        let begin = clock.now();
        for number in 0..INTERLEAVINGS {
            if clock.now().since(begin) >= LONGEST {
                eprintln!("{number} of {INTERLEAVINGS} interleavings: this machine is busy");
                break;
            }
            let life = Life::new(Random::new(&[seed, number]));
            live(life, &workers, || {
                format!("seed {seed}, interleaving {number}")
            });
        }
    });
}

struct Worker {
    jobs: Sender<Arc<Life>>,
    done: Receiver<()>,
}

/// One shutdown, and what is known of it beside what it says itself.
struct Life {
    random: Random,
    /// Nothing for a token without a keeper thread, which is most of the cost of a life.
    shutdown: Mutex<Option<Shutdown>>,
    root: ShutdownToken,
    /// Threads at the starting line.
    ready: AtomicU32,
    tokens: Mutex<Vec<Known>>,
    waiting: Mutex<Vec<Waiting>>,
    /// Units that wait to be ended by anybody.
    handed: Mutex<Vec<OwnedUnit>>,
    facts: Arc<Facts>,
}

#[derive(Default)]
struct Facts {
    /// Who is in a unit: raised after it was entered, lowered before it is left.
    inside: AtomicU64,
    /// The end has seen that nothing is open.
    is_idle: AtomicBool,
    /// Somebody began to end the shutdown.
    is_ending: AtomicBool,
    root_requests: AtomicU64,
    committed: AtomicU64,
    rolled_back: AtomicU64,
    refused: AtomicU64,
}

/// A token, its parent's place, and whether anybody began to ask it to stop.
struct Known {
    token: Option<ShutdownToken>,
    parent: Option<usize>,
    is_asked: bool,
}

struct Waiting {
    future: Stopping,
    /// Set by the waker that was given at the last poll.
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Waiting {
    /// Polls with a new waker.
    fn poll(&mut self) -> bool {
        self.woken = Arc::default();
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut context = Context::from_waker(&waker);
        Pin::new(&mut self.future).poll(&mut context).is_ready()
    }
}

/// Lives `life` to its end, this thread being the one that ends it.
fn live(life: Life, workers: &[Worker], what: impl Fn() -> String) {
    let mut random = life.random.fork(0);
    let life = Arc::new(life);
    for worker in workers {
        worker
            .jobs
            .send(Arc::clone(&life))
            .unwrap_or_else(|_| panic!("a worker has ended: {}", what()));
    }
    life.line_up();
    for _ in 0..random.below(ACTIONS) {
        life.act(&mut random, 0);
    }
    life.end_handed();
    let shutdown = lock(&life.shutdown).take();
    life.facts.is_ending.store(true, Ordering::SeqCst);
    let report = if let Some(shutdown) = shutdown {
        shutdown.finish()
    } else {
        let node = Arc::clone(&life.root.node);
        block_on(Finish::new(node, Duration::ZERO, Place::HookThread).run())
    };
    life.facts.is_idle.store(true, Ordering::SeqCst);
    let inside = life.facts.inside.load(Ordering::SeqCst);
    assert_eq!(inside, 0, "in a unit after the end: {}", what());
    for worker in workers {
        let done = worker.done.recv();
        assert!(done.is_ok(), "a worker has ended: {}", what());
    }
    life.check(&report, &what());
}

fn work(number: u64, jobs: &Receiver<Arc<Life>>, done: &Sender<()>) {
    for life in jobs {
        let mut random = life.random.fork(number);
        life.line_up();
        for _ in 0..random.below(ACTIONS) {
            life.act(&mut random, 0);
        }
        life.end_handed();
        if random.below(16) == 0 {
            let child = life.root.child("blocked");
            child.wait();
        }
        drop(life);
        if done.send(()).is_err() {
            return;
        }
    }
}

impl Life {
    fn new(mut random: Random) -> Self {
        let facts: Arc<Facts> = Arc::default();
        let (shutdown, root);
        if random.below(50) == 0 {
            let facts = Arc::clone(&facts);
            let builder = Shutdown::builder().hook(Order::Save, "idle", move |_| {
                assert_eq!(facts.inside.load(Ordering::SeqCst), 0, "in a unit");
                facts.is_idle.store(true, Ordering::SeqCst);
            });
            let built = builder.build().expect("a thread to spare");
            root = built.token();
            shutdown = Some(built);
        } else {
            root = ShutdownToken::detached(Clock::start(), GRACE);
            shutdown = None;
        }
        let known = Known {
            token: Some(root.clone()),
            parent: None,
            is_asked: false,
        };
        Self {
            random,
            shutdown: Mutex::new(shutdown),
            root,
            ready: AtomicU32::new(0),
            tokens: Mutex::new(vec![known]),
            waiting: Mutex::default(),
            handed: Mutex::default(),
            facts,
        }
    }

    /// Returns when every thread has come here.
    fn line_up(&self) {
        self.ready.fetch_add(1, Ordering::SeqCst);
        while (self.ready.load(Ordering::SeqCst) as usize) <= WORKERS {
            std::thread::yield_now();
        }
    }

    fn act(&self, random: &mut Random, depth: u32) {
        let (place, token) = self.any_token(random);
        match random.below(20) {
            0..=6 => {
                let unit = token.unit("unit");
                self.tell_entered(unit.is_some());
                if let Some(unit) = unit {
                    if depth < 10 && random.below(3) == 0 {
                        self.act(random, depth + 1);
                    }
                    if self.leaves_well(random) {
                        unit.commit();
                    }
                }
            }
            7..=9 => {
                let unit = token.owned_unit("owned");
                self.tell_entered(unit.is_some());
                lock(&self.handed).extend(unit);
            }
            10 | 11 => self.end_one_handed(random),
            12..=14 => {
                let child = token.child("child");
                lock(&self.tokens).push(Known {
                    token: Some(child),
                    parent: Some(place),
                    is_asked: false,
                });
            }
            15 => {
                // The root is kept: tokens are picked until one is there.
                if place > 0 {
                    let dropped = lock(&self.tokens)[place].token.take();
                    drop(dropped);
                }
            }
            16 | 17 => {
                let wanted = [Phase::Draining, Phase::Terminating, Phase::Stopped];
                let wanted = wanted[random.index(3)];
                let mut waiting = Waiting {
                    future: token.reached(wanted),
                    woken: Arc::default(),
                };
                if !waiting.poll() {
                    let mut list = lock(&self.waiting);
                    list.push(waiting);
                    if random.below(3) == 0 {
                        let given_up = random.index(list.len());
                        let given_up = list.swap_remove(given_up);
                        drop(list);
                        drop(given_up);
                    }
                }
            }
            18 => self.request(random, place, &token),
            _ => self.check_stays_below(place, &token),
        }
    }

    fn any_token(&self, random: &mut Random) -> (usize, ShutdownToken) {
        let tokens = lock(&self.tokens);
        loop {
            let place = random.index(tokens.len());
            if let Some(token) = &tokens[place].token {
                return (place, token.clone());
            }
        }
    }

    fn tell_entered(&self, has_entered: bool) {
        if has_entered {
            self.facts.inside.fetch_add(1, Ordering::SeqCst);
            let is_idle = self.facts.is_idle.load(Ordering::SeqCst);
            assert!(!is_idle, "let in after the end");
        } else {
            self.facts.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn leaves_well(&self, random: &mut Random) -> bool {
        let leaves_well = random.below(2) == 0;
        let count = if leaves_well {
            &self.facts.committed
        } else {
            &self.facts.rolled_back
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.facts.inside.fetch_sub(1, Ordering::SeqCst);
        leaves_well
    }

    fn end_one_handed(&self, random: &mut Random) {
        let unit = lock(&self.handed).pop();
        if let Some(unit) = unit
            && self.leaves_well(random)
        {
            unit.commit();
        }
    }

    fn end_handed(&self) {
        let mut random = self.random.fork(99);
        while !lock(&self.handed).is_empty() {
            self.end_one_handed(&mut random);
        }
    }

    /// Whether the token at `place` is the one at `top` or below it.
    fn is_below(tokens: &[Known], place: usize, top: usize) -> bool {
        let mut line = std::iter::successors(Some(place), |place| tokens[*place].parent);
        line.any(|place| place == top)
    }

    fn request(&self, random: &mut Random, place: usize, token: &ShutdownToken) {
        lock(&self.tokens)[place].is_asked = true;
        let request = if random.below(3) == 0 {
            StopRequest::immediate(Source::User, "in haste")
        } else {
            StopRequest::graceful(Source::Programmatic, "by one of many")
        };
        let mode = request.mode;
        let led_to = token.request(request);
        assert!(led_to >= Phase::Running.after(mode));
        if place == 0 {
            self.facts.root_requests.fetch_add(1, Ordering::Relaxed);
        }
        let tokens = lock(&self.tokens);
        for (below, known) in tokens.iter().enumerate() {
            if let Some(token) = &known.token
                && Self::is_below(&tokens, below, place)
            {
                assert!(token.phase() >= led_to, "a child was not told");
            }
        }
    }

    /// A token stops only if it or one above it was asked to.
    fn check_stays_below(&self, place: usize, token: &ShutdownToken) {
        if token.is_stopping() {
            let tokens = lock(&self.tokens);
            let mut above = (0..tokens.len()).filter(|top| Self::is_below(&tokens, place, *top));
            let is_asked = above.any(|above| tokens[above].is_asked);
            let is_ending = self.facts.is_ending.load(Ordering::SeqCst);
            assert!(is_asked || is_ending, "stopping, and nobody asked");
        }
    }

    /// What must hold when everybody is done.
    fn check(&self, report: &StopReport, what: &str) {
        let facts = &self.facts;
        assert!(report.is_clean(), "{what}: {report}");
        let counts = self.root.status().units;
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
        assert_eq!(counts.committed, count(&facts.committed), "{what}");
        assert_eq!(counts.rolled_back, count(&facts.rolled_back), "{what}");
        assert_eq!(counts.refused, count(&facts.refused), "{what}");
        assert_eq!(counts.committed, report.units.committed, "{what}");
        assert_eq!(counts.rolled_back, report.units.rolled_back, "{what}");
        let requests = self.root.requests();
        assert_eq!(requests.len() as u64, count(&facts.root_requests), "{what}");
        for known in lock(&self.tokens).iter() {
            let Some(token) = &known.token else { continue };
            assert_eq!(token.phase(), Phase::Stopped, "{what}");
            let requests = token.requests();
            let first = requests.first().map(|first| &first.request);
            assert_eq!(token.reason().as_ref(), first, "{what}");
        }
        for waiting in lock(&self.waiting).iter_mut() {
            assert!(
                waiting.woken.0.load(Ordering::SeqCst),
                "a waiter sleeps on: {what}"
            );
            assert!(waiting.poll(), "{what}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic of a holder")
}

/// Sebastiano Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn new(seeds: &[u64]) -> Self {
        let mut random = Self(0);
        for seed in seeds {
            random.0 ^= seed;
            random.0 = random.next();
        }
        random
    }

    fn fork(&self, number: u64) -> Self {
        Self::new(&[self.0, number])
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("an index")
    }
}
