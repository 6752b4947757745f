//! Saves that nobody waits for.

use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use super::payload;
use crate::checkpoint::*;
use crate::error::ErrorKind;

/// Memory whose first reader waits until it is let go: a save in flight for as long as a test wants. The first look is the caller's own,
/// which measures.
struct Gate {
    bytes: Vec<u8>,
    begun: Barrier,
    go_on: Barrier,
    passed: Mutex<bool>,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            bytes: vec![7; 100],
            begun: Barrier::new(2),
            go_on: Barrier::new(2),
            passed: Mutex::new(false),
        })
    }
}

impl AsRef<[u8]> for Gate {
    fn as_ref(&self) -> &[u8] {
        let is_saver = std::thread::current().name() == Some("safepoint-saver");
        if is_saver && !std::mem::replace(&mut *self.passed.lock().unwrap(), true) {
            self.begun.wait();
            self.go_on.wait();
        }
        &self.bytes
    }
}

fn held(store: &CheckpointStore) -> Arc<Gate> {
    let gate = Gate::new();
    let state = State::shared_bytes(Arc::clone(&gate) as Arc<dyn SharedBytes>);
    store
        .save_in_background("m", state, Details::new().step(0))
        .unwrap();
    gate.begun.wait();
    gate
}

fn hand_over(store: &CheckpointStore, step: u64) -> HandedOver {
    let payload = payload(step, 5000, false);
    store
        .save_in_background("m", State::bytes(&payload), Details::new().step(step))
        .unwrap()
}

fn steps(store: &CheckpointStore) -> Vec<u64> {
    let listed = store.list("m").unwrap();
    listed
        .iter()
        .map(|listed| listed.metadata.as_ref().unwrap().details.step.unwrap())
        .collect()
}

fn open(policy: WhenBusy) -> (tempfile::TempDir, CheckpointStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::builder(folder.path().join("c"))
        .when_busy(policy)
        .open()
        .unwrap();
    (folder, store)
}

#[test]
fn what_was_lent_may_change_at_once() {
    let (_folder, store) = open(WhenBusy::Wait);
    let mut bytes = payload(1, 3 << 20, false);
    let array = vec![2.5_f32; 1000];
    let state = State::bytes(&bytes).with_array("a", &[10, 100], &array);
    store
        .save_in_background("m", state, Details::new())
        .unwrap();
    bytes.fill(0);
    drop((bytes, array));
    let saved = store.finish_background().unwrap().unwrap();
    assert_eq!(saved.generation, Generation(1));
    assert!(
        store.finish_background().unwrap().is_none(),
        "each is told once"
    );
    let found = store.latest("m").unwrap().unwrap();
    assert_eq!(found.bytes().unwrap(), payload(1, 3 << 20, false));
    assert_eq!(*found.array::<f32>("a").unwrap(), [2.5; 1000]);
}

#[test]
fn the_newest_takes_the_place_of_the_one_that_waits() {
    let (_folder, store) = open(WhenBusy::Replace);
    let gate = held(&store);
    assert_eq!(hand_over(&store, 1), HandedOver::Accepted);
    assert_eq!(hand_over(&store, 2), HandedOver::Replaced);
    assert_eq!(hand_over(&store, 3), HandedOver::Replaced);
    assert!(store.is_saving());
    gate.go_on.wait();
    store.finish_background().unwrap();
    assert_eq!(steps(&store), [0, 3]);
    assert!(!store.is_saving());
}

#[test]
fn one_too_many_is_skipped_where_that_is_the_policy() {
    let (_folder, store) = open(WhenBusy::Skip);
    let gate = held(&store);
    assert_eq!(hand_over(&store, 1), HandedOver::Accepted);
    assert_eq!(hand_over(&store, 2), HandedOver::Skipped);
    gate.go_on.wait();
    store.finish_background().unwrap();
    assert_eq!(steps(&store), [0, 1]);
}

#[test]
fn one_too_many_waits_for_a_place_where_that_is_the_policy() {
    let (_folder, store) = open(WhenBusy::Wait);
    let gate = held(&store);
    assert_eq!(hand_over(&store, 1), HandedOver::Accepted);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| hand_over(&store, 2));
        gate.go_on.wait();
        assert_eq!(waits.join().unwrap(), HandedOver::Accepted);
    });
    store.finish_background().unwrap();
    assert_eq!(steps(&store), [0, 1, 2]);
}

#[test]
fn states_of_other_names_do_not_take_each_others_place() {
    let (_folder, store) = open(WhenBusy::Replace);
    let gate = held(&store);
    hand_over(&store, 1);
    let other = store
        .save_in_background("other", State::bytes(b"x"), Details::new())
        .unwrap();
    assert_eq!(other, HandedOver::Accepted);
    gate.go_on.wait();
    store.finish_background().unwrap();
    assert_eq!(steps(&store), [0, 1]);
    assert!(store.latest("other").unwrap().is_some());
}

