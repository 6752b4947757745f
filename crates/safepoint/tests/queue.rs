//! The queue as programs use it: one after the other against a model, many threads, several handles that stand for processes, and real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use safepoint::queue::{
    Durability, Lease, LeaseToken, NewItem, Payload, Pushed, QueueCounts, QueuedState, RetryPolicy,
};
use safepoint::{ErrorKind, Queue};
use safepoint_testkit::image::scratch;

use crate::support::{PATIENCE, is_role, role, say};

const DIRECTORY: &str = "SAFEPOINT_TEST_DIRECTORY";

/// Failed items come back at once.
const AT_ONCE: RetryPolicy = RetryPolicy {
    max_attempts: 3,
    base: Duration::ZERO,
    cap: Duration::ZERO,
};

fn open(directory: &Path) -> Queue {
    Queue::builder(directory).retry(AT_ONCE).open().unwrap()
}

fn take(queue: &Queue) -> Option<Lease> {
    queue.claim(Duration::ZERO).unwrap()
}

fn assert_valid(directory: &Path) {
    assert_eq!(Queue::validate(directory).unwrap(), []);
}

/// What may be done with a queue.
#[derive(Clone, Copy, Debug)]
enum Act {
    Push(Option<u8>),
    Claim,
    Acknowledge(usize),
    Fail(usize),
    Release(usize),
    /// The lease expires, and whoever had it does not know.
    Expire(usize),
    AcknowledgeLate(usize),
    Drop(usize),
    Retry,
    Forget,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => proptest::option::of(0..5_u8).prop_map(Act::Push),
        8 => Just(Act::Claim),
        4 => (0..8_usize).prop_map(Act::Acknowledge),
        2 => (0..8_usize).prop_map(Act::Fail),
        2 => (0..8_usize).prop_map(Act::Release),
        3 => (0..8_usize).prop_map(Act::Expire),
        2 => (0..8_usize).prop_map(Act::AcknowledgeLate),
        1 => (0..8_usize).prop_map(Act::Drop),
        1 => Just(Act::Retry),
        1 => Just(Act::Forget),
        1 => Just(Act::Reopen),
    ]
}

#[derive(Debug, Clone)]
struct Item {
    key: Option<String>,
    state: QueuedState,
    attempts: u32,
    claims: u64,
    /// It was never attempted, so it comes in the order of pushing, after those that were.
    fresh: bool,
    /// Its lease has expired.
    expired: bool,
}

#[derive(Debug, Default)]
struct Model {
    items: BTreeMap<u64, Item>,
    last: u64,
}

impl Model {
    fn push(&mut self, key: Option<String>) -> Pushed {
        let same = |item: &&Item| key.is_some() && item.key == key;
        if let Some(known) = self.items.values().find(same) {
            return Pushed::Known(known.state);
        }
        self.last += 1;
        let item = Item {
            key,
            state: QueuedState::Pending,
            attempts: 0,
            claims: 0,
            fresh: true,
            expired: false,
        };
        self.items.insert(self.last, item);
        Pushed::New
    }

    /// Items that are done with by the look of a claim, and those it may give.
    fn claimable(&mut self, buries: bool) -> BTreeSet<u64> {
        let is_due = |item: &Item| match item.state {
            QueuedState::Leased => item.expired,
            QueuedState::Pending | QueuedState::Waiting => !item.fresh,
            _ => false,
        };
        let worn_out = |item: &Item| item.state == QueuedState::Leased && item.attempts >= 3;
        if buries {
            // A claim looks at those that are due until it has one; in a test all are due at once.
            for item in self.items.values_mut().filter(|item| is_due(item)) {
                if worn_out(item) {
                    item.state = QueuedState::Dead;
                }
            }
        }
        let due = self
            .items
            .iter()
            .filter(|(_, item)| is_due(item) && !worn_out(item));
        let due: BTreeSet<_> = due.map(|(number, _)| *number).collect();
        if !due.is_empty() {
            return due;
        }
        let fresh = self
            .items
            .iter()
            .find(|(_, item)| item.state == QueuedState::Pending);
        fresh.map(|(number, _)| *number).into_iter().collect()
    }

    fn counts(&self) -> QueueCounts {
        let of = |state| {
            self.items
                .values()
                .filter(|item| item.state == state)
                .count() as u64
        };
        QueueCounts {
            pending: of(QueuedState::Pending),
            waiting: of(QueuedState::Waiting),
            leased: of(QueuedState::Leased),
            done: of(QueuedState::Done),
            dead: of(QueuedState::Dead),
        }
    }
}

