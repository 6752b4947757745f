//! A cache that processes share: one of them computes, whatever becomes of it.

use std::fs;
use std::io::{BufRead, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use safepoint::checkpoint::Fingerprint;
use safepoint::checkpoint::cache::Cache;
use safepoint::{Error, Result};
use safepoint_testkit::faults::{Counter, Errno, Faults, When};
use safepoint_testkit::image::scratch;

use crate::support::{Lines, is_role, role, say};

const FOLDER: &str = "SAFEPOINT_TEST_FOLDER";

fn folder() -> PathBuf {
    std::env::var_os(FOLDER).expect("a folder").into()
}

fn of() -> Fingerprint {
    Fingerprint::new().with("corpus", "v3")
}

fn start(name: &str, folder: &Path) -> (Child, Lines) {
    let mut command = role(name);
    command.env(FOLDER, folder).stdin(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let lines = Lines::of(child.stdout.take());
    (child, lines)
}

fn wait_for_a_line() {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line, "go\n", "nobody is there any more");
}

fn go(child: &mut Child) {
    let stdin = child.stdin.as_mut().expect("piped");
    stdin.write_all(b"go\n").expect("it reads");
}

/// How many processes the kernel holds up at the lock file of the only entry that is being computed.
fn waiting(folder: &Path) -> usize {
    let locks = fs::read_dir(folder.join("locks")).expect("a folder");
    let inodes: Vec<String> = locks
        .filter_map(|lock| Some(format!(":{} ", lock.ok()?.metadata().ok()?.ino())))
        .collect();
    let all = fs::read_to_string("/proc/locks").expect("the kernel's locks");
    all.lines()
        .filter(|line| line.contains("-> FLOCK") && inodes.iter().any(|inode| line.contains(inode)))
        .count()
}

/// The kernel says nothing when it holds somebody up, so it is asked again and again.
fn wait_until_waiting(folder: &Path, processes: usize) {
    for _ in 0..30_000 {
        if waiting(folder) == processes {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{} of {processes} wait", waiting(folder));
}

/// Opens the cache, and asks for an entry from eight threads; whoever computes it says so and waits for a word.
#[test]
fn asks_from_eight_threads() {
    if !is_role("cache::asks_from_eight_threads") {
        return;
    }
    let cache = Cache::open(folder()).unwrap();
    say("ready");
    wait_for_a_line();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let value = cache.get_or_try_insert_with("words", &of(), || {
                    say("computing");
                    wait_for_a_line();
                    Ok::<_, Error>(std::process::id())
                });
                say(&format!("value {}", value.unwrap()));
            });
        }
    });
}

#[test]
fn of_four_processes_with_eight_threads_each_one_computes() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("cache");
    let mut processes: Vec<(Child, Lines)> = (0..4)
        .map(|_| start("cache::asks_from_eight_threads", &folder))
        .collect();
    for (child, lines) in &mut processes {
        lines.expect(&["ready"]);
        go(child);
    }
    // One thread of each of the others waits at the file, the rest behind it.
    wait_until_waiting(&folder, 3);
    let mut pid = None;
    for (child, _) in &mut processes {
        // Only the one that computes reads it.
        go(child);
    }
    let mut computed = 0;
    for (mut child, lines) in processes {
        let said = lines.rest();
        assert!(child.wait().unwrap().success(), "{said:?}");
        computed += said.iter().filter(|line| *line == "computing").count();
        let values: Vec<&String> = said
            .iter()
            .filter(|line| line.starts_with("value "))
            .collect();
        assert_eq!(values.len(), 8, "{said:?}");
        let first = pid.get_or_insert_with(|| values[0].clone());
        assert!(values.iter().all(|value| value == &first), "{values:?}");
    }
    assert_eq!(computed, 1);
    assert_eq!(fs::read_dir(folder.join("locks")).unwrap().count(), 0);
}

#[test]
fn if_the_one_that_computes_is_killed_the_next_one_computes() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("cache");
    let (mut first, first_lines) = start("cache::asks_from_eight_threads", &folder);
    go(&mut first);
    first_lines.expect(&["ready", "computing"]);
    let (mut second, second_lines) = start("cache::asks_from_eight_threads", &folder);
    go(&mut second);
    second_lines.expect(&["ready"]);
    wait_until_waiting(&folder, 1);
    first.kill().unwrap();
    first.wait().unwrap();
    second_lines.expect(&["computing"]);
    go(&mut second);
    let pid = second.id();
    let said = second_lines.rest();
    assert!(second.wait().unwrap().success(), "{said:?}");
    assert_eq!(
        said.iter()
            .filter(|line| **line == format!("value {pid}"))
            .count(),
        8
    );
    is_tidy(&folder, 1);
}

