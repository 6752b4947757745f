//! The promises of the room, in one process: a crash is a copy of the directory as it was at that moment.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{Begun, Builder, End, Failed, Items, Outcome, Retry};
use crate::error::ErrorKind;
use crate::job::{self, JobPath};
use crate::queue::{RetryPolicy, View};
use crate::shutdown::{Mode, ShutdownToken, Source, StopRequest};

fn builder(directory: &Path) -> Builder {
    Items::builder(directory).retry(RetryPolicy {
        base: Duration::ZERO,
        ..RetryPolicy::default()
    })
}

fn open(items: &Items, content: &str) -> super::Item {
    match items.begin(content.as_bytes()).expect("begun") {
        Begun::Open(item) => item,
        other => panic!("`{content}` is {other:?}"),
    }
}

fn validate(directory: &Path) {
    let view = View::open(&directory.join("job.db")).expect("opened");
    assert_eq!(view.validate().expect("asked"), []);
}

/// What is left of a directory when its process is killed now: all that was written, and no owner.
fn killed(directory: &Path, copy: &Path) {
    std::fs::create_dir_all(copy).expect("made");
    for entry in std::fs::read_dir(directory).expect("read") {
        let entry = entry.expect("read");
        // The shared memory of SQLite is gone with its processes.
        if entry.file_name() != "job.db-shm" {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("copied");
        }
    }
}

#[test]
fn a_later_run_is_told_what_is_done() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("words");
    let items = builder(&directory).total(4).open().expect("opened");
    open(&items, "one").done("1").expect("done");
    drop(open(&items, "two"));
    let never = open(&items, "three").failed("no", b"", Retry::Never);
    assert!(matches!(never, Ok(Failed::Dead)));
    let usual = open(&items, "four").failed("not yet", b"log", Retry::AsUsual);
    assert!(matches!(usual, Ok(Failed::Waiting(_))));
    let report = items.close(End::Exhausted).expect("closed");
    assert_eq!(report.outcome, Outcome::Interrupted);
    assert_eq!(
        (
            report.counts.done,
            report.counts.dead,
            report.counts.waiting
        ),
        (1, 1, 1)
    );
    assert_eq!(
        (report.done_now, report.failures, report.given_up),
        (1, 2, 1)
    );
    validate(&directory);

    let items = builder(&directory).open().expect("opened");
    assert!(matches!(items.begin(b"one"), Ok(Begun::Done { index: 0 })));
    assert_eq!(
        items.result_at(0).expect("read").as_deref(),
        Some(&b"1"[..])
    );
    let two = open(&items, "two");
    assert_eq!((two.index(), two.attempt()), (1, 1));
    two.done("2").expect("done");
    assert!(matches!(
        items.begin(b"three"),
        Ok(Begun::Dead { index: 2 })
    ));
    let four = open(&items, "four");
    assert_eq!(four.attempt(), 2);
    four.done("4").expect("done");
    open(&items, "five").done("5").expect("done");
    let report = items.close(End::Exhausted).expect("closed");
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!((report.total, report.counts.done), (Some(5), 4));
    validate(&directory);
}

#[test]
fn another_content_at_the_same_place_is_refused_and_both_are_named() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("words");
    let items = builder(&directory).open().expect("opened");
    open(&items, "\"one\"").done("1").expect("done");
    drop(items);
    let items = builder(&directory).open().expect("opened");
    let error = items.begin(b"\"two\"").expect_err("it is another");
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert_eq!(
        error.to_string(),
        "item 0 of `words` was \"one\" and is \"two\""
    );
}

#[test]
fn a_key_counts_wherever_it_comes_and_once_in_a_run() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("words");
    let begin = |items: &Items, key: &str| items.begin_with_key(key, b"x").expect("begun");
    let items = builder(&directory).keyed(true).open().expect("opened");
    for key in ["a", "b", "c"] {
        let Begun::Open(item) = begin(&items, key) else {
            panic!("{key} is new")
        };
        assert!(matches!(begin(&items, key), Begun::Duplicate), "open");
        item.done("1").expect("done");
        assert!(matches!(begin(&items, key), Begun::Duplicate), "on its way");
    }
    items.sync().expect("synced");
    assert!(matches!(begin(&items, "a"), Begun::Duplicate), "durable");
    assert_eq!(items.tally().duplicates, 7);
    items.close(End::Exhausted).expect("closed");

    let items = builder(&directory).keyed(true).open().expect("opened");
    assert!(matches!(begin(&items, "d"), Begun::Open(_)), "put back");
    assert!(matches!(begin(&items, "c"), Begun::Done { index: 2 }));
    assert!(matches!(begin(&items, "d"), Begun::Open(_)), "again");
    assert_eq!(
        items.begin(b"x").expect_err("no key").kind(),
        ErrorKind::Invalid
    );
    drop(items);
    let error = builder(&directory)
        .open()
        .expect_err("told apart otherwise");
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    validate(&directory);
}