/// A lease and the number of its claim.
struct Held {
    lease: Lease,
    claim: u64,
}

fn is_over(model: &Model, held: &Held) -> bool {
    let item = model.items.get(&held.lease.number());
    item.is_none_or(|item| item.state != QueuedState::Leased || item.claims != held.claim)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_does_what_its_model_does(acts in proptest::collection::vec(act(), 1..60)) {
        let place = scratch().unwrap();
        // Without claims ahead, so that each count is exact at each moment.
        let open = || Queue::builder(place.path()).retry(AT_ONCE).read_ahead(0).open().unwrap();
        let mut queue = open();
        let mut model = Model::default();
        let mut held: Vec<Held> = Vec::new();
        for act in acts {
            let pick = |held: &mut Vec<Held>, at: usize| (at < held.len()).then(|| held.remove(at));
            match act {
                Act::Push(key) => {
                    let key = key.map(|key| format!("k{key}"));
                    let pushed = queue.push(key.as_deref(), "payload").unwrap();
                    prop_assert_eq!(pushed, model.push(key));
                }
                Act::Claim => {
                    let before = model.claimable(false);
                    let claimed = take(&queue);
                    // Who was worn out may have been met on the way, or not, if another came before.
                    for number in model.items.keys().copied().collect::<Vec<_>>() {
                        let now = queue.item(&model.items[&number].key.clone().unwrap_or_else(|| number.to_string())).unwrap().unwrap();
                        let item = model.items.get_mut(&number).unwrap();
                        if item.state == QueuedState::Leased && now.state == QueuedState::Dead {
                            prop_assert!(item.expired && item.attempts >= 3);
                            item.state = QueuedState::Dead;
                        }
                    }
                    match claimed {
                        None => prop_assert!(before.is_empty(), "{before:?}"),
                        Some(lease) => {
                            prop_assert!(before.contains(&lease.number()), "{} of {before:?}", lease.number());
                            let item = model.items.get_mut(&lease.number()).unwrap();
                            item.state = QueuedState::Leased;
                            item.attempts += 1;
                            item.claims += 1;
                            item.fresh = false;
                            item.expired = false;
                            prop_assert_eq!(lease.attempt(), item.attempts);
                            prop_assert_eq!(lease.key(), item.key.as_deref());
                            held.push(Held { lease, claim: item.claims });
                        }
                    }
                }
                Act::Acknowledge(at) | Act::AcknowledgeLate(at) => {
                    let Some(it) = pick(&mut held, at) else { continue };
                    let (number, over) = (it.lease.number(), is_over(&model, &it));
                    let same = model.items.get(&number).is_some_and(|item| item.claims == it.claim && item.state == QueuedState::Done);
                    let acknowledged = it.lease.acknowledge("result");
                    if over && !same {
                        prop_assert_eq!(acknowledged.unwrap_err().kind(), ErrorKind::Closed);
                    } else {
                        acknowledged.unwrap();
                        model.items.get_mut(&number).unwrap().state = QueuedState::Done;
                    }
                }
                Act::Fail(at) => {
                    let Some(it) = pick(&mut held, at) else { continue };
                    let (number, over) = (it.lease.number(), is_over(&model, &it));
                    let failed = it.lease.fail("no");
                    if over {
                        prop_assert_eq!(failed.unwrap_err().kind(), ErrorKind::Closed);
                    } else {
                        let item = model.items.get_mut(&number).unwrap();
                        item.state = if item.attempts < 3 { QueuedState::Waiting } else { QueuedState::Dead };
                        prop_assert_eq!(failed.unwrap(), item.state);
                    }
                }
                Act::Release(at) => {
                    let Some(it) = pick(&mut held, at) else { continue };
                    let (number, over) = (it.lease.number(), is_over(&model, &it));
                    let released = it.lease.release(Duration::ZERO);
                    if over {
                        prop_assert_eq!(released.unwrap_err().kind(), ErrorKind::Closed);
                    } else {
                        released.unwrap();
                        let item = model.items.get_mut(&number).unwrap();
                        item.state = QueuedState::Pending;
                        item.attempts -= 1;
                        item.fresh = item.attempts == 0;
                    }
                }
                Act::Expire(at) => {
                    let Some(it) = held.get_mut(at) else { continue };
                    let over = is_over(&model, it);
                    let expired = it.lease.extend(Duration::ZERO);
                    if over {
                        prop_assert_eq!(expired.unwrap_err().kind(), ErrorKind::Closed);
                    } else {
                        expired.unwrap();
                        model.items.get_mut(&it.lease.number()).unwrap().expired = true;
                    }
                }
                Act::Drop(at) => {
                    let Some(it) = pick(&mut held, at) else { continue };
                    let (number, over) = (it.lease.number(), is_over(&model, &it));
                    drop(it.lease);
                    if !over {
                        let item = model.items.get_mut(&number).unwrap();
                        item.state = if item.attempts < 3 { QueuedState::Waiting } else { QueuedState::Dead };
                    }
                }
                Act::Retry => {
                    let dead = model.counts().dead;
                    prop_assert_eq!(queue.retry(None).unwrap(), dead);
                    for item in model.items.values_mut().filter(|item| item.state == QueuedState::Dead) {
                        item.state = QueuedState::Pending;
                        item.attempts = 0;
                        item.fresh = true;
                    }
                }
                Act::Forget => {
                    // In the past, so that what was done in this very millisecond counts as well.
                    let done = model.counts().done;
                    let until = std::time::Instant::now() + PATIENCE;
                    let mut forgotten = 0;
                    while forgotten < done && std::time::Instant::now() < until {
                        forgotten += queue.forget_done(Duration::ZERO).unwrap();
                    }
                    prop_assert_eq!(forgotten, done);
                    model.items.retain(|_, item| item.state != QueuedState::Done);
                }
                Act::Reopen => {
                    // Their leases go on in the file; here nobody has them any more.
                    for it in held.drain(..) {
                        it.lease.detach();
                    }
                    queue.close().unwrap();
                    assert_valid(place.path());
                    queue = open();
                }
            }
            prop_assert_eq!(queue.stats().unwrap(), model.counts());
        }
        drop(held);
        queue.close().unwrap();
        assert_valid(place.path());
    }
}

