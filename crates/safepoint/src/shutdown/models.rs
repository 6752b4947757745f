//! Models of what this room's threads do to each other: loom runs each under every interleaving, and under every value that a weaker memory
//! than this processor's may show to a load.
//!
//! Built with `--cfg safepoint_loom` and run by `cargo xtask models`. There, what stands in `sync` is loom's, and a slot holds one unit and
//! the waiters one shard. Loom's threads are coroutines of one thread of the system, so they share one lane of a `ThreadLocal`: at most one
//! thread of a model enters units through a token. What is not loom's (`Arc`, `Weak`, `OnceLock`) happens there in one step.
//!
//! A lost wake-up shows as a deadlock, which loom reports. A model with a bound tries only executions with so many preemptions, that is,
//! switches away from a thread that could go on; its number stands there.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::model::Builder;
use loom::sync::Condvar;
use loom::thread::spawn;

use super::barrier::{heavy, weakened};
use super::finish::{Finish, Place};
use super::gate::Gate;
use super::lane::{Lane, Seen};
use super::sync::{AtomicU8, Mutex, lock};
use super::waiters::Waiters;
use super::{Mode, Phase, ShutdownToken, Source, StopReport, StopRequest};
use crate::clock::Clock;

/// Tries every execution of `model`.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_to(None, model);
}

/// Tries every execution of `model` with at most so many preemptions.
fn explore_to(preemptions: impl Into<Option<usize>>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions.into();
    builder.max_branches = 10_000;
    builder.check(model);
}

/// What a thread sleeps on until its waker is called.
#[derive(Default)]
struct Sleeper {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Sleeper {
    fn sleep(&self) {
        let mut woken = lock(&self.woken);
        while !*woken {
            woken = self.changed.wait(woken).expect("no panic of a holder");
        }
        *woken = false;
    }

    fn was_woken(&self) -> bool {
        *lock(&self.woken)
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let sleeper = Arc::new(Sleeper::default());
    let waker = Waker::from(Arc::clone(&sleeper));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        sleeper.sleep();
    }
}

/// Polls once; says whether it is ready.
fn poll<F: Future + Unpin>(future: &mut F, sleeper: &Arc<Sleeper>) -> bool {
    let waker = Waker::from(Arc::clone(sleeper));
    Pin::new(future)
        .poll(&mut Context::from_waker(&waker))
        .is_ready()
}

/// A token without a keeper: nothing but the model's threads acts on it.
fn token() -> ShutdownToken {
    ShutdownToken::detached(Clock::start(), Duration::from_secs(3600))
}

fn graceful() -> StopRequest {
    StopRequest::graceful(Source::Programmatic, "a model")
}

fn immediate() -> StopRequest {
    StopRequest::immediate(Source::User, "in haste")
}

/// A token whose lane is there before the model's threads are: loom takes an atomic that is made in passing for a race.
fn token_with_lane() -> ShutdownToken {
    let token = token();
    token.node.tree.lane();
    token
}

/// The stopping sequence as `Shutdown::finish` runs it.
fn finish(token: &ShutdownToken) -> StopReport {
    let node = Arc::clone(&token.node);
    block_on(Finish::new(node, Duration::ZERO, Place::HookThread).run())
}

mod units {
    use super::*;

    /// One thread enters a unit and stays in it, another stops and looks whether anybody is in.
    fn enter_against_stop() {
        let lane = Arc::new(Lane::new());
        let phase = Arc::new(AtomicU8::new(Phase::Running as u8));
        let worker = {
            let (lane, phase) = (Arc::clone(&lane), Arc::clone(&phase));
            spawn(move || lane.enter("unit", 0, &phase))
        };
        phase.fetch_max(Phase::Draining as u8, Ordering::Relaxed);
        heavy();
        let seen = lane.is_open();
        let entered = worker.join().expect("no panic");
        assert!(entered.is_none() || seen, "entered and not seen");
    }

    #[test]
    fn a_unit_is_refused_or_the_stop_sees_it() {
        explore(enter_against_stop);
    }