#[test]
fn what_was_synced_survives_a_kill_and_what_was_open_is_open() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("words");
    let items = builder(&directory).in_flight(2).open().expect("opened");
    for number in 0..1000 {
        open(&items, &number.to_string())
            .done("null")
            .expect("done");
    }
    let _in_progress = (open(&items, "1000"), open(&items, "1001"));
    items.sync().expect("synced");
    let copy = root.path().join("copy");
    killed(&directory, &copy);
    validate(&copy);
    let after = builder(&copy).open().expect("opened");
    assert_eq!(after.counts().done, 1000);
    for number in 0..1000 {
        let begun = after.begin(number.to_string().as_bytes());
        assert!(matches!(begun, Ok(Begun::Done { .. })), "{number}");
    }
    drop(open(&after, "1000"));
    after.close(End::Exhausted).expect("closed");
    let view = View::open(&copy.join("job.db")).expect("opened");
    let row = view.item_at(1000).expect("read").expect("there");
    assert_eq!(row.crashes, 1, "it was in progress through a crash");
}

#[test]
fn an_item_in_progress_through_three_crashes_is_dead() {
    let root = tempfile::tempdir().expect("a directory");
    for keyed in [false, true] {
        let place = |run: u32| root.path().join(format!("{keyed}-{run}"));
        let begin = |items: &Items, name: &str| {
            if keyed {
                items.begin_with_key(name, name.as_bytes()).expect("begun")
            } else {
                items.begin(name.as_bytes()).expect("begun")
            }
        };
        for run in 0..3 {
            let items = builder(&place(run)).keyed(keyed).open().expect("opened");
            if let Begun::Open(good) = begin(&items, "good") {
                good.done("1").expect("done");
            }
            let poison = begin(&items, "poison");
            assert!(matches!(&poison, Begun::Open(_)), "{run}: {poison:?}");
            // At once: what is known of it must be durable before it begins.
            killed(&place(run), &place(run + 1));
        }
        let items = builder(&place(3)).keyed(keyed).open().expect("opened");
        assert!(matches!(begin(&items, "good"), Begun::Done { .. }));
        assert!(matches!(begin(&items, "poison"), Begun::Dead { .. }));
        drop(items);
        validate(&place(3));
    }
}

#[test]
fn a_stop_begins_nothing_more_and_is_written_to_the_events() {
    let root = tempfile::tempdir().expect("a directory");
    let path = JobPath::new(root.path(), "words").expect("a name");
    let token = ShutdownToken::detached(crate::clock::Clock::start(), Duration::from_secs(5));
    let items = builder(&path.dir()).token(&token).open().expect("opened");
    let in_progress = open(&items, "one");
    job::request_stop(&path, Mode::Graceful).expect("asked");
    token.wait();
    assert!(matches!(items.begin(b"two"), Ok(Begun::Stopping)));
    in_progress.done("1").expect("it ends well");
    let report = items.close(End::Left("stopped".into())).expect("closed");
    assert_eq!(
        (report.outcome, report.requests.len()),
        (Outcome::Interrupted, 1)
    );
    let events = std::fs::read_to_string(path.events()).expect("read");
    let told: Vec<String> = events
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).expect("an object");
            event["event"].as_str().expect("a name").to_owned()
        })
        .collect();
    assert_eq!(
        told,
        [
            "run_started",
            "interrupt_initiated",
            "interrupt_completed",
            "run_ended"
        ]
    );
    // A stop from before is not one of the next run.
    let items = builder(&path.dir()).open().expect("opened");
    assert!(!items.token().is_stopping());
}

#[test]
fn a_kill_while_a_stop_is_under_way_is_no_fault_of_an_item() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("words");
    let token = ShutdownToken::detached(crate::clock::Clock::start(), Duration::from_secs(5));
    let items = builder(&directory).token(&token).open().expect("opened");
    let _in_progress = open(&items, "one");
    token.request(StopRequest::graceful(Source::User, "test"));
    let copy = root.path().join("copy");
    // The thread that hears of it notes it, and then writes the event.
    loop {
        let events = std::fs::read_to_string(directory.join("events.jsonl")).expect("read");
        if events.contains("interrupt_initiated") {
            break;
        }
        std::thread::yield_now();
    }
    killed(&directory, &copy);
    let after = builder(&copy).open().expect("opened");
    drop(open(&after, "one"));
    drop(after);
    let view = View::open(&copy.join("job.db")).expect("opened");
    assert_eq!(view.progress().expect("read").counts.touched(), 0);
}

#[test]
fn directories_of_another_kind_are_refused_both_ways() {
    let root = tempfile::tempdir().expect("a directory");
    let steps = root.path().join("steps");
    crate::Steps::open(&steps)
        .expect("opened")
        .close()
        .expect("closed");
    let error = Items::builder(&steps).open().expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    let items = root.path().join("items");
    drop(builder(&items).open().expect("opened"));
    assert_eq!(
        crate::Steps::open(&items).expect_err("refused").kind(),
        ErrorKind::Incompatible
    );
}