#[test]
fn many_threads_acknowledge_each_item_once_and_share_commits() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    let items = (0..2000).map(|number| NewItem::new(number.to_string()).key(format!("k{number}")));
    let pushed = queue.push_many(items).unwrap();
    assert!(pushed.iter().all(|pushed| *pushed == Pushed::New));
    let seen = Mutex::new(BTreeSet::new());
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                while let Some(lease) = take(&queue) {
                    let name = lease.name();
                    let text = lease.payload().as_text().unwrap().to_owned();
                    assert_eq!(name, format!("k{text}"));
                    assert_eq!(lease.attempt(), 1);
                    assert!(seen.lock().unwrap().insert(name), "twice");
                    lease.acknowledge(format!("<{text}>")).unwrap();
                }
            });
        }
    });
    assert_eq!(seen.into_inner().unwrap().len(), 2000);
    assert_eq!(queue.stats().unwrap().done, 2000);
    let item = queue.item("k17").unwrap().unwrap();
    assert_eq!(item.result, Some(Payload::from("<17>")));
    queue.close().unwrap();
    assert_valid(place.path());
}

/// As many claims as there are items, by threads that come and go: none may be told that there is nothing.
#[test]
fn nobody_is_told_that_there_is_nothing_while_there_is_something() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    queue
        .push_many((0..4000).map(|_| NewItem::new("")))
        .unwrap();
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..500 {
                    take(&queue)
                        .expect("there are enough for all")
                        .acknowledge(())
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(queue.stats().unwrap().done, 4000);
}

#[test]
fn a_known_key_is_told_and_changes_nothing_also_when_it_is_done_or_dead() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    assert_eq!(queue.push(Some("a"), "first").unwrap(), Pushed::New);
    let again = |queue: &Queue| queue.push(Some("a"), "second").unwrap();
    assert_eq!(again(&queue), Pushed::Known(QueuedState::Pending));
    let lease = take(&queue).unwrap();
    assert_eq!(lease.payload().as_text(), Some("first"));
    assert_eq!(again(&queue), Pushed::Known(QueuedState::Leased));
    lease.acknowledge(()).unwrap();
    queue.close().unwrap();
    let queue = open(place.path());
    assert_eq!(again(&queue), Pushed::Known(QueuedState::Done));
    assert!(take(&queue).is_none());
    // Both in one call: only the first is taken.
    let twice = ["b", "b"].map(|key| NewItem::new(key).key(key));
    let told = queue.push_many(twice).unwrap();
    assert_eq!(told, [Pushed::New, Pushed::Known(QueuedState::Pending)]);
    for _ in 0..3 {
        take(&queue).unwrap().fail("no").unwrap();
    }
    assert_eq!(
        queue.push(Some("b"), "").unwrap(),
        Pushed::Known(QueuedState::Dead)
    );
}

