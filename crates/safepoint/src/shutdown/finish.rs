//! The stopping sequence: hooks in order, the wait until nothing is open, and the report.
//!
//! One asynchronous function serves both [`Shutdown::finish`](super::Shutdown::finish), which drives it on the calling thread, and
//! [`Shutdown::finish_async`](super::Shutdown::finish_async).
//!
//! Each hook's share is the time left in its window, divided by the number of those that still want a part of it; the wait for what is
//! open counts as one. So hooks that are quick leave their time to the others, and hooks that all hang each get the same.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::caught::{self, Caught};
use super::hook::{Hook, Work};
use super::hook_thread::HookThread;
use super::node::Node;
use super::parker::block_on;
use super::report::{HookOutcome, HookReport};
use super::sleep::Sleep;
use super::{HeldUp, Order, Phase, Share, ShutdownToken, StopReport, Stopping};
use crate::clock::Moment;

/// The least share of a hook: also when the time is over, one that is quick is not passed over.
pub const LEAST_SHARE: Duration = Duration::from_millis(50);

/// Where asynchronous hooks are polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the caller's own future, so in the context of its runtime.
    Here,
    /// On the thread of the hooks.
    HookThread,
}

pub(super) struct Finish {
    node: Arc<Node>,
    ready_delay: Duration,
    place: Place,
    thread: HookThread,
    hooks: Vec<HookReport>,
}

impl Finish {
    pub(super) fn new(node: Arc<Node>, ready_delay: Duration, place: Place) -> Self {
        Self {
            node,
            ready_delay,
            place,
            thread: HookThread::new(),
            hooks: Vec::new(),
        }
    }

    /// Runs the whole sequence; the handlers are the caller's part.
    pub(super) async fn run(mut self) -> StopReport {
        self.node.end_by_itself();
        let tree = Arc::clone(&self.node.tree);
        // A unit on a child that has not been told yet could be let in behind our back.
        poll_fn(|context| ready_if(tree.is_propagated(Phase::Draining, context.waker()))).await;
        let begun = self.node.links().entered[0].unwrap_or_else(|| tree.clock.now());
        let drained_by = begun + tree.draining_time();
        self.until_or_terminating((begun + self.ready_delay).min(drained_by))
            .await;
        for order in [Order::Accept, Order::Drain] {
            while let Some(hook) = tree.hooks.take(order) {
                let others = tree.hooks.count(false) + 1;
                self.call(hook, drained_by, others).await;
            }
        }
        let given_up = self.drain(drained_by).await;
        // An immediate request has cut it to the reserve.
        let over = self.node.deadline().unwrap_or_else(|| tree.clock.now());
        for order in Order::ALL.into_iter().filter(|order| order.is_late()) {
            while let Some(hook) = tree.hooks.take(order) {
                let others = tree.hooks.count(true);
                self.call(hook, over, others).await;
            }
        }
        self.node.advance_to(Phase::Stopped);
        StopReport::new(&self.node, self.hooks, given_up)
    }

    /// Waits until nothing is open; what still is when the time is over is given up.
    async fn drain(&self, until: Moment) -> Vec<HeldUp> {
        let tree = &self.node.tree;
        let idle = poll_fn(|context| {
            tree.gate.watch(context.waker());
            ready_if(tree.is_idle())
        });
        let mut idle = pin!(idle);
        let enough = pin!(self.until_or_terminating(until));
        if race(idle.as_mut(), enough).await.is_some() {
            return Vec::new();
        }
        self.node.advance_to(Phase::Terminating);
        // Futures are dropped and threads notice at Terminating: those that are quick about it are not given up.
        let patience = tree.clock.now() + LEAST_SHARE;
        race(idle, pin!(Sleep::new(tree, patience))).await;
        let open = tree.open().into_iter();
        open.filter_map(|open| super::tree::held_up(&self.node, open))
            .collect()
    }