    /// The control: what the model above is worth.
    #[test]
    #[should_panic(expected = "entered and not seen")]
    fn control_with_a_weaker_fence_a_unit_slips_past_the_stop() {
        weakened(|| explore(enter_against_stop));
    }

    /// One thread leaves its unit and looks at the phase, another stops and waits at the gate.
    fn leave_against_stop() {
        let lane = Arc::new(Lane::new());
        let phase = Arc::new(AtomicU8::new(Phase::Running as u8));
        let gate = Arc::new(Gate::default());
        let place = lane.enter("unit", 0, &phase).expect("running");
        let worker = {
            let (lane, phase, gate) = (Arc::clone(&lane), Arc::clone(&phase), Arc::clone(&gate));
            spawn(move || {
                lane.leave(place, true);
                if phase.load(Ordering::Relaxed) != Phase::Running as u8 {
                    gate.left(None);
                }
            })
        };
        phase.fetch_max(Phase::Draining as u8, Ordering::Relaxed);
        let sleeper = Arc::new(Sleeper::default());
        let waker = Waker::from(Arc::clone(&sleeper));
        loop {
            gate.watch(&waker);
            heavy();
            if !lane.is_open() {
                break;
            }
            sleeper.sleep();
        }
        assert_eq!(lane.ended().committed, 1);
        worker.join().expect("no panic");
    }

    #[test]
    fn the_last_unit_to_leave_wakes_the_stop() {
        explore(leave_against_stop);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn control_with_a_weaker_fence_the_stop_sleeps_for_ever() {
        weakened(|| explore(leave_against_stop));
    }

    /// The whole sequence against a thread that enters a unit, leaves it, and enters another: what was let in has ended before the report, and
    /// the report counts it. With at most
    /// four preemptions: without a bound it takes minutes.
    #[test]
    fn the_report_comes_after_the_last_unit() {
        explore_to(4, || {
            let token = token_with_lane();
            let worker = {
                let token = token.clone();
                spawn(move || {
                    let first = token.unit("first").map(super::super::Unit::commit);
                    let second = token.unit("second").map(drop);
                    (first.is_some(), second.is_some())
                })
            };
            let report = finish(&token);
            let (first, second) = worker.join().expect("no panic");
            assert!(first || !second, "refused, then let in");
            assert_eq!(report.units.committed, u64::from(first));
            assert_eq!(report.units.rolled_back, u64::from(second));
            assert_eq!(report.given_up, []);
            let refused = u64::from(!first) + u64::from(!second);
            assert_eq!(token.status().units.refused, refused);
        });
    }

    /// A request made elsewhere is on its way down while the stop begins to wait: the stop must not overtake it. With at most three preemptions.
    #[test]
    fn the_stop_waits_until_a_child_was_told() {
        explore_to(3, || {
            let token = token_with_lane();
            let child = token.child("child");
            let worker =
                spawn(move || child.unit("unit").map(super::super::Unit::commit).is_some());
            let asking = {
                let token = token.clone();
                spawn(move || token.request(graceful()))
            };
            let report = finish(&token);
            let entered = worker.join().expect("no panic");
            asking.join().expect("no panic");
            assert_eq!(report.units.committed, u64::from(entered));
            assert_eq!(report.given_up, []);
        });
    }

    /// An owned unit is entered on one thread and ends on another.
    #[test]
    fn an_owned_unit_is_refused_or_waited_for() {
        explore(|| {
            let token = token();
            let worker = {
                let token = token.clone();
                spawn(move || {
                    let unit = token.owned_unit("unit");
                    let entered = unit.is_some();
                    let ending = spawn(move || unit.map(super::super::OwnedUnit::commit));
                    ending.join().expect("no panic");
                    entered
                })
            };
            let report = finish(&token);
            let entered = worker.join().expect("no panic");
            assert_eq!(report.units.committed, u64::from(entered));
            assert_eq!(report.given_up, []);
            assert_eq!(token.status().units.refused, u64::from(!entered));
        });
    }

    /// One slot is filled with one unit's name and time after another's while a reader looks.
    #[test]
    fn what_is_read_of_a_slot_is_of_one_unit() {
        explore(|| {
            let lane = Arc::new(Lane::new());
            let phase = Arc::new(AtomicU8::new(Phase::Running as u8));
            let enter = |name, nanoseconds| lane.enter(name, nanoseconds, &phase).expect("running");
            let first = enter("aaaaaaaaaa", 1);
            let reader = {
                let lane = Arc::clone(&lane);
                spawn(move || lane.seen())
            };
            lane.leave(first, true);
            enter("bb", 2);
            for seen in reader.join().expect("no panic") {
                let whole = |name: &str, nanoseconds| Seen {
                    name: name.into(),
                    started: Some(Duration::from_nanos(nanoseconds)),
                };
                assert!([whole("aaaaaaaaaa", 1), whole("bb", 2)].contains(&seen));
            }
        });
    }
}

mod waiting {
    use super::*;