/// No file but the tag and so many entries.
fn is_tidy(folder: &Path, entries: usize) {
    let names = |path: &Path| -> Vec<String> {
        let files = fs::read_dir(path).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let (found, rest): (Vec<_>, Vec<_>) = names(folder).into_iter().partition(|name| {
        Path::new(name)
            .extension()
            .is_some_and(|ending| ending == "entry")
    });
    assert_eq!(found.len(), entries, "{found:?}");
    let mut rest = rest;
    rest.sort();
    assert_eq!(rest, ["CACHEDIR.TAG", "locks"]);
    assert_eq!(names(&folder.join("locks")), [""; 0]);
}

const SMALL: &str = "a small value";

fn large() -> Vec<u64> {
    (0..100_000_u64)
        .map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .collect()
}

/// Asks for a small and for a large value, and evicts in between.
fn asks(folder: &Path, say: impl Fn(&str)) -> Result<()> {
    let cache = Cache::builder(folder).at_most_bytes(900_000).open()?;
    say("opened");
    for version in 0..2 {
        let of = of().with("version", version);
        let small =
            cache.get_or_try_insert_with("small", &of, || Ok::<_, Error>(SMALL.to_owned()))?;
        let large_one =
            cache.get_array_or_try_insert_with("large", &of, || Ok::<_, Error>(large()))?;
        assert!(small == SMALL && large_one == large());
    }
    say("all right");
    Ok(())
}

#[test]
fn asks_for_two_values() {
    if is_role("cache::asks_for_two_values")
        && let Err(error) = asks(&folder(), say)
    {
        say(&error.chain());
    }
}

/// This binary in that role, struck by faults in a folder.
fn struck(folder: &Path, faults: &Faults) -> Command {
    let mut command = role("cache::asks_for_two_values");
    command.env(FOLDER, folder);
    faults.apply(&mut command).expect("the library");
    command
}

fn program() -> String {
    let binary = std::env::current_exe().expect("this binary");
    binary
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}

#[test]
fn a_process_killed_at_any_file_operation_leaves_no_half_entry() {
    for when in [When::Before, When::After, When::Torn] {
        for call in 1.. {
            let scratch = scratch().expect("a directory");
            let folder = scratch.path().join("cache");
            let counter = Counter::new(&scratch.path().join("count")).expect("a counter");
            let faults = Faults::new(&program(), &folder).expect("faults");
            let faults = faults.count(&counter).kill(call, when);
            let ran = struck(&folder, &faults).output().unwrap();
            if counter.fired().expect("a count") == 0 {
                assert!(ran.status.success() && call > 20, "{call} calls, {ran:?}");
                break;
            }
            let context = format!("{when:?} call {call}");
            assert!(!ran.status.success(), "{context}");
            let cache = Cache::open(&folder).expect(&context);
            let found = cache.validate().expect(&context);
            assert!(
                found.iter().all(|entry| entry.outcome.is_ok()),
                "{context}: {found:?}"
            );
            is_tidy(&folder, found.len());
            asks(&folder, |_| {}).expect(&context);
        }
    }
}

#[test]
fn a_full_or_failing_disk_keeps_no_value_from_being_returned() {
    for (calls, error) in [(u64::MAX, Errno::ENOSPC), (1, Errno::EIO)] {
        let mut returned = 0;
        for call in 1.. {
            let scratch = scratch().expect("a directory");
            let folder = scratch.path().join("cache");
            let counter = Counter::new(&scratch.path().join("count")).expect("a counter");
            let faults = Faults::new(&program(), &folder).expect("faults");
            let faults = faults.count(&counter).fail(call, calls, error);
            let ran = struck(&folder, &faults).output().unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            let context = format!("{error} at call {call}: {said}");
            assert!(ran.status.success(), "{context}");
            if said.contains("opened") {
                assert!(said.contains("all right"), "{context}");
                returned += 1;
            } else {
                assert!(said.contains("os error"), "{context}");
            }
            if counter.fired().expect("a count") == 0 {
                break;
            }
            asks(&folder, |_| {}).expect(&context);
        }
        assert!(returned > 15, "{returned}");
    }
}