#[test]
fn texts_and_bytes_come_back_as_what_they_were() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    let payloads: [Payload; 4] = [
        "größe".into(),
        "".into(),
        b"123".as_slice().into(),
        vec![0xFF, 0].into(),
    ];
    for payload in payloads {
        queue.push(None, payload.clone()).unwrap();
        let lease = take(&queue).unwrap();
        assert_eq!(*lease.payload(), payload);
        let name = lease.name();
        lease.acknowledge(payload.clone()).unwrap();
        let result = queue.item(&name).unwrap().unwrap().result;
        assert_eq!(result.unwrap_or_default(), payload);
    }
}

#[test]
fn a_late_acknowledgement_is_refused_once_the_item_was_claimed_again() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    queue.push(Some("a"), "").unwrap();
    let mut first = take(&queue).unwrap();
    first.extend(Duration::ZERO).unwrap();
    assert!(first.remaining().is_zero());
    let second = take(&queue).unwrap();
    assert_eq!((second.name(), second.attempt()), ("a".to_owned(), 2));
    assert_eq!(second.idempotency_key(), first.idempotency_key());
    let refused = first.acknowledge("late").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert_eq!(
        refused.to_string(),
        "the lease on item `a` is over: it expired, and the item was claimed again"
    );
    assert!(refused.hint().unwrap().contains("extend"));
    // The one that is good is not harmed.
    second.acknowledge("good").unwrap();
    let result = queue.item("a").unwrap().unwrap().result;
    assert_eq!(result, Some("good".into()));
}

#[test]
fn an_expired_lease_that_nobody_claimed_again_can_still_be_acknowledged() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    queue.push(None, "").unwrap();
    let mut lease = take(&queue).unwrap();
    lease.extend(Duration::ZERO).unwrap();
    lease.acknowledge(()).unwrap();
    assert_eq!(queue.stats().unwrap().done, 1);
}

#[test]
fn an_item_whose_leases_all_expire_is_dead_and_can_be_retried() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    queue.push(Some("poison"), "").unwrap();
    for attempt in 1..=3 {
        let mut lease = take(&queue).unwrap();
        assert_eq!(lease.attempt(), attempt);
        lease.extend(Duration::ZERO).unwrap();
        // As if its process had died.
        lease.detach();
    }
    assert!(take(&queue).is_none());
    let dead = queue.dead().unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].attempts, 3);
    assert!(
        dead[0].error.as_ref().unwrap().contains("expired"),
        "{dead:?}"
    );
    let unknown = queue.retry(Some(&["poison", "none"])).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    assert_eq!(queue.stats().unwrap().dead, 1, "nothing was changed");
    assert_eq!(queue.retry(Some(&["poison"])).unwrap(), 1);
    let alive = queue.retry(Some(&["poison"])).unwrap_err();
    assert_eq!(alive.kind(), ErrorKind::Invalid);
    assert_eq!(take(&queue).unwrap().attempt(), 1);
}

#[test]
fn a_dropped_lease_is_a_failed_attempt_and_says_why() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    queue.push(Some("a"), "").unwrap();
    drop(take(&queue).unwrap());
    let lease = queue.claim(PATIENCE).unwrap().unwrap();
    assert_eq!(lease.attempt(), 2);
    let panicked = std::thread::scope(|threads| {
        let thread = threads.spawn(move || {
            let _held = lease;
            std::panic::resume_unwind(Box::new("planted"));
        });
        thread.join()
    });
    assert!(panicked.is_err());
    let item = queue.item("a").unwrap().unwrap();
    assert_eq!(item.state, QueuedState::Waiting);
    assert_eq!(item.error.as_deref(), Some("a panic ended the attempt"));
}