    /// With at most four preemptions.
    #[test]
    fn no_waiter_sleeps_through_its_phase() {
        explore_to(4, || {
            let waiters = Arc::new(Waiters::new(true));
            let phase = Arc::new(AtomicU8::new(Phase::Running as u8));
            let threads = [Phase::Draining, Phase::Terminating].map(|wanted| {
                let (waiters, phase) = (Arc::clone(&waiters), Arc::clone(&phase));
                spawn(move || {
                    let sleeper = Arc::new(Sleeper::default());
                    let waker = Waker::from(Arc::clone(&sleeper));
                    if waiters.insert(0, wanted, &phase, &waker).is_some() {
                        sleeper.sleep();
                    }
                })
            });
            for reached in [Phase::Draining, Phase::Terminating] {
                phase.fetch_max(reached as u8, Ordering::Relaxed);
                waiters.wake(reached);
            }
            for thread in threads {
                thread.join().expect("no panic");
            }
        });
    }

    /// A future that moves to another waker while the phase is reached: the waker given last is woken, or the poll that gave it was ready.
    #[test]
    fn the_waker_given_last_is_woken() {
        explore(|| {
            let token = token();
            let mut stopping = token.stopping();
            let (first, second) = (Arc::new(Sleeper::default()), Arc::new(Sleeper::default()));
            assert!(!poll(&mut stopping, &first));
            let asking = {
                let token = token.clone();
                spawn(move || token.request(graceful()))
            };
            if !poll(&mut stopping, &second) {
                second.sleep();
            }
            asking.join().expect("no panic");
            assert!(poll(&mut stopping, &second));
        });
    }

    /// One future is dropped on another thread while the phase is reached; the one beside it is woken all the same.
    #[test]
    fn a_future_dropped_on_another_thread_takes_nobody_with_it() {
        explore(|| {
            let token = token();
            let (mut dropped, mut kept) = (token.stopping(), token.stopping());
            let (other, sleeper) = (Arc::new(Sleeper::default()), Arc::new(Sleeper::default()));
            assert!(!poll(&mut dropped, &other));
            assert!(!poll(&mut kept, &sleeper));
            let dropping = spawn(move || drop(dropped));
            let asking = {
                let token = token.clone();
                spawn(move || token.request(graceful()))
            };
            sleeper.sleep();
            assert!(poll(&mut kept, &sleeper));
            dropping.join().expect("no panic");
            asking.join().expect("no panic");
        });
    }

    /// The first wait makes the list while the phase is reached.
    #[test]
    fn the_first_waiter_is_woken_or_sees_the_phase() {
        explore(|| {
            let token = token();
            let waiting = {
                let token = token.clone();
                spawn(move || block_on(token.stopping()))
            };
            token.request(graceful());
            waiting.join().expect("no panic");
        });
    }
}

mod tokens {
    use super::*;

