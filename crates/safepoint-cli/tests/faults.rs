//! Disks that are full, read-only or broken, files that are not what they were, and children of a killed runner.
//!
//! Each ends with a named error, exit 1, everything acknowledged still there, and the same command finishing once the fault is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use safepoint_testkit::faults::{Counter, Errno, Faults};
use safepoint_testkit::image::scratch;

use crate::support::{Place, Ran, wait_until};

/// A file system in memory of its own, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    /// None, and a word why, where this process may not mount.
    fn mount(path: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir(&path).expect("a directory to mount on");
        let mounted = mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &path);
        #[expect(clippy::print_stderr, reason = "a test that did not run has to say so")]
        if !mounted {
            eprintln!("SKIPPED: this process may not mount a tmpfs (it has to be root)");
        }
        mounted.then_some(Self(path))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(mount(&["-o", &options], &self.0), "{options}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(path).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The first word of each printed line: a result begins with its item.
fn words(text: &str) -> Vec<String> {
    let word = |line: &str| line.split_whitespace().next().map(str::to_owned);
    text.lines().filter_map(word).collect()
}

/// The first word of each result that `safepoint results` lists.
fn listed(place: &Place) -> BTreeSet<String> {
    let ran = place.run(&["results", "x"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let result = |line: &str| {
        let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let text = match &object["result"] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        text.split_whitespace().next().map(str::to_owned)
    };
    ran.stdout.lines().filter_map(result).collect()
}

fn assert_listed(place: &Place, printed: &[String]) {
    let listed = listed(place);
    for word in printed {
        assert!(listed.contains(word), "`{word}` was printed and is lost");
    }
}

fn assert_named(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "`{word}` in: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

fn items(place: &Place, count: u32) {
    let lines: Vec<String> = (0..count).map(|item| format!("i{item}")).collect();
    place.write("x.txt", lines.join("\n"));
}

#[test]
fn a_full_disk_ends_the_run_and_loses_nothing() {
    let place = Place::new();
    let Some(disk) = Disk::mount(place.file(".safepoint"), "size=4m") else {
        return;
    };
    items(&place, 100);
    // Each result has 100 kB.
    let script = "printf '%s ' \"$1\"; head -c 100000 /dev/zero | tr '\\0' x";
    let run = [
        "run",
        "-j2",
        "--progress=none",
        "x.txt",
        "--shell",
        "--",
        script,
    ];
    let full = place.run(&run);
    assert_named(&full, &["job.db", "full", "free some space"]);
    let printed = words(&full.stdout);
    assert!(printed.len() > 5 && printed.len() < 50, "{}", printed.len());
    assert_listed(&place, &printed);
    // There is still no room: it says so again, and nothing gets worse.
    let again = place.run(&run);
    assert_named(&again, &["free some space"]);
    assert_listed(&place, &printed);
    disk.remount("size=64m");
    let rest = place.run(&run);
    assert_eq!(rest.code, Some(0), "{}", rest.stderr);
    let repeated: Vec<_> = words(&rest.stdout);
    assert!(repeated.iter().all(|word| !printed.contains(word)));
    assert_eq!(listed(&place).len(), 100);
}

#[test]
fn a_full_disk_kills_no_item_that_publishes_files() {
    let place = Place::new();
    let Some(disk) = Disk::mount(place.file(".safepoint"), "size=4m") else {
        return;
    };
    items(&place, 40);
    let script = "head -c 200000 /dev/zero > \"$SAFEPOINT_OUT/file\" || exit 75; echo \"$1\"";
    let run = [
        "run",
        "-j2",
        "--progress=none",
        "--time-limit=2s",
        "x.txt",
        "--shell",
        "--",
        script,
    ];
    let full = place.run(&run);
    assert!(matches!(full.code, Some(1 | 75)), "{full:?}");
    assert_listed(&place, &words(&full.stdout));
    disk.remount("size=64m");
    let rest = place.run(&run);
    assert_eq!(rest.code, Some(0), "{}", rest.stderr);
    assert_eq!(listed(&place).len(), 40);
    let published = fs::read_dir(place.file(".safepoint/x/out"))
        .expect("out")
        .count();
    assert_eq!(published, 40);
}

#[test]
fn a_read_only_state_directory_is_named_and_harms_nothing() {
    let place = Place::new();
    let Some(disk) = Disk::mount(place.file(".safepoint"), "size=16m") else {
        return;
    };
    items(&place, 20);
    let run = ["run", "-j2", "--progress=none", "x.txt", "--", "echo", "{}"];
    disk.remount("ro");
    assert_named(&place.run(&run), &[".safepoint/x", "ead-only file system"]);
    disk.remount("rw");
    let mut limited = run.to_vec();
    limited.insert(1, "--limit=7");
    let first = place.run(&limited);
    assert_eq!(first.code, Some(75), "{}", first.stderr);
    disk.remount("ro");
    assert_named(&place.run(&run), &[".safepoint/x", "ead-only file system"]);
    assert_listed(&place, &words(&first.stdout));
    disk.remount("rw");
    assert_eq!(place.run(&run).code, Some(0));
    assert_eq!(listed(&place).len(), 20);
}

/// Every call of a spread fails, once or from there on.
fn fails_at(error: Errno, calls: u64) {
    let run = ["run", "-j2", "--progress=none", "x.txt", "--", "echo", "{}"];
    let mut codes = [0, 0];
    let only = [
        "open",
        "write",
        "pwrite",
        "ftruncate",
        "fsync",
        "fdatasync",
        "rename",
        "mkdir",
    ];
    let mut call = 1;
    loop {
        let folder = scratch().expect("a directory");
        let place = Place::new();
        let state = folder.path().join("state");
        items(&place, 12);
        let counter = Counter::new(&folder.path().join("count")).expect("a counter");
        let faults = Faults::new("safepoint", &state)
            .expect("faults")
            .count(&counter);
        let mut command = place.safepoint(&run);
        command.env("SAFEPOINT_STATE_DIR", &state);
        let faults = faults.only(&only).fail(call, calls, error);
        faults.apply(&mut command).expect("the library");
        let ran = Ran::of(command.output().expect("it starts"));
        let context = format!("{error} at call {call} for {calls}: {ran:?}");
        if counter.fired().expect("a count") == 0 {
            assert_eq!(ran.code, Some(0), "{context}");
            break;
        }
        assert!(matches!(ran.code, Some(0 | 1)), "{context}");
        assert!(!ran.stderr.contains("panicked"), "{context}");
        if ran.code == Some(1) {
            assert!(ran.stderr.contains("error: "), "{context}");
            // The system's own word for it, or SQLite's.
            let words = [
                "os error",
                "disk I/O error",
                "disk is full",
                "unable to open",
                // A file that could not be opened to be written is tried to be read by SQLite.
                "readonly database",
            ];
            assert!(
                words.iter().any(|word| ran.stderr.contains(word)),
                "{context}"
            );
        }
        codes[usize::from(ran.code == Some(1))] += 1;

        let mut again = place.safepoint(&run);
        let rest = again.env("SAFEPOINT_STATE_DIR", &state).output();
        let rest = Ran::of(rest.expect("it starts"));
        assert_eq!(rest.code, Some(0), "{context}\nthen {rest:?}");
        let mut results = place.safepoint(&["results", "x"]);
        let results = results.env("SAFEPOINT_STATE_DIR", &state).output();
        let results = Ran::of(results.expect("it starts"));
        assert_eq!(
            results.stdout.lines().count(),
            12,
            "{context}\nthen {results:?}"
        );
        let mut printed = words(&ran.stdout);
        printed.extend(words(&rest.stdout));
        let unique: BTreeSet<_> = printed.iter().collect();
        assert_eq!(
            unique.len(),
            printed.len(),
            "printed twice: {context}\nthen {rest:?}"
        );
        call += if call < 25 { 1 } else { 5 };
    }
    assert!(codes[1] > 10, "{codes:?}");
}

#[test]
fn an_input_output_error_at_any_call_is_named_and_loses_nothing() {
    fails_at(Errno::EIO, 1);
}

#[test]
fn a_disk_that_stays_broken_is_named_and_loses_nothing() {
    fails_at(Errno::EIO, u64::MAX);
}

#[test]
fn a_disk_that_is_full_at_any_call_is_named_and_loses_nothing() {
    fails_at(Errno::ENOSPC, 1);
    fails_at(Errno::ENOSPC, u64::MAX);
}

/// The move into `out/` fails more often than an attempt of an item may: none dies of it.
#[test]
fn a_file_that_cannot_be_published_ends_the_run_and_blames_no_item() {
    let place = Place::new();
    items(&place, 4);
    let script = "echo \"$1\" > \"$SAFEPOINT_OUT/file\"; echo \"$1\"";
    let run = [
        "run",
        "-j1",
        "--progress=none",
        "--retry-delay=1ms",
        "x.txt",
        "--shell",
        "--",
        script,
    ];
    fs::create_dir_all(place.file(".safepoint/x")).expect("a directory");
    let faults = Faults::new("safepoint", &place.file(".safepoint/x/out")).expect("faults");
    let faults = faults.only(&["rename"]).fail(1, 1, Errno::ENOSPC);
    for _ in 0..4 {
        let mut command = place.safepoint(&run);
        faults.apply(&mut command).expect("the library");
        let ran = Ran::of(command.output().expect("it starts"));
        assert_named(&ran, &["out", "No space left on device"]);
    }
    let ran = place.run(&run);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(listed(&place).len(), 4);
}

/// A job of which 5 items are done, as `.safepoint/x` of the place.
fn begun(place: &Place) -> Vec<&'static str> {
    items(place, 12);
    let run = vec!["run", "-j2", "--progress=none", "x.txt", "--", "echo", "{}"];
    let mut limited = run.clone();
    limited.insert(1, "--limit=5");
    let ran = place.run(&limited);
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    run
}

#[test]
fn a_missing_or_garbled_list_of_items_in_progress_is_no_hindrance() {
    for content in [
        None,
        Some(&b"SFPTIP01 and then nonsense that is long enough to look like records"[..]),
        Some(b""),
    ] {
        let place = Place::new();
        let run = begun(&place);
        let path = place.file(".safepoint/x/in-progress");
        match content {
            None => fs::remove_file(path).expect("it was there"),
            Some(bytes) => fs::write(path, bytes).expect("written"),
        }
        let ran = place.run(&run);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(listed(&place).len(), 12);
    }
}

#[test]
fn a_log_of_events_that_cannot_be_written_is_named() {
    let place = Place::new();
    let run = begun(&place);
    let path = place.file(".safepoint/x/events.jsonl");
    let kept = fs::read(&path).expect("events");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a directory in its place");
    assert_named(&place.run(&run), &["events.jsonl"]);
    assert_eq!(listed(&place).len(), 5);
    fs::remove_dir(&path).expect("removed");
    fs::write(&path, kept).expect("put back");
    assert_eq!(place.run(&run).code, Some(0));
    assert_eq!(listed(&place).len(), 12);
}

#[test]
fn a_file_in_the_place_of_a_directory_is_named() {
    for name in ["logs", "out", "work"] {
        let place = Place::new();
        let run = begun(&place);
        let path = place.file(&format!(".safepoint/x/{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::write(&path, "not a directory").expect("written");
        let ran = place.run(&run);
        assert_ne!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("x/{name}")), "{}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        assert_eq!(listed(&place).len(), 5);
        fs::remove_file(&path).expect("removed");
        let ran = place.run(&run);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(listed(&place).len(), 12);
    }
}

/// Whether a process can still do something.
fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains("Z ("))
}

/// Kills a runner whose attempts behave like `hang`, which writes a process number to `pids`, and runs the job again.
fn orphans(hang: &str) {
    let place = Place::new();
    items(&place, 4);
    let script = format!(
        r#"for pid in $(cat pids 2>/dev/null); do
  grep -q '^State:.[^Z]' "/proc/$pid/status" 2>/dev/null && test -e second && echo "$1 beside $pid" >> overlaps
done
test -e second && {{ echo "$1"; exit 0; }}
{hang}
"#
    );
    let run = [
        "run",
        "-j2",
        "--progress=none",
        "--kill-after=300ms",
        "x.txt",
        "--shell",
        "--",
        &script,
    ];
    let mut runner = place.safepoint(&run);
    let mut runner = runner
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    wait_until("two attempts hang", || place.lines("pids").len() >= 2);
    runner.kill().expect("killed");
    runner.wait().expect("reaped");
    let pids = place.lines("pids");
    assert!(
        pids.iter().all(|pid| is_alive(pid)),
        "the kill was to leave them"
    );
    place.write("second", "");
    let ran = place.run(&run);
    let left: Vec<_> = pids.iter().filter(|pid| is_alive(pid)).collect();
    for pid in &left {
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(left.is_empty(), "{left:?} outlived the job: {}", ran.stderr);
    assert_eq!(place.lines("overlaps"), [""; 0]);
    assert_eq!(listed(&place).len(), 4);
}

#[test]
fn orphans_that_ignore_sigterm_are_ended_first() {
    orphans("trap '' TERM; echo $$ >> pids; while :; do sleep 0.05; done");
}

#[test]
fn orphans_in_a_session_of_their_own_are_ended_first() {
    orphans("setsid sh -c 'echo $$ >> pids; exec sleep 1000' & wait");
}

#[test]
fn orphans_that_cleared_their_environment_are_ended_first() {
    orphans("echo $$ >> pids; exec env -i sleep 1000");
}

#[test]
fn orphans_of_a_group_that_cleared_their_environment_are_ended_first() {
    orphans("env -i sh -c 'echo $$ >> pids; exec sleep 1000' & wait");
    orphans("env -i sh -c 'trap \"\" TERM; echo $$ >> pids; while :; do sleep 0.05; done' & wait");
}