#[test]
fn a_failure_surfaces_at_the_next_call_and_the_one_after_goes_on() {
    let (folder, store) = open(WhenBusy::Replace);
    hand_over(&store, 1);
    store.finish_background().unwrap();
    let directory = folder.path().join("c/m");
    let aside = folder.path().join("aside");
    std::fs::rename(&directory, &aside).unwrap();
    std::fs::write(&directory, b"in the way").unwrap();
    hand_over(&store, 2);
    while store.is_saving() {
        std::thread::yield_now();
    }
    let payload = payload(3, 10, false);
    let again = || store.save_in_background("m", State::bytes(&payload), Details::new().step(3));
    let failed = again().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Io);
    assert!(failed.to_string().contains("`m` was not saved"), "{failed}");
    assert!(
        failed.hint().unwrap().contains("generation 1 is whole"),
        "{:?}",
        failed.hint()
    );
    std::fs::remove_file(&directory).unwrap();
    std::fs::rename(&aside, &directory).unwrap();
    again().unwrap();
    store.finish_background().unwrap();
    assert_eq!(steps(&store), [1, 3]);
}

#[test]
fn a_failure_that_nobody_asked_for_is_told_by_close() {
    let (folder, store) = open(WhenBusy::Replace);
    hand_over(&store, 1);
    store.finish_background().unwrap();
    std::fs::remove_dir_all(folder.path().join("c/m")).unwrap();
    hand_over(&store, 2);
    assert_eq!(store.close().unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn closing_sees_through_what_was_handed_over() {
    let (folder, store) = open(WhenBusy::Replace);
    let gate = held(&store);
    hand_over(&store, 1);
    std::thread::scope(|scope| {
        let closes = scope.spawn(|| store.close());
        gate.go_on.wait();
        closes.join().unwrap().unwrap();
    });
    let reader = CheckpointReader::open(folder.path().join("c")).unwrap();
    assert_eq!(
        reader.latest("m").unwrap().unwrap().metadata().details.step,
        Some(1)
    );
}

#[test]
fn at_a_stop_the_state_given_is_saved_where_there_is_time_and_overtakes_what_waits() {
    let (_folder, store) = open(WhenBusy::Replace);
    let gate = held(&store);
    hand_over(&store, 1);
    std::thread::scope(|scope| {
        let store = &store;
        let now = scope.spawn(move || {
            let (state, details) = (State::bytes(b"now"), Details::new().step(2));
            store.save_now("m", &state, &details, Duration::from_secs(60))
        });
        gate.go_on.wait();
        let SavedNow::Given(saved) = now.join().unwrap().unwrap() else {
            panic!("there was time")
        };
        let loaded = store.load("m", saved.generation).unwrap();
        assert_eq!(loaded.bytes(), Some(&b"now"[..]));
    });
    store.finish_background().unwrap();
    let latest = store.latest("m").unwrap().unwrap();
    assert_eq!(latest.metadata().details.step, Some(2));
}

#[test]
fn at_a_stop_without_time_the_one_in_flight_is_seen_through() {
    let (_folder, store) = open(WhenBusy::Replace);
    // Large enough to tell how fast saves are.
    let large = payload(9, 4 << 20, false);
    store
        .save("m", &State::bytes(&large), &Details::new().step(9))
        .unwrap();
    let gate = held(&store);
    hand_over(&store, 1);
    std::thread::scope(|scope| {
        let state = State::bytes(&large);
        let details = Details::new().step(2);
        let (store, gate) = (&store, &gate);
        let now =
            scope.spawn(move || store.save_now("m", &state, &details, Duration::from_nanos(1)));
        // What waited is given up in the moment in which it is decided what to see through.
        while store.background.waits("m") {
            std::thread::yield_now();
        }
        gate.go_on.wait();
        assert!(
            matches!(now.join().unwrap().unwrap(), SavedNow::InFlight(saved) if saved.generation == Generation(2))
        );
    });
    store.finish_background().unwrap();
    assert_eq!(steps(&store), [9, 0]);
}

/// Memory that cannot be read by anybody but who made it.
struct Broken;

impl AsRef<[u8]> for Broken {
    fn as_ref(&self) -> &[u8] {
        let is_saver = std::thread::current().name() == Some("safepoint-saver");
        assert!(!is_saver, "broken on purpose");
        b"broken"
    }
}

#[test]
fn shared_memory_that_panics_fails_its_own_save_only() {
    let (_folder, store) = open(WhenBusy::Wait);
    let broken = State::shared_bytes(Arc::new(Broken));
    store
        .save_in_background("m", broken, Details::new())
        .unwrap();
    let failed = store.finish_background().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Closed);
    hand_over(&store, 1);
    store.finish_background().unwrap();
    assert_eq!(steps(&store), [1]);
}

#[test]
fn a_fork_saves_memory_as_it_was_while_it_changes() {
    let (_folder, store) = open(WhenBusy::Wait);
    let mut bytes = payload(1, (9 << 20) + 5, false);
    for round in 1..=3 {
        let wanted = bytes.clone();
        let array = vec![round; 100];
        let state = State::json(&round)
            .unwrap()
            .with_array("bytes", &[bytes.len()], &bytes);
        let state = state.with_array("array", &[100], &array);
        store
            .save_by_fork("m", state, Details::new().step(round))
            .unwrap();
        bytes.fill(u8::try_from(round).unwrap());
        drop(array);
        store.finish_background().unwrap();
        let found = store.latest("m").unwrap().unwrap();
        assert_eq!(found.value::<u64>().unwrap(), round);
        assert_eq!(found.buffer("bytes").unwrap(), wanted);
        assert_eq!(*found.array::<u64>("array").unwrap(), [round; 100]);
    }
    assert_eq!(steps(&store), [1, 2, 3]);
    assert!(children().is_empty(), "{:?}", children());
}

#[test]
fn a_fork_that_waits_and_is_replaced_leaves_no_child() {
    let (folder, store) = open(WhenBusy::Replace);
    let gate = held(&store);
    let bytes = payload(1, 64 << 20, false);
    for step in 1..=3 {
        store
            .save_by_fork("m", State::bytes(&bytes), Details::new().step(step))
            .unwrap();
    }
    gate.go_on.wait();
    store.finish_background().unwrap();
    assert_eq!(steps(&store), [0, 3]);
    assert!(children().is_empty(), "{:?}", children());
    let names = super::files(&folder.path().join("c/m"));
    assert_eq!(names, ["0000000001.ckpt", "0000000002.ckpt"]);
}

/// The children of this process, of all its threads.
fn children() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let of_thread = |thread: std::fs::DirEntry| {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    threads
        .flat_map(|thread| of_thread(thread.unwrap()))
        .collect()
}

#[test]
fn what_waits_in_the_background_never_overtakes_what_was_saved_since() {
    for policy in [WhenBusy::Replace, WhenBusy::Wait] {
        let (_folder, store) = open(policy);
        let gate = Gate::new();
        let state = State::shared_bytes(Arc::clone(&gate) as Arc<dyn SharedBytes>);
        store
            .save_in_background("other", state, Details::new())
            .unwrap();
        gate.begun.wait();
        hand_over(&store, 10);
        std::thread::scope(|scope| {
            let store = &store;
            let newer = scope.spawn(move || {
                store
                    .save("m", &State::bytes(b"newer"), &Details::new().step(11))
                    .unwrap()
            });
            gate.go_on.wait();
            newer.join().unwrap();
        });
        store.finish_background().unwrap();
        let latest = store.latest("m").unwrap().unwrap();
        assert_eq!(latest.metadata().details.step, Some(11));
        let all = if policy == WhenBusy::Wait {
            vec![10, 11]
        } else {
            vec![11]
        };
        assert_eq!(steps(&store), all);
    }
}

#[test]
fn at_a_stop_only_the_save_of_the_same_name_is_waited_for_and_told() {
    let (folder, store) = open(WhenBusy::Replace);
    store
        .save("bad", &State::bytes(b"x"), &Details::new())
        .unwrap();
    std::fs::remove_dir_all(folder.path().join("c/bad")).unwrap();
    store
        .save_in_background("bad", State::bytes(b"x"), Details::new())
        .unwrap();
    while store.is_saving() {
        std::thread::yield_now();
    }
    let large = payload(9, 4 << 20, false);
    store
        .save("m", &State::bytes(&large), &Details::new().step(9))
        .unwrap();
    let first = held(&store);
    let second = Gate::new();
    let state = State::shared_bytes(Arc::clone(&second) as Arc<dyn SharedBytes>);
    store
        .save_in_background("other", state, Details::new())
        .unwrap();
    hand_over(&store, 1);
    std::thread::scope(|scope| {
        let (store, large) = (&store, &large);
        let now = scope.spawn(move || {
            let (state, details) = (State::bytes(large), Details::new().step(2));
            store.save_now("m", &state, &details, Duration::from_nanos(1))
        });
        while store.background.waits("m") {
            std::thread::yield_now();
        }
        first.go_on.wait();
        // The other one is in flight by now, and stays there.
        second.begun.wait();
        let seen = now.join().unwrap().unwrap();
        assert!(matches!(seen, SavedNow::InFlight(saved) if saved.generation == Generation(2)));
        second.go_on.wait();
    });
    let told = store.finish_background().unwrap_err();
    assert!(
        told.to_string().contains("`bad`"),
        "the failure of another name was not swallowed: {told}"
    );
}
