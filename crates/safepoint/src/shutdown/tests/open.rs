//! What is open, and what a report says of it.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::shutdown::{Shutdown, Source, StopRequest};

fn shutdown() -> Shutdown {
    Shutdown::builder().build().expect("built")
}

#[test]
fn the_actions_of_an_owned_unit_are_undone_last_in_first_out() {
    let shutdown = shutdown();
    let mut unit = shutdown.token().owned_unit("transfer").expect("running");
    let undone = Arc::new(Mutex::new(Vec::new()));
    for number in 1..=3 {
        let undone = Arc::clone(&undone);
        unit.on_rollback(move || undone.lock().expect("whole").push(number));
    }
    drop(unit);
    assert_eq!(*undone.lock().expect("whole"), [3, 2, 1]);
}

#[test]
fn a_tracked_thread_is_shown_as_itself_not_as_the_one_that_started_it() {
    let shutdown = shutdown();
    let tracker = shutdown.token().tracker("indexer");
    let (begin, begun) = channel();
    let thread = tracker.thread(move |token| {
        begin.send(()).expect("heard");
        token.wait();
    });
    begun.recv().expect("begun");
    let open = shutdown.token().status().open;
    assert_eq!(open.len(), 1);
    assert_eq!((&*open[0].name, &*open[0].thread), ("indexer", "indexer"));
    assert!(shutdown.finish().given_up.is_empty());
    let thread = thread.expect("a thread to spare").expect("running");
    thread.join().expect("no panic");
}

#[test]
fn what_ends_with_a_child_alone_held_nothing_up() {
    let shutdown = shutdown();
    let child = shutdown.token().child("one of many");
    let (unit, owned) = (child.unit("unit"), child.owned_unit("owned"));
    child.request(StopRequest::graceful(Source::Programmatic, "only this one"));
    assert!(unit.is_some() && owned.is_some());
    drop((unit, owned));
    let report = shutdown.finish();
    assert_eq!(report.held_up, []);
    assert_eq!(report.requests, []);
    assert_eq!(report.units.rolled_back, 2);
}
