//! The `sqlite3` shell commits and prints; the power is cut everywhere; what was printed must be there.
//!
//! The controls are the point: a program that does not sync (`lie`) or not enough (`synchronous=NORMAL`) must
//! be caught, else the images are too kind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use safepoint_testkit::faults::{Counter, Faults};
use safepoint_testkit::image::{History, Names, Policy, scratch};
use safepoint_testkit::trace::{Event, Trace};

const COMMITS: u32 = 200;
const STRICT: Policy = Policy::DropUnsynced(Names::DirectorySync);

/// Records a shell that commits numbers and prints each when its commit has returned.
fn record(synchronous: &str, lie: bool) -> Trace {
    let folder = scratch().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let settings = format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA wal_autocheckpoint=50;"
    );
    let commit = |n| {
        format!(
            "INSERT INTO t VALUES({n});
SELECT 'done ' || {n};
"
        )
    };
    let script = settings
        + "CREATE TABLE t(n);
" + &(1..=COMMITS).map(commit).collect::<String>();
    let (input, trace) = (folder.path().join("script"), folder.path().join("trace"));
    fs::write(&input, script).unwrap();
    let counter = Counter::new(&folder.path().join("count")).unwrap();
    let mut faults = Faults::new("sqlite3", &state)
        .unwrap()
        .record(&trace)
        .count(&counter);
    if lie {
        faults = faults.lie();
    }
    let mut command = Command::new("sqlite3");
    command
        .arg(state.join("job.db"))
        .stdin(File::open(input).unwrap())
        .stdout(Stdio::null());
    faults.apply(&mut command).unwrap();
    assert!(command.status().unwrap().success());
    assert!(counter.calls().unwrap() > u64::from(COMMITS));
    assert_eq!(counter.fired().unwrap() > 0, lie);
    let trace = Trace::read(&trace).unwrap();
    assert_eq!(
        numbers(&trace, trace.events.len()).len(),
        COMMITS as usize,
        "the shell printed every commit"
    );
    trace
}

fn numbers(trace: &Trace, cut: usize) -> BTreeSet<u32> {
    trace
        .acknowledged_lines(cut)
        .iter()
        .filter_map(|line| line.strip_prefix("done ")?.parse().ok())
        .collect()
}

/// How many of these numbers the database does not have; one that cannot be read has none.
fn lost(state: &Path, acknowledged: &BTreeSet<u32>) -> usize {
    let read = || -> rusqlite::Result<BTreeSet<u32>> {
        let database = Connection::open(state.join("job.db"))?;
        let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        assert_eq!(verdict, "ok");
        database
            .prepare("SELECT n FROM t")?
            .query_map([], |row| row.get(0))?
            .collect()
    };
    let found = read().unwrap_or_default();
    acknowledged.difference(&found).count()
}

/// Cuts at every `step`-th event and returns the numbers of images, and of those that lost something.
fn cuts(trace: &Trace, step: usize, policy: impl Fn(usize) -> Policy) -> (usize, usize) {
    let history = History::new(trace);
    let folder = scratch().unwrap();
    let (mut images, mut losses) = (0, 0);
    for cut in (0..=history.events()).step_by(step) {
        let state = folder.path().join("image");
        history.image(cut, policy(cut)).write_to(&state).unwrap();
        images += 1;
        losses += usize::from(lost(&state, &numbers(trace, cut)) > 0);
    }
    (images, losses)
}

#[test]
fn full_synchronous_loses_nothing_under_any_policy() {
    let trace = record("FULL", false);
    assert!(
        trace
            .events
            .iter()
            .any(|event| matches!(event, Event::SyncEnd { .. }))
    );
    for policy in [
        Policy::KeepAll,
        STRICT,
        Policy::DropUnsynced(Names::FileSync),
    ] {
        let (images, losses) = cuts(&trace, 3, |_| policy);
        assert!(images > 200);
        assert_eq!(losses, 0, "{policy:?}");
    }
    for seed in 0..3 {
        let (_, losses) = cuts(&trace, 3, |_| Policy::Torn {
            seed,
            names: Names::DirectorySync,
        });
        assert_eq!(losses, 0, "torn, seed {seed}");
    }
}

#[test]
fn forged_syncs_are_caught_by_a_power_cut_and_not_by_a_kill() {
    let trace = record("FULL", true);
    let (images, losses) = cuts(&trace, 7, |_| STRICT);
    assert!(losses > images / 2, "{losses} of {images}");
    let (images, losses) = cuts(&trace, 7, |cut| Policy::Torn {
        seed: cut as u64,
        names: Names::FileSync,
    });
    assert!(losses > images / 2, "{losses} of {images}");
    assert_eq!(cuts(&trace, 7, |_| Policy::KeepAll).1, 0);
}

#[test]
fn too_few_syncs_are_caught() {
    let trace = record("NORMAL", false);
    let (images, losses) = cuts(&trace, 7, |_| STRICT);
    assert!(losses > images / 2, "{losses} of {images}");
}