    #[test]
    fn a_child_made_while_a_request_travels_down_is_stopping() {
        explore(|| {
            let token = token();
            let making = {
                let token = token.clone();
                spawn(move || {
                    let child = token.child("child");
                    let grandchild = child.child("grandchild");
                    (child, grandchild)
                })
            };
            token.request(graceful());
            let (child, grandchild) = making.join().expect("no panic");
            assert!(child.is_stopping() && grandchild.is_stopping());
        });
    }

    /// The line of children is there already, and a new grandchild is made at its end.
    #[test]
    fn a_grandchild_made_while_a_request_travels_down_is_stopping() {
        explore(|| {
            let token = token();
            let child = token.child("child");
            let making = spawn(move || child.child("grandchild"));
            token.request(graceful());
            assert!(making.join().expect("no panic").is_stopping());
        });
    }

    /// A child is dropped on another thread, with a place in the list that a new child may take; the others are told.
    #[test]
    fn a_child_dropped_while_a_request_travels_down_hides_nobody() {
        explore(|| {
            let token = token();
            let line = token.child("child").child("grandchild");
            let beside = token.child("beside");
            let dropping = {
                let token = token.clone();
                spawn(move || {
                    drop(line);
                    token.child("in its place")
                })
            };
            token.request(graceful());
            assert!(beside.is_stopping());
            assert!(dropping.join().expect("no panic").is_stopping());
        });
    }

    #[test]
    fn a_childs_request_stays_below_it() {
        explore(|| {
            let token = token();
            let child = token.child("child");
            let beside = token.child("beside");
            let asking = {
                let child = child.clone();
                spawn(move || child.request(immediate()))
            };
            let grandchild = child.child("grandchild");
            asking.join().expect("no panic");
            assert_eq!(child.phase(), Phase::Terminating);
            assert_eq!(grandchild.phase(), Phase::Terminating);
            assert_eq!(token.phase(), Phase::Running);
            assert_eq!(beside.phase(), Phase::Running);
            assert!(token.requests().is_empty() && beside.reason().is_none());
        });
    }

    /// A graceful and an immediate request at once.
    #[test]
    fn two_requests_leave_everybody_terminating_and_awake() {
        explore(|| {
            let token = token();
            let child = token.child("child");
            let sleepers = [Phase::Draining, Phase::Terminating].map(|wanted| {
                let sleeper = Arc::new(Sleeper::default());
                let mut waiting = child.reached(wanted);
                assert!(!poll(&mut waiting, &sleeper));
                (waiting, sleeper)
            });
            let asking = {
                let token = token.clone();
                spawn(move || token.request(graceful()))
            };
            assert_eq!(token.request(immediate()), Phase::Terminating);
            asking.join().expect("no panic");
            assert_eq!(token.phase(), Phase::Terminating);
            assert_eq!(child.phase(), Phase::Terminating);
            for (_, sleeper) in &sleepers {
                assert!(sleeper.was_woken());
            }
        });
    }

    /// Of two requests at once, on a child and its parent, one is the reason for the child and stays it, and it is the first of the list.
    #[test]
    fn the_reason_stays_the_first_request() {
        explore(|| {
            let token = token();
            let child = token.child("child");
            let asking = {
                let token = token.clone();
                spawn(move || token.request(graceful()))
            };
            child.request(immediate());
            let early = child.reason();
            asking.join().expect("no panic");
            let late = child.reason();
            assert_eq!(early, late);
            let first = child.requests().first().map(|first| first.request.clone());
            assert_eq!(late, first);
            assert_eq!(token.requests().len(), 1);
            assert_eq!(
                token.reason().map(|reason| reason.mode),
                Some(Mode::Graceful)
            );
        });
    }

    /// Two requests on one token: its reason is the first of its list.
    #[test]
    fn two_requests_on_one_token_have_one_order() {
        explore(|| {
            let token = token();
            let asking = {
                let token = token.clone();
                spawn(move || token.request(graceful()))
            };
            token.request(immediate());
            asking.join().expect("no panic");
            let requests = token.requests();
            assert_eq!(requests.len(), 2);
            assert_eq!(token.reason().as_ref(), Some(&requests[0].request));
        });
    }
}
