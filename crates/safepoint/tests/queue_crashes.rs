//! The queue in processes that are killed, on disks that fail or are full, and on those whose power is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use safepoint::queue::{Pushed, QueuedState, RetryPolicy};
use safepoint::{ErrorKind, Queue};
use safepoint_testkit::faults::{Counter, Faults, When};
use safepoint_testkit::image::{History, Names, Policy, scratch};
use safepoint_testkit::random::Random;
use safepoint_testkit::trace::Trace;

use crate::support::{is_role, role, say};

const DIRECTORY: &str = "SAFEPOINT_TEST_DIRECTORY";
const THREADS: usize = 3;
const ITEMS: usize = 60;

/// Patient with those who are killed again and again, and with a lease that a killed process leaves for no longer than a test may wait.
fn open(directory: &Path) -> safepoint::Result<Queue> {
    let retry = RetryPolicy {
        max_attempts: 1000,
        base: Duration::ZERO,
        cap: Duration::ZERO,
    };
    Queue::builder(directory)
        .lease(Duration::from_millis(100))
        .retry(retry)
        .open()
}

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).expect("a directory").into()
}

fn program(name: &str, state: &Path) -> Command {
    let mut command = role(name);
    command.env(DIRECTORY, state);
    command
}

fn own_name() -> String {
    let path = std::env::current_exe().expect("this binary");
    path.file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}

/// Pushes what is to be pushed, and consumes until all is done; says each when it is durable.
#[test]
fn role_pushes_and_consumes() {
    if !is_role("queue_crashes::role_pushes_and_consumes") {
        return;
    }
    match pushes_and_consumes() {
        Ok(()) => say("all done"),
        Err(error) => say(&format!("error {} {}", error.kind().name(), error.chain())),
    }
}

