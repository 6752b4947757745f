//! Trees of tokens against a model: random requests, children, drops and units, one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use safepoint::clock::{Clock, Moment};
use safepoint::shutdown::{
    Mode, OwnedUnit, Phase, ShutdownToken, Source, StopRequest, Stopping, UnitCounts,
};

const GRACE: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
enum Step {
    Request(Index, Mode),
    Child(Index),
    Drop(Index),
    Wait(Index, Phase),
    GiveUp(Index),
    /// A future goes on with another waker.
    Move(Index),
    Enter(Index),
    Leave(Index, bool),
    Pass(Index, bool),
    Stopped(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let token = any::<Index>;
    let mode = prop_oneof![3 => Just(Mode::Graceful), 1 => Just(Mode::Immediate)];
    let phase = prop_oneof![
        Just(Phase::Draining),
        Just(Phase::Terminating),
        Just(Phase::Stopped)
    ];
    let step = prop_oneof![
        2 => (token(), mode).prop_map(|(token, mode)| Step::Request(token, mode)),
        6 => token().prop_map(Step::Child),
        2 => token().prop_map(Step::Drop),
        3 => (token(), phase).prop_map(|(token, phase)| Step::Wait(token, phase)),
        1 => token().prop_map(Step::GiveUp),
        1 => token().prop_map(Step::Move),
        2 => token().prop_map(Step::Enter),
        2 => (token(), any::<bool>()).prop_map(|(unit, commits)| Step::Leave(unit, commits)),
        2 => (token(), any::<bool>()).prop_map(|(token, commits)| Step::Pass(token, commits)),
        1 => token().prop_map(Step::Stopped),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the model knows of a token, dropped or not.
struct Known {
    parent: Option<usize>,
    phase: Phase,
    /// The numbers and modes of the requests that reached it.
    reached: Vec<(usize, Mode)>,
}

/// A token under test, with those who look at it.
struct Living {
    token: ShutdownToken,
    /// Its place in the model.
    known: usize,
    seen: Arc<Mutex<Vec<Phase>>>,
}

struct Waiting {
    future: Stopping,
    wanted: Phase,
    known: usize,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct World {
    clock: Clock,
    known: Vec<Known>,
    living: Vec<Living>,
    waiting: Vec<Waiting>,
    units: Vec<OwnedUnit>,
    counts: UnitCounts,
    /// For each request the moments between which it was made.
    made: Vec<(Moment, Moment)>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::start();
        let mut world = Self {
            clock: clock.clone(),
            known: vec![Known {
                parent: None,
                phase: Phase::Running,
                reached: Vec::new(),
            }],
            living: Vec::new(),
            waiting: Vec::new(),
            units: Vec::new(),
            counts: UnitCounts::default(),
            made: Vec::new(),
        };
        world.add(ShutdownToken::detached(clock, GRACE), 0);
        world
    }

    fn add(&mut self, token: ShutdownToken, known: usize) {
        let seen: Arc<Mutex<Vec<Phase>>> = Arc::default();
        let told = Arc::clone(&seen);
        token.observe(move |phase| told.lock().unwrap().push(phase));
        self.living.push(Living { token, known, seen });
    }

    fn of(&self, index: Index) -> (ShutdownToken, usize) {
        let living = &self.living[index.index(self.living.len())];
        (living.token.clone(), living.known)
    }

    /// The tokens of the model at and below `top`.
    fn below(&self, top: usize) -> Vec<usize> {
        let mut below = vec![top];
        for (place, known) in self.known.iter().enumerate() {
            if known.parent.is_some_and(|parent| below.contains(&parent)) {
                below.push(place);
            }
        }
        below
    }

    fn raise(&mut self, top: usize, to: Phase, request: Option<(usize, Mode)>) {
        for place in self.below(top) {
            let known = &mut self.known[place];
            known.phase = known.phase.max(to);
            known.reached.extend(request);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Request(index, mode) => self.request(index, mode),
            Step::Child(index) => self.make_child(index),
            Step::Drop(index) => self.drop_one(index),
            Step::Wait(index, wanted) => self.wait(index, wanted),
            Step::GiveUp(index) => self.give_up(index),
            Step::Move(index) => self.move_on(index),
            Step::Enter(index) => self.enter(index),
            Step::Leave(index, commits) => self.leave(index, commits),
            Step::Pass(index, commits) => self.pass(index, commits),
            Step::Stopped(index) => self.stopped(index),
        }
    }

    fn request(&mut self, index: Index, mode: Mode) {
        let (token, place) = self.of(index);
        let number = self.made.len();
        let request = StopRequest {
            mode,
            ..StopRequest::graceful(Source::Programmatic, number.to_string())
        };
        let before = self.clock.now();
        let led_to = token.request(request);
        self.made.push((before, self.clock.now()));
        self.raise(
            place,
            self.known[place].phase.after(mode),
            Some((number, mode)),
        );
        assert_eq!(led_to, self.known[place].phase);
    }

    fn make_child(&mut self, index: Index) {
        let (token, parent) = self.of(index);
        let place = self.known.len();
        let child = token.child(format!("child {place}"));
        assert_eq!(child.name(), format!("child {place}"));
        self.known.push(Known {
            parent: Some(parent),
            phase: self.known[parent].phase,
            reached: self.known[parent].reached.clone(),
        });
        self.add(child, place);
    }

    fn drop_one(&mut self, index: Index) {
        // The root stays, so that there is always a token to act on.
        if self.living.len() > 1 {
            let place = 1 + index.index(self.living.len() - 1);
            drop(self.living.swap_remove(place));
        }
    }

    fn wait(&mut self, index: Index, wanted: Phase) {
        let (token, known) = self.of(index);
        let mut waiting = Waiting {
            future: token.reached(wanted),
            wanted,
            known,
            woken: Arc::default(),
        };
        let is_ready = waiting.poll();
        assert_eq!(is_ready, self.known[known].phase >= wanted);
        if !is_ready {
            self.waiting.push(waiting);
        }
    }

    fn give_up(&mut self, index: Index) {
        if !self.waiting.is_empty() {
            let place = index.index(self.waiting.len());
            let Waiting { future, woken, .. } = self.waiting.swap_remove(place);
            drop(future);
            assert_eq!(Arc::strong_count(&woken), 1, "its waker is kept");
        }
    }

    fn move_on(&mut self, index: Index) {
        if !self.waiting.is_empty() {
            let place = index.index(self.waiting.len());
            let waiting = &mut self.waiting[place];
            let before = std::mem::take(&mut waiting.woken);
            assert!(!waiting.poll());
            assert_eq!(Arc::strong_count(&before), 1, "the old waker is kept");
            assert_eq!(Arc::strong_count(&waiting.woken), 2);
        }
    }

    fn enter(&mut self, index: Index) {
        let (token, place) = self.of(index);
        let unit = token.owned_unit(format!("unit {}", self.units.len()));
        assert_eq!(unit.is_some(), self.known[place].phase == Phase::Running);
        self.counts.refused += u64::from(unit.is_none());
        self.units.extend(unit);
    }

    fn leave(&mut self, index: Index, commits: bool) {
        if !self.units.is_empty() {
            let place = index.index(self.units.len());
            let unit = self.units.swap_remove(place);
            if commits {
                unit.commit();
            } else {
                drop(unit);
            }
            self.count(commits);
        }
    }

    fn pass(&mut self, index: Index, commits: bool) {
        let (token, place) = self.of(index);
        let unit = token.unit("in passing");
        assert_eq!(unit.is_some(), self.known[place].phase == Phase::Running);
        match unit {
            None => self.counts.refused += 1,
            Some(unit) => {
                if commits {
                    unit.commit();
                } else {
                    drop(unit);
                }
                self.count(commits);
            }
        }
    }

    fn stopped(&mut self, index: Index) {
        let (token, place) = self.of(index);
        token.stopped();
        self.raise(place, Phase::Stopped, None);
    }

    fn count(&mut self, commits: bool) {
        self.counts.committed += u64::from(commits);
        self.counts.rolled_back += u64::from(!commits);
    }

    fn check(&mut self) {
        for living in &self.living {
            let (token, known) = (&living.token, &self.known[living.known]);
            assert_eq!(token.phase(), known.phase);
            assert_eq!(token.is_stopping(), known.phase > Phase::Running);
            if let Some(parent) = known.parent {
                assert!(token.phase() >= self.known[parent].phase);
            }
            let requests = token.requests();
            let told: Vec<(usize, Mode)> = requests
                .iter()
                .map(|recorded| {
                    let request = &recorded.request;
                    (request.message.parse().unwrap(), request.mode)
                })
                .collect();
            assert_eq!(told, known.reached);
            assert_eq!(
                token.reason(),
                requests.first().map(|first| first.request.clone())
            );
            match (token.deadline(), known.reached.first()) {
                (None, None) => assert_eq!(token.remaining(), None),
                (Some(deadline), Some((first, _))) => {
                    // The grace period of the first request; after an immediate one only the reserve is left, which is none here.
                    let (before, after) = self.made[*first];
                    let (mut earliest, mut latest) = (before + GRACE, after + GRACE);
                    for (number, mode) in &known.reached {
                        if *mode == Mode::Immediate {
                            earliest = earliest.min(self.made[*number].0);
                            latest = latest.min(self.made[*number].1);
                        }
                    }
                    assert!(earliest <= deadline && deadline <= latest);
                }
                (deadline, first) => panic!("{deadline:?} with {first:?} as the first request"),
            }
            let seen = living.seen.lock().unwrap();
            assert!(seen.is_sorted(), "an observer saw {seen:?}");
            if let Some(last) = seen.last() {
                assert_eq!(*last, known.phase);
            }
        }
        for waiting in &mut self.waiting {
            let is_reached = self.known[waiting.known].phase >= waiting.wanted;
            let woken = waiting.woken.0.load(Ordering::Relaxed);
            assert_eq!(woken, usize::from(is_reached), "wake-ups");
        }
        let known = &self.known;
        self.waiting.retain_mut(|waiting| {
            let is_ready = waiting.poll();
            assert_eq!(is_ready, known[waiting.known].phase >= waiting.wanted);
            !is_ready
        });
        let status = self.living[0].token.status();
        assert_eq!(status.units, self.counts);
        assert_eq!(status.open.len(), self.units.len());
    }
}

impl Waiting {
    fn poll(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut context = Context::from_waker(&waker);
        let future = std::pin::Pin::new(&mut self.future);
        future.poll(&mut context).is_ready()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_tree_of_tokens_does_what_its_model_does(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}