    async fn call(&mut self, hook: Hook, window: Moment, others: usize) {
        let tree = Arc::clone(&self.node.tree);
        let begun = tree.clock.now();
        let is_early = !hook.order.is_late();
        let part = window.since(begun) / u32::try_from(others + 1).unwrap_or(u32::MAX);
        let share = if is_early && self.node.phase() >= Phase::Terminating {
            LEAST_SHARE
        } else {
            part.max(LEAST_SHARE)
        };
        let until = begun + share;
        let mut running = self.begin(hook.work, until);
        let hung: Pin<Box<dyn Future<Output = ()> + Send>> = if is_early {
            Box::pin(self.until_or_terminating_and_a_little(until))
        } else {
            Box::pin(Sleep::new(&tree, until))
        };
        let caught = race(running.as_mut(), hung).await;
        // With one that hangs in place goes the caller's future, and its destructors may panic.
        let dropped = caught::catch(move || drop(running)).err();
        let outcome = match caught {
            Some(Caught::Done) => dropped.map_or(HookOutcome::Done, HookOutcome::Panicked),
            Some(Caught::Failed(message)) => HookOutcome::Failed(message),
            Some(Caught::Panicked(message)) => HookOutcome::Panicked(message),
            None => {
                self.thread.abandon();
                HookOutcome::Hung
            }
        };
        self.hooks.push(HookReport {
            order: hook.order,
            name: hook.name,
            took: tree.clock.now().since(begun),
            share,
            outcome,
        });
    }

    fn begin(&mut self, work: Work, until: Moment) -> Pin<Box<dyn Future<Output = Caught> + Send>> {
        let share = Share {
            token: ShutdownToken {
                node: Arc::clone(&self.node),
            },
            until,
        };
        match (work, self.place) {
            (Work::Blocking(work), _) => Box::pin(
                self.thread
                    .run(move || caught::run(|| work(&share).map_or(Ok(()), Err))),
            ),
            (Work::Async(work), Place::HookThread) => Box::pin(
                self.thread
                    .run(move || caught::run(|| block_on(work(share)).map_or(Ok(()), Err))),
            ),
            (Work::Async(work), Place::Here) => Box::pin(async move {
                let mut future = match caught::catch(|| work(share)) {
                    Ok(future) => future,
                    Err(message) => return Caught::Panicked(message),
                };
                poll_fn(
                    |context| match caught::catch(|| future.as_mut().poll(context)) {
                        Ok(polled) => {
                            polled.map(|failure| failure.map_or(Caught::Done, Caught::Failed))
                        }
                        Err(message) => Poll::Ready(Caught::Panicked(message)),
                    },
                )
                .await
            }),
        }
    }

    fn until_or_terminating(&self, until: Moment) -> impl Future<Output = ()> + Send + use<> {
        let sleep = Sleep::new(&self.node.tree, until);
        let terminating = Stopping::new(Arc::clone(&self.node), Phase::Terminating);
        async move {
            race(sleep, terminating).await;
        }
    }

    /// As above, but a hook that is running when haste is asked for gets the least share to come to its end.
    fn until_or_terminating_and_a_little(
        &self,
        until: Moment,
    ) -> impl Future<Output = ()> + Send + use<> {
        let tree = Arc::clone(&self.node.tree);
        let first = self.until_or_terminating(until);
        async move {
            first.await;
            let end = (tree.clock.now() + LEAST_SHARE).min(until);
            Sleep::new(&tree, end).await;
        }
    }
}

