//! Code of the caller's that hangs, panics, or asks for more than one would expect: what it may break, and what it may not.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::ErrorKind;
use crate::shutdown::parker::{block_on, block_on_for};
use crate::shutdown::{
    Drain, HookOutcome, Order, Phase, Shutdown, ShutdownToken, Source, StopRequest,
};

/// Longer than any test takes; nothing waits for it when the code is right.
const LONG: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_millis(300);

fn enough() -> StopRequest {
    StopRequest::graceful(Source::User, "enough")
}

fn trouble(text: &str) {
    assert!(text.is_empty(), "{text}");
}

/// An observer that hangs until the test is over.
fn hanging() -> (Sender<()>, impl Fn(Phase)) {
    let (release, hang) = channel::<()>();
    let hang = Mutex::new(hang);
    (release, move |_| drop(hang.lock().map(|hang| hang.recv())))
}

/// Whether `phase` is reached by itself.
fn gets_to(token: &ShutdownToken, phase: Phase) -> bool {
    block_on_for(token.reached(phase), LONG).is_some()
}

#[test]
fn a_panicking_observer_of_a_grace_period_or_a_limit_keeps_no_later_deadline_from_being_kept() {
    let shutdown = Shutdown::builder().grace(SHORT).build().expect("built");
    let token = shutdown.token();
    token.observe(|_| trouble("an observer's own"));
    let _unit = token.owned_unit("endless").expect("running");
    let _limit = token.time_limit(Duration::ZERO).expect("keeps time");
    token.wait();
    assert!(gets_to(&token, Phase::Terminating));
    let report = finished(shutdown);
    assert_eq!(report.given_up.len(), 1, "{report}");
}

#[test]
fn an_observer_that_hangs_keeps_no_hung_hook_from_being_left_behind() {
    let (_release, hang) = hanging();
    let (_release_too, hook) = channel::<()>();
    let shutdown = Shutdown::builder()
        .grace(Duration::from_secs(1))
        .reserve(SHORT)
        .hook(Order::Drain, "hangs", move |_| hook.recv())
        .hook(Order::Save, "saves", |_| {})
        .build()
        .expect("built");
    let token = shutdown.token();
    token.observe(hang);
    let _limit = token.time_limit(Duration::ZERO).expect("keeps time");
    token.wait();
    let report = finished(shutdown);
    let outcomes: Vec<_> = report.hooks.iter().map(|hook| &hook.outcome).collect();
    assert_eq!(outcomes, [&HookOutcome::Hung, &HookOutcome::Done]);
}

/// The report of a shutdown that is finished on a thread of its own, so that one that never ends fails the test.
fn finished(shutdown: Shutdown) -> crate::shutdown::StopReport {
    let (tell, told) = channel();
    std::thread::spawn(move || drop(tell.send(shutdown.finish())));
    told.recv_timeout(LONG).expect("the stop comes to its end")
}

#[test]
fn dropping_a_shutdown_waits_for_no_observer() {
    let (_release, hang) = hanging();
    let shutdown = Shutdown::builder().build().expect("built");
    let token = shutdown.token();
    token.observe(hang);
    let _limit = token.time_limit(Duration::ZERO).expect("keeps time");
    token.wait();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        drop(shutdown);
        tell.send(())
    });
    told.recv_timeout(LONG).expect("dropped");
}

#[test]
fn an_observer_may_end_the_shutdown_on_its_own_thread() {
    let slot: Arc<Mutex<Option<Shutdown>>> = Arc::default();
    let shutdown = Shutdown::builder()
        .grace(LONG)
        .ready_delay(Duration::from_millis(10))
        .build()
        .expect("built");
    let token = shutdown.token();
    *slot.lock().expect("whole") = Some(shutdown);
    let (tell, told) = channel();
    token.observe(move |_| {
        let shutdown = slot.lock().expect("whole").take();
        if let Some(shutdown) = shutdown {
            tell.send(shutdown.finish()).expect("heard");
        }
    });
    let _limit = token.time_limit(Duration::ZERO).expect("keeps time");
    let report = told.recv_timeout(LONG).expect("it returned");
    assert!(report.is_clean(), "{report}");
    assert!(gets_to(&token, Phase::Stopped));
}