#[test]
fn a_released_item_is_claimed_after_its_delay_and_the_attempt_does_not_count() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    queue.push(None, "").unwrap();
    for _ in 0..5 {
        let lease = take(&queue).unwrap();
        assert_eq!(lease.attempt(), 1);
        lease.release(Duration::ZERO).unwrap();
    }
    let began = std::time::Instant::now();
    take(&queue)
        .unwrap()
        .release(Duration::from_millis(80))
        .unwrap();
    assert!(take(&queue).is_none());
    assert_eq!(queue.stats().unwrap().waiting, 1);
    let lease = queue.claim(PATIENCE).unwrap().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(80));
    assert_eq!(lease.attempt(), 1);
    let later = NewItem::new("").delay(Duration::from_secs(3600));
    queue.push_many([later]).unwrap();
    assert!(take(&queue).is_none());
}

#[test]
fn who_waits_is_woken_by_another_process() {
    let place = scratch().unwrap();
    // Each handle has a thread, a connection and a lock of its own, as a process has.
    let (waiting, other) = (open(place.path()), open(place.path()));
    std::thread::scope(|threads| {
        let (asked, asks) = std::sync::mpsc::channel();
        let claiming = threads.spawn(move || {
            for _ in 0..50 {
                let lease = waiting.claim(PATIENCE).unwrap().expect("in time");
                asked.send(std::time::Instant::now()).unwrap();
                lease.acknowledge(()).unwrap();
            }
            waiting
        });
        let mut waits = Vec::new();
        for number in 0..50 {
            let before = std::time::Instant::now();
            other.push(None, number.to_string()).unwrap();
            let claimed = asks.recv_timeout(PATIENCE).unwrap();
            waits.push(claimed.saturating_duration_since(before));
        }
        waits.sort();
        // Without the watch it would look once a second.
        assert!(waits[25] < Duration::from_millis(300), "{waits:?}");
        claiming.join().unwrap().close().unwrap();
    });
    assert_eq!(other.stats().unwrap().done, 50);
}

#[test]
fn a_lease_that_expires_elsewhere_wakes_who_waits() {
    let place = scratch().unwrap();
    let (waiting, other) = (open(place.path()), open(place.path()));
    other.push(None, "").unwrap();
    let mut lease = take(&other).unwrap();
    lease.extend(Duration::from_millis(50)).unwrap();
    let token = lease.detach();
    let again = waiting.claim(PATIENCE).unwrap().unwrap();
    assert_eq!(again.attempt(), 2);
    let late = other.lease(&token).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
}

#[test]
fn what_was_claimed_ahead_is_given_back_soon_and_its_attempt_does_not_count() {
    let place = scratch().unwrap();
    let (first, second) = (open(place.path()), open(place.path()));
    for _ in 0..2 {
        first.push(None, "").unwrap();
    }
    take(&first).unwrap().acknowledge(()).unwrap();
    // The first handle has claimed the other item ahead, and does not come back.
    assert_eq!(second.stats().unwrap().leased, 1);
    let began = std::time::Instant::now();
    let lease = second.claim(PATIENCE).unwrap().unwrap();
    // Long before the lease expires.
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(lease.attempt(), 1);
    lease.acknowledge(()).unwrap();
    first.push(None, "").unwrap();
    first.push(None, "").unwrap();
    take(&first).unwrap().acknowledge(()).unwrap();
    // Closing gives it back at once.
    first.close().unwrap();
    assert_eq!(take(&second).unwrap().attempt(), 1);
}

#[test]
fn an_item_that_was_attempted_before_is_never_claimed_ahead() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    for key in ["a", "b"] {
        queue.push(Some(key), "").unwrap();
    }
    let a = take(&queue).unwrap();
    let b = take(&queue).unwrap();
    b.fail("no").unwrap();
    // Somebody is expected back, but what there is must be asked for.
    a.acknowledge(()).unwrap();
    let b = queue.item("b").unwrap().unwrap();
    assert_eq!((b.state, b.attempts), (QueuedState::Waiting, 1));
}

#[test]
fn stopping_claims_wakes_who_waits_and_leases_can_still_be_settled() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    queue.push(Some("a"), "").unwrap();
    let lease = take(&queue).unwrap();
    std::thread::scope(|threads| {
        let waiting: Vec<_> = (0..4)
            .map(|_| threads.spawn(|| queue.claim(Duration::MAX).unwrap()))
            .collect();
        queue.stop_claims();
        for thread in waiting {
            assert!(thread.join().unwrap().is_none());
        }
    });
    lease.acknowledge(()).unwrap();
    queue.push(Some("b"), "").unwrap();
    assert!(take(&queue).is_none());
    queue.close().unwrap();
    assert_eq!(take(&open(place.path())).unwrap().key(), Some("b"));
}