fn ready_if(is_ready: bool) -> Poll<()> {
    if is_ready {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

/// What `work` comes to, unless `end` is reached first.
async fn race<T>(
    mut work: impl Future<Output = T> + Unpin,
    mut end: impl Future<Output = ()> + Unpin,
) -> Option<T> {
    poll_fn(|context| match Pin::new(&mut work).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut end).poll(context).map(|()| None),
    })
    .await
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::shutdown::{Handlers, Mode, Shutdown, Source, StopRequest};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Longer than any test takes; nothing waits for it when the code is right.
    const LONG: Duration = Duration::from_secs(60);

    fn graceful(message: &str) -> StopRequest {
        StopRequest::graceful(Source::User, message)
    }

    fn immediate(message: &str) -> StopRequest {
        StopRequest::immediate(Source::User, message)
    }

    fn trouble(text: &str) {
        assert!(text.is_empty(), "{text}");
    }

    /// Hooks that say their names when they run.
    fn narrator() -> (Sender<String>, Receiver<String>) {
        channel()
    }

    #[test]
    fn hooks_run_in_their_orders_the_last_one_first() {
        let (say, said) = narrator();
        let mut builder = Shutdown::builder();
        for (order, name) in [
            (Order::Report, "report"),
            (Order::Save, "save first"),
            (Order::Accept, "accept"),
            (Order::Close, "close"),
            (Order::Save, "save second"),
            (Order::Drain, "drain"),
        ] {
            let say = say.clone();
            builder = builder.hook(order, name, move |_| say.send(name.to_owned()));
        }
        let shutdown = builder.build().expect("built");
        let late = say.clone();
        let token = shutdown.token();
        token
            .async_hook(Order::Save, "save third", move |_| async move {
                late.send("save third".to_owned())
            })
            .expect("in time");
        token.request(graceful("enough"));
        let report = shutdown.finish();
        let expected = [
            "accept",
            "drain",
            "save third",
            "save second",
            "save first",
            "close",
            "report",
        ];
        assert_eq!(said.try_iter().collect::<Vec<_>>(), expected);
        assert!(report.is_clean(), "{report}");
        assert_eq!(
            report.reason().map(|reason| reason.message.as_str()),
            Some("enough")
        );
        let names: Vec<_> = report.hooks.iter().map(|hook| hook.name.as_str()).collect();
        assert_eq!(names, expected);
        assert_eq!(token.phase(), Phase::Stopped);
        let refused = token.hook(Order::Report, "too late", |_| {});
        assert!(refused.is_err_and(|error| error.kind() == crate::ErrorKind::Closed));
    }

    #[test]
    fn a_hung_a_failing_and_a_panicking_hook_are_named_and_stop_no_other() {
        let (say, said) = narrator();
        let (_release, hang) = channel::<()>();
        let shutdown = Shutdown::builder()
            .grace(Duration::from_secs(2))
            .reserve(Duration::from_secs(2))
            .hook(Order::Save, "last", move |_| {
                say.send("last ran".to_owned())
            })
            .hook(Order::Save, "hangs", move |_| hang.recv())
            .hook(Order::Save, "panics", |_| trouble("no such table"))
            .hook(Order::Save, "fails", |_| Err::<(), _>("disk is full"))
            .build()
            .expect("built");
        let report = shutdown.finish();
        assert_eq!(said.try_iter().collect::<Vec<_>>(), ["last ran"]);
        let outcomes: Vec<_> = report
            .hooks
            .iter()
            .map(|hook| (hook.name.as_str(), hook.outcome.clone()))
            .collect();
        assert_eq!(
            outcomes,
            [
                ("fails", HookOutcome::Failed("disk is full".into())),
                ("panics", HookOutcome::Panicked("no such table".into())),
                ("hangs", HookOutcome::Hung),
                ("last", HookOutcome::Done),
            ]
        );
        assert!(!report.is_clean());
        let text = report.to_string();
        assert!(text.contains("hook `fails` (save): failed in"), "{text}");
        assert!(text.contains("disk is full"), "{text}");
        assert!(
            text.contains("panicked in") && text.contains("no such table"),
            "{text}"
        );
        assert!(
            text.contains("hook `hangs` (save): hung: not done in its share of"),
            "{text}"
        );
    }

    #[test]
    fn hooks_that_all_hang_each_get_the_same_share_and_one_that_is_quick_leaves_its_own() {
        let (_release, hang) = channel::<()>();
        let hang = Arc::new(std::sync::Mutex::new(hang));
        let hanging = |hang: &Arc<std::sync::Mutex<Receiver<()>>>| {
            let hang = Arc::clone(hang);
            move |_: &Share| drop(hang.lock().map(|hang| hang.recv()))
        };
        let shutdown = Shutdown::builder()
            .grace(Duration::from_secs(3))
            .reserve(Duration::from_secs(3))
            .hook(Order::Save, "third", hanging(&hang))
            .hook(Order::Save, "second", hanging(&hang))
            .hook(Order::Save, "first", |_| {})
            .build()
            .expect("built");
        let report = shutdown.finish();
        let shares: Vec<_> = report
            .hooks
            .iter()
            .map(|hook| hook.share.as_millis())
            .collect();
        // Lower bounds are loose, for a machine that stands still in between.
        assert!(
            (500..=1000).contains(&shares[0]),
            "a third of the window: {shares:?}"
        );
        assert_eq!(report.hooks[0].outcome, HookOutcome::Done);
        assert!(
            (shares[0]..=1500).contains(&shares[1]),
            "half of what is left, and so more: {shares:?}"
        );
        assert!(
            (100..=shares[1]).contains(&shares[2]),
            "all that is left: {shares:?}"
        );
        assert_eq!(report.hooks[1].outcome, HookOutcome::Hung);
        assert_eq!(report.hooks[2].outcome, HookOutcome::Hung);
    }

    #[test]
    fn a_second_request_while_a_hook_runs_is_seen_by_it_and_never_deadlocks() {
        let (say, said) = narrator();
        let shutdown = Shutdown::builder()
            .grace(LONG)
            .hook(Order::Drain, "asks for haste itself", move |share| {
                assert_eq!(share.phase(), Phase::Draining);
                share.token().request(immediate("now"));
                let haste = share.phase() == Phase::Terminating && share.remaining() <= LONG;
                say.send(format!(
                    "haste: {haste}, {} requests",
                    share.token().requests().len()
                ))
            })
            .hook(Order::Save, "saves all the same", |share| {
                assert_eq!(share.phase(), Phase::Terminating);
            })
            .build()
            .expect("built");
        shutdown.token().request(graceful("please"));
        let report = shutdown.finish();
        assert_eq!(
            said.try_iter().collect::<Vec<_>>(),
            ["haste: true, 2 requests"]
        );
        assert!(report.is_clean(), "{report}");
        assert_eq!(
            (report.graceful_interrupts, report.immediate_interrupts),
            (1, 1)
        );
    }

    #[test]
    fn an_immediate_request_takes_the_time_from_a_hung_draining_hook() {
        let (_release, hang) = channel::<()>();
        let (began, begun) = channel();
        let shutdown = Shutdown::builder()
            .grace(LONG)
            .reserve(Duration::from_secs(5))
            .hook(Order::Drain, "hangs", move |_| {
                began.send(()).expect("heard");
                hang.recv()
            })
            .hook(Order::Save, "saves", |share| {
                let left = share.remaining();
                assert!(
                    left > Duration::ZERO && left <= Duration::from_secs(5),
                    "{left:?}"
                );
            })
            .build()
            .expect("built");
        let token = shutdown.token();
        let hasty = std::thread::spawn(move || {
            begun.recv().expect("the hook runs");
            token.request(immediate("now"));
        });
        let report = shutdown.finish();
        hasty.join().expect("no panic");
        assert_eq!(report.hooks[0].outcome, HookOutcome::Hung);
        assert_eq!(report.hooks[1].outcome, HookOutcome::Done, "{report}");
        assert!(report.took < LONG, "{report}");
    }

    #[test]
    fn the_stop_waits_for_units_and_names_what_held_it_up() {
        let clock = Clock::start();
        let shutdown = Shutdown::builder().grace(LONG).build().expect("built");
        let token = shutdown.token();
        let (entered, inside) = channel();
        let saw_the_end = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&saw_the_end);
        let worker = std::thread::Builder::new().name("worker 3".into());
        let worker = worker.spawn(move || {
            let child = token.child("reader");
            let unit = child.unit("record 17").expect("running");
            entered.send(()).expect("heard");
            child.wait();
            assert!(child.unit("record 18").is_none(), "no extra one begins");
            seen.store(1, Ordering::SeqCst);
            unit.commit();
        });
        inside.recv().expect("entered");
        assert_eq!(shutdown.token().status().open[0].name, "record 17");
        shutdown.token().request(graceful("enough"));
        let report = shutdown.finish();
        assert_eq!(
            saw_the_end.load(Ordering::SeqCst),
            1,
            "the stop did not wait"
        );
        worker.expect("started").join().expect("no panic");
        assert!(report.is_clean(), "{report}");
        let held = &report.held_up[0];
        assert_eq!(
            (held.open.name.as_str(), held.open.thread.as_str()),
            ("record 17", "worker 3")
        );
        let most = clock.now().since(Moment::default());
        assert!(held.held <= most, "{held:?}");
        // The age is measured by a clock that ticks every few milliseconds.
        assert!(
            held.open.age <= most + Duration::from_millis(10),
            "{held:?}"
        );
        assert_eq!((report.units.committed, report.units.refused), (1, 1));
    }

    #[test]
    fn what_outlives_its_time_is_given_up_by_name() {
        let shutdown = Shutdown::builder()
            .grace(Duration::from_millis(200))
            .build()
            .expect("built");
        let token = shutdown.token();
        let unit = token.owned_unit("a long one").expect("running");
        token.request(graceful("enough"));
        let report = shutdown.finish();
        assert_eq!(report.given_up.len(), 1, "{report}");
        assert_eq!(report.given_up[0].open.name, "a long one");
        assert!(report.given_up[0].held >= Duration::from_millis(200));
        assert!(!report.is_clean());
        assert_eq!(token.phase(), Phase::Stopped);
        drop(unit);
    }

    #[test]
    fn nothing_open_and_no_hooks_end_at_once_and_the_work_may_end_by_itself() {
        let clock = Clock::start();
        clock.pause();
        let shutdown = Shutdown::builder().grace(LONG).clock(clock);
        let shutdown = shutdown.build().expect("built");
        let token = shutdown.token();
        token.unit("only").expect("running").commit();
        let report = shutdown.finish();
        assert_eq!(report.took, Duration::ZERO, "it waited for nothing");
        assert!(report.reason().is_none() && report.is_clean());
        assert_eq!(report.handlers, Handlers::None);
        assert!(report.event_lines(&[]).is_empty());
        assert!(
            report.to_string().starts_with("ended by itself in 0.00 s"),
            "{report}"
        );
    }

    #[test]
    fn observers_are_told_and_can_hold_nothing_up() {
        let (say, said) = narrator();
        let after = say.clone();
        let (_release, hang) = channel::<()>();
        let shutdown = Shutdown::builder()
            .grace(LONG)
            .before_stop(move |request| drop(say.send(format!("before: {}", request.message))))
            .before_stop(|_| trouble("an observer's own"))
            .before_stop(move |_| assert!(hang.recv().is_err()))
            .after_stop(move |report| drop(after.send(format!("after: {}", report.requests.len()))))
            .build()
            .expect("built");
        shutdown.token().request(graceful("one"));
        assert_eq!(said.recv().as_deref(), Ok("before: one"));
        shutdown.token().request(graceful("two"));
        let report = shutdown.finish();
        assert_eq!(said.recv().as_deref(), Ok("after: 2"));
        assert!(report.is_clean());
        assert!(said.recv().is_err(), "told twice");
    }

    #[test]
    fn the_ready_delay_passes_before_the_first_hook_unless_there_is_haste() {
        let took_with = |mode, delay| {
            let shutdown = Shutdown::builder()
                .grace(LONG)
                .ready_delay(delay)
                .hook(Order::Accept, "close the listeners", |_| {})
                .build()
                .expect("built");
            let request = StopRequest {
                mode,
                ..graceful("go")
            };
            shutdown.token().request(request);
            shutdown.finish().took
        };
        let delay = Duration::from_millis(300);
        assert!(took_with(Mode::Graceful, delay) >= delay);
        assert!(took_with(Mode::Immediate, LONG) < LONG / 2);
    }

    #[test]
    fn the_grace_period_ends_by_itself_without_anybody_waiting() {
        let shutdown = Shutdown::builder()
            .grace(Duration::from_millis(50))
            .build()
            .expect("built");
        let token = shutdown.token();
        let child = token.child("part");
        token.request(graceful("enough"));
        block_on(child.reached(Phase::Terminating));
        assert_eq!(token.phase(), Phase::Terminating);
    }

    #[test]
    fn an_asynchronous_finish_polls_its_hooks_in_place() {
        thread_local! { static HERE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) }; }
        HERE.set(true);
        let shutdown = Shutdown::builder()
            .grace(Duration::from_millis(500))
            .async_hook(Order::Close, "in place", |share| async move {
                let in_place = HERE.get() && share.reason().is_none();
                if in_place { Ok(()) } else { Err("elsewhere") }
            })
            .async_hook(Order::Close, "panics", |_| async { trouble("half-way") })
            .async_hook(Order::Close, "never ends", |_| std::future::pending::<()>())
            .build()
            .expect("built");
        let report = block_on(shutdown.finish_async());
        let outcomes: Vec<_> = report
            .hooks
            .iter()
            .map(|hook| hook.outcome.clone())
            .collect();
        assert_eq!(
            outcomes,
            [
                HookOutcome::Hung,
                HookOutcome::Panicked("half-way".into()),
                HookOutcome::Done,
            ]
        );
    }

    #[test]
    fn a_report_becomes_event_lines_with_the_callers_fields() {
        let shutdown = Shutdown::builder().build().expect("built");
        shutdown.token().request(graceful("SIGINT"));
        shutdown.token().request(immediate("SIGINT"));
        let lines = shutdown
            .finish()
            .event_lines(&[("job", "words"), ("run", "2")]);
        let without_time: Vec<_> = lines
            .iter()
            .map(|line| line.split_once("\",").expect("a timestamp").1)
            .collect();
        assert_eq!(
            without_time,
            [
                r#""event":"interrupt_initiated","job":"words","run":"2","source":"USER","mode":"GRACEFUL","message":"SIGINT"}"#,
                r#""event":"interrupt_initiated","job":"words","run":"2","source":"USER","mode":"IMMEDIATE","message":"SIGINT"}"#,
                r#""event":"interrupt_completed","job":"words","run":"2","checkpoint_id":null,"total_interrupts":2,"graceful_interrupts":1,"immediate_interrupts":1,"given_up":0}"#,
            ]
        );
    }
}
