//! Counting, killing and failing, call by call.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Output};

use nix::errno::Errno;
use rusqlite::Connection;
use safepoint_testkit::faults::{Counter, Faults, When};
use safepoint_testkit::image::scratch;

/// One row is committed to a database that is there already.
fn shell(folder: &Path, faults: &Faults, sql: &str) -> Output {
    let mut command = Command::new("sqlite3");
    command.args([folder.join("state/job.db").as_path(), Path::new(sql)]);
    faults.apply(&mut command).unwrap();
    command.output().unwrap()
}

fn prepare(folder: &Path) {
    let state = folder.join("state");
    let _ = fs::remove_dir_all(&state);
    fs::create_dir(&state).unwrap();
    let database = Connection::open(state.join("job.db")).unwrap();
    database
        .execute_batch("PRAGMA journal_mode=DELETE; CREATE TABLE t(n); INSERT INTO t VALUES(1)")
        .unwrap();
}

fn rows(folder: &Path) -> u32 {
    let database = Connection::open(folder.join("state/job.db")).unwrap();
    database
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap()
}

const INSERT: &str = "INSERT INTO t VALUES(2)";

fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

#[test]
fn every_call_can_be_the_last() {
    let folder = scratch().unwrap();
    let folder = folder.path();
    let counter = Counter::new(&folder.join("count")).unwrap();
    let faults = Faults::new("sqlite3", &folder.join("state"))
        .unwrap()
        .count(&counter);
    prepare(folder);
    assert!(shell(folder, &faults, INSERT).status.success());
    let calls = counter.calls().unwrap();
    assert!(calls > 8, "{calls}");
    for when in [When::Before, When::After, When::Torn] {
        let mut seen = [0, 0];
        for call in 1..=calls + 1 {
            prepare(folder);
            counter.reset().unwrap();
            let status = shell(folder, &faults.clone().kill(call, when), INSERT).status;
            assert_eq!(killed(status), call <= calls, "{when:?} {call}");
            assert_eq!(counter.fired().unwrap(), u64::from(call <= calls));
            seen[usize::from(rows(folder) == 2)] += 1;
        }
        assert!(
            seen[0] > 0 && seen[1] > 0,
            "both sides of the commit were seen: {seen:?}"
        );
    }
}

#[test]
fn every_call_can_fail() {
    let folder = scratch().unwrap();
    let folder = folder.path();
    let counter = Counter::new(&folder.join("count")).unwrap();
    let faults = Faults::new("sqlite3", &folder.join("state"))
        .unwrap()
        .count(&counter);
    for error in [Errno::EIO, Errno::ENOSPC] {
        for call in 1..=6 {
            prepare(folder);
            counter.reset().unwrap();
            let output = shell(folder, &faults.clone().fail(call, u64::MAX, error), INSERT);
            assert!(!output.status.success(), "call {call}");
            assert!(counter.fired().unwrap() >= 1);
            assert_eq!(
                rows(folder),
                1,
                "an error was reported and nothing was committed"
            );
        }
    }
    let syncs = faults.only(&["fdatasync", "fsync"]).fail(1, 1, Errno::EIO);
    prepare(folder);
    counter.reset().unwrap();
    assert!(!shell(folder, &syncs, INSERT).status.success());
    assert_eq!(counter.fired().unwrap(), 1);
}

#[test]
fn children_and_other_places_are_left_alone() {
    let folder = scratch().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let counter = Counter::new(&folder.path().join("count")).unwrap();
    let run = |program: &str, script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path());
        Faults::new(program, &state)
            .unwrap()
            .count(&counter)
            .kill(1, When::Before)
            .apply(&mut command)
            .unwrap();
        command.status().unwrap()
    };
    assert!(run("other", "echo x > state/file; mkdir state/d; rmdir state/d").success());
    assert!(
        run(
            "sh",
            "echo x > outside; mkdir d; mkdir state/d; rmdir state/d"
        )
        .success()
    );
    assert_eq!(counter.fired().unwrap(), 0);
    assert!(killed(run("sh", "echo x > state/../state/file")));
    assert_eq!(counter.fired().unwrap(), 1);
}

#[test]
fn a_torn_write_leaves_its_half() {
    let folder = scratch().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "printf 12345678 > state/file"])
        .current_dir(folder.path());
    let faults = Faults::new("sh", &state)
        .unwrap()
        .only(&["write"])
        .kill(1, When::Torn);
    faults.apply(&mut command).unwrap();
    assert!(killed(command.status().unwrap()));
    assert_eq!(fs::read_to_string(state.join("file")).unwrap(), "1234");
}