#[test]
fn an_acknowledgement_that_nobody_waited_for_is_told_by_the_next_sync() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    queue.push_many((0..100).map(|_| NewItem::new(""))).unwrap();
    while let Some(lease) = take(&queue) {
        lease.acknowledge_later(()).unwrap();
    }
    queue.sync().unwrap();
    assert_eq!(queue.stats().unwrap().done, 100);
    queue.push(Some("a"), "").unwrap();
    let mut lease = take(&queue).unwrap();
    lease.extend(Duration::ZERO).unwrap();
    let again = take(&queue).unwrap();
    lease.acknowledge_later("late").unwrap();
    assert_eq!(queue.sync().unwrap_err().kind(), ErrorKind::Closed);
    queue.sync().unwrap();
    again.acknowledge_later("good").unwrap();
    queue.close().unwrap();
    let queue = open(place.path());
    assert_eq!(
        queue.item("a").unwrap().unwrap().result,
        Some("good".into())
    );
}

#[test]
fn a_token_takes_a_lease_up_elsewhere_and_only_in_its_queue() {
    let place = scratch().unwrap();
    let directories = ["one", "two"].map(|name| place.path().join(name));
    let [one, two] = [open(&directories[0]), open(&directories[1])];
    for queue in [&one, &two] {
        queue.push(Some("a"), "payload").unwrap();
    }
    let token = take(&one).unwrap().detach().to_string();
    one.close().unwrap();
    let token: LeaseToken = token.parse().unwrap();
    let one = open(&directories[0]);
    take(&two).unwrap().detach();
    assert_eq!(two.lease(&token).unwrap_err().kind(), ErrorKind::Invalid);
    let lease = one.lease(&token).unwrap();
    assert_eq!(lease.payload().as_text(), Some("payload"));
    assert_eq!(lease.token(), token);
    let twice = one.lease(&token).unwrap();
    lease.acknowledge("once").unwrap();
    // Whoever asks again is told the same, and the result stays.
    twice.acknowledge("twice").unwrap();
    assert_eq!(one.item("a").unwrap().unwrap().result, Some("once".into()));
    assert_eq!(one.lease(&token).unwrap_err().kind(), ErrorKind::Closed);
    for bad in [
        "",
        "1",
        "1-1",
        "1-1-x",
        "-1-1-0123456789ab",
        "1-1-0123456789abc",
        "99999999999999999999-1-0123456789ab",
    ] {
        assert_eq!(
            bad.parse::<LeaseToken>().unwrap_err().kind(),
            ErrorKind::Invalid,
            "{bad}"
        );
    }
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let place = scratch().unwrap();
    let short = Queue::builder(place.path())
        .lease(Duration::from_millis(1))
        .open();
    assert_eq!(short.unwrap_err().kind(), ErrorKind::Invalid);
    let none = RetryPolicy {
        max_attempts: 0,
        ..AT_ONCE
    };
    let never = Queue::builder(place.path()).retry(none).open();
    assert_eq!(never.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!place.path().join("queue.db").exists());
    let queue = open(place.path());
    let good_and_bad = [NewItem::new(""), NewItem::new("").key("a\nb")];
    assert_eq!(
        queue.push_many(good_and_bad).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let long = vec![0_u8; safepoint::queue::MAX_PAYLOAD + 1];
    assert_eq!(
        queue.push(None, long).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(queue.stats().unwrap().all(), 0);
}

#[test]
fn a_newer_or_damaged_file_is_refused_and_never_begun_anew() {
    let place = scratch().unwrap();
    open(place.path()).close().unwrap();
    let path = place.path().join("queue.db");
    let whole = std::fs::read(&path).unwrap();
    let change = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        std::fs::write(&path, &bytes).unwrap();
        let refused = Queue::open(place.path()).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was changed");
        refused.kind()
    };
    // The SQLite header has the user version in its bytes 60 to 63, and the application's identity in 68 to 71.
    assert_eq!(change(63, 2), ErrorKind::Incompatible);
    assert_eq!(change(63, 0), ErrorKind::Corrupt);
    assert_eq!(change(71, 0), ErrorKind::Corrupt);
    assert_eq!(change(0, 0), ErrorKind::Corrupt);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(place.path().join("queue.db-wal"), b"left").unwrap();
    assert_eq!(
        Queue::open(place.path()).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert!(!path.exists());
}

#[test]
fn validate_finds_counts_and_states_that_do_not_fit() {
    let place = scratch().unwrap();
    let queue = open(place.path());
    for _ in 0..3 {
        queue.push(None, "").unwrap();
    }
    queue.close().unwrap();
    assert_valid(place.path());
    let missing = Queue::validate(&place.path().join("none")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let connection = rusqlite_of(place.path());
    for (damage, repair) in [
        ("UPDATE queue SET done = 1", "UPDATE queue SET done = 0"),
        (
            "UPDATE items SET due_ms = NULL",
            "UPDATE items SET due_ms = 0",
        ),
        (
            "UPDATE items SET attempts = 1",
            "UPDATE items SET attempts = 0",
        ),
        ("UPDATE items SET pid = 1", "UPDATE items SET pid = NULL"),
        (
            "UPDATE queue SET next_item = 2",
            "UPDATE queue SET next_item = 4",
        ),
    ] {
        connection.execute_batch(damage).unwrap();
        assert!(
            !Queue::validate(place.path()).unwrap().is_empty(),
            "{damage}"
        );
        connection.execute_batch(repair).unwrap();
        assert_valid(place.path());
    }
}

fn rusqlite_of(directory: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(directory.join("queue.db")).unwrap()
}

#[test]
fn a_queue_without_syncs_is_the_same_queue() {
    let place = scratch().unwrap();
    let queue = Queue::builder(place.path())
        .durability(Durability::Kill)
        .open()
        .unwrap();
    queue.push(Some("a"), "").unwrap();
    take(&queue).unwrap().acknowledge(()).unwrap();
    drop(queue);
    assert_eq!(open(place.path()).stats().unwrap().done, 1);
}

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).expect("a directory").into()
}

/// A process that claims until there is nothing left.
#[test]
fn role_consumes() {
    if !is_role("queue::role_consumes") {
        return;
    }
    let queue = open(&directory());
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while let Some(lease) = take(&queue) {
                    let name = lease.name();
                    lease.acknowledge(std::process::id().to_string()).unwrap();
                    say(&format!("done {name}"));
                }
            });
        }
    });
    queue.close().unwrap();
}