#[test]
fn an_owner_keeps_others_out_and_fresh_keeps_the_old_state() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("words");
    let items = builder(&directory).open().expect("opened");
    for fresh in [false, true] {
        let refused = builder(&directory)
            .fresh(fresh)
            .open()
            .expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Busy);
    }
    open(&items, "one").done("1").expect("done");
    items.close(End::Exhausted).expect("closed");
    assert_eq!(
        items.close(End::Exhausted).expect_err("twice").kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        items.begin(b"two").expect_err("closed").kind(),
        ErrorKind::Closed
    );
    let items = builder(&directory).fresh(true).open().expect("opened");
    open(&items, "another").done("1").expect("done");
    assert!(root.path().join("words.previous").join("job.db").exists());
}

/// What a run does with one item.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Done,
    Fail,
    Refuse,
    Drop,
}

#[derive(Debug, Clone)]
struct PlannedRun {
    /// Items in the order they are given, as numbers.
    given: Vec<(u8, Deed)>,
    is_killed: bool,
    retries_dead: bool,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => Just(Deed::Done),
        2 => Just(Deed::Fail),
        1 => Just(Deed::Refuse),
        2 => Just(Deed::Drop),
    ]
}

fn planned_run() -> impl Strategy<Value = PlannedRun> {
    let given = proptest::collection::vec((0_u8..12, deed()), 0..16);
    (given, any::<bool>(), proptest::bool::weighted(0.2)).prop_map(
        |(given, is_killed, retries_dead)| PlannedRun {
            given,
            is_killed,
            retries_dead,
        },
    )
}

/// What is to be known of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Open(u32),
    Done,
    Dead,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_runs_agree_with_a_map(runs in proptest::collection::vec(planned_run(), 1..6), keyed in any::<bool>()) {
        let root = tempfile::tempdir().expect("a directory");
        let mut model: HashMap<u8, Known> = HashMap::new();
        let mut directory = root.path().join("0");
        for (number, run) in runs.iter().enumerate() {
            let items = builder(&directory).keyed(keyed).retry_dead(run.retries_dead).open().expect("opened");
            if run.retries_dead {
                for known in model.values_mut().filter(|known| **known == Known::Dead) {
                    *known = Known::Open(0);
                }
            }
            let mut had_a_turn = std::collections::HashSet::new();
            for (place, (name, deed)) in run.given.iter().enumerate() {
                // Without keys, the place is the name.
                let name = if keyed { *name } else { u8::try_from(place).expect("few") };
                let begun = if keyed {
                    items.begin_with_key(&name.to_string(), &[]).expect("begun")
                } else {
                    items.begin(name.to_string().as_bytes()).expect("begun")
                };
                let known = model.entry(name).or_insert(Known::Open(0));
                let item = match (begun, *known) {
                    (Begun::Open(item), Known::Open(attempts)) => {
                        prop_assert!(!had_a_turn.contains(&name));
                        prop_assert_eq!(item.attempt(), attempts + 1);
                        item
                    }
                    (Begun::Done { .. }, Known::Done) | (Begun::Dead { .. }, Known::Dead) => continue,
                    (Begun::Duplicate, _) => {
                        prop_assert!(had_a_turn.contains(&name));
                        continue;
                    }
                    (begun, known) => return Err(TestCaseError::fail(format!("{name} is {begun:?}, not {known:?}"))),
                };
                if !matches!(deed, Deed::Drop) {
                    had_a_turn.insert(name);
                }
                let attempts = item.attempt();
                match deed {
                    Deed::Done => {
                        item.done(name.to_string()).expect("done");
                        *known = Known::Done;
                    }
                    Deed::Fail => {
                        let failed = item.failed("no", b"", Retry::AsUsual).expect("said");
                        prop_assert_eq!(matches!(failed, Failed::Dead), attempts >= 3);
                        *known = if attempts >= 3 { Known::Dead } else { Known::Open(attempts) };
                    }
                    Deed::Refuse => {
                        prop_assert!(matches!(item.failed("no", b"", Retry::Never), Ok(Failed::Dead)));
                        *known = Known::Dead;
                    }
                    Deed::Drop => drop(item),
                }
            }
            if run.is_killed {
                items.sync().expect("synced");
                let copy = root.path().join((number + 1).to_string());
                killed(&directory, &copy);
                directory = copy;
            } else {
                items.close(End::Exhausted).expect("closed");
            }
            validate(&directory);
            let counts = View::open(&directory.join("job.db")).expect("opened").progress().expect("read").counts;
            let count = |wanted| model.values().filter(|known| **known == wanted).count() as u64;
            prop_assert_eq!((counts.done, counts.dead), (count(Known::Done), count(Known::Dead)));
            prop_assert_eq!(counts.duplicate, 0);
        }
    }
}