#[test]
fn finish_gives_observers_time_to_hear_of_the_end() {
    let shutdown = Shutdown::builder().grace(LONG).build().expect("built");
    let (tell, told) = channel();
    shutdown.token().observe(move |phase| {
        tell.send(phase).expect("heard");
    });
    let report = shutdown.finish();
    assert!(report.is_clean(), "{report}");
    let phases: Vec<Phase> = told.try_iter().collect();
    assert_eq!(phases.last(), Some(&Phase::Stopped), "{phases:?}");
}

#[test]
fn a_panicking_observer_keeps_no_item_from_being_handed_back_and_no_request_from_returning() {
    let shutdown = Shutdown::builder().grace(LONG).build().expect("built");
    let token = shutdown.token();
    token.observe(|_| trouble("an observer's own"));
    let one = NonZeroUsize::MIN;
    let drain: Drain<u32> = Drain::new(&token, one);
    drain.push(1).expect("accepted");
    let mut blocked = pin!(drain.push_async(2));
    let mut context = Context::from_waker(Waker::noop());
    assert!(blocked.as_mut().poll(&mut context).is_pending());
    let pushing = drain.clone();
    let thread = std::thread::spawn(move || pushing.push(3));
    assert_eq!(token.request(enough()), Phase::Draining);
    let Poll::Ready(Err(refused)) = blocked.as_mut().poll(&mut context) else {
        panic!("it waits on");
    };
    assert_eq!(refused.into_item(), 2);
    let handed_back = thread.join().expect("no panic").expect_err("refused");
    assert_eq!(handed_back.into_item(), 3);
}

#[test]
fn a_hung_hook_that_panics_when_it_is_dropped_keeps_no_later_one_from_running() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            trouble("a destructor's own");
        }
    }
    let (say, said) = channel();
    let shutdown = Shutdown::builder()
        .grace(SHORT)
        .hook(Order::Save, "saves", move |_| say.send(()))
        .async_hook(Order::Save, "hangs", |_| {
            let loud = Loud;
            async move {
                let _loud = loud;
                std::future::pending::<()>().await;
            }
        })
        .build()
        .expect("built");
    let report = block_on(shutdown.finish_async());
    assert!(said.try_recv().is_ok(), "not saved");
    let hooks = report.hooks.iter();
    let outcomes: Vec<_> = hooks
        .map(|hook| (hook.name.as_str(), &hook.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [("hangs", &HookOutcome::Hung), ("saves", &HookOutcome::Done)]
    );
}

#[test]
fn a_hook_is_run_or_refused_never_neither() {
    for order in Order::ALL {
        let (say, said) = channel();
        let late = say.clone();
        let shutdown = Shutdown::builder()
            .grace(LONG)
            .hook(order, "the last of its order", move |share| {
                let late = late.clone();
                let hook = move |_: &_| late.send("accepted").expect("heard");
                share.token().hook(order, "registered by a hook", hook)
            })
            .build()
            .expect("built");
        let token = shutdown.token();
        assert!(shutdown.finish().is_clean());
        assert_eq!(said.try_recv(), Ok("accepted"), "{order:?}");
        let refused = token.hook(order, "too late", move |_| say.send("refused"));
        assert!(refused.is_err_and(|error| error.kind() == ErrorKind::Closed));
    }
}

#[test]
fn a_hook_for_the_draining_is_refused_while_units_are_waited_for() {
    let shutdown = Shutdown::builder().grace(LONG).build().expect("built");
    let token = shutdown.token();
    let unit = token.owned_unit("open").expect("running");
    let registering = std::thread::spawn(move || {
        token.wait();
        loop {
            let (say, said) = channel();
            match token.hook(Order::Drain, "late", move |_| say.send(())) {
                Ok(()) => said.recv_timeout(LONG / 4).expect("accepted, so it runs"),
                Err(error) => break (unit, error.kind()),
            }
        }
    });
    shutdown.token().request(enough());
    let finishing = std::thread::spawn(|| shutdown.finish());
    let (unit, kind) = registering.join().expect("no hook is left lying");
    assert_eq!(kind, ErrorKind::Closed);
    unit.commit();
    assert!(finishing.join().expect("no panic").is_clean());
}

#[test]
fn a_token_outlives_its_shutdown_with_its_deadline_and_its_limits() {
    let shutdown = Shutdown::builder().grace(SHORT).build().expect("built");
    let token = shutdown.token();
    drop(shutdown);
    let _limit = token.time_limit(Duration::ZERO).expect("keeps time");
    assert!(token.wait_timeout(LONG), "the limit");
    assert!(gets_to(&token, Phase::Terminating), "the grace period");
}