fn consumer(place: &Path) -> Command {
    let mut command = role("queue::role_consumes");
    command.env(DIRECTORY, place);
    command
}

#[test]
fn several_processes_share_a_queue_and_each_gets_its_share() {
    const ITEMS: usize = 3000;
    const PROCESSES: usize = 4;
    let place = scratch().unwrap();
    let queue = open(place.path());
    queue
        .push_many((0..ITEMS).map(|_| NewItem::new("x")))
        .unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| consumer(place.path()).spawn().unwrap())
        .collect();
    let mut all = BTreeSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let done = text
            .lines()
            .filter_map(|line| Some(line.split_once("done ")?.1.to_owned()));
        let done: Vec<_> = done.collect();
        assert!(!done.is_empty(), "a process got nothing");
        for name in done {
            assert!(all.insert(name.clone()), "{name} twice");
        }
    }
    assert_eq!(all.len(), ITEMS);
    assert_eq!(queue.stats().unwrap().done, ITEMS as u64);
    queue.close().unwrap();
    assert_valid(place.path());
}

/// A process that opens a queue and forks, as Python's `multiprocessing` may.
#[test]
fn role_forks() {
    if !is_role("queue::role_forks") {
        return;
    }
    let queue = open(&directory());
    queue.push(Some("a"), "").unwrap();
    let lease = take(&queue).unwrap();
    // SAFETY: the child only calls what refuses before it takes a lock, drops what must not touch the file, and ends.
    #[expect(unsafe_code, reason = "there is no fork without it")]
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let refused = queue.push(None, "").unwrap_err();
            let claim = queue.claim(Duration::MAX).unwrap_err();
            drop(lease);
            drop(queue);
            let good = refused.kind() == ErrorKind::Closed && claim.kind() == ErrorKind::Closed;
            // SAFETY: it ends the process and touches nothing else.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let ended = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 0));
            lease.acknowledge(()).unwrap();
            queue.close().unwrap();
            say("well");
        }
    }
}

#[test]
fn a_forked_child_is_refused_and_leaves_the_parent_unharmed() {
    let place = scratch().unwrap();
    let mut command = role("queue::role_forks");
    let output = command.env(DIRECTORY, place.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("well"));
    assert_valid(place.path());
    assert_eq!(open(place.path()).stats().unwrap().done, 1);
}