fn pushes_and_consumes() -> safepoint::Result<()> {
    let queue = open(&directory())?;
    let ends: Vec<_> = std::thread::scope(|threads| {
        let pushing = threads.spawn(|| {
            for number in 0..ITEMS {
                let key = format!("k{number}");
                queue.push(Some(&key), "payload")?;
                say(&format!("pushed {key}"));
            }
            Ok(())
        });
        let consuming = (0..THREADS).map(|_| threads.spawn(|| consume(&queue)));
        let all: Vec<_> = std::iter::once(pushing).chain(consuming).collect();
        all.into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    ends.into_iter().collect::<safepoint::Result<()>>()?;
    queue.close()
}

fn consume(queue: &Queue) -> safepoint::Result<()> {
    while queue.stats()?.done < ITEMS as u64 {
        let Some(lease) = queue.claim(Duration::from_millis(20))? else {
            continue;
        };
        let name = lease.name();
        match lease.acknowledge("result") {
            Ok(()) => say(&format!("done {name}")),
            // Its time was over before it came to it, and another has it.
            Err(error) if error.to_string().contains("is over") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn told(lines: &[String], what: &str) -> Vec<String> {
    let found = lines
        .iter()
        .filter_map(|line| Some(line.split_once(what)?.1));
    // A line that was cut off by the kill names nothing, or another key.
    found.map(str::to_owned).collect()
}

/// The states by key, of a directory in which nobody is at work; none where there is no file yet.
fn states(state: &Path) -> BTreeMap<String, QueuedState> {
    if !state.join("queue.db").exists() {
        return BTreeMap::new();
    }
    assert_eq!(Queue::validate(state).expect("it opens"), []);
    let queue = open(state).expect("opened");
    let items = queue.list(None, 0, 1000).expect("listed");
    items
        .into_iter()
        .map(|item| (item.name(), item.state))
        .collect()
}

#[test]
fn processes_killed_at_random_operations_lose_nothing_and_acknowledge_nothing_twice() {
    let mut random = Random::new(0x9e1);
    let place = scratch().unwrap();
    let state = place.path().join("state");
    let counter = Counter::new(&place.path().join("count")).unwrap();
    let (mut kills, mut pushed, mut done) = (0, BTreeSet::new(), BTreeMap::<_, u32>::new());
    loop {
        // Two at once: the one is killed in the middle of its turn, the other goes on.
        let mut killed = program("queue_crashes::role_pushes_and_consumes", &state);
        let when =
            [When::Before, When::After, When::Torn][usize::try_from(random.below(3)).unwrap()];
        counter.reset().unwrap();
        let faults = Faults::new(&own_name(), &state).unwrap().count(&counter);
        faults
            .kill(15 + random.below(120), when)
            .apply(&mut killed)
            .unwrap();
        let mut other = program("queue_crashes::role_pushes_and_consumes", &state);
        counter.reset().unwrap();
        let faults = Faults::new(&own_name(), &state).unwrap();
        faults
            .kill(15 + random.below(120), when)
            .apply(&mut other)
            .unwrap();
        let both = [killed.spawn().unwrap(), other.spawn().unwrap()];
        let mut ended_well = 0;
        for child in both {
            let output = child.wait_with_output().unwrap();
            let said = lines(&output.stdout);
            assert!(
                !said.iter().any(|line| line.contains("error ")),
                "{said:#?}"
            );
            pushed.extend(told(&said, "pushed "));
            for name in told(&said, "done ") {
                *done.entry(name).or_default() += 1;
            }
            match output.status.signal() {
                Some(_) => kills += 1,
                None => ended_well += 1,
            }
        }
        let found = states(&state);
        for key in &pushed {
            assert!(found.contains_key(key), "{key} is lost");
        }
        for (key, times) in &done {
            assert_eq!(found.get(key), Some(&QueuedState::Done), "{key}");
            assert_eq!(*times, 1, "{key} was acknowledged twice");
        }
        if ended_well == 2 {
            break;
        }
        assert!(kills < 400, "it gets nowhere");
    }
    assert!(kills > 4, "only {kills} kills");
    let found = states(&state);
    assert_eq!(found.len(), ITEMS);
    assert!(found.values().all(|state| *state == QueuedState::Done));
}

fn record(lie: bool) -> Trace {
    let place = scratch().unwrap();
    let state = place.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let trace = place.path().join("trace");
    let faults = Faults::new(&own_name(), &state).unwrap();
    // Syncs take their time, as on a disk: what is said too early is seen to come before them.
    let mut faults = faults.record(&trace).slow_syncs(Duration::from_millis(1));
    if lie {
        faults = faults.lie();
    }
    let mut command = program("queue_crashes::role_pushes_and_consumes", &state);
    faults.apply(&mut command).unwrap();
    assert!(command.output().unwrap().status.success());
    Trace::read(&trace).unwrap()
}

/// Cuts the power at each of a number of points; gives how many images there were, and how many had lost something.
fn cuts(trace: &Trace, step: usize, policies: &[Policy]) -> (usize, usize) {
    let history = History::new(trace);
    let place = scratch().unwrap();
    let (mut images, mut losses) = (0, 0);
    for cut in (0..=history.events()).step_by(step) {
        let said = trace.acknowledged_lines(cut);
        let (pushed, done) = (told(&said, "pushed "), told(&said, "done "));
        for policy in policies {
            let state = place.path().join("image");
            history.image(cut, *policy).write_to(&state).unwrap();
            images += 1;
            let found = std::panic::catch_unwind(|| states(&state)).unwrap_or_default();
            let lost = pushed.iter().any(|key| !found.contains_key(key));
            let undone = done
                .iter()
                .any(|key| found.get(key) != Some(&QueuedState::Done));
            losses += usize::from(lost || undone);
        }
    }
    (images, losses)
}

const STRICT: Policy = Policy::DropUnsynced(Names::DirectorySync);

#[test]
fn a_power_cut_loses_nothing_that_was_told() {
    let trace = record(false);
    let said = trace.acknowledged_lines(trace.events.len());
    assert_eq!(told(&said, "pushed ").len(), ITEMS);
    assert_eq!(told(&said, "done ").len(), ITEMS);
    let policies = [
        Policy::KeepAll,
        STRICT,
        Policy::DropUnsynced(Names::FileSync),
        Policy::Torn {
            seed: 1,
            names: Names::DirectorySync,
        },
    ];
    let (images, losses) = cuts(&trace, 2, &policies);
    assert!(images > 300, "{images}");
    assert_eq!(losses, 0, "of {images} images");
}

#[test]
fn forged_syncs_are_noticed_by_the_power_cuts() {
    let (images, losses) = cuts(&record(true), 5, &[STRICT]);
    assert!(losses > images / 2, "{losses} of {images}");
}

#[test]
fn a_disk_that_fails_or_is_full_ends_in_a_named_error_and_loses_nothing_that_was_told() {
    let (mut refused, mut fired) = (0, 0);
    for error in [Errno::EIO, Errno::ENOSPC] {
        for calls in [
            &["write", "pwrite"][..],
            &["fdatasync", "fsync"],
            &["open"],
            &["rename"],
        ] {
            for call in [1, 2, 3, 5, 8, 13, 21, 34] {
                let place = scratch().unwrap();
                let state = place.path().join("state");
                let counter = Counter::new(&place.path().join("count")).unwrap();
                let mut command = program("queue_crashes::role_pushes_and_consumes", &state);
                let faults = Faults::new(&own_name(), &state).unwrap().count(&counter);
                let faults = faults.only(calls).fail(call, u64::MAX, error);
                faults.apply(&mut command).unwrap();
                let output = command.output().unwrap();
                let said = lines(&output.stdout);
                let at = format!("{calls:?} {call} {error}");
                assert!(output.status.success(), "{at}: {said:#?}");
                fired += u64::from(counter.fired().unwrap() > 0);
                if let Some(line) = said
                    .iter()
                    .find_map(|line| Some(line.split_once("error ")?.1))
                {
                    refused += 1;
                    let kind = line.split(' ').next().unwrap();
                    assert!(["io", "closed"].contains(&kind), "{at}: {line}");
                }
                // The disk is well again: all that was told is there, and the queue goes on.
                let found = states(&state);
                for key in told(&said, "pushed ") {
                    assert!(found.contains_key(&key), "{at}: {key} is lost");
                }
                for key in told(&said, "done ") {
                    assert_eq!(found.get(&key), Some(&QueuedState::Done), "{at}: {key}");
                }
                let queue = open(&state).unwrap();
                assert_eq!(queue.push(Some("after"), "").unwrap(), Pushed::New);
            }
        }
    }
    assert!(
        refused > 20 && fired >= refused,
        "{refused} refused, {fired} fired"
    );
}

#[test]
fn after_a_failed_write_the_queue_is_closed_and_says_why() {
    let place = scratch().unwrap();
    let queue = open(place.path()).unwrap();
    queue.push(Some("a"), "").unwrap();
    let lease = queue.claim(Duration::ZERO).unwrap().unwrap();
    let other = rusqlite::Connection::open(place.path().join("queue.db")).unwrap();
    other.execute_batch("DROP TABLE payloads").unwrap();
    let failed = queue.push(Some("b"), "").unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Corrupt);
    let later = lease.acknowledge(()).unwrap_err();
    assert_eq!(later.kind(), ErrorKind::Closed);
    assert!(later.to_string().contains("damaged"), "{later}");
    assert_eq!(
        queue.claim(Duration::MAX).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(queue.close().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_tool_that_holds_the_file_is_waited_for_and_then_named() {
    let place = scratch().unwrap();
    let queue = open(place.path()).unwrap();
    let tool = rusqlite::Connection::open(place.path().join("queue.db")).unwrap();
    tool.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = queue.push(Some("a"), "").unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy);
    assert!(busy.is_retryable());
    tool.execute_batch("COMMIT").unwrap();
    assert_eq!(queue.push(Some("a"), "").unwrap(), Pushed::New);
}
